"""reports/<profile>/cost/<experiment>.json: time and memory of training. Never compared byte for byte."""

from zoo import records
from zoo.records import Record


class Training(Record):
    """One seed: wall-clock and CPU seconds, peak memory of the process, and the processor.

    A resumed run counts only the time after `resumed_at_step`.
    """

    seconds: float
    cpu_seconds: float
    memory_peak_mib: float
    processor: str
    resumed_at_step: int | None


class Cost(Record):
    """`training` is {seed: Training} for every seed that was trained."""

    experiment: str
    profile: str
    training: dict[str, Training]


folder, path, read, write = records.files_of(Cost, "cost")
