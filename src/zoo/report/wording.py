"""Format values as the text that the report prints: all functions and FORMATS are filters of its templates."""

import collections
import itertools
import json
import math
import operator
import re

from markupsafe import Markup, escape

from zoo.report import latency_results
from zoo.report.claims import OUTCOMES

TOO_FEW = "n too small"
MARKS = {"other weights": " †", "other structure": " ‡"}


def number(value):
    """Four significant digits with thousands separators, counts without decimals; a dash for None."""
    if value is None:
        return "—"
    if abs(value) >= 1e9:
        return f"{value:.3e}".replace("e+", "e")
    if isinstance(value, int) or abs(value) >= 1000 or value in range(10):  # a small whole number is a count
        return f"{value:,.0f}"
    return f"{value:#.4g}".replace("e-0", "e-")


def interval(row):
    """The mean, with its 95 % interval and the mark of its graph if the row has them: `0.9874 ± 0.0012`."""
    return _interval(row) + MARKS.get(row.get("graph"), "")


def _interval(row):
    mean, low, high = row["mean"], row["low"], row["high"]
    if mean is None or low is None or high is None:
        return number(mean)
    if row.get("of_seeds"):
        return f"{mean:.2f} ({low:.2f}–{high:.2f})"
    half = (high - low) / 2
    if half == 0 or 0 < abs(mean) < 1e-4 or max(abs(mean), half) >= 1e9:
        return f"{number(mean)} ± {half:.2g}".replace("e+", "e").replace("e-0", "e-")
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:,.{decimals}f} ± {half:,.{decimals}f}"


def because(row):
    """The reason why a figure was not reproduced or is undecided; empty for other verdicts."""
    if row["why"] is None:
        return ""
    if row["verdict"] == "undecided":
        return "; ".join(row["why"]) or "the interval extends beyond the tolerance on both sides"
    return "; ".join(row["why"]) or "no reason established"


def seed_list(seeds):
    """`0`, `0–4` or `0, 2, 5`."""
    seeds = sorted(int(seed) for seed in seeds)
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))


def diverged(steps):
    """Describe {seed: step} of diverged seeds: `seeds 0–4 diverged at steps 87 to 125`."""
    first, last = min(steps.values()), max(steps.values())
    places = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
    return f"{'seed' if len(steps) == 1 else 'seeds'} {seed_list(steps)} diverged at {places}"


def norm(value):
    """The norm of a gradient, which may have overflowed, as text."""
    if value is None:
        return "unknown"
    return number(value) if math.isfinite(value) else "NaN" if math.isnan(value) else "infinite"


def tally(claims):
    """The number of claims by verdict: `holds 20, does not hold 1, undecided 3`."""
    counts = collections.Counter(claim["verdict"].split(",")[0] for claim in claims)
    return ", ".join(f"{verdict} {counts[verdict]}" for verdict in reversed(OUTCOMES) if counts[verdict])


def evidence(one):
    """What was measured for a comparison of a claim: `lstm validation loss 4.61 (claimed < rnn_tanh 5.20)`."""
    left, right = one["left"], one["right"]
    if "metric" in left and left["metric"] == right.get("metric"):
        right = right | {"label": ""}
    of = f" of {one['seeds']} seed" if one["seeds"] else ""
    at = f" at step {one['step']:,}" if one["step"] is not None else ""
    said = f"{_side(left, one)}{at} (claimed {one['relation']} {_side(right, one)}{of})"
    if one.get("share"):
        count, seeds, low, high = one["share"]
        said += f"; {count} of {seeds} seeds, 95 % interval of the share {low:.2f}–{high:.2f}"
    return said


def _side(side, one):
    if "value" in side:
        return f"{side['value']:,.0f}" if abs(side["value"]) >= 1000 else f"{side['value']:g}"
    values = side["seeds"].values()
    if side["diverged"]:
        value = f"diverged with {side['diverged']} of {len(values)} seeds"
    elif one["seeds"] and side["mean"] is not None:
        value = " to ".join(dict.fromkeys(number(bound) for bound in (min(values), max(values))))
    elif one.get("share"):
        value = number(side["mean"])
    else:
        value = _interval({"low": None, "high": None} | side)
    return " ".join(filter(None, (side["experiment"], side["label"], value))) + MARKS.get(side.get("graph"), "")


def duration(value):
    """A time in the unit of its column: three significant digits, no powers of ten; a dash for None."""
    return "—" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percentile(value):
    """A time, or TOO_FEW if there were too few calls for it."""
    return TOO_FEW if value is None else duration(value)


def median(row, timing):
    """The median, followed by `~` if the machine's pace changed during the measurement."""
    return percentile(row.times.p50_us) + (" ~" if latency_results.is_drifted(row, timing) else "")


def bounded(row, timing):
    """The median with its interval: `12.3 (12.2–12.5)`."""
    bounds = [row.times.p50_low_us, row.times.p50_high_us]
    return median(row, timing) + (f" ({'–'.join(map(duration, bounds))})" if None not in bounds else "")


def configuration(row):
    """The configuration of a runtime: `bound, 1 thread, optimisation all`."""
    words = f"{row.mode}, {row.threads} thread{'s' * (row.threads != 1)}"
    return f"{words}, optimisation {row.optimisation}" if row.optimisation else words


def gain(one):
    """The gain of an advice: `1.8 times faster than the default`, or `as fast as any` if nothing beat the default."""
    return f"{duration(one['ratio'])} times faster than the default" if one["verdict"] == "faster" else "as fast as any"


def by_place(timings):
    """[(provider and machine, those of `timings` that were measured there)]."""
    places = {}
    for timing in timings:
        words = [timing.get("provider"), f"machine {timing['machine_number']}"]
        if timing.get("tf32") is not None:
            words.append(f"TF32 {'on' if timing['tf32'] else 'off'}")
        places.setdefault(", ".join(filter(None, words)), []).append(timing)
    return list(places.items())


def circumstances(timing):
    """The graph that was timed, if not the experiment's own, the commit, and the settings that have changed since."""
    graph, source = timing["timed"], timing["source"]
    words = [f"commit {source.commit or 'unknown'}"]
    if graph:
        where = f"{graph.experiment} {graph.verb}, seed {graph.seed}"
        words.insert(0, f"timed on {where}: a graph of the same structure with other weights †")
    for key, (before, now) in timing["outdated"].items():
        told = ["unset" if value is None else plain(value) for value in (before, now)]
        words.append(f"{key} {told[0]}, now {told[1]} *")
    return f"{timing['verb']}: {'; '.join(words)}."


def plain(value):
    """A setting as written in params.yaml: `[1, all]`."""
    return json.dumps(value, ensure_ascii=False).replace('"', "")


def machine_number(timing):
    """The machine's number, with an asterisk if settings differ from params.yaml, and a dagger if weights differ."""
    marks = [str(timing["machine_number"]), "*" if timing["outdated"] else "", "†" if timing["timed"] else ""]
    return " ".join(filter(None, marks))


def mean_ratio(row, runtime):
    """A runtime's geometric mean over the graphs that it ran, and their number if it did not run all: `3.71 (9)`."""
    if runtime not in row["ratios"]:
        return "—"
    mean, count = row["ratios"][runtime]
    return f"{mean:.3g}" + (f" ({count})" if count != row["ratios"][latency_results.REFERENCE][1] else "")


def by_call(timings):
    """[{runtime: its row in the `timings` of peers}], one dictionary per device, verb, batch and mode."""
    rows = [row for timing in timings for row in timing["rows"]]
    calls = itertools.groupby(rows, operator.itemgetter(*latency_results.CALL))
    return [{row["runtime"]: row for row in of_call} for _, of_call in calls]


def beside(one, runtime):
    """A runtime's median in microseconds and, except for the reference, its ratio: ["45.6", "3.71× (3.52–3.90)"]."""
    if one is None:
        return ["—"]
    words = [percentile(one["row"].times.p50_us)]
    if runtime != latency_results.REFERENCE:
        bounds = [one["low"], one["high"]]
        between = f" ({'–'.join(f'{bound:.3g}' for bound in bounds)})" if None not in bounds else ""
        words.append(f"{one['ratio']:.3g}×{between}")
    return words


def exported(graphs):
    """One line on the difference between the outputs of exported graphs, {seed: graph}, and of their network."""
    checks = [graph.check for graph in graphs.values()]
    known = [check.largest_difference for check in checks if check.largest_difference is not None]
    words = f"largest difference from the network {max(known):.2g}, " if known else ""
    words += f"allowed {max(check.bound for check in checks):.2g} ({sum(check.calls for check in checks)} calls)"
    if any(check.undecided for check in checks):
        words += f"; {max(check.undecided for check in checks):.2g} of the outputs, near-ties, left out"
    finite = all(check.finite for check in checks)
    return words + ("" if finite else "; some outputs are not finite, at the same positions in both")


def wrapped(name):
    """A name as HTML that allows a line break after each underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def marked(text):
    """Convert paragraphs of Markdown that use only **strong**, *emphasis* and `code` to HTML."""
    html = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(str(text).strip())))
    html = re.sub(r"`(.+?)`", r"<code>\1</code>", re.sub(r"\*(.+?)\*", r"<em>\1</em>", html))
    return Markup("\n".join(f"<p>{paragraph.strip()}</p>" for paragraph in html.split("\n\n")))


FORMATS = {
    "drifted": latency_results.is_drifted,
    "percent": lambda value: f"{100 * value:.1f} %",
    "published": "{:,.6g}".format,
    "number_head": "#{}".format,
    "seed_head": "#Seed {}".format,
    "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
    "share": lambda value: "—" if value is None else f"{value:.3f}",
    "small": lambda value: "—" if value is None else f"{value:.2g}",
}
