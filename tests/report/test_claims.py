"""Claims: the decision between two sides against SciPy and by its properties, the weighing of curves by hand."""

import math

import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from zoo.params import comparison
from zoo.report import claims

numbers = st.floats(-1e6, 1e6)
perhaps_infinite = st.one_of(numbers, st.just(math.inf))
sides = st.one_of(numbers, st.lists(perhaps_infinite, min_size=1, max_size=6))
INFINITE = math.inf


def measured(**experiments):
    """{experiment: {"classify.accuracy": {seed: value}}}"""
    return {
        name: {"classify.accuracy": {str(seed): value for seed, value in enumerate(values)}}
        for name, values in experiments.items()
    }


def weighed(*tests, curves=None, **experiments):
    return claims.weigh([comparison(test) for test in tests], measured(**experiments), curves or {})


# ---- decide


@given(sides, sides)
def test_two_orders_never_agree(left, right):
    """Whatever is below something is not above it; what is undecided is so from either side."""
    one, other = claims.decide(left, right), claims.decide(right, left)
    assert (one, other) in ((True, False), (False, True), (None, None))


@given(st.lists(numbers, min_size=3, max_size=6), st.lists(numbers, min_size=3, max_size=6))
def test_several_values_are_decided_as_welchs_test_does(left, right):
    assume(min(max(left) - min(left), max(right) - min(right)) > 1)  # else SciPy warns of cancellation
    test = scipy.stats.ttest_ind(left, right, equal_var=False)
    assume(abs(test.pvalue - 0.05) > 1e-4)
    expected = None if test.pvalue > 0.05 else bool(test.statistic < 0)
    assert claims.decide(left, right) is expected


@given(st.lists(numbers, min_size=3, max_size=6), numbers)
def test_an_exact_number_is_decided_as_students_test_does(values, exact):
    assume(max(values) - min(values) > 1)
    test = scipy.stats.ttest_1samp(values, exact)
    assume(abs(test.pvalue - 0.05) > 1e-4)
    expected = None if test.pvalue > 0.05 else bool(test.statistic < 0)
    assert claims.decide(values, exact) is expected
    assert claims.decide(exact, values) is (None if expected is None else not expected)


@given(st.lists(numbers, min_size=1, max_size=2), st.lists(numbers, min_size=1, max_size=9))
def test_with_one_or_two_values_the_means_decide(few, several):
    gap = math.fsum(few) / len(few) - math.fsum(several) / len(several)
    assert claims.decide(few, several) is (None if gap == 0 else gap < 0)


def test_one_value_against_an_exact_number():
    assert claims.decide([0.3], 0.5) is True
    assert claims.decide([0.7], 0.5) is False
    assert claims.decide([0.5], 0.5) is None
    assert claims.decide(0.5, [0.7]) is True


def test_values_that_do_not_vary():
    """Five seeds that all came to 1: nothing is left in doubt."""
    assert claims.decide(0.99, [1.0] * 5) is True
    assert claims.decide([1.0] * 5, [1.0] * 5) is None
    assert claims.decide([1.0] * 5, [2.0] * 3) is True


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1.0, 2.0], [INFINITE], True),
        ([INFINITE], [1.0, 2.0], False),
        ([1.0, 2.0], [3.0, INFINITE], True),
        ([1.0, 4.0], [3.0, INFINITE], None),
        ([1.0, INFINITE], [3.0, 4.0], None),
        ([INFINITE, INFINITE], [INFINITE], None),
        ([INFINITE, 7.0], 6.0, False),
        ([INFINITE, 5.0], 6.0, None),
        (1e6, [INFINITE] * 5, True),
    ],
)
def test_where_something_diverged_all_of_one_side_must_be_below_all_of_the_other(left, right, expected):
    assert claims.decide(left, right) is expected


@given(st.lists(perhaps_infinite, min_size=1, max_size=5), st.lists(perhaps_infinite, min_size=1, max_size=5))
def test_every_and_some_are_what_all_and_any_say(left, right):
    pairs = [(a, b) for a in left for b in right]
    assert claims.decide(left, right, "every") is all(a < b for a, b in pairs)
    assert claims.decide(left, right, "some") is any(a < b for a, b in pairs)


# ---- weigh


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        ("a.classify.accuracy > 0.5", "holds"),
        ("a.classify.accuracy < 0.5", "does not hold"),
        ("0.5 < a.classify.accuracy", "holds"),
        ("a.classify.accuracy > b.classify.accuracy", "holds"),
        ("b.classify.accuracy > a.classify.accuracy", "does not hold"),
        ("b.classify.accuracy < 0.35", "undecided"),
        ("every b.classify.accuracy < 0.45", "holds"),
        ("every b.classify.accuracy < 0.35", "does not hold"),
        ("some b.classify.accuracy < 0.35", "holds"),
        ("some b.classify.accuracy > 0.45", "does not hold"),
        ("lost.classify.accuracy > 0.5", "not measured"),
        ("a.classify.accuracy > lost.classify.accuracy", "not measured"),
        ("some lost.classify.accuracy > 0.5", "not measured"),
        ("none.classify.accuracy > 0.5", "not measured"),
        ("endless.classify.accuracy > 0.5", "holds"),
    ],
)
def test_one_comparison(test, outcome):
    """b: 0.2, 0.3, 0.4 has the interval 0.3 ± 4.303 x 0.1 / sqrt(3), 0.05 to 0.55, which holds 0.35."""
    found, evidence = weighed(
        test, a=[0.9, 0.91, 0.92], b=[0.2, 0.3, 0.4], lost=[0.9, None, 0.9], none=[], endless=[INFINITE] * 3
    )
    assert found == outcome
    assert [one["outcome"] for one in evidence] == [outcome]


HOLDS, FAILS = "a.classify.accuracy > 0.5", "a.classify.accuracy < 0.5"
OPEN, LOST = "b.classify.accuracy < 0.35", "lost.classify.accuracy > 0.5"


@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        ([HOLDS, HOLDS], "holds"),
        ([HOLDS, OPEN], "undecided"),
        ([OPEN, LOST], "not measured"),
        ([LOST, FAILS], "does not hold"),
        ([FAILS, OPEN], "does not hold"),
    ],
)
def test_all_comparisons_of_a_claim_must_hold(tests, outcome):
    """What fails already cannot be saved by what is not known."""
    for order in (tests, tests[::-1]):
        assert weighed(*order, a=[0.9], b=[0.2, 0.3, 0.4], lost=[None])[0] == outcome


def test_evidence_holds_both_sides_and_what_was_asked():
    _, (one,) = weighed("every a.classify.accuracy > 0.5", a=[0.8, 0.9])
    assert one == {
        "left": {
            "experiment": "a", "metric": "classify.accuracy", "mean": pytest.approx(0.85),
            "seeds": {"0": 0.8, "1": 0.9}, "diverged": 0,
        },
        "relation": ">", "right": {"value": 0.5}, "seeds": "every", "step": None, "outcome": "holds",
    }  # fmt: skip


def test_evidence_counts_what_diverged_and_holds_nothing_infinite():
    _, (one,) = weighed("a.classify.accuracy > 0.5", a=[INFINITE, 2.0, INFINITE])
    assert one["left"]["diverged"] == 2
    assert (one["left"]["mean"], one["left"]["seeds"]) == (None, {"0": None, "1": 2.0, "2": None})


@pytest.mark.parametrize(
    ("tests", "outcomes"),
    [
        (["a.classify.accuracy > 0.5"], ["partial budget"]),
        (["b.classify.accuracy < 0.5"], ["holds"]),
        (["b.classify.accuracy < a.classify.accuracy"], ["partial budget"]),
        (["0.5 < a.classify.accuracy"], ["partial budget"]),
        (["every a.classify.accuracy < 0.5"], ["partial budget"]),
        (["b.classify.accuracy > 0.5", "a.classify.accuracy > 0.5"], ["does not hold", "partial budget"]),
    ],
)
def test_what_was_trained_for_less_than_planned_gets_no_verdict(tests, outcomes):
    compared = [comparison(test) for test in tests]
    found, evidence = claims.weigh(compared, measured(a=[0.9], b=[0.2]), {}, partial={"a"})
    assert [one["outcome"] for one in evidence] == outcomes
    assert found == ("partial budget" if "partial budget" in outcomes else outcomes[0])
    assert claims.weigh(compared, measured(a=[0.9], b=[0.2]), {})[0] != "partial budget"


def test_at_equal_steps_a_short_training_is_at_no_disadvantage():
    curves = {"a": {"0": curve(9.0, 4.0)}, "b": {"0": curve(9.0, 5.0, 1.0)}}
    compared = [comparison("a.validation_loss < b.validation_loss")]
    assert claims.weigh(compared, {}, curves, partial={"a"})[0] == "holds"


# ---- curves


def curve(*losses, every=100, diverged=None):
    rows = [(every * index, loss) for index, loss in enumerate(losses)]
    return rows if diverged is None else [*rows, (diverged, INFINITE)]


def compared(a, b):
    """a.validation_loss < b.validation_loss, each a list of curves."""
    curves = {name: {str(seed): rows for seed, rows in enumerate(of)} for name, of in (("a", a), ("b", b))}
    outcome, (one,) = weighed("a.validation_loss < b.validation_loss", curves=curves)
    return outcome, one["step"], one["left"]["seeds"], one["right"]["seeds"]


def test_curves_are_compared_at_the_last_step_at_which_both_were_validated():
    """a at 0, 100, 200 and b at 0, 50, 100, 150 have 100 in common; nothing is read between two validations."""
    outcome = compared([curve(9.0, 4.0, 3.0)], [curve(9.0, 7.0, 5.0, 2.0, every=50)])
    assert outcome == ("holds", 100, {"0": 4.0}, {"0": 5.0})


def test_curves_that_share_the_start_alone_are_not_compared():
    assert compared([curve(9.0, 6.0)], [curve(9.0, 5.0, every=150)])[:2] == ("not measured", None)


def test_the_shortest_of_all_seeds_says_where():
    outcome, step, left, _ = compared([curve(9.0, 6.0, 3.0), curve(9.0, 8.0)], [curve(9.0, 7.0, 2.0)])
    assert (outcome, step, left) == ("undecided", 100, {"0": 6.0, "1": 8.0})


def test_a_seed_that_diverged_counts_as_infinite_and_holds_nobody_back():
    outcome, step, left, right = compared([curve(9.0, 6.0, 3.0)], [curve(9.0, diverged=40), curve(9.0, 8.0, 7.0)])
    assert (outcome, step, left) == ("holds", 200, {"0": 3.0})
    assert right == {"0": None, "1": 7.0}


def test_before_it_diverged_a_seed_has_its_loss():
    outcome, step, left, right = compared([curve(9.0, 6.0)], [curve(9.0, 5.0, 4.0, diverged=230)])
    assert (outcome, step, left, right) == ("does not hold", 100, {"0": 6.0}, {"0": 5.0})


def test_where_all_diverged_nobody_is_better():
    outcome, step, *_ = compared([curve(9.0, diverged=160)], [curve(9.0, 8.0, diverged=160)])
    assert (outcome, step) == ("undecided", 160)


def test_without_a_curve_nothing_was_measured():
    assert compared([], [curve(9.0)])[0] == "not measured"
    assert compared([], [])[:2] == ("not measured", None)
