"""Stopping rule under a clock of our own; percentiles and their counts against SciPy and NumPy."""

import gc
import itertools
import os

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from zoo.latency import timing

RULE = {
    "blocks": 5,
    "calls": 30,
    "seconds": 1e-3,
    "max_seconds": 1.0,
    "reference_seconds": 1e-4,
    "max_drift": 0.05,
    "patience_seconds": 1.0,
    "warmup_calls": 10,
    "warmup_seconds": 1e-3,
    "warmup_max_seconds": 0.1,
}


class Clock:
    """Stands in for `time`: a call takes exactly as long as it is told to; `busy` are other threads' CPU seconds."""

    def __init__(self, busy=()):
        self.now, self.busy, self.slept = 0, list(busy), 0

    def perf_counter_ns(self):
        return self.now

    def process_time(self):
        return sum(self.busy[: self.slept])

    def sleep(self, seconds):
        self.slept += 1
        self.now += round(seconds * 1e9)

    def call(self, *nanoseconds):
        """A call that takes so long, one after another, the last of them for ever."""
        costs = itertools.chain(nanoseconds[:-1], itertools.repeat(nanoseconds[-1]))

        def call():
            self.now += next(costs)

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def alone(clock, call, reference=None, **rule):
    beside = timing.Reference(reference or clock.call(10_000))
    return timing.measure({"it": (call, beside)}, **RULE | rule)["it"]


def test_every_call_costs_what_the_clock_says(clock):
    row = alone(clock, clock.call(50_000))
    assert row["p50_us"] == row["p50_low_us"] == row["p50_high_us"] == 50
    assert (row["calls"], row["block_calls"]) == (30, [6] * 5)
    assert row["seconds"] == pytest.approx(30 * 50e-6)
    assert row["warmup_calls"] == 40  # two windows of 20 are needed to see that it is steady
    assert row["p90_us"] is None  # 30 calls do not support it
    assert row["outlier_share"] == row["noise"] == row["drift"] == 0
    assert row["block_p50_us"] == [50] * 5
    assert row["block_reference_us"] == [10] * 5


def test_seconds_are_as_binding_as_calls(clock):
    assert alone(clock, clock.call(10_000))["calls"] == 100


def test_the_cap_wins_but_a_row_has_its_median(clock):
    row = alone(clock, clock.call(400_000_000))
    assert (row["calls"], row["block_calls"], row["warmup_calls"]) == (15, [3] * 5, 1)
    assert row["p50_us"] == row["p50_low_us"] == 400_000
    assert row["block_p50_us"] == [400_000] * 5


@pytest.mark.parametrize("blocks", range(1, 13))
def test_every_row_has_a_median_in_however_many_blocks(clock, blocks):
    assert alone(clock, clock.call(400_000_000), blocks=blocks)["p50_us"] == 400_000


def test_warming_up_goes_on_until_steady(clock):
    row = alone(clock, clock.call(*[100_000] * 25, 50_000))
    assert row["warmup_calls"] > 45
    assert row["p50_us"] == 50


def test_candidates_take_turns_with_the_reference(clock):
    order = []

    def named(name, nanoseconds):
        def call():
            clock.now += nanoseconds
            order.append(name)

        return call

    reference = timing.Reference(named("reference", 100_000))
    rows = timing.measure(
        {"slow": (named("slow", 50_000), reference), "fast": (named("fast", 20_000), reference)}, **RULE
    )
    turns = [name for name, _ in itertools.groupby(order)][2:]  # after the warm-up, which the reference ends
    assert turns == ["reference", "slow", "reference", "fast"] * 5 + ["reference"]
    assert {name: row["p50_us"] for name, row in rows.items()} == {"slow": 50, "fast": 20}


def test_each_candidate_has_its_own_reference(clock):
    """That of the second is slow in the first block; the first is not measured again for that."""
    fast, slow = timing.Reference(clock.call(100_000)), timing.Reference(clock.call(*[200_000] * 41, 260_000, 200_000))
    both = {"a": (clock.call(50_000), fast), "b": (clock.call(20_000), slow)}
    rows = timing.measure(both, **RULE)
    assert rows["a"]["block_reference_us"] == [100] * 5
    assert rows["b"]["block_reference_us"] == [200] * 5
    assert [rows[name]["attempts"] for name in both] == [1, 2]


def test_no_block_begins_while_other_threads_work(clock):
    clock.busy = [0.002, 0.0015, 0.001, 0.0001]  # CPU seconds within 2 ms each: a pool that spins down
    alone(clock, clock.call(50_000))
    assert clock.slept == 3 + 1 + 5  # until it is down, then once after each block


def test_a_thread_that_never_rests_does_not_hold_up_the_measurement(clock):
    clock.busy = [0.002] * 1000
    assert alone(clock, clock.call(50_000))["p50_us"] == 50
    assert clock.slept == (1 + 5) * 100


def test_noise_is_that_of_the_block_medians(clock):
    blocks = [50, 52, 48, 51, 90]
    row = alone(clock, clock.call(*[40_000] * 40, *[1000 * cost for cost in blocks for _ in range(20)], 1), calls=100)
    assert row["block_p50_us"] == blocks
    assert row["noise"] == pytest.approx(numpy.std(blocks, ddof=1) / numpy.mean(blocks))


WARM = [100_000] * 40  # calls of the reference before the first block, in all that follows


def test_a_block_beside_which_the_reference_became_slow_is_measured_again(clock):
    """The reference takes 100 µs, and 130 between the second block and the third, which waits."""
    reference = clock.call(*WARM, 100_000, 100_000, 130_000, 100_000)
    candidate = clock.call(*[50_000] * 46, *[99_000] * 6, *[50_000] * 18, *[60_000] * 6, 70_000)
    row = alone(clock, candidate, reference)
    assert row["block_p50_us"] == [50, 60, 50, 50, 50]
    assert row["block_reference_us"] == [100] * 5
    assert (row["attempts"], row["drift"]) == (2, 0)


def test_no_block_begins_while_the_reference_is_slow(clock):
    """It is, at its first reading and three more, against what it was in a measurement before."""
    reference = timing.Reference(clock.call(100_000))
    timing.measure({"it": (clock.call(50_000), reference)}, **RULE)
    reference.call = clock.call(*[130_000] * 44, 100_000)
    clock.slept = 0
    row = timing.measure({"it": (clock.call(50_000), reference)}, **RULE)["it"]
    assert row["block_reference_us"] == [100] * 5
    assert clock.slept == 1 + 5 + 4 * 2  # each reading lets threads settle; four of them were waited for


def test_what_stays_slow_is_measured_when_patience_is_over(clock):
    reference = clock.call(*WARM, 100_000, 130_000)
    began = clock.now
    row = alone(clock, clock.call(50_000), reference)
    assert (row["attempts"], row["block_reference_us"]) == (1, [130] * 5)
    assert (clock.now - began) / 1e9 == pytest.approx(RULE["patience_seconds"], rel=0.1)


def test_what_goes_on_drifting_is_kept_where_the_reference_was_fastest(clock):
    """After each block it is slow, 130 µs the first time, then 120, then 125, until patience is over."""
    beside = [[100_000, slow] * 5 for slow in (130_000, 120_000, 125_000)]
    candidate = clock.call(*[50_000] * 40, *[65_000] * 30, *[60_000] * 30, 62_500)
    row = alone(clock, candidate, clock.call(*WARM, *itertools.chain(*beside)), patience_seconds=0.25)
    assert row["block_p50_us"] == [60] * 5
    assert row["block_reference_us"] == [120] * 5
    assert row["attempts"] == 3


def test_drift_that_is_left_is_told(clock):
    reference = clock.call(*WARM, *[100_000] * 4, 130_000, 110_000, 120_000)
    row = alone(clock, clock.call(50_000), reference, patience_seconds=0)
    assert row["block_reference_us"] == [100, 100, 100, 130, 130]
    assert (row["attempts"], row["drift"]) == (1, pytest.approx(0.3))


def test_only_the_blocks_that_drifted_are_measured_again(clock):
    order = []

    def named(name, *nanoseconds):
        cost = clock.call(*nanoseconds)

        def call():
            cost()
            order.append(name)

        return call

    reference = timing.Reference(named("reference", *WARM, 100_000, 100_000, 100_000, 130_000, 100_000))
    timing.measure({"a": (named("a", 50_000), reference), "b": (named("b", 20_000), reference)}, **RULE)
    turns = "".join({"reference": "."}.get(name, name) for name, _ in itertools.groupby(order))
    assert turns == "ab" + ".a.b" * 5 + "." + "a."


def test_what_did_not_drift_is_measured_once(clock):
    row = alone(clock, clock.call(50_000), clock.call(*WARM, *[100_000, 104_000] * 3))
    assert (row["attempts"], row["block_reference_us"]) == (1, [104] * 5)


def test_a_short_run_has_a_median(clock):
    rule = {"calls": 3, "seconds": 0}
    once = {"it": clock.call(30_000, 10_000, 20_000)}
    assert timing.best_medians(once, rounds=1, max_seconds=1, **rule) == {"it": 20}
    assert timing.best_medians({"it": clock.call(10**9)}, rounds=1, max_seconds=0.5, **rule) == {"it": 10**6}
    in_turns = {"a": clock.call(*[9_000] * 3, *[5_000] * 3, 1), "b": clock.call(7_000)}
    assert timing.best_medians(in_turns, rounds=2, max_seconds=1, **rule) == {"a": 5, "b": 7}


def test_no_garbage_is_collected_meanwhile(clock):
    seen = set()

    def call():
        clock.now += 50_000
        seen.add(gc.isenabled())

    alone(clock, call)
    assert seen == {False}
    assert gc.isenabled()


def test_the_caller_stays_on_one_core_meanwhile(clock):
    before, seen = os.sched_getaffinity(0), []

    def call():
        clock.now += 50_000
        seen.append(os.sched_getaffinity(0))

    alone(clock, call)
    assert all(cores == {min(before)} for cores in seen)
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(("share", "count"), [(0.5, 11), (0.9, 64), (0.99, 662), (0.999, 6636)])
def test_min_calls_that_support_a_percentile(share, count):
    assert timing.min_calls(share) == count
    assert binom.cdf(1, count, 1 - share) <= 0.01 < binom.cdf(1, count - 1, 1 - share)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("count", [6, 7, 11, 64, 100, 1001])
def test_ranks_cover_the_percentile_and_no_narrower_ones_do(count, share):
    """With SciPy's binomial: the true percentile lies from the low-th to the high-th value unless B is outside."""
    below = binom(count, share)
    if found := timing.ranks(count, share):
        low, high = found
        assert below.cdf(low - 1) <= 0.025 < below.cdf(low)
        assert below.sf(high - 1) <= 0.025 < below.sf(high - 2)
    else:
        assert below.cdf(0) > 0.025 or below.sf(count - 1) > 0.025


def test_five_calls_have_no_interval():
    """Even the smallest and the largest of five enclose the median with 1 - 2 / 2**5 = 93.75 % alone."""
    assert timing.ranks(5, 0.5) is None
    assert timing.ranks(6, 0.5) == (1, 6)


def test_intervals_cover_the_true_percentile_as_often_as_they_say():
    """Of 400 samples of an exponential distribution, whose percentiles are -log(1 - share)."""
    random, share, count = numpy.random.default_rng(0), 0.9, 200
    low, high = timing.ranks(count, share)
    samples = numpy.sort(random.exponential(size=(400, count)))
    covered = (samples[:, low - 1] <= -numpy.log(1 - share)) & (-numpy.log(1 - share) <= samples[:, high - 1])
    assert covered.sum() >= binom.ppf(0.001, 400, 0.95)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=800))
def test_no_count_too_small_prints_a_percentile(times):
    row = timing.describe(times)
    for name, share in timing.PERCENTILES.items():
        supported = binom.cdf(1, len(times), 1 - share) <= 0.01
        printed = [row[f"{name}{end}_us"] for end in ("", "_low", "_high")]
        assert (printed[0] is not None) == supported
        if not supported:
            assert printed == [None] * 3
        elif printed[1] is not None:
            assert printed[1] <= printed[0] <= printed[2]


def test_percentiles_are_numpys():
    times = numpy.random.default_rng(0).integers(1, 1_000_000, 700)
    row = timing.describe(times)
    for name, share in (("p50", 50), ("p90", 90), ("p99", 99)):
        assert row[f"{name}_us"] == numpy.percentile(times, share, method="inverted_cdf") / 1e3
        assert row[f"{name}_low_us"] < row[f"{name}_us"] < row[f"{name}_high_us"]
    assert timing.describe(times[:661])["p99_us"] is None


def test_outliers_are_counted():
    assert timing.describe([100] * 9 + [301])["outlier_share"] == 0.1
