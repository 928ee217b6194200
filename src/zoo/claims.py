"""What the write-ups say in words, and what explains a figure that did not come out: comparisons of what was measured.

A claim is a list of comparisons (`zoo.params.comparison` reads them); all must hold.
"""

import math

import numpy
from scipy import stats

from zoo import statistics
from zoo.params import AT_EQUAL_STEPS


def weigh(comparisons, measured, curves):
    """("holds", "does not hold", "undecided" or "not measured", [evidence of each comparison]).

    `measured` is {experiment: {metric: {seed: value or None}}}, `curves` {experiment: {seed: [(step, loss), ...]}} with
    an infinite loss at the end of a diverged seed. Evidence holds "left" and "right" (experiment, metric, and the
    `statistics.summary` of the values), "relation", "step" (or None) and "outcome". All comparisons must hold.
    """
    evidence = [_compared(comparison, measured, curves) for comparison in comparisons]
    outcomes = {one["outcome"] for one in evidence}
    for word in ("not measured", "does not hold", "undecided"):
        if word in outcomes:
            return word, evidence
    return "holds", evidence


def decide(left, right):
    """Whether the values `left` are smaller than `right` (each a list, or one number): True, False, or None: undecided.

    From three values on, the 95 % interval of the mean, or of the difference of two means (Welch), must exclude
    equality; with fewer the means decide. Where a value is infinite, all of one side must be below all of the other.
    """
    first, second = (numpy.atleast_1d(numpy.asarray(values, float)) for values in (left, right))
    if not (numpy.isfinite(first).all() and numpy.isfinite(second).all()):
        return True if first.max() < second.min() else False if first.min() > second.max() else None
    low, high = _difference(first, second, numpy.ndim(right) == 0)
    return True if high < 0 else False if low > 0 else None


def _difference(first, second, second_is_exact):
    """(low, high) of mean(first) - mean(second)."""
    gap = first.mean() - second.mean()
    if second_is_exact and len(first) >= 3:
        low, high = statistics.interval(first.tolist())
        return low - second[0], high - second[0]
    if min(len(first), len(second)) < 3 or (first.std() == 0 and second.std() == 0):
        return gap, gap
    found = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return found.low, found.high


def _compared(comparison, measured, curves):
    step, sides = None, [comparison.left, comparison.right]
    if isinstance(sides[0], tuple) and sides[0][1] == AT_EQUAL_STEPS:
        both = [curves[experiment] for experiment, _ in sides]
        step, values = _at_equal_steps(both)
    else:
        values = [side if isinstance(side, float) else measured[side[0]][side[1]] for side in sides]
    known = [side if isinstance(side, float) else list(side.values()) for side in values]
    missing = any(value is None or (isinstance(value, list) and (not value or None in value)) for value in known)
    outcome = "not measured"
    if not missing:
        ordered = known if comparison.relation == "<" else known[::-1]
        smaller = _exact_last(*ordered)
        outcome = {True: "holds", False: "does not hold", None: "undecided"}[smaller]
    left, right = (
        {"value": side} if isinstance(side, float) else
        {"experiment": side[0], "metric": side[1], **_summary(found)}
        for side, found in zip(sides, values, strict=True)
    )  # fmt: skip
    return {"left": left, "relation": comparison.relation, "right": right, "step": step, "outcome": outcome}


def _exact_last(left, right):
    """`decide`, which wants an exact number on its right."""
    if isinstance(left, float):
        found = decide(right, left)
        return None if found is None else not found
    return decide(left, right)


def _summary(values):
    if any(value is not None and math.isinf(value) for value in values.values()):
        finite = [value for value in values.values() if value is not None and math.isfinite(value)]
        return {"mean": math.inf, "seeds": values, "diverged": len(values) - len(finite)}
    return statistics.summary(values)


def _at_equal_steps(both):
    """(the last step that every undiverged seed of both reached, [{seed: loss at that step}, ...])."""
    lasts = [rows[-1] for curves in both for rows in curves.values() if rows]
    reached = [step for step, loss in lasts if math.isfinite(loss)] or [step for step, _ in lasts]
    step = min(reached, default=0)
    return step, [{seed: _loss_at(rows, step) for seed, rows in curves.items()} for curves in both]


def _loss_at(rows, step):
    """The loss at `step`, between two rows on the straight line through them; infinite once it diverged."""
    steps, losses = zip(*rows, strict=True)
    if not math.isfinite(losses[-1]) and step >= steps[-1]:
        return math.inf
    finite = [(at, loss) for at, loss in rows if math.isfinite(loss)]
    return float(numpy.interp(step, *zip(*finite, strict=True))) if finite else math.inf
