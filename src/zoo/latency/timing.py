"""How long calls take, and on which machine: warm-up, stopping rule, blocks, percentiles that the count supports.

Percentiles follow MLPerf LoadGen's early stopping at 99 % confidence; the stopping rule asks for calls and
seconds both, as optimum-benchmark does. What is compared is measured in turns, beside a fixed reference whose own
changes tell how much of a change is the machine's.
"""

import contextlib
import functools
import gc
import importlib.metadata
import itertools
import math
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import numpy
import onnxruntime
import psutil
import pynvml
from onnxruntime.capi import build_and_package_info
from scipy.special import bdtr

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
WINDOW_CALLS = 20
STEADY_WITHIN = 0.02
OUTLIER_TIMES_MEDIAN = 3
SETTLING_SECONDS, SETTLING_MOST = 0.002, 100
WAITING_SECONDS = 0.02
RULE = (
    "blocks", "calls", "seconds", "most_seconds", "reference_seconds", "most_drift", "patience_seconds",
    "warmup_calls", "warmup_seconds", "warmup_most_seconds",
)  # fmt: skip
CODE = ("src", "stages", "params.yaml")


class Reference:
    """A call that is always the same, and how fast it ever was in this process.

    What is measured beside it can be told from what the machine does meanwhile.
    """

    def __init__(self, call):
        self.call, self.fastest_us = call, math.inf

    def pace(self, seconds):
        """The median of so many seconds, microseconds, taken when no other thread of this process works."""
        _settle()
        median = _median_us(_repeat(self.call, 1, seconds, seconds))
        self.fastest_us = min(self.fastest_us, median)
        return median


def measure(
    candidates, *, blocks, calls, seconds, most_seconds, reference_seconds, most_drift, patience_seconds,
    warmup_calls, warmup_seconds, warmup_most_seconds,
):  # fmt: skip
    """Time `candidates` {name: (callable, the `Reference` beside it)} in steady state, in turns; return {name: row}.

    Each is warmed up. Then, in each of `blocks`, comes every candidate in turn, its reference for `reference_seconds`
    before and after it, and never while threads of an earlier one still spin: at least `calls` and `seconds` in all
    blocks together, at most `most_seconds` (which wins), but as often as a median needs. While the reference is slower
    by more than `most_drift` than it ever was, no block begins; one beside which it became slow is measured again,
    after all others: until both have taken `patience_seconds`. The time at which the reference was fastest is kept,
    and nothing else is discarded.

    A row is `describe` of all times, {"calls", "seconds", "warmup_calls"}, and of the blocks {"block_calls",
    "block_p50_us", "block_reference_us" (of the slower of both), "noise", "drift", "attempts"}: noise is the relative
    standard deviation of the block medians, drift the range of the reference's over their median; attempts those of
    the block that had most.
    """

    def is_slow(reference, pace_us):
        return pace_us > (1 + most_drift) * reference.fastest_us

    at_least = -(-fewest(0.5) // blocks)
    lasting = max(at_least, -(-calls // blocks)), seconds / blocks, most_seconds / blocks
    with _undisturbed():
        warming = (warmup_calls, warmup_seconds, warmup_most_seconds)
        warm = {name: len(_repeat(call, *warming, until=is_steady)) for name, (call, _) in candidates.items()}
        for reference in {reference for _, reference in candidates.values()}:
            _repeat(reference.call, *warming, until=is_steady)
        kept, patience, latest = {}, _Stopwatch(patience_seconds), {}
        due = list(itertools.product(range(blocks), candidates))
        for attempt in itertools.count(1):
            for number, name in due:
                call, reference = candidates[name]
                before = latest.get(reference) or reference.pace(reference_seconds)
                with patience:
                    while is_slow(reference, before) and not patience.is_over():
                        time.sleep(WAITING_SECONDS)
                        before = reference.pace(reference_seconds)
                if attempt > 1 and patience.is_over():
                    break
                with patience if attempt > 1 else contextlib.nullcontext():
                    times = _repeat(call, *lasting, at_least=at_least)
                    after = reference.pace(reference_seconds)
                latest, slower, earlier = {reference: after}, max(before, after), kept.get((number, name))
                steadier = earlier is None or slower < earlier.reference_us
                block = Block(times, reference, slower, attempt) if steadier else earlier._replace(attempts=attempt)
                kept[number, name] = block
            due = [place for place, block in kept.items() if is_slow(block.reference, block.reference_us)]
            if not due or patience.is_over():
                break
    return {name: _row([kept[number, name] for number in range(blocks)], warm[name]) for name in candidates}


class _Stopwatch:
    """Counts the seconds spent inside of it."""

    def __init__(self, most):
        self._most, self._spent, self._since = most, 0.0, None

    def __enter__(self):
        self._since = time.perf_counter_ns()

    def __exit__(self, *_):
        self._spent, self._since = self._seconds(), None

    def _seconds(self):
        return self._spent + (0 if self._since is None else (time.perf_counter_ns() - self._since) / 1e9)

    def is_over(self):
        return self._seconds() >= self._most


class Block(NamedTuple):
    """Times of a candidate (nanoseconds); its reference, and how slow that was beside it; how often it was measured."""

    times: list
    reference: Reference
    reference_us: float
    attempts: int


def _row(of_blocks, warm):
    times = [time for block in of_blocks for time in block.times]
    medians, beside = [_median_us(block.times) for block in of_blocks], [block.reference_us for block in of_blocks]
    return describe(times) | {
        "calls": len(times),
        "seconds": sum(times) / 1e9,
        "warmup_calls": warm,
        "block_calls": [len(block.times) for block in of_blocks],
        "block_p50_us": medians,
        "block_reference_us": beside,
        "noise": (statistics.stdev(medians) if len(medians) > 1 else 0.0) / statistics.fmean(medians),
        "drift": (max(beside) - min(beside)) / statistics.median(beside),
        "attempts": max(block.attempts for block in of_blocks),
    }


def _median_us(times):
    return statistics.median(times) / 1e3


def brief(candidates, *, rounds, calls, seconds, most_seconds):
    """{name: the least median of `rounds` short runs, microseconds} of `candidates` {name: callable}, in turns.

    For a first choice: nothing is warmed up or set beside a reference.
    """
    medians = {name: [] for name in candidates}
    with _undisturbed():
        for name, call in [*candidates.items()] * rounds:
            _settle()
            medians[name].append(_median_us(_repeat(call, calls, seconds, most_seconds)))
    return {name: min(found) for name, found in medians.items()}


def once(call):
    """(what `call()` returned, seconds that it took)."""
    start = time.perf_counter_ns()
    value = call()
    return value, (time.perf_counter_ns() - start) / 1e9


def describe(times):
    """Percentiles of `times` (nanoseconds) by nearest rank, each with its 95 % interval: microseconds.

    {"p50_us", "p50_low_us", "p50_high_us", the same of p90, p99 and p999, "outlier_share"}: None where there are too
    few calls; outliers took more than three times the median.
    """
    ordered = numpy.sort(numpy.asarray(times)) / 1e3
    row = {}
    for name, share in PERCENTILES.items():
        supported = len(ordered) >= fewest(share)
        found = ranks(len(ordered), share) if supported else None
        row[f"{name}_us"] = float(numpy.quantile(ordered, share, method="inverted_cdf")) if supported else None
        row[f"{name}_low_us"], row[f"{name}_high_us"] = (
            (float(ordered[rank - 1]) for rank in found) if found else (None, None)
        )
    outliers = ordered > OUTLIER_TIMES_MEDIAN * numpy.median(ordered)
    return row | {"outlier_share": float(outliers.mean())}


@functools.cache
def fewest(share, confidence=0.99):
    """The fewest calls that support the percentile `share`.

    LoadGen's early stopping: with n calls, two or more above the true percentile are seen with `confidence`,
    P(Binomial(n, 1 - share) <= 1) <= 1 - confidence.
    """
    count = 2
    while share**count + count * (1 - share) * share ** (count - 1) > 1 - confidence:
        count += 1
    return count


@functools.cache
def ranks(count, share, confidence=0.95):
    """Ranks (from 1) of the order statistics that enclose the true percentile `share`, or None for too few calls.

    The number of `count` values below the percentile is Binomial(count, share), whatever the distribution; each end
    leaves out at most (1 - confidence) / 2.
    """
    below = bdtr(numpy.arange(count + 1), count, share)
    low = int(numpy.searchsorted(below, (1 - confidence) / 2, side="right"))
    high = int(numpy.searchsorted(below, (1 + confidence) / 2)) + 1
    return (low, high) if low >= 1 and high <= count else None


def is_steady(times):
    """Whether the median of the last 20 calls is within 2 % of that of the 20 before."""
    if len(times) < 2 * WINDOW_CALLS:
        return False
    before = statistics.median(times[-2 * WINDOW_CALLS : -WINDOW_CALLS])
    return abs(statistics.median(times[-WINDOW_CALLS:]) - before) <= STEADY_WITHIN * before


def machine():
    """What a latency depends on besides the graph, as far as it stays. No host name, no user, no path."""
    gpu, driver = _gpu()
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "governor": _governor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": gpu,
        "driver": driver,
        "os": _system(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
        "torch": _version("torch"),
        "cuda": getattr(build_and_package_info, "cuda_version", None),
        "cudnn": _version("nvidia-cudnn-cu13"),
    }


def conditions():
    """What a latency depends on and what changes from one minute to the next; None for what cannot be read."""
    frequency = psutil.cpu_freq()
    return {
        "load_of_one_minute": os.getloadavg()[0],
        "cpu_mhz": frequency.current if frequency else None,
    } | _gpu_conditions()


def commit():
    """The commit that is checked out, with ", changed" where the code is not the commit's; None without git."""
    try:
        name = _git("log", "-1", "--format=%h").strip()
        return f"{name}, changed" if _git("status", "--porcelain", "--", *CODE) else name
    except (OSError, subprocess.CalledProcessError):
        return None


def _settle():
    """Wait until no thread of this process works.

    Thread pools go on spinning for a while after their last call, on a core that the next candidate may need.
    """
    for _ in range(SETTLING_MOST):
        before = time.process_time()
        time.sleep(SETTLING_SECONDS)
        if time.process_time() - before < 0.1 * SETTLING_SECONDS:
            return


def _repeat(call, calls, seconds, most_seconds, until=lambda times: True, at_least=1):
    times, total = [], 0
    while len(times) < at_least or total < most_seconds * 1e9:
        if len(times) >= calls and total >= seconds * 1e9 and until(times):
            break
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
        total += times[-1]
    return times


@contextlib.contextmanager
def _undisturbed():
    """No garbage is collected, and the thread that calls stays on its first core.

    onnxruntime keeps its own threads on the other cores and lets the caller wander: for as long as that shared a core
    with one of them, two threads were as slow as one.
    """
    was_enabled, cores = gc.isenabled(), os.sched_getaffinity(0)
    gc.collect()
    gc.disable()
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        if was_enabled:
            gc.enable()


def _cpu():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _governor():
    file = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return file.read_text().strip() if file.exists() else None


def _gpu():
    try:
        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        driver = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None, None
    return name, driver


def _gpu_conditions():
    names = ("gpu_mhz", "gpu_memory_mhz", "gpu_watts", "gpu_celsius", "gpu_throttled_by")
    try:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)
        values = (
            pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
            pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
            pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
            pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            [name for name, bit in _throttle_reasons().items() if reasons & bit],
        )
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return dict.fromkeys(names)
    return dict(zip(names, values, strict=True))


def _throttle_reasons():
    """{reason: bit}, as the driver's library names them."""
    prefix = "nvmlClocksEventReason"
    return {
        name.removeprefix(prefix): value
        for name, value in vars(pynvml).items()
        if name.startswith(prefix) and isinstance(value, int) and value and not name.endswith("All")
    }


def _version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments):
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def _system():
    kernel = ".".join(platform.release().split(".")[:2])
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.system()} {kernel}"
    except OSError:
        return f"{platform.system()} {kernel}"
