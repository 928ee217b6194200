"""The sections `benchmark` and `peers` of params.yaml: how latency is measured."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from zoo import params
from zoo.params.fields import Count, Distinct, NotNegative, Positive, SomeDistinct, Strict, Word

Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]
Optimisation = Literal["none", "basic", "extended", "all"]
Runtime = Literal["torch", "torch_compile", "openvino"]


class Benchmark(Strict):
    """The comments in params.yaml explain the options. Calls and seconds are totals over all blocks of a row."""

    batches: SomeDistinct[Count]
    time: Count
    providers: SomeDistinct[Provider]
    threads: SomeDistinct[Count | Literal["all"]]
    optimisations: SomeDistinct[Optimisation]
    as_written: list[Word]
    cold_start: bool
    blocks: Annotated[int, Field(ge=3)]  # an interval needs three
    calls: Count
    seconds: Positive
    max_seconds: Positive
    reference_seconds: Positive
    max_drift: Positive
    patience_seconds: NotNegative
    warmup_calls: Count
    warmup_seconds: Positive
    warmup_max_seconds: Positive


class Peers(Strict):
    """Which graphs are also timed with which other runtimes."""

    verbs: Distinct[Word]
    batches: SomeDistinct[Count]
    runtimes: Distinct[Runtime]


def benchmark(values, profile, visit=False):
    """Return the section `benchmark` for a profile. With `visit`, the part `visit` overrides the profile's options.

    `values` is all of params.yaml. Raises InputError.
    """
    return params.parse(Benchmark, _section(values, "benchmark", profile, visit), "benchmark")


def peers(values, profile, visit=False):
    """Return the section `peers`; parameters and errors as for `benchmark`."""
    return params.parse(Peers, _section(values, "peers", profile, visit), "peers")


def _section(values, key, profile, visit):
    of_profile = params.of_profile(values, key, profile, others=["visit"])
    return of_profile | params.load(dict, values, key, "visit") if visit else of_profile


def settings(values, profile, cores, with_peers=False, visit=False):
    """Return the latency settings for a machine with `cores` cores, as plain values for a record.

    `all` threads become the number of cores, also stored as "cores"; "tf32" is the top-level option. With `with_peers`,
    the options of `peers` are added and its batches replace those of `benchmark`.
    """
    chosen = benchmark(values, profile, visit).model_dump() | {"tf32": params.load(StrictBool, values, "tf32")}
    if with_peers:
        chosen |= peers(values, profile, visit).model_dump()
    threads = {cores if count == "all" else count for count in chosen["threads"]}
    return chosen | {"threads": sorted(threads), "cores": cores}
