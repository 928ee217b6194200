"""Time calls: warm-up, stopping rule, blocks, and the percentiles that the number of calls supports.

Percentiles follow MLPerf LoadGen's early stopping at 99 % confidence. The stopping rule requires a minimum of calls and
of seconds, as optimum-benchmark does. Calls to be compared are timed in turns, beside a fixed reference: if the
reference's time changes, the machine's pace has changed.
"""

import contextlib
import functools
import gc
import itertools
import math
import os
import statistics
import time
from typing import NamedTuple

import numpy
from scipy.special import bdtr

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
WINDOW_CALLS = 20
STEADY_WITHIN = 0.02
OUTLIER_TIMES_MEDIAN = 3
SETTLING_SECONDS, MAX_SETTLING_CHECKS = 0.002, 100
WAITING_SECONDS = 0.02
RULE = (
    "blocks", "calls", "seconds", "max_seconds", "reference_seconds", "max_drift", "patience_seconds",
    "warmup_calls", "warmup_seconds", "warmup_max_seconds",
)  # fmt: skip


class Reference:
    """A call that always does the same work, to measure the machine's pace, and its fastest median in this process."""

    def __init__(self, call):
        self.call, self.fastest_us = call, math.inf

    def pace(self, seconds):
        """The median time of a call (µs) over `seconds`, measured once all other threads of this process are idle."""
        _settle()
        median = _median_us(_repeat(self.call, 1, seconds, seconds))
        self.fastest_us = min(self.fastest_us, median)
        return median


def measure(
    candidates, *, blocks, calls, seconds, max_seconds, reference_seconds, max_drift, patience_seconds,
    warmup_calls, warmup_seconds, warmup_max_seconds,
):  # fmt: skip
    """Time `candidates` {name: (callable, its `Reference`)} in steady state, in turns; return {name: row}.

    Every candidate is warmed up. Each of the `blocks` then times every candidate in turn, once the threads of the
    previous one are idle, and its reference for `reference_seconds` before and after. All blocks of a candidate
    together take at least `calls` and `seconds`, and at most `max_seconds`, which takes precedence, but never fewer
    calls than a median needs. A block starts only while the reference runs within `max_drift` of its best. If the
    reference is slower after a block, the block is repeated once all others are done, and the attempt with the fastest
    reference is kept; nothing else is discarded. Waiting and repeating take at most `patience_seconds`.

    A row has the fields of `zoo.records.latency.Times` except items_per_second; "attempts" is the maximum over blocks.
    """

    def is_slow(reference, pace_us):
        return pace_us > (1 + max_drift) * reference.fastest_us

    at_least = -(-min_calls(0.5) // blocks)
    lasting = max(at_least, -(-calls // blocks)), seconds / blocks, max_seconds / blocks
    with _undisturbed():
        warming = (warmup_calls, warmup_seconds, warmup_max_seconds)
        warm = {name: len(_repeat(call, *warming, until=is_steady)) for name, (call, _) in candidates.items()}
        for reference in {reference for _, reference in candidates.values()}:
            _repeat(reference.call, *warming, until=is_steady)
        kept, latest, patience = {}, {}, patience_seconds
        due = list(itertools.product(range(blocks), candidates))
        for attempt in itertools.count(1):
            for number, name in due:
                call, reference = candidates[name]
                before = latest.get(reference) or reference.pace(reference_seconds)
                start = _now()
                while is_slow(reference, before) and _now() - start < patience:
                    time.sleep(WAITING_SECONDS)
                    before = reference.pace(reference_seconds)
                patience -= _now() - start
                if attempt > 1 and patience <= 0:
                    break
                start = _now()
                times, after = _repeat(call, *lasting, at_least=at_least), reference.pace(reference_seconds)
                patience -= _now() - start if attempt > 1 else 0
                latest, slower, earlier = {reference: after}, max(before, after), kept.get((number, name))
                steadier = earlier is None or slower < earlier.reference_us
                block = Block(times, reference, slower, attempt) if steadier else earlier._replace(attempts=attempt)
                kept[number, name] = block
            due = [key for key, block in kept.items() if is_slow(block.reference, block.reference_us)]
            if not due or patience <= 0:
                break
    return {name: _row([kept[number, name] for number in range(blocks)], warm[name]) for name in candidates}


class Block(NamedTuple):
    """A candidate's times (ns), its reference, the slower median of the reference (µs), and the number of attempts."""

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


def _now():
    return time.perf_counter_ns() / 1e9


def _median_us(times):
    return statistics.median(times) / 1e3


def best_medians(candidates, *, rounds, calls, seconds, max_seconds):
    """Time `candidates` {name: callable} in turns; return {name: the smallest median of `rounds` short runs, µs}."""
    medians = {name: [] for name in candidates}
    with _undisturbed():
        for name, call in [*candidates.items()] * rounds:
            _settle()
            medians[name].append(_median_us(_repeat(call, calls, seconds, max_seconds)))
    return {name: min(of_rounds) for name, of_rounds in medians.items()}


def once(call):
    """The result of `call()` and the seconds that it took."""
    start = _now()
    return call(), _now() - start


def describe(times):
    """Percentiles (µs) of `times` (ns) by nearest rank, each with its 95 % interval.

    Returns {"p50_us", "p50_low_us", "p50_high_us", the same for p90, p99 and p999, "outlier_share"}. A percentile is
    None if there are too few calls for it. An outlier took more than three times the median.
    """
    ordered = numpy.sort(numpy.asarray(times)) / 1e3
    row = {}
    for name, share in PERCENTILES.items():
        row |= dict.fromkeys((f"{name}_us", f"{name}_low_us", f"{name}_high_us"))
        if len(ordered) >= min_calls(share):
            row[f"{name}_us"] = float(numpy.quantile(ordered, share, method="inverted_cdf"))
            for end, rank in zip(("low", "high"), ranks(len(ordered), share) or (), strict=False):
                row[f"{name}_{end}_us"] = float(ordered[rank - 1])
    outliers = ordered > OUTLIER_TIMES_MEDIAN * numpy.median(ordered)
    return row | {"outlier_share": float(outliers.mean())}


@functools.cache
def min_calls(share, confidence=0.99):
    """The smallest number of calls that supports the percentile `share`.

    LoadGen's early stopping: at least two of n calls lie above the true percentile with `confidence`,
    P(Binomial(n, 1 - share) <= 1) <= 1 - confidence.
    """
    return next(count for count in itertools.count(2) if bdtr(1, count, 1 - share) <= 1 - confidence)


@functools.cache
def ranks(count, share, confidence=0.95):
    """Ranks (from 1) of the order statistics that enclose the true percentile `share`, or None for too few calls.

    The number of values below the percentile is Binomial(count, share) for every distribution of the values; each end
    leaves out at most (1 - confidence) / 2.
    """
    below = bdtr(numpy.arange(count + 1), count, share)
    low = int(numpy.searchsorted(below, (1 - confidence) / 2, side="right"))
    high = int(numpy.searchsorted(below, (1 + confidence) / 2)) + 1
    return (low, high) if low >= 1 and high <= count else None


def is_steady(times):
    """True if the median of the last 20 calls is within 2 % of the median of the 20 calls before."""
    if len(times) < 2 * WINDOW_CALLS:
        return False
    before = statistics.median(times[-2 * WINDOW_CALLS : -WINDOW_CALLS])
    return abs(statistics.median(times[-WINDOW_CALLS:]) - before) <= STEADY_WITHIN * before


def _settle():
    """Wait until all threads of this process are idle: thread pools spin for a while after their last call."""
    for _ in range(MAX_SETTLING_CHECKS):
        before = time.process_time()
        time.sleep(SETTLING_SECONDS)
        if time.process_time() - before < 0.1 * SETTLING_SECONDS:
            return


def _repeat(call, calls, seconds, max_seconds, until=lambda times: True, at_least=1):
    times, total = [], 0
    while len(times) < at_least or total < max_seconds * 1e9:
        if len(times) >= calls and total >= seconds * 1e9 and until(times):
            break
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
        total += times[-1]
    return times


@contextlib.contextmanager
def _undisturbed():
    """Disable garbage collection and pin the calling thread to its first core.

    onnxruntime pins its own threads to the other cores, but not the calling thread. When that shared a core with one of
    them, two threads were as slow as one.
    """
    was_enabled, cores = gc.isenabled(), os.sched_getaffinity(0)
    gc.collect()
    gc.freeze()  # the next collection, for the next measurement, need not look at what is here now
    gc.disable()
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        if was_enabled:
            gc.enable()
