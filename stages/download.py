"""Fetch one data set from its source in params.yaml, and print facts that a reader can check."""

import _checkout  # noqa: F401, the stage runs this checkout's code

from zoo import data, files, params
from zoo.data import archive
from zoo.params.data import source
from zoo.stage import run


def download(profile, key):
    """Write the data set `key` (images or text) of a profile."""
    arrays, facts = data.load(source(params.read(), key, profile))
    path = files.data(profile, key)
    archive.write(path, arrays, facts)
    for name, array in sorted(arrays.items()):
        print(f"{name:18} {array.dtype!s:7} {' x '.join(str(length) for length in array.shape)}")
    for name, fact in facts.items():
        print(f"{name:18} {fact}")
    print(f"{'written to':18} {path}")


if __name__ == "__main__":
    run(download)
