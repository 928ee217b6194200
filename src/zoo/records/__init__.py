"""Records: the small files that stages write. Each module defines the typed model of one kind, and its path.

A record of anything computed with a graph names the graph: `graph_sha256` identifies the file, `structure_sha256` the
work that it does (`zoo.graphs.identity`). Report, compare and all other readers go through these models; no other
module spells out a key of a file. Quality records depend on code, parameters and data only: they hold no time, date or
load.
"""

import importlib.metadata
from pathlib import Path

from pydantic import BaseModel, ValidationError

from zoo import files
from zoo.errors import InputError


class Record(BaseModel, extra="forbid", frozen=True):
    """Rejects unknown keys. Non-finite numbers become null in the file."""


class OfExperiment(Record):
    """Determined by the code, parameters and data of an experiment and by the `versions` of the packages used."""

    experiment: str
    profile: str
    versions: dict[str, str]


class Identity(Record):
    """The sha256 of a graph's file and of its structure."""

    graph_sha256: str
    structure_sha256: str


def read(model, at, text=None):
    """Return the record in the file `at`, or in `text` if given. Raises InputError as `files_of` says."""
    with files.reading(at):
        content = at.read_bytes() if text is None else text
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = f"{at}: {'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        again = "delete it and run `dvc repro` again"
        raise InputError(f"{wrong}: the file is damaged or of another version; {again}") from None


def write(at, record):
    """Write a record to the file `at` atomically."""
    files.write_json(at, record.model_dump(exclude_unset=True))


def files_of(model, kind, key="experiment", characters=None):
    """Return the functions (folder, path, read, write) for one kind of record: reports/<profile>/<kind>/<name>.json.

    <name> is the record's field `key`, cut to `characters` (None: uncut). folder(profile) and path(profile, name) give
    paths. read(profile, name, text=None) parses the file, or `text`, its content at another commit. It raises
    InputError if the file is missing, damaged, or of another version of this project. write(record, profile) is
    atomic; the profile defaults to the record's own.
    """

    def folder(profile):
        return Path("reports", profile, kind)

    def path(profile, name):
        return folder(profile) / f"{name[:characters]}.json"

    def read_one(profile, name, text=None):
        return read(model, path(profile, name), text)

    def write_one(record, profile=None):
        write(path(profile or record.profile, getattr(record, key)), record)

    return folder, path, read_one, write_one


def versions(*distributions):
    """Return {distribution: installed version} of the packages that affect the values of a record."""
    return {name: importlib.metadata.version(name).partition("+")[0] for name in distributions}
