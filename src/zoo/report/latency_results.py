"""Gather the latencies of an experiment's graphs, and those of other runtimes, from the records.

A *timing* has the measurements of one graph on one provider, or in all runtimes: "verb", "source" (the record), "timed"
(the graph that was timed, if its weights differ) and "outdated" ({setting: (measured with, now in params.yaml)}).
"""

import math

import pandas
from scipy.stats import gmean

from zoo import statistics
from zoo.graphs.verbs import VERBS
from zoo.params import benchmark
from zoo.records import latency, peers

CALL = ["device", "verb", "batch", "mode"]  # what identifies a call that every runtime runs
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

    A timing of "latency" has "provider" (its short name), "tf32" (None if not applicable), "rows" (those that
    have times) and "advice" ({"batch", "default": its row, "best": its row, "ratio", "verdict"}); one of "peers" has
    "rows" (see `_beside`). A structure without a record was not measured.
    """
    found = {"latency": [], "peers": [], "not_measured": [], "peers_not_measured": []}
    for verb in (verb for verb in VERBS if verb in exports.graphs):
        graph = exports.first(verb)
        timed, beside = (_record(kind, profile, graph.structure_sha256) for kind in (latency, peers))
        if timed is None:
            found["not_measured"].append({"what": verb, "reason": "its structure has not been timed"})
        else:
            for provider, reason in timed.not_measured.items():
                found["not_measured"].append({"what": f"{_short(provider)}, {verb}", "reason": reason})
            for provider, source in timed.sources.items():
                if advice := _advice(source):
                    rows = [row for row in source.rows if row.times]
                    tf32 = next((row.tf32 for row in rows if row.tf32 is not None), None)
                    own = {"provider": _short(provider), "tf32": tf32, "rows": rows, "advice": advice}
                    found["latency"].append(_about(verb, source, graph, values, profile) | own)
                absent = {"": source.rows, "cold start": source.cold, "beside the CPU": source.agreement}
                for what, rows in absent.items():
                    found["not_measured"] += _not_measured(rows, _short(provider), what, verb)
        if beside is not None:
            if rows := _beside(beside.rows, verb):
                about = _about(verb, beside, graph, values, profile, with_peers=True)
                found["peers"].append(about | {"rows": rows})
            for row in beside.rows:
                found["peers_not_measured"] += _not_measured([row], RUNTIMES[row.runtime], DEVICES[row.device], verb)
    return found


def ratio(blocks, reference):
    """{"ratio": the geometric mean of those block by block, "low", "high": Student's 95 % interval of the logarithms}.

    Both are block medians, measured in turns, so that other load affects both. An interval needs three blocks.
    """
    logs = [math.log(one / other) for one, other in zip(blocks, reference, strict=True)]
    low, high = [*map(math.exp, statistics.interval(logs) or ())] or [None, None]
    return {"ratio": math.exp(math.fsum(logs) / len(logs)), "low": low, "high": high}


def runtimes(experiments):
    """{runtime: its label} of all that were measured, in the order of RUNTIMES."""
    measured = set(peer_table(experiments)["runtime"])
    return {runtime: label for runtime, label in RUNTIMES.items() if runtime in measured}


def peer_table(experiments):
    """The rows of all peers (see `_beside`) as a pandas.DataFrame; "name" is that of the graph."""
    timings = [(f"{entry['name']} · {timing['verb']}", timing) for entry in experiments for timing in entry["peers"]]
    rows = [row | {"name": name} for name, timing in timings for row in timing["rows"]]
    return pandas.DataFrame(rows, columns=["name", *CALL, "runtime", "row", "ratio", "low", "high"])


def geometric_means(experiments):
    """[{"device", "verb", "batch", "mode", "ratios": {runtime: (mean of its ratios, number of graphs)}}].

    The means are geometric, over the graphs that a runtime ran.
    """
    means = peer_table(experiments).groupby([*CALL, "runtime"])["ratio"].agg([gmean, "size"])
    means = means.sort_index(ascending=[True, True, True, False, True])  # host mode first
    return [
        dict(zip(CALL, call, strict=True))
        | {"ratios": {runtime: (mean, count) for (*_, runtime), mean, count in part.itertuples()}}
        for call, part in means.groupby(CALL, sort=False)
    ]


def machines(experiments):
    """The distinct machines of all timings; sets "machine_number" (from 1) in every timing.

    A machine is [(name, its value as text, [])]: its properties, the commits, and the range of its conditions before
    and after all measurements.
    """
    timings, known = all_timings(experiments), []
    for timing in timings:
        if timing["source"].machine not in known:
            known.append(timing["source"].machine)
        timing["machine_number"] = known.index(timing["source"].machine) + 1
    sources = [timing["source"] for timing in timings]
    return [_facts(machine, [source for source in sources if source.machine == machine]) for machine in known]


def is_drifted(row, timing):
    """True if the machine's pace changed by more than `max_drift` while the row of a timing was measured."""
    return row.times.drift > timing["source"].settings["max_drift"]


def soundness(experiments):
    """Limits of the latencies: {"drifted", "rows", "outdated", "timings", "settings"}.

    The number of drifted rows and of all rows; the number of timings with settings that differ from params.yaml and of
    all timings; and these settings.
    """
    timings = [timing for entry in experiments for timing in entry["latency"]]
    drifted = [is_drifted(row, timing) for timing in timings for row in timing["rows"]]
    changed = [timing["outdated"] for timing in all_timings(experiments)]
    return {
        "drifted": sum(drifted), "rows": len(drifted), "outdated": sum(map(bool, changed)), "timings": len(changed),
        "settings": sorted(set().union(*changed)),
    }  # fmt: skip


def all_timings(experiments):
    """The timings on every provider and those of the peers, of every experiment."""
    return [timing for entry in experiments for timing in (*entry["latency"], *entry["peers"])]


def _record(kind, profile, structure):
    """The record of a structure, or None."""
    if not kind.path(profile, structure).exists():
        return None
    found = kind.read(profile, structure)
    return found if found.structure_sha256 == structure else None


def _about(verb, source, graph, values, profile, with_peers=False):
    used = source.settings
    now = benchmark.settings(values, profile, used["cores"], with_peers)
    keys = sorted((used | now).keys() - {"providers"})
    changed = {key: (used.get(key), now.get(key)) for key in keys if used.get(key) != now.get(key)}
    other = any(row.graph_sha256 != graph.graph_sha256 for row in source.rows)
    return {"verb": verb, "source": source, "timed": source.graph if other else None, "outdated": changed}


def _advice(source):
    """[{"batch", "default": its row, "best": its row, "ratio", "verdict"}] by batch, if both rows were measured."""
    rows, advice = {(row.batch, row.mode, row.threads, row.optimisation): row for row in source.rows if row.times}, []
    for one in sorted(source.advice, key=lambda one: one.batch):
        default, best = (rows.get((one.batch, of.mode, of.threads, of.optimisation)) for of in (one.default, one.best))
        if default and best:
            advice.append(dict(one, default=default, best=best))
    return advice


def _beside(rows, verb):
    """[{"device", "verb", "batch", "mode", "runtime", "row", "ratio", "low", "high"}], one per call and runtime.

    The `ratio` is that to ONNX Runtime with one thread; a call without it is left out.
    """
    calls = {}
    for row in (row for row in rows if row.times):
        calls.setdefault((DEVICES[row.device], verb, row.batch, row.mode), {})[row.runtime] = row
    return [
        dict(zip(CALL, call, strict=True), runtime=runtime, row=row)
        | ratio(row.times.block_p50_us, of[REFERENCE].times.block_p50_us)
        for call, of in calls.items()
        if REFERENCE in of
        for runtime, row in of.items()
    ]


def _short(provider):
    return provider.removesuffix("ExecutionProvider").replace("Tensorrt", "TensorRT")


def _not_measured(rows, *about):
    """One entry per mode and reason, for all batches together."""
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
    """The range of numbers, or the distinct texts."""
    if all(isinstance(value, int | float) for value in values):
        return " to ".join(dict.fromkeys(f"{end:.4g}" for end in (min(values), max(values))))
    words = [", ".join(value) or "none" if isinstance(value, list) else str(value) for value in values]
    return "; ".join(dict.fromkeys(words))
