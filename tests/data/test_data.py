"""Data sources and their archive: splits, IDX files and vocabularies against counts made independently."""

import hashlib
import re
import struct
from collections import Counter

import numpy
import pytest
from sklearn.datasets import load_digits

from zoo import data, params
from zoo.data import archive, digits, mnist, ptb
from zoo.errors import InputError
from zoo.params import data as data_params
from zoo.params.data import Source

SPLITS = ("train", "validation", "test")


@pytest.fixture
def small(tmp_path):
    """(path, arrays, facts) of a small archive."""
    arrays = {"words": numpy.arange(5, dtype=numpy.int32), "vocabulary": numpy.array(["a", "<eos>", "é"])}
    facts = {"source": "none", "floor_nats_per_word": None, "licence": "ours"}
    archive.write(tmp_path / "data" / "small.npz", arrays, facts)
    return tmp_path / "data" / "small.npz", arrays, facts


def test_archive_returns_what_was_saved(small):
    path, arrays, facts = small
    loaded, loaded_facts = archive.read(path)
    assert loaded_facts == facts
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert numpy.array_equal(loaded[name], array)


def test_archive_bytes_depend_on_content_alone(small, tmp_path):
    path, arrays, facts = small
    archive.write(tmp_path / "again.npz", dict(reversed(arrays.items())), dict(reversed(facts.items())))
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()
    assert archive.sha256(dict(reversed(arrays.items()))) == archive.sha256(arrays)
    changed = {**arrays, "words": arrays["words"] + 1}
    assert archive.sha256(changed) != archive.sha256(arrays)
    assert archive.sha256({**arrays, "words": arrays["words"].astype(numpy.int64)}) != archive.sha256(arrays)


def test_failed_save_keeps_the_earlier_archive(small):
    path, _, facts = small
    before = path.read_bytes()
    with pytest.raises(ValueError, match="pickle"):
        archive.write(path, {"not_numbers": numpy.array([object()])}, facts)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_damage_is_one_line_or_harmless(small):
    """Every single byte flipped, and every tenth length: the same content, or InputError with the file."""
    path, arrays, facts = small
    whole = path.read_bytes()
    broken = [whole[:item] + bytes([whole[item] ^ 0xFF]) + whole[item + 1 :] for item in range(len(whole))]
    broken += [whole[:length] for length in range(0, len(whole), 10)] + [b"\x93NUMPY", b"<html>"]
    messages = []
    for content in broken:
        path.write_bytes(content)
        try:
            loaded, loaded_facts = archive.read(path)
        except InputError as error:
            messages.append(str(error))
        else:
            assert loaded_facts == facts
            assert archive.sha256(loaded) == archive.sha256(arrays)
    assert len(messages) > len(broken) / 2
    for message in messages:
        assert message.startswith(f"{path} is damaged: delete it and run `dvc repro` again (")
        assert "\n" not in message


def test_a_word_list_has_the_sha256_of_its_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("<eos>\né\n", encoding="utf-8", newline="")
    assert archive.list_sha256(numpy.array(["<eos>", "é"])) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_missing_archive_names_the_remedy(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.npz is missing: run `dvc repro`"):
        archive.read(tmp_path / "nowhere.npz")


def test_digits_are_split_once_each_and_evenly():
    arrays, facts = digits.load(validation=180, test=360, split_seed=0)
    assert [len(arrays[f"{split}_labels"]) for split in SPLITS] == [1797 - 180 - 360, 180, 360]
    source = load_digits()
    enlarged = Counter(
        (digits.enlarge(image).tobytes(), int(label)) for image, label in zip(source.images, source.target, strict=True)
    )
    found = Counter()
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        assert images.shape[1:] == (28, 28)
        assert images.dtype == labels.dtype == numpy.uint8
        found += Counter((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
        share = numpy.bincount(source.target) * len(labels) / 1797
        assert numpy.all(abs(numpy.bincount(labels) - share) < 2), "each class has its share, to one image"
    assert found == enlarged, "every image once, with its own label"
    assert facts["classes"] == len(facts["class_names"]) == 10


def test_digits_split_is_the_seed_s():
    one, again, other = (
        archive.sha256(digits.load(validation=180, test=360, split_seed=seed)[0]) for seed in (0, 0, 1)
    )
    assert one == again != other


def test_enlarged_digit_keeps_its_ink_and_its_place():
    """Against block averages: each 3.5 x 3.5 pixels of the large image lie over one pixel of the small."""
    for image in load_digits().images[:50]:
        large = digits.enlarge(image).astype(float)
        averages = numpy.kron(large, numpy.ones((2, 2))).reshape(8, 7, 8, 7).mean(axis=(1, 3))
        assert numpy.corrcoef(averages.ravel(), image.ravel())[0, 1] > 0.98
        assert averages.mean() == pytest.approx(image.mean() * 255 / 16, rel=0.1)


@pytest.mark.parametrize(("validation", "test"), [(1000, 1000), (5, 360), (180, 0), (0, 360)])
def test_digits_cannot_be_split_so(validation, test):
    with pytest.raises(InputError, match="do not split 1797 images"):
        digits.load(validation=validation, test=test, split_seed=0)


def idx(array):
    """An IDX file's bytes, by struct: the reference to `parse_idx`."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_idx_round_trip():
    array = numpy.random.default_rng(0).integers(0, 256, (7, 5, 3), numpy.uint8)
    assert numpy.array_equal(mnist.parse_idx(idx(array), "file", (7, 5, 3)), array)
    content = idx(array)
    for wrong in (content[:-1], content + b"\0", content[:7], b"", b"\1" + content[1:]):
        with pytest.raises(InputError, match="file is not an IDX file"):
            mnist.parse_idx(wrong, "file", (7, 5, 3))
    with pytest.raises(InputError):
        mnist.parse_idx(content, "file", (7, 3, 5))


def test_mnist_holds_out_the_first_images(monkeypatch):
    def numbered(count):
        images = numpy.zeros((count, 28, 28), numpy.uint8)
        images[:, 0, :4] = numpy.arange(count, dtype="<u4")[:, None].view(numpy.uint8)
        return images, (numpy.arange(count) % 10).astype(numpy.uint8)

    (images, labels), (test_images, test_labels) = numbered(60000), numbered(10000)
    served = dict(zip(mnist.FILES, map(idx, (images, labels, test_images, test_labels)), strict=True))
    monkeypatch.setattr(mnist, "fetch", lambda folder, name, *_: served[name])
    arrays, _ = mnist.load(validation=5000)
    numbers = {split: arrays[f"{split}_images"][:, 0, :4].copy().view("<u4").ravel().tolist() for split in SPLITS}
    assert numbers["validation"] == list(range(5000))
    assert numbers["train"] == list(range(5000, 60000))
    assert numbers["test"] == list(range(10000))
    for split in SPLITS:
        assert arrays[f"{split}_labels"].tolist() == [number % 10 for number in numbers[split]]


@pytest.mark.parametrize("validation", [0, -1, 60000])
def test_mnist_needs_a_possible_validation(validation):
    with pytest.raises(InputError, match="validation"):
        mnist.load(validation=validation)


def test_ptb_words_by_hand(monkeypatch):
    texts = {"ptb.train.txt": " b a c \n a b \n", "ptb.valid.txt": " c \n", "ptb.test.txt": " a a \n"}
    monkeypatch.setattr(ptb, "fetch", lambda folder, name, *_: texts[name].encode())
    with pytest.raises(InputError, match="7 words, 4 of them distinct"):
        ptb.load()
    monkeypatch.setattr(ptb, "TRAINING_WORDS", 7)
    monkeypatch.setattr(ptb, "VOCABULARY", 4)
    arrays, facts = ptb.load()
    assert arrays["vocabulary"].tolist() == ["<eos>", "a", "b", "c"], "twice each, alphabetically; then c"
    assert arrays["train"].tolist() == [2, 1, 3, 0, 1, 2, 0]
    assert arrays["validation"].tolist() == [3, 0]
    assert arrays["test"].tolist() == [1, 1, 0]
    assert facts["end_of_sentence"] == 0
    assert facts["word_list_sha256"] == hashlib.sha256(b"<eos>\na\nb\nc\n").hexdigest()
    assert facts["floor_nats_per_word"] is None


def source(**values):
    return Source.model_validate(values)


def test_load_adds_source_and_digest():
    arrays, facts = data.load(source(source="grammar", train=50, validation=20, test=30, seed=0))
    assert facts["source"] == "grammar"
    expected = hashlib.sha256()
    for name in sorted(arrays):
        expected.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
        expected.update(arrays[name].tobytes())
    assert facts["sha256"] == expected.hexdigest()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "cifar"}, "source = 'cifar' is unknown: use one of digits, grammar, mnist, ptb"),
        ({"source": "archive"}, "source = 'archive' is unknown"),
        ({"source": "mnist"}, "source mnist: missing a required argument: 'validation'; it takes validation"),
        ({"source": "mnist", "validation": 5, "tset": 1}, "unexpected keyword argument 'tset'; it takes validation"),
        ({"source": "ptb", "words": 1}, "it takes no further keys"),
    ],
)
def test_wrong_source_is_named(values, message):
    with pytest.raises(InputError, match=re.escape(message)):
        data.load(source(**values))


@pytest.mark.parametrize(
    ("profile", "key", "message"),
    [
        ("fast", "images", "profile 'fast' is unknown: use one of quick, full"),
        ("quick", "sounds", "data.sounds is missing"),
    ],
)
def test_download_refuses_what_is_not_there(profile, key, message):
    with pytest.raises(InputError, match=message):
        data_params.source(params.read(), key, profile)
