"""Records of latency and of peers -> plain values: how fast each graph of an experiment is, where, and beside what.

A *timing* is what one provider measured of one graph, or what peers were measured beside it: "verb", "source" (the
record), "timed" (where the weights were others, the graph that was timed) and "outdated" ({setting: (what it was
measured with, what params.yaml says now)}).
"""

import math

from zoo import statistics
from zoo.graphs.verbs import VERBS
from zoo.params import benchmark
from zoo.records import latency, peers
from zoo.records.latency import Configuration

GROUP = ("device", "verb", "batch", "mode")
DEVICES = {"cpu": "CPU", "cuda": "CUDA"}
REFERENCE = "onnxruntime"
RUNTIMES = {
    "onnxruntime": "ONNX Runtime, one thread",
    "onnxruntime_default": "ONNX Runtime, default",
    "onnxruntime_best": "ONNX Runtime, best found",
    "torch": "torch eager",
    "torch_compile": "torch.compile",
    "openvino": "OpenVINO",
}


def gather(profile, exports, values):
    """{"latency": [timing], "peers": [timing], "not_measured" and "peers_not_measured": [{"what", "reason"}]}.

    A timing of "latency" has "provider" (its short name), "tf32" (None where that means nothing), "rows" (those that
    have times) and "advice" ({"batch", "default": its row, "best": its row, "ratio", "verdict"}); one of "peers" has
    "rows" ({"device", "verb", "batch", "mode", "runtimes"}, see `_groups`). A structure without a record
    was not measured.
    """
    found = {"latency": [], "peers": [], "not_measured": [], "peers_not_measured": []}
    for verb in (verb for verb in VERBS if verb in exports.graphs):
        graph = exports.graphs[verb][exports.seeds[0]].graph
        timed, beside = (_record(kind, profile, graph.structure_sha256) for kind in (latency, peers))
        if timed is None:
            found["not_measured"].append({"what": verb, "reason": "its structure has not been timed"})
        else:
            for provider, reason in timed.not_measured.items():
                found["not_measured"].append({"what": f"{_short(provider)}, {verb}", "reason": reason})
            for provider, source in timed.sources.items():
                about = _about(verb, source, graph, benchmark.settings(values, profile, source.settings["cores"]))
                timing = about | _timing(_short(provider), source)
                found["latency"] += [timing] if timing["advice"] else []
                absent = {"": source.rows, "cold start": source.cold, "beside the CPU": source.agreement}
                for what, rows in absent.items():
                    found["not_measured"] += _not_measured(rows, _short(provider), what, verb)
        if beside is not None:
            now = benchmark.settings(values, profile, beside.settings["cores"], with_peers=True)
            if rows := _groups(beside.rows, verb):
                found["peers"].append(_about(verb, beside, graph, now) | {"rows": rows})
            for row in beside.rows:
                found["peers_not_measured"] += _not_measured([row], RUNTIMES[row.runtime], DEVICES[row.device], verb)
    return found


def ratio(blocks, reference):
    """(geometric mean of the ratios block by block, low, high): Student's 95 % interval of their logarithms.

    Both are block medians, measured in turns, so that what slowed one block down slowed both. No interval below three.
    """
    logs = [math.log(one / other) for one, other in zip(blocks, reference, strict=True)]
    low, high = statistics.interval(logs) or (None, None)
    return math.exp(math.fsum(logs) / len(logs)), *(None if end is None else math.exp(end) for end in (low, high))


def runtimes(experiments):
    """{runtime: its label} of all that were measured, in the order of RUNTIMES."""
    measured = {runtime for row in peer_rows(experiments) for runtime in row["runtimes"]}
    return {runtime: label for runtime, label in RUNTIMES.items() if runtime in measured}


def peer_rows(experiments):
    """The rows of all peers."""
    return [row for entry in experiments for timing in entry["peers"] for row in timing["rows"]]


def geometric_means(experiments):
    """One a device, verb, batch and mode, {"ratios": {runtime: (mean of its ratios, number of graphs)}}.

    The means are geometric, over the graphs that a runtime ran.
    """
    logs = {}
    for row in peer_rows(experiments):
        by_runtime = logs.setdefault(tuple(row[key] for key in GROUP), {})
        for runtime, one in row["runtimes"].items():
            by_runtime.setdefault(runtime, []).append(math.log(one["ratio"]))
    return [
        dict(zip(GROUP, group, strict=True))
        | {"ratios": {runtime: (math.exp(math.fsum(of) / len(of)), len(of)) for runtime, of in by_runtime.items()}}
        for group, by_runtime in sorted(logs.items(), key=lambda one: (one[0][:-1], one[0][-1] != "host"))
    ]


def machines(experiments):
    """The distinct machines of all timings; every timing gets the "machine_number" (from 1) of its own.

    A machine is [(name, its value in words, [])]: what it is, the commits, and the conditions before and after all
    measurements, from the lowest to the highest.
    """
    timings, known = all_timings(experiments), []
    for timing in timings:
        if timing["source"].machine not in known:
            known.append(timing["source"].machine)
        timing["machine_number"] = known.index(timing["source"].machine) + 1
    sources = [timing["source"] for timing in timings]
    return [_facts(machine, [source for source in sources if source.machine == machine]) for machine in known]


def is_drifted(row, source):
    """True if the machine's pace changed by more than `most_drift` while the row was measured."""
    return row.times.drift > source.settings["most_drift"]


def soundness(experiments):
    """What limits the latencies: {"drifted", "rows", "outdated", "timings", "settings"}.

    How many rows drifted, of how many; how many timings were measured with other settings than params.yaml has now, of
    how many; and which settings.
    """
    timings = [timing for entry in experiments for timing in entry["latency"]]
    drifted = [is_drifted(row, timing["source"]) for timing in timings for row in timing["rows"]]
    changed = [timing["outdated"] for timing in all_timings(experiments)]
    return {
        "drifted": sum(drifted), "rows": len(drifted), "outdated": sum(map(bool, changed)), "timings": len(changed),
        "settings": sorted({key for settings in changed for key in settings}),
    }  # fmt: skip


def all_timings(experiments):
    """The timings on every provider and those of the peers, of every experiment."""
    return [timing for entry in experiments for timing in (*entry["latency"], *entry["peers"])]


def ends(timing):
    """(the advice for the smallest batch, that for the largest)."""
    advice = sorted(timing["advice"], key=lambda one: one["batch"])
    return advice[0], advice[-1]


def _record(kind, profile, structure):
    """The record of a structure, or None where there is none."""
    if not kind.path(profile, structure).exists():
        return None
    found = kind.read(profile, structure)
    return found if found.structure_sha256 == structure else None


def _about(verb, source, graph, now):
    now.pop("providers")
    used = {key: value for key, value in source.settings.items() if key != "providers"}
    changed = {key: (used.get(key), now.get(key)) for key in sorted(used | now) if used.get(key) != now.get(key)}
    other = any(row.graph_sha256 != graph.graph_sha256 for row in source.rows)
    return {"verb": verb, "source": source, "timed": source.graph if other else None, "outdated": changed}


def _timing(provider, source):
    rows = [row for row in source.rows if row.times]
    by_configuration = {(row.batch, *_configuration(row)): row for row in rows}
    advice = [
        {"batch": one.batch, "ratio": one.ratio, "verdict": one.verdict}
        | {
            which: by_configuration.get((one.batch, *_configuration(getattr(one, which))))
            for which in ("default", "best")
        }
        for one in source.advice
    ]
    return {
        "provider": provider,
        "tf32": next((row.tf32 for row in rows if row.tf32 is not None), None),
        "rows": rows,
        "advice": [one for one in advice if one["default"] and one["best"]],
    }


def _configuration(row):
    return [getattr(row, key) for key in Configuration.model_fields]


def _groups(rows, verb):
    """[{"device", "verb", "batch", "mode", "runtimes": {runtime: {"row", "ratio", "low", "high"}}}].

    The ratio is that to ONNX Runtime with one thread, see `ratio`; a group without that is left out.
    """
    groups = {}
    for row in (row for row in rows if row.times):
        groups.setdefault((DEVICES[row.device], verb, row.batch, row.mode), {})[row.runtime] = row
    return [
        dict(zip(GROUP, group, strict=True))
        | {"runtimes": {runtime: _beside(row, of[REFERENCE]) for runtime, row in of.items()}}
        for group, of in groups.items()
        if REFERENCE in of
    ]


def _beside(row, reference):
    mean, low, high = ratio(row.times.block_p50_us, reference.times.block_p50_us)
    return {"row": row, "ratio": mean, "low": low, "high": high}


def _short(provider):
    return provider.removesuffix("ExecutionProvider").replace("Tensorrt", "TensorRT")


def _not_measured(rows, *about):
    """One entry for all batches that have mode and reason in common."""
    batches = {}
    for row in rows:
        if row.not_measured:
            what = ", ".join(filter(None, [*about, getattr(row, "mode", None)]))
            batches.setdefault((what, row.not_measured), set()).add(row.batch)
    return [
        {"what": f"{what}, batch {', '.join(f'{batch:,}' for batch in sorted(of))}", "reason": reason}
        for (what, reason), of in batches.items()
    ]


def _facts(machine, sources):
    known = {name: [None if value is None else str(value)] for name, value in machine.items()}
    known["commits"] = [list(dict.fromkeys(source.commit or "unknown" for source in sources))]
    for moment in (source.conditions.get(moment, {}) for source in sources for moment in ("before", "after")):
        for name, value in moment.items():
            known.setdefault(name, []).append(value)
    known = {name: [value for value in values if value is not None] for name, values in known.items()}
    return [(name, _range(values), []) for name, values in known.items() if values]


def _range(values):
    """Numbers from the lowest to the highest, words without their repetitions."""
    if all(isinstance(value, int | float) for value in values):
        return " to ".join(dict.fromkeys(f"{end:.4g}" for end in (min(values), max(values))))
    words = [", ".join(value) or "none" if isinstance(value, list) else str(value) for value in values]
    return "; ".join(dict.fromkeys(words))
