"""Latency and peers files -> plain values: how fast each graph of an experiment was, where, and beside what.

A *source* is one measured file, with its machine, its conditions, its commit, and "outdated": {setting: (what it was
measured with, what params.yaml says now)}, None for what one of the two lacks.
"""

import json
import math

from zoo import files, protocol, statistics
from zoo.errors import InputError
from zoo.reading import mapping, needed

CONFIGURATION = ("mode", "threads", "optimisation")
PERCENTILES = ("p50", "p90", "p99", "p999")
ROW = (
    "verb", "batch", "graph_bytes", *CONFIGURATION, "calls", "items_per_second", "outlier_share", "noise", "drift",
    *(f"{name}{bound}_us" for name in PERCENTILES for bound in ("", "_low", "_high")),
)  # fmt: skip
COLD = ("verb", "batch", "load_ms", "first_call_us", "memory_peak_mib")
PARITY = ("verb", "batch", "largest_difference", "scale")
GROUP = ("device", "verb", "batch", "mode")
PEER = (
    "verb", "batch", "mode", "p50_us", "p50_low_us", "p50_high_us", "p90_us", "calls", "noise", "drift", "block_p50_us",
    "build_ms", "largest_difference", "scale",
)  # fmt: skip
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


def latency(profile: str, name: str, everything: dict) -> tuple[list[dict], list[dict]]:
    """([a source a provider that was measured], [{"what", "reason"} of all that was not]).

    Beside what every source has, one here has "provider" (its short name), "tf32" (None where that means nothing),
    "rows", "advice" ({"default": its row, "best": its row, "ratio", "verdict"}), "cold" and "parity".
    Raises InputError where a file is missing or damaged.
    """
    sources, absent = [], []
    for provider in everything["benchmark"]["providers"]:
        short = provider.removesuffix("ExecutionProvider")
        path = files.latency(profile, name) / f"{short.lower()}.json"
        short = short.replace("Tensorrt", "TensorRT")
        found = files.read_json(path)
        if "not_measured" in found:
            absent.append({"what": short, "reason": found["not_measured"]})
            continue
        rows, cold, parity = (needed(found, key, path) for key in ("rows", "cold", "parity"))
        absent += _not_measured(rows, short, ("verb", "mode"), path)
        absent += _not_measured(cold, f"{short}, cold start", ("verb",), path)
        absent += _not_measured(parity, f"{short}, beside the CPU", ("verb",), path)
        rows = [_checked(row, ROW, path) for row in rows if "not_measured" not in row]
        by_configuration = {_identity(row, row): row for row in rows}
        sources.append(_source(found, path, profile, everything) | {
            "provider": short,
            "tf32": next((row["tf32"] for row in rows if "tf32" in row), None),
            "rows": rows,
            "advice": [_advice(one, by_configuration, path) for one in needed(found, "advice", path)],
            "cold": [_checked(row, COLD, path) for row in cold if "not_measured" not in row],
            "parity": [_checked(check, PARITY, path) for check in parity if "not_measured" not in check],
        })  # fmt: skip
    return sources, absent


def peers(profile: str, name: str, everything: dict) -> tuple[dict, list[dict]]:
    """(the source of an experiment's peers, [{"what", "reason"} of the runtimes that did not run]).

    Its "rows" are {"device", "verb", "batch", "mode", "runtimes": {runtime: row}}, a CUDA graph being bound; each
    runtime's row has "ratio", "ratio_low" and "ratio_high" to ONNX Runtime's with one thread, see `ratio`; "versions"
    are those that the machine's do not name. Raises InputError where the file is missing or damaged.
    """
    path = files.peers(profile, name)
    found = files.read_json(path)
    again, absent, groups = "delete the file and run `dvc repro` again", [], {}
    for row in needed(found, "rows", path):
        runtime, device = (needed(row, key, path) for key in ("runtime", "device"))
        if runtime not in RUNTIMES or device not in DEVICES:
            raise InputError(f"{path}: runtime {runtime!r} on {device!r} is unknown: {again}")
        if "not_measured" in row:
            absent.append(row | {"runtime": RUNTIMES[runtime], "device": DEVICES[device]})
            continue
        _checked(row, PEER, path)
        mode = "host" if row["mode"] == "host" else "bound"
        groups.setdefault((DEVICES[device], row["verb"], row["batch"], mode), {})[runtime] = row
    for (device, verb, batch, mode), by_runtime in groups.items():
        where = f"{path}: {device}, {verb}, batch {batch}, {mode}"
        if REFERENCE not in by_runtime:
            raise InputError(f"{where}: no row of {REFERENCE}: {again}")
        blocks = by_runtime[REFERENCE]["block_p50_us"]
        for row in by_runtime.values():
            if len(row["block_p50_us"]) != len(blocks):
                raise InputError(f"{where}: block_p50_us differ in length: {again}")
            row |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratio(row["block_p50_us"], blocks), strict=True))
    rows = [dict(zip(GROUP, group, strict=True)) | {"runtimes": of} for group, of in groups.items()]
    versions = {"openvino": found.get("openvino")}
    absent = _not_measured(absent, "", ("runtime", "device", "verb", "mode"), path)
    return _source(found, path, profile, everything, "peers") | {"rows": rows, "versions": versions}, absent


def ratio(blocks: list[float], reference: list[float]) -> tuple[float, float | None, float | None]:
    """(geometric mean of the ratios block by block, low, high): Student's 95 % interval of their logarithms.

    The two were measured in turns, so that what slowed one block down slowed both. No interval below three blocks.
    """
    logs = [math.log(one / other) for one, other in zip(blocks, reference, strict=True)]
    low, high = statistics.interval(logs) or (None, None)
    return math.exp(math.fsum(logs) / len(logs)), *(None if end is None else math.exp(end) for end in (low, high))


def runtimes(experiments: list[dict]) -> dict[str, str]:
    """{runtime: what it is called} of all that were measured, in the order of RUNTIMES."""
    measured = {runtime for entry in experiments for row in entry["peers"]["rows"] for runtime in row["runtimes"]}
    return {runtime: label for runtime, label in RUNTIMES.items() if runtime in measured}


def geometric_means(experiments: list[dict]) -> list[dict]:
    """One a device, verb, batch and mode, {"ratios": {runtime: (mean of its ratios, of how many graphs)}}.

    The means are geometric, over the graphs that a runtime ran.
    """
    logs = {}
    for row in (row for entry in experiments for row in entry["peers"]["rows"]):
        by_runtime = logs.setdefault(tuple(row[key] for key in GROUP), {})
        for runtime, one in row["runtimes"].items():
            by_runtime.setdefault(runtime, []).append(math.log(one["ratio"]))
    return [
        dict(zip(GROUP, group, strict=True))
        | {"ratios": {runtime: (math.exp(math.fsum(of) / len(of)), len(of)) for runtime, of in by_runtime.items()}}
        for group, by_runtime in sorted(logs.items(), key=lambda one: (one[0][:-1], one[0][-1] != "host"))
    ]


def machines(experiments: list[dict], here: dict) -> list[dict]:
    """The distinct machines of all sources; every source gets the "machine_number" (from 1) and "here" of its own.

    `here` is the `timing.machine()` of the present one. A machine is {"values", "here", "conditions", "commits"}:
    conditions are {"name", "before", "after"} in words, from the lowest to the highest of its sources.
    """
    sources, known = all_sources(experiments), []
    for source in sources:
        if source["machine"] not in known:
            known.append(source["machine"])
        source["machine_number"] = known.index(source["machine"]) + 1
        source["here"] = source["machine"] == here
    return [
        {
            "values": machine,
            "here": machine == here,
            "conditions": conditions([source for source in sources if source["machine"] == machine]),
            "commits": list(dict.fromkeys(one["commit"] for one in sources if one["machine"] == machine)),
        }
        for machine in known
    ]


def outdated(experiments: list[dict]) -> dict | None:
    """{"files", "of", "settings"}: how many were measured with other settings than params.yaml has now, and which.

    None where none was.
    """
    every = all_sources(experiments)
    those = [source["outdated"] for source in every if source["outdated"]]
    settings = sorted({key for changed in those for key in changed})
    return {"files": len(those), "of": len(every), "settings": settings} if those else None


def all_sources(experiments: list[dict]) -> list[dict]:
    """The latencies on every provider and the peers of every experiment."""
    return [source for entry in experiments for source in (*entry["latency"], entry["peers"])]


def conditions(sources: list[dict]) -> list[dict]:
    """{"name", "before", "after"}: what was known of each condition, in words, over all `sources`."""
    names = dict.fromkeys(
        name for source in sources for moment in ("before", "after") for name in source["conditions"].get(moment, {})
    )
    told = []
    for name in names:
        before, after = (
            _range([source["conditions"].get(moment, {}).get(name) for source in sources])
            for moment in ("before", "after")
        )
        if before or after:
            told.append({"name": name, "before": before, "after": after})
    return told


def ends(source: dict) -> list[dict]:
    """{"verb", "smallest", "largest"}: the advice for the smallest and the largest batch of each verb."""
    by_verb = {}
    for one in sorted(source["advice"], key=lambda one: one["batch"]):
        by_verb.setdefault(one["verb"], []).append(one)
    return [{"verb": verb, "smallest": of[0], "largest": of[-1]} for verb, of in by_verb.items()]


def _source(found, path, profile, everything, *sections):
    machine, conditions, used = (
        mapping(needed(found, key, path), key, path) for key in ("machine", "conditions", "settings")
    )
    now = protocol.settings(everything, profile, needed(used, "cores", path), *sections)
    pairs = {key: (used.get(key), now.get(key)) for key in sorted((used | now).keys() - {"providers"})}
    return {
        "machine": machine,
        "conditions": conditions,
        "commit": needed(found, "commit", path),
        "outdated": {key: (before, after) for key, (before, after) in pairs.items() if before != after},
    }


def _checked(row, keys, path):
    for key in keys:
        needed(row, key, path)
    return row


def _identity(row, configuration):
    return (row["verb"], row["batch"], *(configuration[key] for key in CONFIGURATION))


def _advice(one, by_configuration, path):
    values = {key: needed(one, key, path) for key in ("verb", "batch", "ratio", "verdict")}
    for which in ("default", "best"):
        configuration = _checked(needed(one, which, path), CONFIGURATION, path)
        values[which] = by_configuration.get(_identity(one, configuration))
        if values[which] is None:
            of = f"{one['verb']}, batch {one['batch']}, {json.dumps(configuration, sort_keys=True)}"
            raise InputError(f"{path}: advice: no row of {of}: delete the file and run `dvc repro` again")
    return values


def _not_measured(rows, who, keys, path):
    """One entry for all batches that have one reason in common."""
    batches = {}
    for row in rows:
        if "not_measured" in row:
            what = ", ".join(filter(None, [who, *(str(needed(row, key, path)) for key in keys)]))
            batches.setdefault((what, row["not_measured"]), set()).add(needed(row, "batch", path))
    return [
        {"what": f"{what}, batch {', '.join(f'{batch:,}' for batch in sorted(of))}", "reason": reason}
        for (what, reason), of in batches.items()
    ]


def _range(values):
    """Numbers from the lowest to the highest, words without their repetitions; empty where nothing is known."""
    values = [value for value in values if value is not None]
    if all(isinstance(value, int | float) for value in values):
        return " to ".join(dict.fromkeys(f"{end:.4g}" for end in (min(values), max(values)))) if values else ""
    words = [", ".join(value) or "none" if isinstance(value, list) else str(value) for value in values]
    return "; ".join(dict.fromkeys(words))
