"""reports/<profile>/judged/<experiment>.json: what our classifier made of a generator's samples."""

from zoo import records
from zoo.records import Identity, OfExperiment, Record
from zoo.records.metrics import Summary


class Judge(Record):
    """The classifier: an experiment, its seed, and the graphs {verb: Identity} that judged."""

    experiment: str
    seed: int
    graphs: dict[str, Identity]


class Judged(OfExperiment):
    """`graphs` is {seed: {verb: Identity}} of the generator, `samples` how many were judged a seed."""

    judge: Judge
    samples: int
    data_sha256: str
    graphs: dict[str, dict[str, Identity]]
    metrics: dict[str, Summary | dict[str, Summary]]


folder, path, read, write = records.files_of(Judged, "judged")
