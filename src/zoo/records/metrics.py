"""reports/<profile>/metrics/<experiment>.json: what the exported graphs scored on the test set."""

from zoo import records
from zoo.records import Identity, OfExperiment, Record


class Summary(Record):
    """A value a seed, None where it is not finite; the mean (None where a seed has none) and, from three seeds, its
    95 % interval.
    """

    mean: float | None
    seeds: dict[str, float | None]
    low: float | None = None
    high: float | None = None


class Metrics(OfExperiment):
    """`verbs` is {verb: {metric: Summary, or {class: Summary}}}, `graphs` {seed: {verb: Identity}} of what was scored.

    `confusion` are counts of the first seed, actual class by predicted class, of a tenth of the test images and of all
    of them: {"tenth", "all"}; None where nothing is classified.
    """

    data_sha256: str
    source: str
    importance_samples: int
    graphs: dict[str, dict[str, Identity]]
    verbs: dict[str, dict[str, Summary | dict[str, Summary]]]
    confusion: dict[str, list[list[int]]] | None


folder, path, read, write = records.files_of(Metrics, "metrics")
