"""The verdict on one number at two commits: better, worse, changed or the same."""

import math
import statistics

from zoo.statistics import difference

MIN_SEEDS = 3  # with fewer on either side the noise is unknown


def relative_change(before, after, share=False):
    """The change relative to the smaller of the two values: +0.1 for 10 -> 11, and -0.1 for 11 -> 10.

    For a `share` (from 0 to 1) it is relative to the smallest of both values and their distances to 1, so that
    0.99 -> 0.98, twice the errors, is -1. Infinite if that is 0.
    """
    gap = after - before
    size = min(before, after, 1 - before, 1 - after) if share else min(abs(before), abs(after))
    return gap / abs(size) if gap and size else math.copysign(math.inf, gap) if gap else 0.0


def quality_change(before, after, metric, relative):
    """The verdict on a metric: "better", "worse", "changed" or "same".

    `before` and `after` are {seed: value}, None for a seed without a value; `metric` is one of `known_metrics`. Two
    means differ if the change exceeds `relative` (by `relative_change`) and `metric.rounding`. With at least three
    seeds on each side, Welch's 95 % interval of the difference must also exclude 0, and the verdict is better or worse;
    with fewer it is "changed". If seeds have no value, the shares of such seeds are compared instead: lower is better.
    """
    sides = [list(side.values()) for side in (before, after)]
    lost = [values.count(None) / len(values) for values in sides]
    few = min(map(len, sides)) < MIN_SEEDS
    if any(lost):
        gap, better = lost[1] - lost[0], "lower"
    else:
        means = [math.fsum(values) / len(values) for values in sides]
        gap, better = means[1] - means[0], metric.better
        low, high = (gap, gap) if few else difference(*sides)
        if abs(gap) <= metric.rounding or abs(relative_change(*means, metric.share)) <= relative or low <= 0 <= high:
            return "same"
    return "changed" if few and gap else _word(gap, better)


def latency_change(before, after, rule):
    """The verdict on a latency, and its relative change: ("better", "worse" or "same", float).

    `before` and `after` are `zoo.records.latency.Times`, `rule` is a `zoo.params.comparison.LatencyRule`. Only the
    faster half of the block medians is compared, because interference slows a call and never speeds it up. Two
    latencies differ if, `at_equal_pace`, the relative change of the halves' medians exceeds `rule.relative` and
    `rule.noise_times` times their noise (relative standard deviations, added in quadrature), the absolute change
    exceeds `rule.microseconds`, and the intervals of p50 do not overlap.
    """
    before, after = at_equal_pace(before, after)
    halves = [sorted(times.block_p50_us)[: (len(times.block_p50_us) + 1) // 2] for times in (before, after)]
    medians = [statistics.median(blocks) for blocks in halves]
    noise = math.hypot(*(statistics.stdev(blocks) / statistics.fmean(blocks) for blocks in halves))
    gap, change = medians[1] - medians[0], relative_change(*medians)
    apart = before.p50_high_us < after.p50_low_us or after.p50_high_us < before.p50_low_us
    beyond = abs(change) > max(rule.relative, rule.noise_times * noise) and abs(gap) > rule.microseconds
    return _word(gap, "lower") if beyond and apart else "same", change


def drift_reason(before, after, rule):
    """The reason why two latencies are not comparable, or None: the reference graph's latency varied too much.

    Other load slows some graphs more than others: the reference shows the load, but not its effect on another graph.
    A change of at most `rule.drift` is accepted between the blocks of a measurement, and between the measurements.
    """
    drift, pace = max(before.drift, after.drift), abs(relative_change(*_paces(before, after)))
    if drift > rule.drift:
        return f"the machine's pace changed by {drift:.0%} within a measurement"
    return f"the machine's pace changed by {pace:.0%} between the measurements" if pace > rule.drift else None


def at_equal_pace(before, after):
    """Both `Times`, scaled to what they would be if the reference graph had been equally fast in both measurements."""
    old, new = _paces(before, after)
    scaled = []
    for times, factor in ((before, math.sqrt(new / old)), (after, math.sqrt(old / new))):
        update = {key: getattr(times, key) * factor for key in ("p50_us", "p50_low_us", "p50_high_us")}
        scaled.append(times.model_copy(update=update | {"block_p50_us": [p50 * factor for p50 in times.block_p50_us]}))
    return scaled


def _paces(*measurements):
    """The reference graph's median latency in each measurement, µs."""
    return [statistics.median(times.block_reference_us) for times in measurements]


def _word(gap, better):
    return "same" if gap == 0 else "better" if (gap < 0) == (better == "lower") else "worse"
