"""reports/<profile>/peers/<structure>.json: ONNX Runtime and other runtimes, timed in the same blocks of one run."""

from typing import Any

from zoo import records
from zoo.records import Record
from zoo.records.latency import CHARACTERS, TimedGraph, Times


class Row(Record):
    """One runtime in one mode: its times, and its outputs compared with ONNX Runtime's on the CPU, or why none.

    `build_ms` covers loading, compiling and the first call. `optimisation` is for ONNX Runtime only, `tf32` for CUDA.
    """

    device: str
    runtime: str
    mode: str
    threads: int
    batch: int
    graph_sha256: str
    optimisation: str | None = None
    tf32: bool | None = None
    times: Times | None = None
    build_ms: float | None = None
    largest_difference: float | None = None
    scale: float | None = None
    not_measured: str | None = None


class Peers(Record):
    """All runtimes on one structure. `openvino` is its version, None if it is not installed.

    `advice` comes from the latency records: [{"device", "batch", "best"}].
    """

    structure_sha256: str
    graph: TimedGraph
    machine: dict[str, Any]
    openvino: str | None
    settings: dict[str, Any]
    advice: list[dict[str, Any]]
    conditions: dict[str, dict[str, Any]]
    commit: str | None
    rows: list[Row]


folder, path, read, write = records.files_of(Peers, "peers", "structure_sha256", CHARACTERS)
