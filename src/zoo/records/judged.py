"""reports/<profile>/judged/<experiment>.json: how our classifier judged a generator's samples."""

from zoo import records
from zoo.records import Identity, OfExperiment, Record
from zoo.records.metrics import Summary


class Judge(Record):
    """The classifier: its experiment, its seed, and its graphs {verb: Identity}."""

    experiment: str
    seed: int
    graphs: dict[str, Identity]


class Judged(OfExperiment):
    """`graphs` is the generator's {seed: {verb: Identity}}, `samples` the number of judged samples per seed."""

    judge: Judge
    samples: int
    data_sha256: str
    graphs: dict[str, dict[str, Identity]]
    metrics: dict[str, Summary | dict[str, Summary]]


folder, path, read, write = records.files_of(Judged, "judged")
