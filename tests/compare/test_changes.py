"""Verdicts on two commits by their definitions, and against SciPy's tests."""

import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from zoo.compare.changes import at_equal_pace, drift_reason, latency_change, quality_change, relative_change
from zoo.evaluate.metrics import Metric
from zoo.params.comparison import LatencyRule
from zoo.records.latency import Times

RULE = LatencyRule(relative=0.05, microseconds=1.0, noise_times=3, drift=0.05)
OPPOSITE = {"better": "worse", "worse": "better", "same": "same", "changed": "changed"}
metric = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=6).map(lambda found: dict(enumerate(found)))
several = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=6).map(lambda found: dict(enumerate(found)))
direction = st.sampled_from(["lower", "higher"])


def make_metric(better, **options):
    return Metric(name="", meaning="", better=better, **options)


def timing(p50, *faster_half, spread=0.01, blocks=None, reference=(10.0,) * 5, drift=0.0):
    """`Times` whose faster half of the blocks is `p50` three times, or what else is given."""
    return Times.model_construct(
        p50_us=p50, p50_low_us=p50 * (1 - spread), p50_high_us=p50 * (1 + spread), drift=drift,
        block_p50_us=blocks or [2 * p50, *(faster_half or [p50] * 3), 3 * p50], block_reference_us=list(reference),
    )  # fmt: skip


timings = st.builds(
    timing,
    st.floats(0.1, 1e5),
    spread=st.floats(0, 0.5),
    blocks=st.lists(st.floats(0.1, 1e5), min_size=3, max_size=7),
    reference=st.lists(st.floats(1, 100), min_size=5, max_size=5),
)


@pytest.mark.parametrize(
    ("before", "after", "share", "expected"),
    [
        (10, 11, False, 0.1), (11, 10, False, -0.1), (-100, -110, False, -0.1), (-110, -100, False, 0.1),
        (0, 0, False, 0), (0, 1e-9, False, math.inf), (1e-9, 0, False, -math.inf), (-1, 1, False, 2),
        (0.75, 0.5, True, -1), (0.5, 0.75, True, 1), (0.25, 0.5, True, 1), (1.0, 0.75, True, -math.inf),
    ],
)  # fmt: skip
def test_relative_change_by_hand(before, after, share, expected):
    assert relative_change(before, after, share) == pytest.approx(expected)


@given(several, several, direction)
def test_quality_is_different_where_welchs_test_says_so_and_the_floor_is_passed(before, after, better):
    left, right = list(before.values()), list(after.values())
    found = quality_change(before, after, make_metric(better), 0.01)
    gap = scipy.stats.tmean(right) - scipy.stats.tmean(left)
    change = abs(gap) / min(scipy.stats.tmean(left), scipy.stats.tmean(right))
    if min(scipy.stats.sem(left), scipy.stats.sem(right)) > 1e-6 and abs(change - 0.01) > 1e-6:
        probability = scipy.stats.ttest_ind(left, right, equal_var=False).pvalue
        if abs(probability - 0.05) > 1e-6:
            assert (found != "same") == (probability < 0.05 and change > 0.01)
    assert found in ("same", "better" if (gap < 0) == (better == "lower") else "worse")


@pytest.mark.parametrize(
    ("before", "after", "better", "expected"),
    [
        ([100.0], [100.9], "lower", "same"), ([100.0], [101.1], "lower", "changed"),
        ([100.0], [99.0], "lower", "changed"), ([-112.0], [-113.0], "higher", "same"),  # an ELBO
        ([1.0, 2.0], [2.0, 3.0, 4.0], "lower", "changed"), ([1.0] * 3, [2.0] * 2, "lower", "changed"),
        ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], "lower", "same"),  # one apart, the interval's half is 2.27
        ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], "lower", "worse"), ([1.0] * 3, [1.02] * 3, "higher", "better"),
        ([1.0] * 3, [1.0] * 5, "lower", "same"), ([0.0], [0.0], "lower", "same"),
        ([None], [1.0], "lower", "changed"), ([None], [None, None], "lower", "same"),
        ([1.0] * 3, [1.0, 1.0, None], "higher", "worse"), ([None] * 3, [1.0] * 3, "higher", "better"),
        ([1.0, 1.0, None], [9.0, None, None], "lower", "worse"),
    ],
)  # fmt: skip
def test_quality_by_hand(before, after, better, expected):
    assert quality_change(dict(enumerate(before)), dict(enumerate(after)), make_metric(better), 0.01) == expected


def test_a_share_near_one_is_judged_by_its_distance_to_one():
    """Half as many errors again are a change, though the accuracy itself changes by half a percent."""
    assert quality_change({0: 0.990}, {0: 0.985}, make_metric("higher"), 0.01) == "same"
    assert quality_change({0: 0.990}, {0: 0.985}, make_metric("higher", share=True), 0.01) == "changed"


def test_rounding_is_no_change():
    assert quality_change({0: 0.0}, {0: 6e-6}, make_metric("lower"), 0.01) == "changed"
    assert quality_change({0: 0.0}, {0: 6e-6}, make_metric("lower", rounding=1e-5), 0.01) == "same"


@given(metric, metric, direction, st.booleans())
def test_quality_the_other_way_round(before, after, better, share):
    verdict = quality_change(before, after, make_metric(better, share=share), 0.01)
    assert quality_change(after, before, make_metric(better, share=share), 0.01) == OPPOSITE[verdict]
    assert quality_change(before, before, make_metric(better, share=share), 0.01) == "same"


@given(timings, timings)
def test_latency_the_other_way_round(before, after):
    verdict, change = latency_change(before, after, RULE)
    turned, change_turned = latency_change(after, before, RULE)
    assert turned == OPPOSITE[verdict]
    assert change_turned == pytest.approx(-change)
    assert latency_change(before, before, RULE) == ("same", 0)
    assert verdict == "same" or (verdict == "better") == (change < 0)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (timing(100), timing(104), "same"),  # below the floor
        (timing(100), timing(115), "worse"), (timing(115), timing(100), "better"),
        (timing(100), timing(115, 112, 115, 118), "worse"),  # noise 0.026, thrice 0.078
        (timing(100, 97, 100, 103), timing(114, 109.44, 114, 118.56), "same"),  # 0.03 and 0.04, thrice 0.15
        (timing(100, 97, 100, 103), timing(116, 111.36, 116, 120.64), "worse"),
        (timing(5), timing(5.9), "same"), (timing(5), timing(6.1), "worse"),  # a microsecond
        (timing(100, spread=0.08), timing(115), "worse"), (timing(100, spread=0.14), timing(115), "same"),  # overlap
    ],
)  # fmt: skip
def test_latency_by_hand(before, after, expected):
    assert latency_change(before, after, RULE)[0] == expected


def test_a_machine_that_is_slower_as_a_whole_changes_nothing():
    """The reference took 10 us, then 12: a change from 100 to 120 is the same, and 100 after 100 is faster."""
    before, slow = timing(100, reference=[9, 10, 10, 10, 11]), [12, 12, 12, 13, 11]
    assert latency_change(before, timing(120, reference=slow), RULE) == ("same", pytest.approx(0))
    assert latency_change(before, timing(100, reference=slow), RULE) == ("better", pytest.approx(-0.2))
    assert latency_change(before, timing(138, reference=slow), RULE) == ("worse", pytest.approx(0.15))


def test_times_are_scaled_to_the_pace_between_the_two():
    """The machine of `after` is four times slower: each median moves by a factor of two towards the other."""
    before, after = timing(100.0), timing(400.0, reference=(40.0,) * 5)
    for times, expected in zip(at_equal_pace(before, after), (before, after), strict=True):
        assert times.p50_us == pytest.approx(200)
        assert (times.p50_low_us, times.p50_high_us) == pytest.approx((198, 202))
        assert times.block_p50_us == pytest.approx([p50 * 200 / expected.p50_us for p50 in expected.block_p50_us])


def test_disturbed_latencies_are_not_compared():
    steady, elsewhere = timing(100), timing(100, reference=[10.6] * 5)
    wandering = timing(100, drift=0.051)
    assert drift_reason(steady, timing(100, drift=0.049), RULE) is None
    assert drift_reason(steady, wandering, RULE) == "the machine's pace changed by 5% within a measurement"
    assert drift_reason(wandering, steady, RULE) == drift_reason(steady, wandering, RULE)
    assert drift_reason(steady, elsewhere, RULE) == "the machine's pace changed by 6% between the measurements"
