"""What a few seeds say: mean, interval, and how that lies to another mean, a published figure or another commit."""

import math
import statistics

from scipy.special import stdtrit


def interval(values, confidence=0.95):
    """Student's t interval of the mean, (low, high), or None for fewer than three values."""
    return difference(values, 0.0, confidence) if len(values) >= 3 else None


def difference(left, right, confidence=0.95):
    """Welch's interval of mean(left) - mean(right), (low, high); a side is a list of values, or one exact number.

    With an exact number that is Student's interval of the other mean. Where a list has fewer than three values, or
    nothing varies, low and high are both the difference itself. (Welch 1947, degrees of freedom of Satterthwaite 1946)
    """
    lists = [side if isinstance(side, list) else [side] for side in (left, right)]
    means = [math.fsum(values) / len(values) for values in lists]
    # The square of each mean's standard error, and its degrees of freedom; an exact number has neither.
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
    """Set a `summary` beside a published `value`: "reproduced", "better", "not reproduced" or "undecided".

    Reproduced within the relative `tolerance` of `value`; beyond it, `better` ("lower" or "higher") says
    which side is good. From three seeds on the interval decides: touching the tolerance band is reproduced, but one
    that reaches beyond it on both sides leaves the verdict undecided.
    Raises ValueError for another word than "lower" or "higher".
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better = {better!r}: use lower or higher")
    mean = measured["mean"]
    if mean is None:
        return "not reproduced"
    low, high = measured.get("low", mean), measured.get("high", mean)
    margin = tolerance * abs(value)
    if low < value - margin and high > value + margin:
        return "undecided"
    if low <= value + margin and high >= value - margin:
        return "reproduced"
    return "better" if (mean < value) == (better == "lower") else "not reproduced"


def relative_change(before, after, share=False):
    """The change over the smaller of the two values: +0.1 for 10 -> 11, and -0.1 for 11 -> 10.

    Of a `share` (from 0 to 1) the change is over the smallest of both and of what is left to 1, so that 0.99 -> 0.98,
    twice the errors, is -1. Infinite where that is 0.
    """
    gap = after - before
    size = min(before, after, 1 - before, 1 - after) if share else min(abs(before), abs(after))
    return gap / abs(size) if gap and size else math.copysign(math.inf, gap) if gap else 0.0


def quality_change(before, after, better, relative, share=False, rounding=0.0):
    """What became of a metric between two commits: "better", "worse" or "same".

    `before` and `after` are {seed: value}, None for a seed that diverged. Different only if the means differ by more
    than `relative` (of `relative_change`) and than the absolute `rounding`, and, from three seeds a side on, Welch's
    95 % interval of the difference excludes 0. With fewer the noise is unknown, and the first two decide. Where
    seeds diverged, fewer of them is better, and as many the same.
    Raises ValueError for another word than "lower" or "higher".
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better = {better!r}: use lower or higher")
    sides = [list(side.values()) for side in (before, after)]
    lost = [values.count(None) / len(values) for values in sides]
    if any(lost):
        return _word(lost[1] - lost[0], "lower")
    means = [math.fsum(values) / len(values) for values in sides]
    gap = means[1] - means[0]
    low, high = difference(*sides) if min(map(len, sides)) >= 3 else (gap, gap)
    if abs(gap) <= rounding or abs(relative_change(*means, share)) <= relative or low <= 0 <= high:
        return "same"
    return _word(gap, better)


def latency_change(before, after, rule):
    """What became of a latency between two commits, and by how much: ("better", "worse" or "same", relative change).

    `before` and `after` are rows as `zoo.timing` measures them. Of the medians of their blocks the faster half counts:
    what else a machine does only ever makes a call slower, and in some blocks more than in others. Different only if
    the relative change of its median exceeds `rule["relative"]` and `rule["noise_times"]` times the noise (relative
    standard deviation) of both sides together, the absolute change exceeds `rule["microseconds"]`, and the intervals of
    p50 do not overlap; all of that `at_equal_pace`.
    """
    before, after = at_equal_pace(before, after)
    left, right = _faster_half(before), _faster_half(after)
    medians, noises = ([of(blocks) for blocks in (left, right)] for of in (statistics.median, _noise))
    gap, change = medians[1] - medians[0], relative_change(*medians)
    floor = max(rule["relative"], rule["noise_times"] * math.hypot(*noises))
    apart = before["p50_high_us"] < after["p50_low_us"] or after["p50_high_us"] < before["p50_low_us"]
    different = abs(change) > floor and abs(gap) > rule["microseconds"] and apart
    return _word(gap, "lower") if different else "same", change


def _faster_half(row):
    """The smaller half of the medians of its blocks, in order; the middle one is in it."""
    blocks = sorted(row["block_p50_us"])
    return blocks[: (len(blocks) + 1) // 2]


def _noise(blocks):
    return statistics.stdev(blocks) / statistics.fmean(blocks)


def disturbed(before, after, rule):
    """Why two latencies say nothing about each other, or None: the reference graph ran at more than one pace.

    A machine that others use slows one graph more than another, so that the reference tells that it happened and not
    by how much. More than `rule["drift"]` is too much, between the blocks of a row or between the rows.
    """
    drift = max(row.get("drift", 0.0) for row in (before, after))
    if drift > rule["drift"]:
        return f"the machine's pace changed by {drift:.0%} within a measurement"
    pace = abs(pace_change(before, after))
    return f"the machine's pace changed by {pace:.0%} between the measurements" if pace > rule["drift"] else None


def at_equal_pace(before, after):
    """Both rows as they would read had the reference graph run equally fast in both measurements.

    A machine that is slower as a whole slows the reference as well. Rows of which one has no reference stay.
    """
    paces = _paces(before, after)
    if paces is None:
        return before, after
    common = math.sqrt(paces[0] * paces[1])
    return tuple(_scaled(row, common / pace) for row, pace in zip((before, after), paces, strict=True))


def _scaled(row, factor):
    medians = {"block_p50_us": [median * factor for median in row["block_p50_us"]]}
    return row | medians | {key: row[key] * factor for key in ("p50_us", "p50_low_us", "p50_high_us")}


def pace_change(before, after):
    """By how much the reference graph took longer in the measurement of `after`, relative; 0 where that is unknown."""
    paces = _paces(before, after)
    return 0.0 if paces is None else relative_change(*paces)


def _paces(*rows):
    known = all(row.get("block_reference_us") for row in rows)
    return [statistics.median(row["block_reference_us"]) for row in rows] if known else None


def _word(gap, better):
    return "same" if gap == 0 else "better" if (gap < 0) == (better == "lower") else "worse"
