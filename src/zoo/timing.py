"""How long a call takes, and on which machine: warm-up, stopping rule, percentiles that the count supports.

Percentiles follow MLPerf LoadGen's early stopping at 99 % confidence; the stopping rule asks for calls and
seconds both, as optimum-benchmark does.
"""

import contextlib
import gc
import os
import platform
import statistics
import time
from pathlib import Path

import numpy
import onnxruntime
import psutil
import pynvml
from scipy.special import bdtr

PERCENTILES = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99}
WINDOW_CALLS = 20
STEADY_WITHIN = 0.02
OUTLIER_TIMES_MEDIAN = 3


def measure(call, *, calls, seconds, most_seconds, warmup_calls, warmup_seconds, warmup_most_seconds):
    """Time `call()` in steady state: at least `calls` and `seconds`, at most `most_seconds` (which wins).

    Returns {"calls", "seconds", "warmup_calls", "p50_us", "p50_low_us", "p50_high_us", "p90_us", "p99_us",
    "outlier_share"}, microseconds; a percentile that the number of calls does not support is None.
    """
    with _no_garbage_collection():
        warm = _repeat(call, warmup_calls, warmup_seconds, warmup_most_seconds, until=is_steady)
        times = _repeat(call, calls, seconds, most_seconds)
    return {"calls": len(times), "seconds": sum(times) / 1e9, "warmup_calls": len(warm)} | describe(times)


def once(call):
    """(what `call()` returned, seconds that it took)."""
    start = time.perf_counter_ns()
    value = call()
    return value, (time.perf_counter_ns() - start) / 1e9


def describe(times):
    """Percentiles of `times` (nanoseconds) by nearest rank, and the median's 95 % interval: microseconds."""
    ordered = numpy.sort(numpy.asarray(times)) / 1e3
    row = dict.fromkeys(PERCENTILES)
    for name, share in PERCENTILES.items():
        if len(ordered) >= fewest(share):
            row[name] = float(numpy.quantile(ordered, share, method="inverted_cdf"))
    ranks = median_ranks(len(ordered))
    low, high = (None, None) if ranks is None else (float(ordered[rank - 1]) for rank in ranks)
    outliers = ordered > OUTLIER_TIMES_MEDIAN * numpy.median(ordered)
    return row | {"p50_low_us": low, "p50_high_us": high, "outlier_share": float(outliers.mean())}


def fewest(share, confidence=0.99):
    """The fewest calls that support the percentile `share`.

    LoadGen's early stopping: with n calls, two or more above the true percentile are seen with `confidence`,
    P(Binomial(n, 1 - share) <= 1) <= 1 - confidence.
    """
    count = 2
    while share**count + count * (1 - share) * share ** (count - 1) > 1 - confidence:
        count += 1
    return count


def median_ranks(count, confidence=0.95):
    """Ranks (from 1) of the order statistics that enclose the true median, or None for too few calls.

    P(the rank-th of n values is above the median) = P(Binomial(n, 1/2) < rank), whatever the distribution.
    """
    below = bdtr(numpy.arange(count + 1), count, 0.5)
    rank = int(numpy.searchsorted(below, (1 - confidence) / 2, side="right"))
    return (rank, count + 1 - rank) if rank else None


def is_steady(times):
    """Whether the median of the last 20 calls is within 2 % of that of the 20 before."""
    if len(times) < 2 * WINDOW_CALLS:
        return False
    before = statistics.median(times[-2 * WINDOW_CALLS : -WINDOW_CALLS])
    return abs(statistics.median(times[-WINDOW_CALLS:]) - before) <= STEADY_WITHIN * before


def machine():
    """What a latency depends on besides the graph. No host name, no user, no path."""
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
    }


def _repeat(call, calls, seconds, most_seconds, until=lambda times: True):
    times, total = [], 0
    while total < most_seconds * 1e9:
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


def _system():
    kernel = ".".join(platform.release().split(".")[:2])
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.system()} {kernel}"
    except OSError:
        return f"{platform.system()} {kernel}"
