"""What a few seeds say: mean, interval, and whether a published figure was reproduced."""

import math

from scipy.special import stdtrit


def interval(values, confidence=0.95):
    """Student's t interval of the mean, (low, high), or None for fewer than three values."""
    count = len(values)
    if count < 3:
        return None
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * math.sqrt(variance / count)
    return mean - half, mean + half


def summary(values):
    """{"mean", "seeds"} of {seed: value}, and {"low", "high"} (95 %) from three seeds on.

    A value that is not finite (a diverged seed) becomes None in "seeds" and makes the mean None: a mean over
    the seeds that survived would flatter the experiment.
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


def flat(metrics, path=()):
    """((name, ...), value) of every number in nested dictionaries."""
    for name, value in metrics.items():
        yield from flat(value, (*path, name)) if isinstance(value, dict) else [((*path, name), value)]


def nested(measured):
    """The nested dictionaries that `flat` came from, with a `summary` in the place of each {seed: value}."""
    result = {}
    for (*path, last), by_seed in measured.items():
        place = result
        for name in path:
            place = place.setdefault(name, {})
        place[last] = summary(by_seed)
    return result


def verdict(measured, value, better, tolerance):
    """Set a `summary` beside a published `value`: "reproduced", "better" or "not reproduced".

    Reproduced within the relative `tolerance` of `value`; beyond it, `better` ("lower" or "higher") says
    which side is good. From three seeds on the interval decides: touching the tolerance band is reproduced.
    Raises ValueError for another word than "lower" or "higher".
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better = {better!r}: use lower or higher")
    mean = measured["mean"]
    if mean is None:
        return "not reproduced"
    low, high = measured.get("low", mean), measured.get("high", mean)
    margin = tolerance * abs(value)
    if low <= value + margin and high >= value - margin:
        return "reproduced"
    return "better" if (mean < value) == (better == "lower") else "not reproduced"
