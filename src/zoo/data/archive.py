"""One data set is one .npz file: its arrays, and its facts as JSON; equal content gives equal bytes."""

import hashlib
import json

import numpy

from zoo import files
from zoo.errors import InputError


def sha256(arrays):
    """Return the sha256 (hexadecimal) of names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = numpy.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def numbered(splits, vocabulary):
    """Texts {split: list of words} as arrays: each as int32 [words], ids into `vocabulary` (unicode [V])."""
    number = {word: item for item, word in enumerate(vocabulary)}
    arrays = {split: numpy.array([number[word] for word in text], numpy.int32) for split, text in splits.items()}
    return arrays | {"vocabulary": numpy.array(vocabulary)}


def list_sha256(words):
    """The sha256 of a text file, in UTF-8, of these words: each on a line that ends with a line feed."""
    return hashlib.sha256("".join(f"{word}\n" for word in words).encode()).hexdigest()


def write(path, arrays, facts):
    """Write arrays (dict of ndarray) and facts (whatever JSON can hold) to `path`, whole or not at all."""
    with files.replacing(path) as temporary, open(temporary, "wb") as stream:
        # Not compressed: zlib's bytes differ between its builds, and every experiment reads this file.
        numpy.savez(
            stream,
            **dict(sorted(arrays.items())),
            facts=numpy.array(json.dumps(facts, sort_keys=True)),
            allow_pickle=False,
        )


def read(path):
    """Return (arrays, facts) as given to `write`. Raises InputError when the file is missing or damaged."""
    try:
        with open(path, "rb") as stream, numpy.load(stream, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        facts = json.loads(str(arrays.pop("facts")))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro`") from None
    except Exception as error:  # each byte of a zip file or an array's header, when wrong, raises its own
        reason = type(error).__name__
        raise InputError(f"{path} is damaged: delete it and run `dvc repro` again ({reason})") from None
    return arrays, facts
