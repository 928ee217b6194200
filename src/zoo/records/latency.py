"""reports/<profile>/latency/<structure>.json: latency of graphs of one structure.

Graphs of equal structure do equal work, so one row serves every experiment whose graph has that structure. The row
names the graph that was timed; its weights may differ from those of the experiment that the row is shown for.
"""

from typing import Any

from pydantic import Field

from zoo import records
from zoo.records import Identity, Record

CHARACTERS = 16  # of a structure's sha256, in a file name


class TimedGraph(Identity):
    """The graph that was timed, with its experiment and seed."""

    experiment: str
    seed: int
    verb: str
    bytes: int


class Configuration(Record):
    """`mode`: host (arrays in and out), bound (arrays stay on the device), graph (bound, replayed as a CUDA graph)."""

    mode: str
    threads: int
    optimisation: str


class Times(Record):
    """Percentiles of the time per call in microseconds, each with its 95 % interval; None if there are too few calls.

    `block_*` are per block: calls, median, and the slower of the reference graph's medians before and after. `noise` is
    the relative standard deviation of the block medians, `drift` the range of the reference medians over their median.
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
    """One configuration at one batch size: its times, or why it was not measured."""

    batch: int
    graph_sha256: str
    tf32: bool | None = None
    nodes: dict[str, int] | None = None
    times: Times | None = None
    not_measured: str | None = None


class Cold(Record):
    """Load time, first and second call, and memory in a fresh process, or why they were not measured."""

    batch: int
    load_ms: float | None = None
    first_call_us: float | None = None
    second_call_us: float | None = None
    memory_peak_mib: float | None = None
    device_memory_mib: float | None = None
    not_measured: str | None = None


class Advice(Record):
    """The best configuration and the runtime's default, their ratio, and whether the difference is significant."""

    batch: int
    default: Configuration
    best: Configuration
    ratio: float
    verdict: str


class Agreement(Configuration):
    """Outputs of the provider compared with those of the CPU: largest absolute difference and value, or why none.

    The outputs are of a call after the first, on other inputs, so that a CUDA graph is replayed.
    """

    batch: int
    largest_difference: float | None = None
    scale: float | None = None
    not_measured: str | None = None


class Source(Record):
    """Measurements of one provider, with the graph, machine, settings and commit."""

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
    """Measurements of one structure by provider, and why other providers have none."""

    structure_sha256: str
    verb: str
    sources: dict[str, Source] = Field(default_factory=dict)
    not_measured: dict[str, str] = Field(default_factory=dict)


folder, path, read, write = records.files_of(Latency, "latency", "structure_sha256", CHARACTERS)
