"""How fast the graphs of an experiment are here: cold, in every mode, and in the configuration that is best."""

import functools
import hashlib
import math
import multiprocessing
import resource
import statistics
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy
import psutil
import pynvml

from zoo import files, sessions, timing
from zoo.errors import InputError
from zoo.statistics import interval

SEARCH_ROUNDS = 3
SEARCH = {"calls": 5, "seconds": 0.005, "most_seconds": 0.05}


class Configuration(NamedTuple):
    """`mode`: host (arrays in and out), bound (they stay on the device), graph (bound, replayed as a CUDA graph)."""

    mode: str
    threads: int
    optimisation: str


def settings(everything, profile):
    """The profile's `benchmark` of params.yaml, with "cores": what `all` threads stands for."""
    chosen = {
        key: value[profile] if isinstance(value, dict) else value for key, value in everything["benchmark"].items()
    }
    cores = sessions.cores()
    threads = [cores if count == "all" else count for count in chosen["threads"]]
    return chosen | {"threads": sorted(set(threads)), "cores": cores}


def graphs(profile, name, seed):
    """{verb: path} of the experiment's graphs of that seed. Raises InputError where there are none."""
    folder = files.graphs(profile, name) / str(seed)
    found = {path.stem: path for path in sorted(folder.glob("*.onnx"))}
    if not found:
        raise InputError(f"{folder} has no graphs: run `dvc repro`, which makes them")
    return found


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stands(kept, hashes, here, missing, again):
    """Whether a measurement that is there need not be made again: of equal graphs, here and with equal settings.

    One that cannot be made again here (`missing` says why) stands for equal graphs, wherever it was made.
    """
    equal = {row["verb"]: row.get("graph_sha256") for row in kept.get("rows", [])} == hashes
    return equal and bool(missing or (not again and here.items() <= kept.items()))


def measure(paths, provider, settings):
    """All that a provider's file holds of the graphs {verb: path}, but where and when it was measured."""
    found = {"cold": [], "rows": [], "advice": [], "parity": []}
    for verb, path in paths.items():
        for batch in settings["batches"]:
            sizes = {"batch": batch, "time": settings["time"]}
            cold = cold_start(path, provider, sizes)
            found["cold"].append({"verb": verb, "batch": batch} | cold)
            graph = {"verb": verb, "seed": int(path.parent.name), "batch": batch, "graph_sha256": sha256(path)}
            rows, best = steady(path, provider, sizes, settings, cold)
            found["rows"] += [graph | {"graph_bytes": path.stat().st_size} | row for row in rows]
            if best:
                found["advice"].append({"verb": verb, "batch": batch} | best)
            if provider != sessions.CPU:
                found["parity"].append({"verb": verb, "batch": batch} | parity(path, provider, sizes))
    return found


def default(provider, settings):
    """What runs where nobody chose: onnxruntime takes all cores, optimises all, and is given arrays."""
    return Configuration("host", settings["cores"] if provider == sessions.CPU else 1, "all")


def grid(provider, verb, settings):
    """The configurations that are always measured: each mode with each number of threads, the default, as written."""
    threads = settings["threads"] if provider == sessions.CPU else [1]
    modes = ["host", "bound", "graph"] if provider == sessions.CUDA else ["host", "bound"]
    whole = [Configuration(mode, count, "all") for mode in modes for count in threads]
    as_written = [Configuration("host", 1, "none")] * (verb in settings["as_written"])
    return list(dict.fromkeys([*whole, default(provider, settings), *as_written]))


def steady(path, provider, sizes, settings, cold):
    """(rows of every configuration, advice or None): one graph at one batch, all in turns within the same blocks.

    A configuration that does not run has a row that says why.
    """
    always = grid(provider, path.stem, settings)
    if reason := cold.get("not_measured") or _too_slow(cold, settings):
        return [one._asdict() | {"not_measured": reason} for one in always], None
    calls, nodes, refused = {}, {}, []
    for one in dict.fromkeys([*always, search(path, provider, sizes, settings)]):
        try:
            calls[one], nodes[one] = prepare(path, provider, sizes, one, settings["tf32"])
        except sessions.Refused as refusal:
            refused.append(one._asdict() | {"not_measured": str(refusal)})
    rule = {key: settings[key] for key in timing.RULE}
    measured = timing.measure(calls, sessions.reference(provider), **rule)
    tf32 = {"tf32": settings["tf32"]} if provider == sessions.CUDA else {}
    for one, row in measured.items():
        row |= tf32 | {"nodes": nodes[one], "items_per_second": sizes["batch"] * row["calls"] / row["seconds"]}
    rows = [one._asdict() | row for one, row in measured.items()]
    return rows + refused, advise(measured, default(provider, settings))


def _too_slow(cold, settings):
    seconds = cold["second_call_us"] / 1e6
    if seconds <= settings["most_seconds"] / settings["blocks"]:
        return None
    return f"a call takes {seconds:.1f} s: {settings['blocks']} blocks would take longer than most_seconds"


def prepare(path, provider, sizes, configuration, tf32):
    """(a call without arguments, {provider: number of nodes}) of a graph in a configuration, on random inputs.

    Raises `sessions.Refused` where the graph does not run so.
    """
    mode, threads, optimisation = configuration
    session = sessions.open_session(
        path, provider, threads, optimisation=optimisation, cuda_graph=mode == "graph", tf32=tf32
    )
    feeds = sessions.random_feeds(session, sizes)
    call = sessions.host(session, feeds) if mode == "host" else sessions.bound(session, feeds)
    try:
        call()
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        raise sessions.Refused(f"{path.name} does not run so: {' '.join(str(error).split())}") from error
    return call, sessions.nodes_per_provider(session)


def search(path, provider, sizes, settings):
    """The configuration that a short trial of all levels of optimisation and numbers of threads finds fastest.

    A trial chooses only what is then measured: what it found by chance shows there.
    """
    best_mode = "graph" if provider == sessions.CUDA else "bound"
    candidates = {
        one._replace(mode=best_mode, optimisation=level): []
        for one in grid(provider, "", settings)
        for level in settings["optimisations"]
    }
    calls = {}
    for one in candidates:
        try:
            calls[one], _ = prepare(path, provider, sizes, one, settings["tf32"])
        except sessions.Refused:
            continue
    for _ in range(SEARCH_ROUNDS):
        for one, call in calls.items():
            candidates[one].append(timing.brief(call, **SEARCH))
    return min(calls, key=lambda one: min(candidates[one]), default=default(provider, settings))


def advise(measured, usual):
    """{"default", "best", "ratio", "verdict"}: the fastest configuration beside the default, or None without that.

    "faster" only where the ratio of the two, taken block by block, is above 1 beyond doubt (95 % interval of its
    logarithm); else the default is the advice.
    """
    if usual not in measured:
        return None
    best = min(measured, key=lambda one: statistics.median(measured[one]["block_p50_us"]))
    pairs = zip(measured[usual]["block_p50_us"], measured[best]["block_p50_us"], strict=True)
    ratios = [math.log(slow / fast) for slow, fast in pairs]
    bounds = interval(ratios)
    if best == usual or bounds is None or bounds[0] <= 0:
        return {"default": usual._asdict(), "best": usual._asdict(), "ratio": 1.0, "verdict": "same"}
    ratio = math.exp(statistics.fmean(ratios))
    return {"default": usual._asdict(), "best": best._asdict(), "ratio": ratio, "verdict": "faster"}


def parity(path, provider, sizes):
    """How far a provider's outputs, without TF32, lie from the CPU's: {"largest_difference", "scale"}.

    Of all outputs, on the same random inputs; `scale` is the largest absolute value of the CPU's.
    """
    outputs = []
    for one in (sessions.CPU, provider):
        try:
            session = sessions.open_session(path, one)
        except sessions.Refused as refusal:
            return {"not_measured": str(refusal)}
        outputs.append(session.run(None, sessions.random_feeds(session, sizes)))
    differences = [numpy.abs(ours - theirs).max() for ours, theirs in zip(*outputs, strict=True)]
    return {"largest_difference": max(differences), "scale": max(numpy.abs(value).max() for value in outputs[0])}


# ---- a cold start


def cold_start(path, provider, sizes):
    """Load, first call and memory of a graph in a process that ran nothing before, with one thread.

    {"load_ms", "first_call_us", "second_call_us", "memory_peak_mib"}: resident memory at its largest, less that of
    the process before the graph was loaded; the parts of the runtime that it is the first to use are in it. With a GPU
    "device_memory_mib" as well. {"not_measured": reason} where the graph is refused or its process dies.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(_cold, path, provider, sizes).result()
        except sessions.Refused as refusal:
            return {"not_measured": str(refusal)}
        except BrokenProcessPool:
            return {"not_measured": "the process died: too little memory, or a fault of the runtime"}


def _cold(path, provider, sizes):
    before, device_before = psutil.Process().memory_info().rss, _device_memory()
    session, load_seconds = timing.once(functools.partial(sessions.open_session, path, provider))
    call = sessions.host(session, sessions.random_feeds(session, sizes))
    _, first = timing.once(call)
    peak, device = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, _device_memory()
    _, second = timing.once(call)
    on_device = {"device_memory_mib": (device - device_before) / 2**20} if provider != sessions.CPU else {}
    return {
        "load_ms": load_seconds * 1e3,
        "first_call_us": first * 1e6,
        "second_call_us": second * 1e6,
        "memory_peak_mib": (peak - before) / 2**20,
    } | on_device


def _device_memory():
    """Bytes of the GPU's memory in use, by whatever process; 0 without one."""
    try:
        pynvml.nvmlInit()
        used = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return 0
    return used
