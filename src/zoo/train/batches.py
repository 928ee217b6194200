"""Batches on the device: the data set is one tensor there, and each draw selects the part that a step reads."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from zoo.errors import InputError


class Stream(NamedTuple):
    """The batches of a run. A draw is a tuple of integer tensors of fixed shape on the device.

    `draws` is an endless iterator. `batch_of(draw)` runs on the device only, so that it can be captured with a step.
    `validation` is a list of batches.
    """

    draws: Iterator[tuple]
    batch_of: Callable
    validation: list
    steps_per_epoch: int


def images(arrays, split, device):
    """(images float32 [n, 1, 28, 28] in [0, 1], labels int64 [n]) of one split, on `device`."""
    pixels = torch.from_numpy(arrays[f"{split}_images"]).to(device)
    labels = torch.from_numpy(arrays[f"{split}_labels"]).to(device)
    return pixels[:, None].float() / 255, labels.long()


def shuffled(count, batch, device, generator):
    """Yield batches of indices below `count`, int64 [batch], endlessly; each epoch has a new order.

    An incomplete last batch is dropped. `generator` is on the CPU, so a seed gives the same order on every device.
    """
    if batch > count:
        raise InputError(f"params.yaml: fit.batch = {batch} is more than the {count} training images: make it smaller")
    while True:
        order = torch.randperm(count, generator=generator).to(device)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]


def labelled_subset(labels, count, generator):
    """Draw `count` indices into `labels` [n], equally many per class: the labelled images of a semi-supervised run."""
    classes = int(labels.max()) + 1
    each = count // classes
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    chosen = [order[labels[order] == digit][:each] for digit in range(classes)]
    if count % classes or any(len(index) < each for index in chosen):
        raise InputError(
            f"params.yaml: size.labelled = {count} cannot be drawn evenly from {classes} classes: use a lower multiple"
        )
    return torch.cat(chosen)


def bptt_segments(words, batch, length):
    """Cut a text into segments; return (`batch_of`, segments). `batch_of((segment,))` is (words, next words, fresh).

    The text [n] is cut into `batch` rows, and the rows into segments of `length` words for truncated backpropagation
    through time. Words are [batch, length]; row k continues in the next segment. `fresh`, a bool tensor [], is true
    where the state is reset. Zaremba et al. 2014 and the TensorFlow tutorial read in this order.
    """
    rows = words[: len(words) // batch * batch].view(batch, -1)
    window = torch.arange(length, device=words.device)

    def batch_of(draw):
        (segment,) = draw
        columns = segment * length + window
        return rows.index_select(1, columns), rows.index_select(1, columns + 1), segment == 0

    return batch_of, torch.arange(segments_per_epoch(len(words), batch, length), device=words.device).unbind()


def segments_per_epoch(words, batch, length):
    """The number of segments in a text of `words` words. Raises InputError if there are none."""
    count = (words // batch - 1) // length
    if count < 1:
        asked = f"fit.batch = {batch} rows of fit.sequence_length = {length} words need more than the {words} words"
        raise InputError(f"params.yaml: {asked} of the split: reduce either, or raise curve.validation_items")
    return count


def of_images(arrays, fit, labelled, validation_items, device, generator):
    """The `Stream` of images (`fit` as in params.yaml). If `labelled`, each batch includes labelled images too."""
    data = images(arrays, "train", device)
    held_out = [values[:validation_items] for values in images(arrays, "validation", device)]
    if labelled is None:
        draws = ((index,) for index in shuffled(len(data[1]), fit.batch, device, generator))
    else:
        chosen = labelled_subset(data[1], labelled, generator)
        known = (chosen[index] for index in shuffled(labelled, min(fit.batch, labelled), device, generator))
        draws = zip(shuffled(len(data[1]), fit.batch, device, generator), known, strict=True)
        held_out *= 2

    def batch_of(draw):
        return tuple(values[index] for index in draw for values in data)

    return Stream(draws, batch_of, [tuple(held_out)], len(data[1]) // fit.batch)


def of_text(arrays, fit, labelled, validation_items, device, generator):
    """The `Stream` of text, which is read in order: `labelled` and `generator` are not used."""
    words, held_out = (torch.from_numpy(arrays[split]).to(device).long() for split in ("train", "validation"))
    batch_of, segments = bptt_segments(words, fit.batch, fit.sequence_length)
    validate, held_out_segments = bptt_segments(held_out[:validation_items], fit.batch, fit.sequence_length)
    validation = [validate((segment,)) for segment in held_out_segments]
    return Stream(((segment,) for segment in itertools.cycle(segments)), batch_of, validation, len(segments))
