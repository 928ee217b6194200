"""Data sets as .npz files: one file holds the arrays and, as JSON, the facts. Equal content gives equal bytes."""

import hashlib
import json

import numpy

from zoo import files
from zoo.errors import InputError


def sha256(arrays):
    """Return the sha256 (hexadecimal) of the names, types, shapes and values of arrays, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = numpy.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def encode_words(splits, vocabulary):
    """Convert texts {split: list of words} to int32 arrays [words] of ids into `vocabulary`, added as unicode [V]."""
    number = {word: item for item, word in enumerate(vocabulary)}
    arrays = {split: numpy.array([number[word] for word in text], numpy.int32) for split, text in splits.items()}
    return arrays | {"vocabulary": numpy.array(vocabulary)}


def list_sha256(words):
    """Return the sha256 of a UTF-8 text file with one word per line, each line ended by a line feed."""
    return hashlib.sha256("".join(f"{word}\n" for word in words).encode()).hexdigest()


def write(path, arrays, facts):
    """Write arrays (dict of ndarray) and facts (anything that JSON can hold) to `path` atomically."""
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
    except Exception as error:  # which error depends on the byte that is damaged
        reason = type(error).__name__
        raise InputError(f"{path} is damaged: delete it and run `dvc repro` again ({reason})") from None
    return arrays, facts
