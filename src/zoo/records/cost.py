"""reports/<profile>/cost/<experiment>.json: what making the weights took. Never compared byte for byte."""

from zoo import records
from zoo.records import Record


class Training(Record):
    """One seed: seconds of the clock and of the processor, the memory of the process at its largest, and where.

    A training that went on from a kept state counts what it took since then, and says so.
    """

    seconds: float
    cpu_seconds: float
    memory_peak_mib: float
    processor: str
    resumed_at_step: int | None


class Cost(Record):
    """Every seed of an experiment that was trained, by seed."""

    experiment: str
    profile: str
    training: dict[str, Training]


folder, path, read, write = records.files_of(Cost, "cost")
