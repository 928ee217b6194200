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

from zoo import files, protocol
from zoo.errors import InputError
from zoo.graphs import sessions
from zoo.latency import timing
from zoo.statistics import interval

TOLERANCE = 1e-3
EXPECTED = "those of onnxruntime on the CPU"
SEARCH = {"rounds": 3, "calls": 5, "seconds": 0.005, "most_seconds": 0.05}


class Unequal(Exception):
    """Outputs are not those of ONNX Runtime on the CPU."""


class Configuration(NamedTuple):
    """`mode`: host (arrays in and out), bound (they stay on the device), graph (bound, replayed as a CUDA graph)."""

    mode: str
    threads: int
    optimisation: str


def settings(everything, profile):
    """`protocol.settings` on this machine."""
    return protocol.settings(everything, profile, sessions.cores())


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
            sizes, about = {"batch": batch, "time": settings["time"]}, {"verb": verb, "batch": batch}
            cold = cold_start(path, provider, sizes)
            found["cold"].append(about | cold)
            reason = cold.get("not_measured")
            if provider != sessions.CPU:
                checked = {"not_measured": reason} if reason else parity(path, provider, sizes)
                found["parity"].append(about | checked)
                reason = checked.get("not_measured")
            graph = {"verb": verb, "seed": int(path.parent.name), "batch": batch, "graph_sha256": sha256(path)}
            rows, best = steady(path, provider, sizes, settings, reason or _too_slow(cold, settings))
            found["rows"] += [graph | {"graph_bytes": path.stat().st_size} | row for row in rows]
            if best:
                found["advice"].append(about | best)
    return found


@functools.cache
def reference(provider, threads):
    """The `timing.Reference` of this process for what runs with so many threads.

    One with all threads shows what one thread cannot: that two virtual cores have to share a real one for a while.
    """
    return timing.Reference(sessions.reference(provider, threads))


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


def steady(path, provider, sizes, settings, reason=None):
    """(rows of every configuration, advice or None): one graph at one batch, all in turns within the same blocks.

    A configuration that does not run has a row that says why; given a `reason`, none is run.
    """
    always = grid(provider, path.stem, settings)
    if reason:
        return [one._asdict() | {"not_measured": reason} for one in always], None
    calls, nodes, refused = {}, {}, []
    for one in dict.fromkeys([*always, search(path, provider, sizes, settings)]):
        try:
            call, nodes[one] = prepare(path, provider, sizes, one, settings["tf32"])
            calls[one] = call, reference(provider, one.threads)
        except sessions.Refused as refusal:
            refused.append(one._asdict() | {"not_measured": str(refusal)})
    rule = {key: settings[key] for key in timing.RULE}
    measured = timing.measure(calls, **rule) if calls else {}
    tf32 = {"tf32": settings["tf32"]} if provider == sessions.CUDA else {}
    for one, row in measured.items():
        row |= tf32 | {"nodes": nodes[one], "items_per_second": sizes["batch"] * row["calls"] / row["seconds"]}
    rows = [one._asdict() | row for one, row in measured.items()]
    return rows + refused, advise(measured, default(provider, settings))


def _too_slow(cold, settings):
    seconds = min(cold["first_call_us"], cold["second_call_us"]) / 1e6
    if seconds <= settings["most_seconds"]:
        return None
    return f"a call takes {seconds:.1f} s, more than most_seconds ({settings['most_seconds']:g} s)"


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
    candidates = dict.fromkeys(
        one._replace(mode=best_mode, optimisation=level)
        for one in grid(provider, "", settings)
        for level in settings["optimisations"]
    )
    calls = {}
    for one in candidates:
        try:
            calls[one], _ = prepare(path, provider, sizes, one, settings["tf32"])
        except sessions.Refused:
            continue
    found = timing.brief(calls, **SEARCH)
    return min(found, key=found.get, default=default(provider, settings))


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
    """The `agreement` of a provider's outputs, without TF32, with the CPU's on the same random inputs.

    {"not_measured": reason} where the provider does not run the graph or computes something else.
    """
    outputs = []
    try:
        for one in (sessions.CPU, provider):
            session = sessions.open_session(path, one)
            outputs.append(session.run(None, sessions.random_feeds(session, sizes)))
        return agreement(*outputs)
    except (sessions.Refused, Unequal) as reason:
        return {"not_measured": str(reason)}


def agreement(expected, given):
    """{"largest_difference", "scale"} of two lists of arrays: the largest absolute difference, and value of `expected`.

    Places that are not finite must be the same, and are left out. Raises Unequal where shapes or those places differ,
    or an output is further off than 1e-3 times the largest value of its own.
    """
    if [value.shape for value in expected] != [value.shape for value in given]:
        raise Unequal(f"its outputs have other shapes than {EXPECTED}")
    differences, scales = [], []
    for ours, theirs in zip(expected, given, strict=True):
        finite = numpy.isfinite(ours)
        if not numpy.array_equal(finite, numpy.isfinite(theirs)):
            raise Unequal(f"its outputs are finite in other places than {EXPECTED}")
        differences.append(float(numpy.abs(ours[finite] - theirs[finite]).max(initial=0)))
        scales.append(float(numpy.abs(ours[finite]).max(initial=0)))
        if differences[-1] > TOLERANCE * scales[-1]:
            off = f"{differences[-1]:.2g} at a scale of {scales[-1]:.2g}"
            raise Unequal(f"it computes something else: its outputs differ from {EXPECTED} by {off}")
    return {"largest_difference": max(differences), "scale": max(scales)}


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
