"""reports/<profile>/metrics/<experiment>.json: scores of the exported graphs on the test set."""

from zoo import records
from zoo.records import Identity, OfExperiment, Record


class Summary(Record):
    """One value per seed, None if not finite; their mean, None if any value is; and, from three seeds, its 95 %
    interval.
    """

    mean: float | None
    seeds: dict[str, float | None]
    low: float | None = None
    high: float | None = None


class Metrics(OfExperiment):
    """`verbs` is {verb: {metric: Summary or {class: Summary}}}, `graphs` {seed: {verb: Identity}} of the scored graphs.

    `confusion` counts images by actual and predicted class, for the first seed, on a tenth of the test images and on
    all of them: {"tenth", "all"}; None if the experiment does not classify.
    """

    data_sha256: str
    source: str
    importance_samples: int
    graphs: dict[str, dict[str, Identity]]
    verbs: dict[str, dict[str, Summary | dict[str, Summary]]]
    confusion: dict[str, list[list[int]]] | None


folder, path, read, write = records.files_of(Metrics, "metrics")
