"""What stages write beside their heavy outputs, one module a record: the typed model of a file, and where it lies.

Whatever was computed with a graph names it: `graph_sha256` identifies the file, `structure_sha256` the work that it
does (`zoo.graphs.identity`). Report, compare and every other reader use these models alone, and no other module spells
a key of a file. Records of quality follow from code, parameters and data: they hold no time, date or load.
"""

import importlib.metadata
from pathlib import Path

from pydantic import BaseModel, ValidationError

from zoo import files
from zoo.errors import InputError


class Record(BaseModel, extra="forbid", frozen=True):
    """Knows its keys. A number that is not finite becomes null in the file."""


class OfExperiment(Record):
    """Follows from code, parameters and data of an experiment, and from the `versions` of the packages that compute."""

    experiment: str
    profile: str
    versions: dict[str, str]


class Identity(Record):
    """Of a graph: the sha256 of its file's bytes, and that of its structure."""

    graph_sha256: str
    structure_sha256: str


def read(model, at, text=None):
    """The record that the file `at` holds, or `text`, its content elsewhere. Raises InputError, see `files_of`."""
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
    """Write a record to the file `at`, whole or not at all."""
    files.write_json(at, record.model_dump(exclude_unset=True))


def files_of(model, kind, key="experiment", characters=None):
    """The functions (folder, path, read, write) of one kind of record: reports/<profile>/<kind>/<name>.json.

    The name is the model's field `key`, so many of its `characters` (None: all). folder(profile); path(profile, name);
    read(profile, name, text=None), with the content of that file at another commit as `text`, which raises InputError
    where the file is missing, damaged, or of another version of this project; write(record, profile), whole or not at
    all, where the profile may be left out if the record has it.
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
    """{distribution: installed version} of the packages that decide a record's numbers."""
    return {name: importlib.metadata.version(name).partition("+")[0] for name in distributions}
