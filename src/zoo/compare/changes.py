"""What became of a number between two commits: better, worse, the same, or not to be compared."""

import math
import statistics

from zoo.statistics import difference


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
