"""`benchmark` and `peers` of params.yaml: how latency is measured."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from zoo import params
from zoo.params.fields import Count, Distinct, NotNegative, Positive, SomeDistinct, Strict, Word

Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]
Optimisation = Literal["none", "basic", "extended", "all"]
Runtime = Literal["torch", "torch_compile", "openvino"]


class Benchmark(Strict):
    """See the comments in params.yaml. Times are in seconds, of all blocks of a row together."""

    batches: SomeDistinct[Count]
    time: Count
    providers: SomeDistinct[Provider]
    threads: SomeDistinct[Count | Literal["all"]]
    optimisations: SomeDistinct[Optimisation]
    as_written: list[Word]
    cold_start: bool
    blocks: Annotated[int, Field(ge=3)]  # fewer have no interval
    calls: Count
    seconds: Positive
    most_seconds: Positive
    reference_seconds: Positive
    most_drift: Positive
    patience_seconds: NotNegative
    warmup_calls: Count
    warmup_seconds: Positive
    warmup_most_seconds: Positive


class Peers(Strict):
    """Other runtimes beside ONNX Runtime: which graphs are timed with which of them."""

    verbs: Distinct[Word]
    batches: SomeDistinct[Count]
    runtimes: Distinct[Runtime]


def benchmark(values, profile, visit=False):
    """The section `benchmark` in a profile, from all of params.yaml; on a `visit` with the values of that part.

    Raises InputError.
    """
    return params.parse(Benchmark, _section(values, "benchmark", profile, visit), "benchmark")


def peers(values, profile, visit=False):
    """The section `peers`, as `benchmark` returns its own. Raises InputError."""
    return params.parse(Peers, _section(values, "peers", profile, visit), "peers")


def _section(values, key, profile, visit):
    of_profile = params.of_profile(values, key, profile, others=["visit"])
    return of_profile | params.load(dict, values, key, "visit") if visit else of_profile


def settings(values, profile, cores, with_peers=False, visit=False):
    """What latency is measured with on a machine of so many `cores`, as plain values for a record.

    `all` threads become the number of cores, which stands beside them as "cores"; "tf32" is that of all computing. With
    `with_peers` the keys of `peers` are there too, its batches in place of those of `benchmark`.
    """
    chosen = benchmark(values, profile, visit).model_dump() | {"tf32": params.load(StrictBool, values, "tf32")}
    if with_peers:
        chosen |= peers(values, profile, visit).model_dump()
    threads = {cores if count == "all" else count for count in chosen["threads"]}
    return chosen | {"threads": sorted(threads), "cores": cores}
