"""reports/<profile>/judged/<experiment>.json: what our classifier made of a generator's samples."""

from pathlib import Path

from zoo import records
from zoo.records import Identity, Record
from zoo.records.metrics import Summary


class Judge(Record):
    """The classifier: an experiment, its seed, and the graphs {verb: Identity} that judged."""

    experiment: str
    seed: int
    graphs: dict[str, Identity]


class Judged(Record):
    """`graphs` is {seed: {verb: Identity}} of the generator, `samples` how many were judged a seed."""

    experiment: str
    profile: str
    judge: Judge
    samples: int
    data_sha256: str
    versions: dict[str, str]
    graphs: dict[str, dict[str, Identity]]
    metrics: dict[str, Summary]


def path(profile, name):
    """Where the record of an experiment lies."""
    return Path("reports", profile, "judged", f"{name}.json")


def read(profile, name, text=None):
    """The `Judged` of an experiment. Raises InputError, as `records.read`."""
    return records.read(Judged, path(profile, name), text)


def write(judged):
    """Write the `Judged` of an experiment."""
    records.write(path(judged.profile, judged.experiment), judged)
