"""Stopping rule under a clock of our own; percentiles and their counts against SciPy and NumPy."""

import gc
import json
import socket

import numpy
import pytest
from scipy.stats import binom

from zoo import timing

RULE = {
    "calls": 30,
    "seconds": 1e-3,
    "most_seconds": 1.0,
    "warmup_calls": 10,
    "warmup_seconds": 1e-3,
    "warmup_most_seconds": 0.1,
}


class Clock:
    """Stands in for `time`: a call takes exactly as long as it is told to."""

    def __init__(self):
        self.now = 0

    def perf_counter_ns(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_every_call_costs_what_the_clock_says(clock):
    def call():
        clock.now += 50_000

    row = timing.measure(call, **RULE)
    assert row["p50_us"] == row["p50_low_us"] == row["p50_high_us"] == 50
    assert row["calls"] == 30
    assert row["seconds"] == pytest.approx(30 * 50e-6)
    assert row["warmup_calls"] == 40  # two windows of 20 are needed to see that it is steady
    assert row["p90_us"] is None  # 30 calls do not support it
    assert row["outlier_share"] == 0


def test_seconds_are_as_binding_as_calls(clock):
    def call():
        clock.now += 10_000

    assert timing.measure(call, **RULE)["calls"] == 100


def test_the_cap_wins(clock):
    def call():
        clock.now += 400_000_000

    row = timing.measure(call, **RULE)
    assert (row["calls"], row["warmup_calls"]) == (3, 1)
    assert row["p50_us"] is row["p50_low_us"] is None


def test_warming_up_goes_on_until_steady(clock):
    costs = iter([100_000] * 25 + [50_000] * 1000)

    def call():
        clock.now += next(costs)

    row = timing.measure(call, **RULE)
    assert row["warmup_calls"] > 45
    assert row["p50_us"] == 50


def test_no_garbage_is_collected_meanwhile(clock):
    seen = set()

    def call():
        clock.now += 50_000
        seen.add(gc.isenabled())

    timing.measure(call, **RULE)
    assert seen == {False}
    assert gc.isenabled()


@pytest.mark.parametrize(("share", "count"), [(0.5, 11), (0.9, 64), (0.99, 662), (0.999, 6636)])
def test_fewest_calls_that_support_a_percentile(share, count):
    assert timing.fewest(share) == count
    assert binom.cdf(1, count, 1 - share) <= 0.01 < binom.cdf(1, count - 1, 1 - share)


@pytest.mark.parametrize("count", [6, 7, 11, 64, 100, 1001])
def test_ranks_of_the_median_cover_it_and_no_narrower_ones_do(count):
    low, high = timing.median_ranks(count)
    assert low + high == count + 1
    assert 1 - 2 * binom.cdf(low - 1, count, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(low, count, 0.5) < 0.95


def test_five_calls_have_no_interval():
    """Even the smallest and the largest of five enclose the median with 1 - 2 / 2**5 = 93.75 % alone."""
    assert timing.median_ranks(5) is None


def test_percentiles_are_numpys():
    times = numpy.random.default_rng(0).integers(1, 1_000_000, 700)
    row = timing.describe(times)
    for name, share in (("p50_us", 50), ("p90_us", 90), ("p99_us", 99)):
        assert row[name] == numpy.percentile(times, share, method="inverted_cdf") / 1e3
    assert row["p50_low_us"] < row["p50_us"] < row["p50_high_us"]
    assert timing.describe(times[:661])["p99_us"] is None


def test_outliers_are_counted():
    assert timing.describe([100] * 9 + [301])["outlier_share"] == 0.1


def test_the_machines_stamp_names_nobody_and_no_place():
    stamp = timing.machine()
    text = json.dumps(stamp)
    assert stamp["cores"] >= 1
    assert stamp == timing.machine()
    assert socket.gethostname() not in text
    assert not any(folder in text for folder in ("/home", "/root", "/tmp", "/work"))
