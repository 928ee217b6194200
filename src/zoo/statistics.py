"""Statistics over seeds: intervals of means, differences of means, and comparison with published values."""

import math

from scipy.special import ndtri, stdtrit


def interval(values, confidence=0.95):
    """Return Student's t interval (low, high) of the mean, or None for fewer than three values."""
    return difference(values, 0.0, confidence) if len(values) >= 3 else None


def difference(left, right, confidence=0.95):
    """Return Welch's interval (low, high) of mean(left) - mean(right); a side is a list of values or an exact number.

    With an exact number, this is Student's interval of the other mean. If a list has fewer than three values, or no
    value varies, low and high both equal the difference. (Welch 1947; degrees of freedom: Satterthwaite 1946)
    """
    lists = [side if isinstance(side, list) else [side] for side in (left, right)]
    means = [math.fsum(values) / len(values) for values in lists]
    # Squared standard error and degrees of freedom of each mean; an exact number has neither.
    errors = [
        (math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values), len(values) - 1)
        for values, mean in zip(lists, means, strict=True)
        if len(values) > 1
    ]
    squared, gap = math.fsum(error for error, _ in errors), means[0] - means[1]
    if squared == 0 or any(isinstance(side, list) and len(side) < 3 for side in (left, right)):
        return gap, gap
    freedom = 1 / math.fsum((error / squared) ** 2 / free for error, free in errors)
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(squared)
    return gap - half, gap + half


def share(count, of, confidence=0.95):
    """Return Wilson's score interval (low, high) of the proportion `count` / `of` (Wilson 1927)."""
    square = float(ndtri((1 + confidence) / 2)) ** 2
    centre = (count + square / 2) / (of + square)
    half = math.sqrt(square * (count * (of - count) / of + square / 4)) / (of + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def summary(values):
    """Return {"mean", "seeds"} of {seed: value}, and {"low", "high"} (95 %) for three seeds or more.

    A non-finite value (a diverged seed) becomes None in "seeds" and makes the mean None: a mean over the surviving
    seeds would flatter the experiment.
    """
    seeds = {
        str(seed): float(value) if value is not None and math.isfinite(value) else None
        for seed, value in values.items()
    }
    if not seeds or None in seeds.values():
        return {"mean": None, "seeds": seeds}
    known = list(seeds.values())
    result = {"mean": math.fsum(known) / len(known), "seeds": seeds}
    bounds = interval(known)
    return result if bounds is None else result | {"low": bounds[0], "high": bounds[1]}


def summaries(by_seed):
    """Return the `summary` of {seed: number}, or a dictionary of summaries for {seed: (nested) dictionary}."""
    first = next(iter(by_seed.values()))
    if not isinstance(first, dict):
        return summary(by_seed)
    return {str(name): summaries({seed: values[name] for seed, values in by_seed.items()}) for name in first}


def verdict(measured, value, better, tolerance):
    """Compare a `summary` with a published `value`: "reproduced", "better", "not reproduced" or "undecided".

    "reproduced" means that the mean lies within the relative `tolerance` of `value`. Beyond it, `better` ("lower" or
    "higher") says which side is better. "undecided" means that the interval exceeds the tolerance on both sides.
    Raises ValueError if `better` is neither "lower" nor "higher".
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better = {better!r}: use lower or higher")
    mean, margin = measured["mean"], tolerance * abs(value)
    if mean is None:
        return "not reproduced"
    low, high = (mean if measured.get(end) is None else measured[end] for end in ("low", "high"))
    if low < value - margin and high > value + margin:
        return "undecided"
    if abs(mean - value) <= margin:
        return "reproduced"
    return "better" if (mean < value) == (better == "lower") else "not reproduced"
