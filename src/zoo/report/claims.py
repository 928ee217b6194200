"""What is said in words, by the write-ups and by us, weighed: comparisons of what was measured.

A claim is a list of `zoo.params.Comparison`, all of which must hold.
"""

import math

from zoo import statistics

# Of several comparisons the first of these that one came to is the claim's own.
OUTCOMES = ("partial budget", "does not hold", "not measured", "undecided", "holds")


def weigh(comparisons, measured, curves, partial=frozenset()):
    """(the outcome of all `comparisons` together, [evidence of each]).

    A comparison of an experiment in `partial`, whose training was shorter than planned, comes to "partial budget",
    unless it is one of curves at equal steps.

    `measured` is {experiment: {metric: {seed: value}}}, None for a value that is not known, infinite for one that
    diverged; `curves` is {experiment: {seed: [(step, validation loss), ...]}}, infinite at the end of a diverged seed.

    Evidence is a dictionary: "left" and "right" are {"value"} or {"experiment", "metric", "diverged" (so many seeds)}
    with the `statistics.summary` of the values; "seeds" and "relation" are the comparison's; "step" is where curves
    were compared, else None; "outcome" is one of OUTCOMES.
    """
    evidence = [_compared(comparison, measured, curves, partial) for comparison in comparisons]
    return min((one["outcome"] for one in evidence), key=OUTCOMES.index), evidence


def decide(left, right, seeds=None):
    """Whether `left` is below `right`, each a list of values or one exact number: True, False, or None: undecided.

    Of means (`seeds` None) the 95 % interval of their difference must exclude 0; see `statistics.difference`. Where a
    value is infinite there is no mean: then all of one side must be below all of the other. Of "every" or "some"
    value it is known without a doubt.
    """
    first, second = ([side] if isinstance(side, float) else side for side in (left, right))
    low, high = min(first) - max(second), max(first) - min(second)
    if seeds:
        return high < 0 if seeds == "every" else low < 0
    if all(map(math.isfinite, [*first, *second])):
        low, high = statistics.difference(left, right)
    return True if high < 0 else False if low > 0 else None


def _compared(comparison, measured, curves, partial):
    sides, step = (comparison.left, comparison.right), None
    if comparison.at_equal_steps:
        step, values = _at_equal_steps([curves[side.experiment] for side in sides])
    else:
        values = [side if isinstance(side, float) else measured[side.experiment][side.metric] for side in sides]
    known = [value if isinstance(value, float) else list(value.values()) for value in values]
    if not comparison.at_equal_steps and partial & {side.experiment for side in comparison.measured}:
        outcome = "partial budget"
    elif any(value == [] or (isinstance(value, list) and None in value) for value in known):
        outcome = "not measured"
    else:
        lesser, greater = known if comparison.relation == "<" else known[::-1]
        outcome = {True: "holds", False: "does not hold", None: "undecided"}[decide(lesser, greater, comparison.seeds)]
    left, right = map(_side, sides, values)
    return {
        "left": left,
        "relation": comparison.relation,
        "right": right,
        "seeds": comparison.seeds,
        "step": step,
        "outcome": outcome,
    }


def _side(side, values):
    if isinstance(side, float):
        return {"value": side}
    diverged = sum(value is not None and math.isinf(value) for value in values.values())
    return side._asdict() | statistics.summary(values) | {"diverged": diverged}


def _at_equal_steps(both):
    """(the last step at which every seed of both was validated, the diverged ones aside; [{seed: loss there}, ...]).

    Step 0, before anything was learnt, does not count; where there is no other, (None, nothing measured).
    """
    steps = [
        {step for step, _ in rows} for curves in both for rows in curves.values() if math.isfinite(rows[-1][1])
    ] or [{step for step, _ in rows} for curves in both for rows in curves.values()]
    step = max(set.intersection(*steps) - {0}, default=None) if steps else None
    if step is None:
        return None, [{} for _ in both]
    return step, [{seed: _loss_at(rows, step) for seed, rows in curves.items()} for curves in both]


def _loss_at(rows, step):
    """The loss at `step`; infinite where the seed had diverged by then."""
    return dict(rows).get(step, math.inf)
