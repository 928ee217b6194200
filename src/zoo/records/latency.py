"""reports/<profile>/latency/<structure>.json: how long a call of a graph of that structure takes.

Equal structures do equal work: one row serves every experiment whose graph has that structure. It names the graph that
it was timed on, which may have other weights than the one beside which it stands.
"""

from typing import Any

from pydantic import Field

from zoo import records
from zoo.records import Identity, Record

CHARACTERS = 16  # of a structure's sha256, in a file name


class TimedGraph(Identity):
    """The graph that was timed, and the experiment and seed whose it is."""

    experiment: str
    seed: int
    verb: str
    bytes: int


class Configuration(Record):
    """`mode`: host (arrays in and out), bound (they stay on the device), graph (bound, replayed as a CUDA graph)."""

    mode: str
    threads: int
    optimisation: str


class Times(Record):
    """Percentiles of a call in microseconds, each with its 95 % interval; None where there are too few calls.

    `block_*` are of the blocks: calls, median, and the slower median of the reference graph before and after. `noise`
    is the relative standard deviation of the block medians, `drift` the range of the reference's over their median.
    """

    p50_us: float | None
    p50_low_us: float | None
    p50_high_us: float | None
    p90_us: float | None
    p90_low_us: float | None
    p90_high_us: float | None
    p99_us: float | None
    p99_low_us: float | None
    p99_high_us: float | None
    p999_us: float | None
    p999_low_us: float | None
    p999_high_us: float | None
    outlier_share: float
    calls: int
    seconds: float
    warmup_calls: int
    items_per_second: float
    block_calls: list[int]
    block_p50_us: list[float]
    block_reference_us: list[float]
    noise: float
    drift: float
    attempts: int


class Row(Configuration):
    """One configuration at one batch: its times, or why it was not measured."""

    batch: int
    graph_sha256: str
    tf32: bool | None = None
    nodes: dict[str, int] | None = None
    times: Times | None = None
    not_measured: str | None = None


class Cold(Record):
    """Load, first and second call and memory in a process that ran nothing before, or why there are none."""

    batch: int
    load_ms: float | None = None
    first_call_us: float | None = None
    second_call_us: float | None = None
    memory_peak_mib: float | None = None
    device_memory_mib: float | None = None
    not_measured: str | None = None


class Advice(Record):
    """The best configuration beside the runtime's default, their ratio, and whether that is beyond doubt."""

    batch: int
    default: Configuration
    best: Configuration
    ratio: float
    verdict: str


class Agreement(Configuration):
    """Outputs of the provider beside those of the CPU: largest absolute difference and value, or why none.

    They are those of a later call than the first, on other inputs: a CUDA graph was replayed.
    """

    batch: int
    largest_difference: float | None = None
    scale: float | None = None
    not_measured: str | None = None


class Source(Record):
    """What one provider measured: of which graph, where, with which settings, at which commit."""

    graph: TimedGraph
    machine: dict[str, Any]
    settings: dict[str, Any]
    conditions: dict[str, dict[str, Any]]
    commit: str | None
    cold: list[Cold]
    rows: list[Row]
    advice: list[Advice]
    agreement: list[Agreement]


class Latency(Record):
    """All providers that measured a structure, by name, and why others did not."""

    structure_sha256: str
    verb: str
    sources: dict[str, Source] = Field(default_factory=dict)
    not_measured: dict[str, str] = Field(default_factory=dict)


folder, path, read, write = records.files_of(Latency, "latency", "structure_sha256", CHARACTERS)
