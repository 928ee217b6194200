"""Intervals against SciPy's, and the verdicts by their definitions."""

import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from zoo.statistics import (
    difference,
    disturbed,
    interval,
    latency_change,
    pace_change,
    quality_change,
    relative_change,
    summary,
    verdict,
)

values = st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=20)


@given(values, st.sampled_from([0.8, 0.95, 0.99]))
def test_interval_is_students(values, confidence):
    low, high = interval(values, confidence)
    deviation = scipy.stats.sem(values)
    if deviation > 1e-6:
        expected = scipy.stats.t.interval(confidence, len(values) - 1, scipy.stats.tmean(values), deviation)
        assert (low, high) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    mean = summary(dict(enumerate(values)))["mean"]
    assert low <= mean + 1e-6
    assert mean <= high + 1e-6


def test_interval_by_hand():
    """1, 2, 3: mean 2, standard error 1 / sqrt(3), t(2, 0.975) = 4.3027 from the printed tables."""
    assert interval([1, 2, 3]) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


def test_fewer_than_three_values_have_no_interval():
    assert interval([1.0, 2.0]) is None
    assert summary({0: 1.0, 1: 2.0}) == {"mean": 1.5, "seeds": {"0": 1.0, "1": 2.0}}


@pytest.mark.parametrize("lost", [None, math.nan, math.inf])
def test_a_diverged_seed_leaves_no_mean(lost):
    assert summary({0: 1.0, 1: lost, 2: 2.0, 3: 3.0}) == {
        "mean": None,
        "seeds": {"0": 1.0, "1": None, "2": 2.0, "3": 3.0},
    }


def test_summary_of_nothing():
    assert summary({}) == {"mean": None, "seeds": {}}


@pytest.mark.parametrize(
    ("mean", "better", "expected"),
    [
        (100.0, "lower", "reproduced"),
        (109.9, "lower", "reproduced"),
        (90.1, "lower", "reproduced"),
        (110.1, "lower", "not reproduced"),
        (89.9, "lower", "better"),
        (110.1, "higher", "better"),
        (89.9, "higher", "not reproduced"),
        (None, "higher", "not reproduced"),
    ],
)
def test_verdict_of_one_value(mean, better, expected):
    assert verdict({"mean": mean}, 100.0, better, 0.1) == expected


def test_the_interval_decides():
    assert verdict({"mean": 120.0, "low": 105.0, "high": 135.0}, 100.0, "lower", 0.1) == "reproduced"
    assert verdict({"mean": 120.0, "low": 115.0, "high": 125.0}, 100.0, "lower", 0.1) == "not reproduced"
    assert verdict({"mean": 80.0, "low": 75.0, "high": 85.0}, 100.0, "lower", 0.1) == "better"
    assert verdict({"mean": 80.0, "low": 75.0, "high": 95.0}, 100.0, "lower", 0.1) == "reproduced"


def test_an_interval_beyond_the_tolerance_on_both_sides_decides_nothing():
    """As when some seeds are near the published value and others far off."""
    for better in ("lower", "higher"):
        assert verdict({"mean": 120.0, "low": 85.0, "high": 155.0}, 100.0, better, 0.1) == "undecided"
        assert verdict({"mean": 120.0, "low": 90.0, "high": 150.0}, 100.0, better, 0.1) == "reproduced"


def test_tolerance_of_a_negative_value():
    assert verdict({"mean": -105.0}, -100.0, "higher", 0.1) == "reproduced"
    assert verdict({"mean": -115.0}, -100.0, "higher", 0.1) == "not reproduced"


def test_direction_must_be_known():
    with pytest.raises(ValueError, match="lower or higher"):
        verdict({"mean": 1.0}, 1.0, "smaller", 0.1)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(0.001, 1))
def test_turning_the_sign_turns_the_direction(mean, value, tolerance):
    turned = verdict({"mean": -mean}, -value, "higher", tolerance)
    assert verdict({"mean": mean}, value, "lower", tolerance) == turned


# ---- the difference of two means


@given(values, values)
def test_difference_is_welchs(left, right):
    low, high = difference(left, right)
    if min(scipy.stats.sem(left), scipy.stats.sem(right)) > 1e-3:
        expected = scipy.stats.ttest_ind(left, right, equal_var=False).confidence_interval(0.95)
        assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)
    assert difference(right, left) == (-high, -low)


def test_difference_by_hand():
    """1, 2, 3 less 0, 0, 0, 0: as the interval of 1, 2, 3 alone, for the other side adds neither spread nor freedom."""
    half = 4.3027 / 3**0.5
    assert difference([1.0, 2.0, 3.0], [0.0] * 4) == pytest.approx((2 - half, 2 + half), abs=1e-4)


@given(values, st.floats(-1e6, 1e6))
def test_against_an_exact_number_the_difference_is_students_interval(several, exact):
    low, high = interval(several)
    scale = max(map(abs, (*several, exact, 1.0)))
    assert difference(several, exact) == pytest.approx((low - exact, high - exact), abs=1e-9 * scale)


@pytest.mark.parametrize(("left", "right"), [([5.0, 7.0], [1.0, 2.0, 3.0]), ([5.0, 5.0, 8.0], [4.0]), ([6.0], 4.0)])
def test_with_fewer_than_three_values_there_is_the_difference_alone(left, right):
    low, high = difference(left, right)
    assert low == high == pytest.approx({2: 4, 3: 2, 1: 2}[len(left)])


def test_what_does_not_vary_has_no_spread():
    assert difference([1.0] * 5, 0.5) == (0.5, 0.5)
    assert difference([1.0] * 3, [3.0] * 4) == (-2, -2)


# ---- one commit against another

RULE = {"relative": 0.05, "microseconds": 1.0, "noise_times": 3, "drift": 0.05}
OPPOSITE = {"better": "worse", "worse": "better", "same": "same"}
metric = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=6).map(lambda found: dict(enumerate(found)))
several = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=6).map(lambda found: dict(enumerate(found)))
direction = st.sampled_from(["lower", "higher"])


@st.composite
def timings(draw):
    low, middle, high = sorted(draw(st.lists(st.floats(0.1, 1e5), min_size=3, max_size=3)))
    blocks = draw(st.lists(st.floats(0.1, 1e5), min_size=3, max_size=7))
    reference = draw(st.none() | st.lists(st.floats(1, 100), min_size=5, max_size=5))
    row = {"p50_us": middle, "p50_low_us": low, "p50_high_us": high, "block_p50_us": blocks}
    return row | ({"block_reference_us": reference} if reference else {})


def timing(p50, *faster_half, spread=0.01, **more):
    """A row whose faster half of the blocks is `p50` three times, or what else is given."""
    blocks = [2 * p50, *(faster_half or [p50] * 3), 3 * p50]
    interval = {"p50_low_us": p50 * (1 - spread), "p50_high_us": p50 * (1 + spread)}
    return {"p50_us": p50, "block_p50_us": blocks} | interval | more


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
    found = quality_change(before, after, better, 0.01)
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
        ([100.0], [100.9], "lower", "same"),
        ([100.0], [101.1], "lower", "worse"), ([100.0], [101.1], "higher", "better"),
        ([-112.0], [-113.0], "higher", "same"), ([-112.0], [-115.0], "higher", "worse"),  # an ELBO
        ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], "lower", "same"),  # one apart, the interval's half is 2.27
        ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], "lower", "worse"),
        ([1.0, 2.0], [2.0, 3.0], "lower", "worse"),  # two seeds: the floor alone
        ([1.0] * 3, [1.02] * 3, "lower", "worse"), ([1.0] * 3, [1.0] * 5, "lower", "same"),
        ([None], [1.0], "lower", "better"), ([1.0], [None], "higher", "worse"), ([None], [None, None], "lower", "same"),
        ([1.0, 1.0, None], [9.0, None, None], "lower", "worse"), ([0.0], [0.0], "lower", "same"),
    ],
)  # fmt: skip
def test_quality_by_hand(before, after, better, expected):
    assert quality_change(dict(enumerate(before)), dict(enumerate(after)), better, 0.01) == expected


def test_a_share_near_one_is_judged_by_what_it_misses():
    """Half as many errors again are a change, though the accuracy itself moves by half a percent."""
    assert quality_change({0: 0.990}, {0: 0.985}, "higher", 0.01) == "same"
    assert quality_change({0: 0.990}, {0: 0.985}, "higher", 0.01, share=True) == "worse"


def test_what_is_rounding_is_the_same():
    assert quality_change({0: 0.0}, {0: 6e-6}, "lower", 0.01) == "worse"
    assert quality_change({0: 0.0}, {0: 6e-6}, "lower", 0.01, rounding=1e-5) == "same"


@given(metric, metric, direction, st.booleans())
def test_quality_the_other_way_round(before, after, better, share):
    there = quality_change(before, after, better, 0.01, share)
    assert quality_change(after, before, better, 0.01, share) == OPPOSITE[there]
    assert quality_change(before, before, better, 0.01, share) == "same"


def test_direction_of_a_change_must_be_known():
    with pytest.raises(ValueError, match="lower or higher"):
        quality_change({0: 1.0}, {0: 2.0}, "smaller", 0.01)


@given(timings(), timings())
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
    """The reference took 10 us, then 12: what went from 100 to 120 is the same, what stayed at 100 is faster."""
    before = timing(100, block_reference_us=[9, 10, 10, 10, 11])
    slow = {"block_reference_us": [12, 12, 12, 13, 11]}
    assert latency_change(before, timing(120, **slow), RULE) == ("same", pytest.approx(0))
    assert latency_change(before, timing(100, **slow), RULE) == ("better", pytest.approx(-0.2))
    assert latency_change(before, timing(138, **slow), RULE) == ("worse", pytest.approx(0.15))
    assert pace_change(before, timing(120, **slow)) == pytest.approx(0.2)


def test_without_a_reference_on_both_sides_times_are_taken_as_they_are():
    before, after = timing(100, block_reference_us=[10] * 5), timing(120)
    assert latency_change(before, after, RULE) == ("worse", pytest.approx(0.2))
    assert pace_change(before, after) == 0


@given(timings(), st.floats(0.2, 5))
def test_a_change_of_pace_alone_is_no_change(row, factor):
    before = row | {"block_reference_us": [10.0] * 5}
    after = {key: value * factor for key, value in row.items() if key.startswith("p50")}
    after |= {"block_p50_us": [factor * p50 for p50 in row["block_p50_us"]], "block_reference_us": [10 * factor] * 5}
    verdict, change = latency_change(before, after, RULE)
    assert (verdict, change) == ("same", pytest.approx(0, abs=1e-9))


def test_what_was_disturbed_is_not_compared():
    steady = timing(100, block_reference_us=[40.0] * 5)
    wandering, elsewhere = steady | {"drift": 0.051}, steady | {"block_reference_us": [42.4] * 5}
    assert disturbed(steady, steady | {"drift": 0.049}, RULE) is None
    assert disturbed(steady, wandering, RULE) == "the machine's pace changed by 5% within a measurement"
    assert disturbed(wandering, steady, RULE) == disturbed(steady, wandering, RULE)
    assert disturbed(steady, elsewhere, RULE) == "the machine's pace changed by 6% between the measurements"
