"""The claims of params.yaml, tested: each is a list of comparisons of measurements, all of which must hold."""

import math

import scipy.stats

from zoo import statistics
from zoo.evaluate.metrics import known_metrics

# A claim has the first of these outcomes that any of its comparisons has. "indicated" and "not indicated", the
# direction that one or two seeds show, are followed by the number of seeds.
OUTCOMES = ("partial budget", "does not hold", "not measured", "not indicated", "undecided", "indicated", "holds")
MIN_SEEDS = 3  # seeds on each side for an interval
RANKED = 5  # seeds on each side for an exact rank test
ABSENT = 20  # seeds without an example that refute "some seed"


def weigh(comparisons, measured, partial=frozenset()):
    """(the outcome of all `comparisons` together, [evidence of each]).

    The outcome for an experiment in `partial`, which was trained for fewer steps than planned, is "partial budget",
    unless curves are compared at equal steps.

    `measured` is {(experiment, metric): {seed: value}}, None for an unknown value, infinite for a seed that
    diverged. The value of AT_EQUAL_STEPS is the curve of a seed, {step: validation loss}, infinite after divergence.

    Evidence is a dictionary: "left" and "right" are {"value"} or {"experiment", "metric", "diverged" (number of seeds)}
    with the `statistics.summary` of the values; "seeds" and "relation" are the comparison's; "share" is [number of
    seeds that satisfy it, number of seeds, low, high] where seeds are counted, else None; "step" is where curves were
    compared, else None; "outcome" is one of OUTCOMES.
    """
    evidence = [_compared(comparison, measured, partial) for comparison in comparisons]
    return min((one["outcome"] for one in evidence), key=lambda said: OUTCOMES.index(said.split(",")[0])), evidence


def decide(left, right):
    """True if `left` is below `right`, False if it is above, None if the test cannot decide.

    A side is a list of values, or one exact number. With five or more values on each side, Welch's interval or the
    exact Mann-Whitney test decides, each at 2.5 %; with three or four, Welch's interval at 5 %; against an exact
    number, Student's interval at 5 %. With infinite values there is no mean: only the rank test can decide, and against
    an exact number all values must be on one side. With one or two values the means are compared, without a test.
    """
    lists = [side for side in (left, right) if isinstance(side, list)]
    first, second = ([side] if isinstance(side, float) else side for side in (left, right))
    count, finite = min(map(len, lists)), all(map(math.isfinite, [*first, *second]))
    if count < MIN_SEEDS:
        gap = sum(first) / len(first) - sum(second) / len(second)
        return True if gap < 0 else False if gap > 0 else None
    ranked = len(lists) == 2 and count >= RANKED
    if finite:
        low, high = statistics.difference(left, right, 0.975 if ranked else 0.95)
        if not low <= 0 <= high:
            return high < 0
    elif len(lists) == 1:
        return True if max(first) < min(second) else False if min(first) > max(second) else None
    if ranked:
        test = scipy.stats.mannwhitneyu(first, second, method="exact")
        if test.pvalue < 0.025:
            return bool(test.statistic < len(first) * len(second) / 2)
    return None


def _compared(comparison, measured, partial):
    sides, step = (comparison.left, comparison.right), None
    values = [side if isinstance(side, float) else measured[side] for side in sides]
    if comparison.at_equal_steps:
        step, values = _at_equal_steps(values)
    known = [value if isinstance(value, float) else list(value.values()) for value in values]
    share = None
    if not comparison.at_equal_steps and partial & {side.experiment for side in comparison.measured}:
        outcome = "partial budget"
    elif any(value == [] or (isinstance(value, list) and None in value) for value in known):
        outcome = "not measured"
    else:
        lesser, greater = known if comparison.relation == "<" else known[::-1]
        share = _share(comparison, lesser, greater)
        outcome = _outcome(comparison.seeds, lesser, greater, share)
    left, right = map(_side, sides, values)
    return {
        "left": left, "relation": comparison.relation, "right": right, "seeds": comparison.seeds, "share": share,
        "step": step, "outcome": outcome,
    }  # fmt: skip


def _share(comparison, lesser, greater):
    """[number of seeds that satisfy it, number of seeds, low, high] if the comparison is about seeds, else None."""
    known = known_metrics()
    of_seeds = all(side.metric in known and known[side.metric].of_seeds for side in comparison.measured)
    if len(comparison.measured) > 1 or not (comparison.seeds or of_seeds):
        return None
    pairs = [(a, b) for a in _listed(lesser) for b in _listed(greater)]
    count = sum(a < b for a, b in pairs)
    return [count, len(pairs), *statistics.share(count, len(pairs))]


def _outcome(seeds, lesser, greater, share):
    few = min(len(side) for side in (lesser, greater) if isinstance(side, list))
    if seeds == "some":
        exists = min(_listed(lesser)) < max(_listed(greater))
        return "holds" if exists else "does not hold" if few >= ABSENT else "undecided"
    if seeds == "every":
        below = max(_listed(lesser)) < min(_listed(greater))
        if not below:
            return "does not hold"
    elif share and few >= MIN_SEEDS:  # the mean of zeros and ones is a share of the seeds
        claimed = lesser if isinstance(lesser, float) else 1 - greater
        below = True if share[2] > claimed else False if share[3] < claimed else None
    else:
        below = decide(lesser, greater)
    if below is not None and few < MIN_SEEDS:
        return f"{'indicated' if below else 'not indicated'}, {few} {'seed' if few == 1 else 'seeds'}"
    return {True: "holds", False: "does not hold", None: "undecided"}[below]


def _listed(side):
    return side if isinstance(side, list) else [side]


def _side(side, values):
    if isinstance(side, float):
        return {"value": side}
    diverged = sum(value is not None and math.isinf(value) for value in values.values())
    return side._asdict() | statistics.summary(values) | {"diverged": diverged}


def _at_equal_steps(both):
    """(the last step at which all seeds of both, except diverged ones, were validated; [{seed: loss there}, ...]).

    Step 0, before training, does not count; if there is no other step, (None, [{}, {}]).
    """
    curves = [curve for side in both for curve in side.values()]
    whole = [curve for curve in curves if math.inf not in curve.values()] or curves
    step = max(set.intersection(*map(set, whole)) - {0}, default=None) if curves else None
    if step is None:
        return None, [{} for _ in both]
    # Infinite if a seed had diverged by then.
    return step, [{seed: curve.get(step, math.inf) for seed, curve in side.items()} for side in both]
