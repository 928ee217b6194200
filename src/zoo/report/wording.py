"""Numbers and results -> the words and figures that the report prints for them."""

import json
import math

from zoo.report import latency_results

TOO_FEW = "n too small"


def number(value) -> str:
    """Four significant digits, thousands separated, a count without a point; a dash for None."""
    if value is None:
        return "—"
    if abs(value) >= 1e9:
        return f"{value:.3e}".replace("e+", "e")
    if isinstance(value, int) or abs(value) >= 1000 or value in range(10):  # a small whole number is a count
        return f"{value:,.0f}"
    return f"{value:#.4g}".replace("e-0", "e-")


def interval(row: dict) -> str:
    """The mean, with its 95 % interval where the row has one: `0.9874 ± 0.0012`."""
    mean, low, high = row["mean"], row["low"], row["high"]
    if mean is None or low is None or high is None:
        return number(mean)
    half = (high - low) / 2
    if half == 0 or 0 < abs(mean) < 1e-4 or max(abs(mean), half) >= 1e9:
        return f"{number(mean)} ± {half:.2g}".replace("e+", "e").replace("e-0", "e-")
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:,.{decimals}f} ± {half:,.{decimals}f}"


def because(row: dict) -> str:
    """Why a figure was not reproduced, or is undecided; nothing for another."""
    if row["why"] is None:
        return ""
    if row["verdict"] == "undecided":
        return "; ".join(row["why"]) or "the interval reaches beyond the tolerance on both sides"
    return "; ".join(row["why"]) or "no reason established"


def seed_list(seeds) -> str:
    """`0`, `0–4` or `0, 2, 5`."""
    seeds = sorted(int(seed) for seed in seeds)
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))


def diverged(steps: dict) -> str:
    """What {seed: step} of the diverged seeds tells: `seeds 0–4 diverged at steps 87 to 125`."""
    first, last = min(steps.values()), max(steps.values())
    places = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
    return f"{'seed' if len(steps) == 1 else 'seeds'} {seed_list(steps)} diverged at {places}"


def norm(value: float | None) -> str:
    """The norm of a gradient in words, for one that may have overflowed."""
    if value is None:
        return "unknown"
    return number(value) if math.isfinite(value) else "not a number" if math.isnan(value) else "infinite"


def tally(claims: list) -> str:
    """How many claims came to what: `20 hold, 1 does not hold, 3 are undecided`."""
    words = {
        "holds": ("holds", "hold"),
        "does not hold": ("does not hold", "do not hold"),
        "undecided": ("is undecided", "are undecided"),
        "not measured": ("was not measured", "were not measured"),
        "partial budget": ("rests on a partial budget", "rest on a partial budget"),
    }
    verdicts = [claim["verdict"] for claim in claims]
    counts = {verdict: verdicts.count(verdict) for verdict in words if verdict in verdicts}
    return ", ".join(f"{count} {words[verdict][count > 1]}" for verdict, count in counts.items())


def evidence(one: dict) -> str:
    """What was measured for a comparison of a claim: `lstm validation loss 4.61 (claimed < rnn_tanh 5.20)`."""
    left, right = one["left"], one["right"]
    if "metric" in left and left["metric"] == right.get("metric"):
        right = right | {"label": ""}
    of = f" of {one['seeds']} seed" if one["seeds"] else ""
    at = f" at step {one['step']:,}" if one["step"] is not None else ""
    return f"{_side(left, one)}{at} (claimed {one['relation']} {_side(right, one)}{of})"


def _side(side, one):
    if "value" in side:
        return f"{side['value']:,.0f}" if abs(side["value"]) >= 1000 else f"{side['value']:g}"
    values = side["seeds"].values()
    if side["diverged"]:
        value = f"diverged with {side['diverged']} of {len(values)} seeds"
    elif one["seeds"] and side["mean"] is not None:
        value = " to ".join(dict.fromkeys(number(bound) for bound in (min(values), max(values))))
    else:
        value = interval({"low": None, "high": None} | side)
    return " ".join(filter(None, (side["experiment"], side["label"], value)))


def duration(value: float) -> str:
    """Three significant digits, never in powers of ten: a time in the unit that the column names."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def bounded(row: dict) -> str:
    """The median with its interval: `12.3 (12.2–12.5)`."""
    if row["p50_us"] is None:
        return TOO_FEW
    bounds = [row["p50_low_us"], row["p50_high_us"]]
    return duration(row["p50_us"]) + (f" ({'–'.join(map(duration, bounds))})" if None not in bounds else "")


def configuration(row: dict) -> str:
    """How a runtime was set up: `bound, 1 thread, optimisation all`."""
    words = f"{row['mode']}, {row['threads']} thread{'s' * (row['threads'] != 1)}"
    return f"{words}, optimisation {row['optimisation']}" if "optimisation" in row else words


def gain(one: dict) -> str:
    """What an advice gains: `1.8 times faster than the default`; of a default that nothing beat, `as fast as any`."""
    return f"{duration(one['ratio'])} times faster than the default" if one["verdict"] == "faster" else "as fast as any"


def place(source: dict) -> str:
    """Where a source was measured: `CPU, machine 2`; whether on the machine that writes the report, and as it would."""
    words = f"machine {source['machine_number']}"
    if "provider" in source:
        words = f"{source['provider']}, {words}"
    if source.get("tf32") is not None:
        words += f", TF32 {'on' if source['tf32'] else 'off'}"
    other = [] if source["here"] else ["on another machine than the one that wrote this report"]
    other += ["with other settings than params.yaml has now"] if source["outdated"] else []
    return f"{words}: measured {' and '.join(other)}" if other else words


def circumstances(source: dict) -> str:
    """What a source was measured with beside the machine: the commit, versions, the conditions before and after."""
    told = [f"{one['name']} {condition(one)}" for one in latency_results.conditions([source])]
    versions = [f"{name} {version}" for name, version in source.get("versions", {}).items() if version]
    changed = [
        f"{key} {'unset' if before is None else plain(before)}, now {'unset' if now is None else plain(now)}"
        for key, (before, now) in source["outdated"].items()
    ]
    return "; ".join([f"Commit {source['commit'] or 'unknown'}", *versions, *told, *changed]) + "."


def plain(value) -> str:
    """A setting as params.yaml would have it: `[1, all]`."""
    return json.dumps(value, ensure_ascii=False).replace('"', "")


def condition(one: dict) -> str:
    """`0.31 before, 1.2 after`"""
    return ", ".join(f"{one[moment]} {moment}" for moment in ("before", "after") if one[moment])


def machine_number(source: dict) -> str:
    """The machine's number, and an asterisk where the settings were other ones than those of params.yaml now."""
    return f"{source['machine_number']}{' *' if source['outdated'] else ''}"


def first_of_verb(rows: list[dict]) -> list[dict]:
    """The row of the smallest batch of each verb."""
    smallest = {}
    for row in sorted(rows, key=lambda row: row["batch"]):
        smallest.setdefault(row["verb"], row)
    return list(smallest.values())


def furthest(checks: list[dict]) -> dict:
    """The check whose outputs lay furthest apart, against their scale; further than all where that is no number."""
    known = [check for check in checks if check["largest_difference"] is not None]
    unknown = [check for check in checks if check["largest_difference"] is None]
    return (unknown or sorted(known, key=lambda check: check["largest_difference"] / (check["scale"] or 1)))[-1]


def kibibytes(verb: str, source: dict) -> str:
    """The size of a verb's graph, from the rows of a source."""
    return next((duration(row["graph_bytes"] / 1024) for row in source["rows"] if row["verb"] == verb), "—")


def mean_ratio(row: dict, runtime: str) -> str:
    """A runtime's geometric mean over the graphs that it ran, and how many where it did not run all: `3.71 (9)`."""
    if runtime not in row["ratios"]:
        return "—"
    mean, count = row["ratios"][runtime]
    return f"{mean:.3g}" + (f" ({count})" if count != row["ratios"][latency_results.REFERENCE][1] else "")


def beside(row: dict, runtime: str) -> list[str]:
    """A runtime's median in microseconds and, but for the reference, its ratio: ["45.6", "3.71× (3.52–3.90)"]."""
    one = row["runtimes"].get(runtime)
    if one is None:
        return ["—"]
    median = TOO_FEW if one["p50_us"] is None else duration(one["p50_us"])
    if runtime == latency_results.REFERENCE:
        return [median]
    bounds = [one["ratio_low"], one["ratio_high"]]
    interval = f" ({'–'.join(f'{bound:.3g}' for bound in bounds)})" if None not in bounds else ""
    return [median, f"{one['ratio']:.3g}×{interval}"]


def parity(check: dict) -> str:
    """One line on how far an exported graph's outputs lay from the network's."""
    words = f"largest difference from the network {check['largest_difference']:.2g}"
    if check["bound"] is not None:
        words += f", allowed {check['bound']:.2g}"
    finite = "" if check["finite"] else "; not all outputs are finite, and both agree on which"
    return f"{words} ({check['calls']} calls){finite}"


FILTERS = {
    "because": because,
    "beside": beside,
    "bounded": bounded,
    "circumstances": circumstances,
    "commits": lambda commits: ", ".join(commit or "unknown" for commit in commits),
    "condition": condition,
    "configuration": configuration,
    "diverged": diverged,
    "duration": lambda value: "—" if value is None else duration(value),
    "evidence": evidence,
    "first_of_verb": first_of_verb,
    "furthest": furthest,
    "gain": gain,
    "interval": interval,
    "kibibytes": kibibytes,
    "machine_number": machine_number,
    "mean_ratio": mean_ratio,
    "norm": norm,
    "number": number,
    "parity": parity,
    "percent": lambda value: f"{100 * value:.1f} %",
    "percentile": lambda value: TOO_FEW if value is None else duration(value),
    "place": place,
    "published": lambda value: f"{value:,.6g}",
    "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
    "share": lambda value: "—" if value is None else f"{value:.3f}",
    "small": lambda value: "—" if value is None else f"{value:.2g}",
    "tally": tally,
}
