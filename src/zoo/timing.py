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
RULE = (
    "blocks", "calls", "seconds", "most_seconds", "reference_seconds", "most_drift", "attempts",
    "warmup_calls", "warmup_seconds", "warmup_most_seconds",
)  # fmt: skip
CODE = ("src", "stages", "params.yaml")


def measure(
    candidates, reference, *, blocks, calls, seconds, most_seconds, reference_seconds, most_drift, attempts,
    warmup_calls, warmup_seconds, warmup_most_seconds,
):  # fmt: skip
    """Time `candidates` {name: callable} in steady state, in turns; return {name: row}.

    Each is warmed up. Then, in each of `blocks`, comes every candidate in turn, the `reference` for `reference_seconds`
    before and after it, and never while threads of an earlier one still spin: at least `calls` and `seconds` in all
    blocks together, at most `most_seconds` (which wins), but once a block. A block beside which the reference was
    slower by more than `most_drift` than the fastest seen is measured again, after all others, until it was measured
    `attempts` times; the time at which the reference was fastest is kept, and nothing else is discarded.

    A row is `describe` of all times, {"calls", "seconds", "warmup_calls"}, and of the blocks {"block_calls",
    "block_p50_us", "block_reference_us" (of the slower of both), "noise", "drift", "attempts"}: noise is the relative
    standard deviation of the block medians, drift the range of the reference's over their median; attempts those of
    the block that had most.
    """
    with _no_garbage_collection():
        warming = (warmup_calls, warmup_seconds, warmup_most_seconds)
        warm = {name: len(_repeat(call, *warming, until=is_steady)) for name, call in candidates.items()}
        _repeat(reference, *warming, until=is_steady)
        kept, fastest, attempt = {}, math.inf, 0
        due = list(itertools.product(range(blocks), candidates))
        while due and attempt < attempts:
            attempt += 1
            _settle()
            before = _median_us(_repeat(reference, 1, reference_seconds, reference_seconds))
            for place in due:
                times = _repeat(candidates[place[1]], -(-calls // blocks), seconds / blocks, most_seconds / blocks)
                _settle()
                after = _median_us(_repeat(reference, 1, reference_seconds, reference_seconds))
                fastest, slower = min(fastest, before, after), max(before, after)
                steadier = place not in kept or slower < kept[place].reference_us
                kept[place] = Block(times, slower, attempt) if steadier else kept[place]._replace(attempts=attempt)
                before = after
            due = [place for place, block in kept.items() if block.reference_us > (1 + most_drift) * fastest]
    return {name: _row([kept[number, name] for number in range(blocks)], warm[name]) for name in candidates}


class Block(NamedTuple):
    """Times of a candidate (nanoseconds), beside how slow a reference, and how often it was measured until then."""

    times: list
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
    with _no_garbage_collection():
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


def _repeat(call, calls, seconds, most_seconds, until=lambda times: True):
    times, total = [], 0
    while not times or total < most_seconds * 1e9:
        if len(times) >= calls and total >= seconds * 1e9 and until(times):
            break
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
        total += times[-1]
    return times


@contextlib.contextmanager
def _no_garbage_collection():
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
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
