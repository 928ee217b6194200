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


def write(path, arrays, facts):
    """Write arrays (dict of ndarray) and facts (whatever JSON can hold) to `path`, whole or not at all."""
    ordered = {name: arrays[name] for name in sorted(arrays)}
    with files.replacing(path) as temporary, open(temporary, "wb") as stream:
        # Not compressed: zlib's bytes differ between its builds, and every experiment reads this file.
        numpy.savez(stream, **ordered, facts=numpy.array(json.dumps(facts, sort_keys=True)), allow_pickle=False)


def read(path):
    """Return (arrays, facts) as given to `save`. Raises InputError when the file is missing or damaged."""
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
