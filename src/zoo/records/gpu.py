"""reports/gpu/<visit>.json: measurements of one visit to a machine with a GPU, outside the pipeline.

The lists and fields of a part that was not reached are empty or None; `parts` says why.
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from zoo import records
from zoo.records import Record

FOLDER = Path("reports", "gpu")


class Part(Record):
    """How a part ended (`done`, or the reason), how long it took, and what its time limit cut off."""

    outcome: str
    seconds: float = 0.0
    limit_seconds: float = 0.0
    not_reached: list[str] = Field(default_factory=list)


class Tests(Record):
    """One run of pytest: counts by outcome, and the last lines of each failed test."""

    counts: dict[str, int] = Field(default_factory=dict)
    failures: dict[str, str] = Field(default_factory=dict)
    error: str | None = None


class Step(Record):
    """Milliseconds per training step of an experiment: run eagerly (`eager`) or replayed as a CUDA graph (`graph`).

    `bare` replays without copying a new batch; `five` has five seeds in one graph. `operators` counts calls of torch
    operators, `kernels` the GPU kernels that they launch, `fills` the kernels that only fill memory.
    """

    name: str
    eager_ms: float | None = None
    operators: int | None = None
    kernels: int | None = None
    fills: int | None = None
    graph_ms: float | None = None
    graph_bare_ms: float | None = None
    five_ms: float | None = None
    five_bare_ms: float | None = None
    error: str | None = None


class Repeat(Record):
    """Whether weights stay byte-identical when a training run is repeated, resumed, or captured as a CUDA graph."""

    name: str
    steps: int | None = None
    deterministic: bool | None = None
    resumes: bool | None = None
    captured_equals_eager: bool | None = None
    loss: float | None = None
    loss_cpu: float | None = None
    seconds_again: float | None = None
    error: str | None = None


class Trained(Record):
    """A training run of `steps` out of `budget` steps: its duration and the experiment's headline metric."""

    name: str
    steps: int | None = None
    budget: int | None = None
    seconds: float | None = None
    diverged_at_step: int | None = None
    headline: str | None = None
    value: float | None = None
    error: str | None = None


class Outputs(Record):
    """A graph's outputs compared with those of the CPU, or the error."""

    largest_difference: float | None = None
    scale: float | None = None
    error: str | None = None


class Graph(Record):
    """A graph, `of` an experiment and verb, at one batch size in each of the three modes."""

    of: str
    batch: int
    host: Outputs
    bound: Outputs
    graph: Outputs


class Timed(Record):
    """A latency: the fields of `zoo.records.latency.Times` that the page shows, or why it was not measured."""

    experiment: str
    verb: str
    batch: int
    mode: str
    runtime: str = "onnxruntime"
    p50_us: float | None = None
    p50_low_us: float | None = None
    p50_high_us: float | None = None
    calls: int | None = None
    drift: float | None = None
    not_measured: str | None = None


class Visit(Record):
    """All parts of a visit. `steps` has one table per setting of torch; `settings` are those of the latencies."""

    date: str | None = None
    commit: str | None = None
    device: str = "cuda"
    profile: str | None = None
    budget_seconds: float | None = None
    machine: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    parts: dict[str, Part] = Field(default_factory=dict)
    tests: dict[str, Tests] = Field(default_factory=dict)
    steps: dict[str, list[Step]] = Field(default_factory=dict)
    determinism: list[Repeat] = Field(default_factory=list)
    training: list[Trained] = Field(default_factory=list)
    graphs: list[Graph] = Field(default_factory=list)
    latency: list[Timed] = Field(default_factory=list)
    peers: list[Timed] = Field(default_factory=list)

    @property
    def captured(self):
        """{setting: [(experiment, speed-up of its step by capture)]}."""
        return {
            setting: [(row.name, row.eager_ms / row.graph_ms) for row in rows if row.eager_ms and row.graph_ms]
            for setting, rows in self.steps.items()
        }

    @property
    def refused(self):
        """The rows of `graphs` that failed in at least one mode."""
        return [row for row in self.graphs if any(one.error for one in (row.host, row.bound, row.graph))]

    @property
    def whole(self):
        """(number of graphs that ran in all three modes at every batch size, number of graphs tried)."""
        tried = {row.of for row in self.graphs}
        return len(tried - {row.of for row in self.refused}), len(tried)


def visits():
    """Return [(name, Visit)] of all visits in reports/gpu, latest first. Raises InputError if one is damaged."""
    found = [(path.stem, records.read(Visit, path)) for path in sorted(FOLDER.glob("*.json"))]
    return sorted(found, key=lambda visit: visit[1].date or "", reverse=True)
