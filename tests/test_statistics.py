"""Intervals against SciPy's, and the verdicts by their definitions."""

import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from zoo.statistics import difference, interval, share, summary, verdict

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


@pytest.mark.parametrize("better", ["lower", "higher"])
@pytest.mark.parametrize(
    ("mean", "low", "high", "expected"),
    [
        (105.0, 95.0, 115.0, "reproduced"), (105.0, 85.0, 125.0, "undecided"), (105.0, 90.0, 125.0, "reproduced"),
        (100.0, 95.0, 105.0, "reproduced"), (120.0, 85.0, 155.0, "undecided"),
    ],
)  # fmt: skip
def test_an_interval_that_leaves_the_tolerance_on_both_sides_decides_nothing(mean, low, high, expected, better):
    assert verdict({"mean": mean, "low": low, "high": high}, 100.0, better, 0.1) == expected


def test_a_wide_interval_alone_earns_nothing():
    """The mean is 20 % off a published loss; that its interval touches the tolerance of 10 % does not reproduce it."""
    assert verdict({"mean": 120.0, "low": 105.0, "high": 135.0}, 100.0, "lower", 0.1) == "not reproduced"
    assert verdict({"mean": 80.0, "low": 75.0, "high": 95.0}, 100.0, "lower", 0.1) == "better"


@pytest.mark.parametrize(("count", "of"), [(0, 1), (0, 20), (3, 20), (1, 3), (5, 5), (19, 20)])
def test_the_interval_of_a_share_is_wilsons(count, of):
    expected = scipy.stats.binomtest(count, of).proportion_ci(method="wilson")
    assert share(count, of) == pytest.approx((expected.low, expected.high))


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
