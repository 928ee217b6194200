"""Batches: permutations, strata and reading order, held to their definitions in NumPy."""

import itertools

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import InputError
from zoo.params.experiments import Fit
from zoo.train import batches

torch.set_num_threads(1)
CPU = torch.device("cpu")


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def splits(train=40, validation=20):
    source = numpy.random.default_rng(0)
    arrays = {}
    for split, count in (("train", train), ("validation", validation)):
        arrays[f"{split}_images"] = source.integers(0, 256, (count, 28, 28), dtype=numpy.uint8)
        arrays[f"{split}_labels"] = (numpy.arange(count) % 10).astype(numpy.uint8)
    return arrays


def test_images_are_shares_of_255():
    arrays = splits()
    pixels, labels = batches.images(arrays, "train", CPU)
    numpy.testing.assert_allclose(pixels[:, 0].numpy(), arrays["train_images"] / 255, rtol=1e-6)
    assert (pixels.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert labels.tolist() == arrays["train_labels"].tolist()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3))
def test_an_epoch_is_a_permutation(count, batch, seed):
    """`count // batch` batches, no number twice; a short last batch is left out."""
    batch = min(batch, count)
    stream = batches.shuffled(count, batch, CPU, drawn(seed))
    for _ in range(3):
        seen = torch.cat(list(itertools.islice(stream, count // batch))).tolist()
        assert len(seen) == len(set(seen)) == count // batch * batch
        assert set(seen) <= set(range(count))


def test_each_epoch_has_an_order_of_its_own():
    stream = batches.shuffled(50, 50, CPU, drawn(0))
    epochs = [index.tolist() for index in itertools.islice(stream, 3)]
    assert epochs[0] != epochs[1] != epochs[2]
    again, other = (next(batches.shuffled(50, 50, CPU, drawn(seed))).tolist() for seed in (0, 1))
    assert (again == epochs[0], other == epochs[0]) == (True, False)


def test_a_seed_means_the_same_order_on_every_device():
    """The order comes from the CPU, and goes to the device, here one without values."""
    stream = batches.shuffled(50, 50, torch.device("meta"), drawn(0))
    assert next(stream).device.type == "meta"


def test_what_an_epoch_leaves_out_varies():
    """Of ten images in batches of four two are left out; over many epochs each one comes."""
    stream = batches.shuffled(10, 4, CPU, drawn(0))
    assert {number for index in itertools.islice(stream, 40) for number in index.tolist()} == {*range(10)}


@given(st.integers(1, 6), st.integers(0, 3))
def test_labelled_subset_is_stratified(each, seed):
    labels = torch.arange(64) % 10
    chosen = batches.labelled_subset(labels, 10 * each, drawn(seed))
    assert len(set(chosen.tolist())) == 10 * each
    assert numpy.bincount(labels[chosen].numpy()).tolist() == [each] * 10


def test_labelled_subset_is_drawn():
    one, other = (batches.labelled_subset(torch.arange(200) % 10, 50, drawn(seed)).tolist() for seed in (0, 1))
    assert set(one) != set(other)


@pytest.mark.parametrize("count", [15, 80, 5])
def test_labelled_subset_that_cannot_be(count):
    """15 and 5 are not ten equal shares; 80 asks for eight of each of ten classes that have seven."""
    with pytest.raises(InputError, match=rf"size\.labelled = {count} "):
        batches.labelled_subset(torch.arange(70) % 10, count, drawn(0))


def test_batch_larger_than_the_data():
    with pytest.raises(InputError, match=r"params\.yaml: fit\.batch = 41 .* 40 "):
        next(batches.of_images(splits(), Fit(batch=41), None, 20, CPU, drawn(0)).draws)


def test_of_images():
    arrays = splits()
    stream = batches.of_images(arrays, Fit(batch=7), None, 12, CPU, drawn(0))
    (held_out,) = stream.validation
    assert stream.steps_per_epoch == 40 // 7
    (index,) = draw = next(stream.draws)
    pixels, labels = stream.batch_of(draw)
    assert (tuple(pixels.shape), tuple(labels.shape)) == ((7, 1, 28, 28), (7,))
    numpy.testing.assert_allclose(pixels[:, 0].numpy(), arrays["train_images"][index] / 255, rtol=1e-6)
    assert labels.tolist() == arrays["train_labels"][index].tolist()
    numpy.testing.assert_allclose(held_out[0][:, 0].numpy(), arrays["validation_images"][:12] / 255, rtol=1e-6)
    assert held_out[1].tolist() == arrays["validation_labels"][:12].tolist()


def test_of_images_with_few_labels():
    """The labelled batch comes from the same 20 images for ever, with their own labels, beside unlabelled ones."""
    arrays = splits()
    stream = batches.of_images(arrays, Fit(batch=8), 20, 12, CPU, drawn(0))
    (held_out,) = stream.validation
    own = zip(arrays["train_images"], arrays["train_labels"].tolist(), strict=True)
    label_of = {image.tobytes(): label for image, label in own}
    seen = {}
    for image, _, labelled_image, label in map(stream.batch_of, itertools.islice(stream.draws, 30)):
        assert len(image) == len(labelled_image) == len(label) == 8
        for pixels, digit in zip((labelled_image[:, 0] * 255).round().byte().numpy(), label.tolist(), strict=True):
            seen[pixels.tobytes()] = digit
    assert seen.items() <= label_of.items()
    assert numpy.bincount(list(seen.values())).tolist() == [2] * 10
    assert len(held_out) == 4
    assert torch.equal(held_out[0], held_out[2])
    assert torch.equal(held_out[1], held_out[3])


@given(st.integers(2, 300), st.integers(1, 6), st.integers(1, 9))
def test_segments_are_numpys_reshaping(count, batch, time):
    """The tutorial's reading order: `batch` rows of equal length, cut into segments of `time`, targets one word on."""
    words = numpy.arange(count)
    rows = words[: count // batch * batch].reshape(batch, count // batch)
    number = (rows.shape[1] - 1) // time
    if number < 1:
        with pytest.raises(InputError, match=rf"fit\.batch = {batch} .* fit\.sequence_length = {time} "):
            batches.bptt_segments(torch.from_numpy(words), batch, time)
        return
    batch_of, places = batches.bptt_segments(torch.from_numpy(words), batch, time)
    got = [batch_of((place,)) for place in places]
    assert [fresh.item() for *_, fresh in got] == [True] + [False] * (number - 1)
    inputs, targets = (numpy.concatenate([segment[part].numpy() for segment in got], 1) for part in (0, 1))
    assert inputs.tolist() == rows[:, : number * time].tolist()
    assert targets.tolist() == rows[:, 1 : number * time + 1].tolist()


def test_segments_of_the_penn_treebank():
    """The tutorial reads 929,589 words as 20 rows in 2,323 segments of 20: its epoch_size."""
    assert batches.segments_per_epoch(929_589, 20, 20) == 2323


def test_of_text():
    arrays = {"train": numpy.arange(101, dtype=numpy.int32), "validation": numpy.arange(500, 600, dtype=numpy.int32)}
    stream = batches.of_text(arrays, Fit(batch=4, sequence_length=6), None, 50, CPU, drawn(0))
    assert stream.steps_per_epoch == 4  # 101 words are 4 rows of 25, of which 24 are read: 4 segments of 6
    two_epochs = [stream.batch_of(draw) for draw in itertools.islice(stream.draws, 8)]
    assert [fresh.item() for *_, fresh in two_epochs] == [True, False, False, False] * 2
    assert two_epochs[0][0].dtype == torch.int64
    assert torch.equal(two_epochs[1][0], two_epochs[5][0])
    assert two_epochs[1][0][:, 0].tolist() == [6, 31, 56, 81]
    read = torch.cat([words for words, *_ in stream.validation], 1)
    assert read[:, 0].tolist() == [500, 512, 524, 536]  # 50 words are 4 rows of 12
