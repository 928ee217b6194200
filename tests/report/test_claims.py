"""Claims: the decision between two sides against SciPy and by its properties, the weighing of curves by hand."""

import math

import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from zoo.params.claims import comparison
from zoo.report import claims

numbers = st.floats(-1e6, 1e6)
perhaps_infinite = st.one_of(numbers, st.just(math.inf))
sides = st.one_of(numbers, st.lists(perhaps_infinite, min_size=1, max_size=6))
INFINITE = math.inf


def measured(metric="classify.accuracy", **experiments):
    """{(experiment, metric): {seed: value}}"""
    return {(name, metric): {str(seed): of for seed, of in enumerate(values)} for name, values in experiments.items()}


def weighed(*tests, **experiments):
    return claims.weigh([comparison(test) for test in tests], measured(**experiments))


# ---- decide


@given(sides, st.lists(perhaps_infinite, min_size=1, max_size=6))
def test_two_orders_never_agree(left, right):
    """Whatever is below something is not above it; what is undecided is so from either side."""
    one, other = claims.decide(left, right), claims.decide(right, left)
    assert (one, other) in ((True, False), (False, True), (None, None))


few, many = (st.lists(numbers, min_size=low, max_size=high, unique=True) for low, high in ((3, 4), (5, 8)))


def direction(test, level):
    assume(abs(test.pvalue - level) > 1e-4)
    return None if test.pvalue > level else bool(test.statistic < 0)


@given(few, st.one_of(few, many))
def test_three_or_four_values_are_decided_as_welchs_test_does(left, right):
    assume(min(max(left) - min(left), max(right) - min(right)) > 1)  # else SciPy warns of cancellation
    expected = direction(scipy.stats.ttest_ind(left, right, equal_var=False), 0.05)
    assert claims.decide(left, right) is expected


@given(many, many)
def test_from_five_values_on_one_of_two_tests_must_decide_at_half_the_level(left, right):
    assume(min(max(left) - min(left), max(right) - min(right)) > 1)
    welch = direction(scipy.stats.ttest_ind(left, right, equal_var=False), 0.025)
    pairs = [(a > b) + (a == b) / 2 for a in left for b in right]
    p = scipy.stats.mannwhitneyu(left, right, method="exact").pvalue
    ranks = None if p > 0.025 else sum(pairs) < len(pairs) / 2
    assert claims.decide(left, right) is (welch if welch is not None else ranks)


def test_seeds_in_two_groups_are_decided_by_their_ranks():
    """Welch's interval is 0.36 ± 0.68 here; that all of five lie above all of five has the probability 2 / 252."""
    left, right = [0.01, 0.02, 0.03, 0.04, 0.05], [0.06, 0.07, 0.08, 0.9, 0.9]
    assert scipy.stats.ttest_ind(left, right, equal_var=False).pvalue > 0.05
    assert claims.decide(left, right) is True
    assert claims.decide(left[:4], right[:4]) is None


def test_ranks_decide_where_one_seed_is_far_off():
    """The eighth seed lies above all, so that the intervals overlap; the others lie below all."""
    left, right = [1.0, 2, 3, 4, 5, 6, 7, 1000], [8.0, 9, 10, 11, 12, 13, 14, 15]
    assert scipy.stats.ttest_ind(left, right, equal_var=False).pvalue > 0.05
    assert scipy.stats.mannwhitneyu(left, right, method="exact").pvalue < 0.025
    assert (claims.decide(left, right), claims.decide(right, left)) == (True, False)


@given(st.lists(numbers, min_size=3, max_size=8), numbers)
def test_an_exact_number_is_decided_as_students_test_does(values, exact):
    assume(max(values) - min(values) > 1)
    expected = direction(scipy.stats.ttest_1samp(values, exact), 0.05)
    assert claims.decide(values, exact) is expected
    assert claims.decide(exact, values) is (None if expected is None else not expected)


@given(st.lists(numbers, min_size=1, max_size=2), st.lists(numbers, min_size=1, max_size=9))
def test_one_or_two_values_show_the_direction_of_the_means(few, several):
    gap = math.fsum(few) / len(few) - math.fsum(several) / len(several)
    assume(abs(gap) > 1e-6)
    assert claims.decide(few, several) is (gap < 0)


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
        ([1.0, 4.0], [3.0, INFINITE], True),
        ([INFINITE, INFINITE], [INFINITE], None),
        ([1.0] * 4, [INFINITE] * 4, None),  # no mean, and too few for a rank test
        ([1.0] * 5, [INFINITE] * 5, True),
        ([1.0, 2.0, 3.0, 4.0, INFINITE], [5.0, 6.0, 7.0, 8.0, INFINITE], None),
        ([INFINITE] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], False),
        ([INFINITE, 7.0, 8.0], 6.0, False),
        ([INFINITE, 5.0, 8.0], 6.0, None),
        (1e6, [INFINITE] * 5, True),
    ],
)
def test_what_diverged_has_a_rank_but_no_mean(left, right, expected):
    assert claims.decide(left, right) is expected


# ---- weigh


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        ("a.classify.accuracy > 0.5", "holds"),
        ("a.classify.accuracy < 0.5", "does not hold"),
        ("0.5 < a.classify.accuracy", "holds"),
        ("a.classify.accuracy > b.classify.accuracy", "holds"),
        ("b.classify.accuracy > a.classify.accuracy", "does not hold"),
        ("one.classify.accuracy > 0.5", "indicated, 1 seed"),
        ("one.classify.accuracy < a.classify.accuracy", "not indicated, 1 seed"),
        ("one.classify.accuracy > 0.95", "undecided"),
        ("two.classify.accuracy > 0.5", "indicated, 2 seeds"),
        ("every one.classify.accuracy > 0.5", "indicated, 1 seed"),
        ("every one.classify.accuracy < 0.5", "does not hold"),
        ("some one.classify.accuracy > 0.5", "holds"),
        ("b.classify.accuracy < 0.35", "undecided"),
        ("every b.classify.accuracy < 0.45", "holds"),
        ("every b.classify.accuracy < 0.35", "does not hold"),
        ("some b.classify.accuracy < 0.35", "holds"),
        ("some b.classify.accuracy > 0.45", "undecided"),
        ("some twenty.classify.accuracy > 0.45", "does not hold"),
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
        test,
        a=[0.9, 0.91, 0.92],
        b=[0.2, 0.3, 0.4],
        lost=[0.9, None, 0.9],
        none=[],
        endless=[INFINITE] * 3,
        one=[0.95],
        two=[0.9, 0.8],
        twenty=[0.4] * 20,
    )
    assert found == outcome
    assert [one["outcome"] for one in evidence] == [outcome]


HOLDS, FAILS = "a.classify.accuracy > 0.5", "a.classify.accuracy < 0.5"
OPEN, LOST = "b.classify.accuracy < 0.35", "lost.classify.accuracy > 0.5"
SHOWN, DENIED = "one.classify.accuracy > 0.5", "one.classify.accuracy < 0.5"


@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        ([HOLDS, HOLDS], "holds"),
        ([HOLDS, OPEN], "undecided"),
        ([OPEN, LOST], "not measured"),
        ([LOST, FAILS], "does not hold"),
        ([FAILS, OPEN], "does not hold"),
        ([HOLDS, SHOWN], "indicated, 1 seed"),
        ([OPEN, SHOWN], "undecided"),
        ([OPEN, DENIED], "not indicated, 1 seed"),
    ],
)
def test_all_comparisons_of_a_claim_must_hold(tests, outcome):
    """What fails already cannot be saved by what is not known."""
    for order in (tests, tests[::-1]):
        assert weighed(*order, a=[0.9] * 3, b=[0.2, 0.3, 0.4], lost=[None], one=[0.9])[0] == outcome


@pytest.mark.parametrize(
    ("zeros", "ones", "test", "outcome"),
    [
        (0, 5, "> 0.5", "holds"), (0, 3, "> 0.5", "undecided"), (5, 0, "> 0.5", "does not hold"),
        (1, 4, "> 0.5", "undecided"), (5, 15, "> 0.5", "holds"), (15, 5, "< 0.5", "holds"),
        (15, 5, "< 0.2", "undecided"), (0, 1, "> 0.5", "indicated, 1 seed"),
    ],
)  # fmt: skip
def test_a_share_of_the_seeds_is_decided_by_wilsons_interval(zeros, ones, test, outcome):
    values = {str(seed): float(seed >= zeros) for seed in range(zeros + ones)}
    test = comparison(f"a.training.diverged {test}")
    found, (one,) = claims.weigh([test], {("a", "training.diverged"): values})
    count, low, high = ones if test.relation == ">" else zeros, *one["share"][2:]
    bounds = scipy.stats.binomtest(count, zeros + ones).proportion_ci(method="wilson")
    assert (found, one["share"][:2]) == (outcome, [count, zeros + ones])
    assert (low, high) == pytest.approx((bounds.low, bounds.high))


def test_evidence_holds_both_sides_and_what_was_asked():
    _, (one,) = weighed("every a.classify.accuracy > 0.5", a=[0.8, 0.9])
    assert one == {
        "left": {
            "experiment": "a", "metric": "classify.accuracy", "mean": pytest.approx(0.85),
            "seeds": {"0": 0.8, "1": 0.9}, "diverged": 0,
        },
        "relation": ">", "right": {"value": 0.5}, "seeds": "every", "step": None, "outcome": "indicated, 2 seeds",
        "share": [2, 2, pytest.approx(0.3424, abs=1e-4), 1.0],
    }  # fmt: skip


def test_evidence_counts_what_diverged_and_holds_nothing_infinite():
    _, (one,) = weighed("a.classify.accuracy > 0.5", a=[INFINITE, 2.0, INFINITE])
    assert one["left"]["diverged"] == 2
    assert (one["left"]["mean"], one["left"]["seeds"]) == (None, {"0": None, "1": 2.0, "2": None})


@pytest.mark.parametrize(
    ("tests", "outcomes"),
    [
        (["a.classify.accuracy > 0.5"], ["partial budget"]),
        (["b.classify.accuracy < 0.5"], ["indicated, 1 seed"]),
        (["b.classify.accuracy < a.classify.accuracy"], ["partial budget"]),
        (["0.5 < a.classify.accuracy"], ["partial budget"]),
        (["every a.classify.accuracy < 0.5"], ["partial budget"]),
        (["b.classify.accuracy > 0.5", "a.classify.accuracy > 0.5"], ["not indicated, 1 seed", "partial budget"]),
    ],
)
def test_what_was_trained_for_less_than_planned_gets_no_verdict(tests, outcomes):
    compared = [comparison(test) for test in tests]
    found, evidence = claims.weigh(compared, measured(a=[0.9], b=[0.2]), partial={"a"})
    assert [one["outcome"] for one in evidence] == outcomes
    assert found == ("partial budget" if "partial budget" in outcomes else outcomes[0])
    assert claims.weigh(compared, measured(a=[0.9], b=[0.2]))[0] != "partial budget"


def test_at_equal_steps_a_short_training_is_at_no_disadvantage():
    curves = measured("validation_loss", a=[curve(9.0, 4.0)], b=[curve(9.0, 5.0, 1.0)])
    compared = [comparison("a.validation_loss < b.validation_loss")]
    assert claims.weigh(compared, curves, partial={"a"})[0] == "indicated, 1 seed"


# ---- curves


def curve(*losses, every=100, diverged=None):
    losses = {every * index: loss for index, loss in enumerate(losses)}
    return losses if diverged is None else losses | {diverged: INFINITE}


def compared(a, b):
    """a.validation_loss < b.validation_loss, each a list of curves."""
    outcome, (one,) = weighed("a.validation_loss < b.validation_loss", metric="validation_loss", a=a, b=b)
    return outcome, one["step"], one["left"]["seeds"], one["right"]["seeds"]


def test_curves_are_compared_at_the_last_step_at_which_both_were_validated():
    """a at 0, 100, 200 and b at 0, 50, 100, 150 have 100 in common; nothing is read between two validations."""
    outcome = compared([curve(9.0, 4.0, 3.0)], [curve(9.0, 7.0, 5.0, 2.0, every=50)])
    assert outcome == ("indicated, 1 seed", 100, {"0": 4.0}, {"0": 5.0})


def test_curves_that_share_the_start_alone_are_not_compared():
    assert compared([curve(9.0, 6.0)], [curve(9.0, 5.0, every=150)])[:2] == ("not measured", None)


def test_the_shortest_of_all_seeds_says_where():
    outcome, step, left, _ = compared([curve(9.0, 6.0, 3.0), curve(9.0, 8.0)], [curve(9.0, 7.5, 2.0)])
    assert (outcome, step, left) == ("indicated, 1 seed", 100, {"0": 6.0, "1": 8.0})


def test_a_seed_that_diverged_counts_as_infinite_and_holds_nobody_back():
    outcome, step, left, right = compared([curve(9.0, 6.0, 3.0)], [curve(9.0, diverged=40), curve(9.0, 8.0, 7.0)])
    assert (outcome, step, left) == ("indicated, 1 seed", 200, {"0": 3.0})
    assert right == {"0": None, "1": 7.0}


def test_before_it_diverged_a_seed_has_its_loss():
    outcome, step, left, right = compared([curve(9.0, 6.0)], [curve(9.0, 5.0, 4.0, diverged=230)])
    assert (outcome, step, left, right) == ("not indicated, 1 seed", 100, {"0": 6.0}, {"0": 5.0})


def test_where_all_diverged_nobody_is_better():
    outcome, step, *_ = compared([curve(9.0, diverged=160)], [curve(9.0, 8.0, diverged=160)])
    assert (outcome, step) == ("undecided", 160)


def test_without_a_curve_nothing_was_measured():
    assert compared([], [curve(9.0)])[0] == "not measured"
    assert compared([], [])[:2] == ("not measured", None)
