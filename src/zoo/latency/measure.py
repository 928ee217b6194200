"""Measure the latency of a graph: its cold start, every mode and number of threads, and the fastest configuration."""

import contextlib
import functools
import itertools
import math
import multiprocessing
import resource
import statistics
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy
import psutil
import pynvml

from zoo.graphs import sessions
from zoo.latency import machine, structures, timing
from zoo.records.latency import Advice, Agreement, Cold, Configuration, Row, Source, Times
from zoo.statistics import interval

TOLERANCE = 1e-3
EXPECTED = "those of onnxruntime on the CPU"
SEARCH = {"rounds": 3, "calls": 5, "seconds": 0.005, "most_seconds": 0.05}


class OutputMismatchError(Exception):
    """Outputs differ from those of ONNX Runtime on the CPU."""


def measure(graph, path, provider, settings):
    """The `Source` of one provider: all that it measures of a `TimedGraph`, whose file is at `path`."""
    before, cold, rows, advice, agreements = machine.conditions(), [], [], [], []
    for batch in settings["batches"]:
        sizes = {"batch": batch, "time": settings["time"]}
        start = cold_start(path, provider, sizes)
        cold.append(Cold(batch=batch, **start))
        reason = start.get("not_measured")
        if provider != sessions.CPU:
            checked = {"not_measured": reason} if reason else compare_with_cpu(path, provider, sizes)
            agreements.append(Agreement(batch=batch, **checked))
            reason = checked.get("not_measured")
        of_batch, best = steady(graph, path, provider, sizes, settings, reason or _too_slow(start, settings))
        rows += of_batch
        advice += [best] if best else []
    return Source(
        graph=graph, machine=machine.describe(), settings=settings, commit=machine.commit(),
        conditions={"before": before, "after": machine.conditions()},
        cold=cold, rows=rows, advice=advice, agreement=agreements,
    )  # fmt: skip


def control(profile, groups, settings):
    """Time graphs of equal structure separately; return {threads: [relative difference of p50, ...]}, a value a pair.

    `groups` are lists of `TimedGraph`, each of one structure. The differences show how precise a single row is.
    """
    differences = {}
    for graphs, batch in itertools.product(groups, settings["batches"]):
        sizes, medians = {"batch": batch, "time": settings["time"]}, []
        for graph in graphs:
            rows, _ = steady(graph, structures.path(profile, graph), sessions.CPU, sizes, settings)
            medians.append({(row.threads, row.mode, row.optimisation): row.times.p50_us for row in rows if row.times})
        for left, right in itertools.combinations(medians, 2):
            for configuration in left.keys() & right.keys():
                fast, slow = sorted((left[configuration], right[configuration]))
                differences.setdefault(configuration[0], []).append(slow / fast - 1)
    return differences


@functools.cache
def reference(provider, threads):
    """The `timing.Reference` of this process for calls with so many threads: cores may share a physical one."""
    return timing.Reference(sessions.reference(provider, threads))


def default(provider, settings):
    """The configuration where nothing is chosen: all cores, all optimisations, arrays in and out."""
    threads = settings["cores"] if provider == sessions.CPU else 1
    return Configuration(mode="host", threads=threads, optimisation="all")


def grid(provider, verb, settings):
    """The configurations that are always measured: each mode with each number of threads, the default, as written."""
    threads = settings["threads"] if provider == sessions.CPU else [1]
    modes = ["host", "bound", "graph"] if provider == sessions.CUDA else ["host", "bound"]
    whole = [Configuration(mode=mode, threads=count, optimisation="all") for mode in modes for count in threads]
    as_written = [Configuration(mode="host", threads=1, optimisation="none")] * (verb in settings["as_written"])
    return list(dict.fromkeys([*whole, default(provider, settings), *as_written]))


def steady(graph, path, provider, sizes, settings, reason=None):
    """(rows of all configurations, `Advice` or None) of a graph at one batch, timed in turns within the same blocks.

    A configuration that does not run has a row that says why. With a `reason` nothing is run, and all rows give it.
    """
    always = grid(provider, graph.verb, settings)
    about = {"batch": sizes["batch"], "graph_sha256": graph.graph_sha256}
    calls, nodes, refused = {}, {}, dict.fromkeys(always, reason) if reason else {}
    for configuration in () if reason else dict.fromkeys([*always, search(path, provider, sizes, settings)]):
        try:
            call, nodes[configuration] = prepare(path, provider, sizes, configuration, settings["tf32"])
            calls[configuration] = call, reference(provider, configuration.threads)
        except sessions.UnsupportedGraphError as error:
            refused[configuration] = str(error)
    rows = [Row(**one.model_dump(), **about, not_measured=why) for one, why in refused.items()]
    measured = timing.measure(calls, **{key: settings[key] for key in timing.RULE})
    about |= {"tf32": settings["tf32"]} if provider == sessions.CUDA else {}
    timed = [
        Row(**configuration.model_dump(), **about, nodes=nodes[configuration], times=times(row, sizes["batch"]))
        for configuration, row in measured.items()
    ]
    return timed + rows, advise(measured, default(provider, settings), sizes["batch"])


def times(row, batch):
    """The `Times` of a row of `timing.measure`."""
    return Times(**row, items_per_second=batch * row["calls"] / row["seconds"])


def _too_slow(cold, settings):
    seconds, most = min(cold["first_call_us"], cold["second_call_us"]) / 1e6, settings["most_seconds"]
    return f"a call takes {seconds:.1f} s, more than most_seconds ({most:g} s)" if seconds > most else None


def prepare(path, provider, sizes, configuration, tf32):
    """(a call without arguments, {provider: number of nodes}) of a graph in a configuration, on random inputs.

    Raises UnsupportedGraphError where the graph does not run in this configuration.
    """
    mode = configuration.mode
    options = {"optimisation": configuration.optimisation, "cuda_graph": mode == "graph", "tf32": tf32}
    session = sessions.open_session(path, provider, configuration.threads, **options)
    feeds = sessions.random_feeds(session, sizes)
    call = sessions.host(session, feeds) if mode == "host" else sessions.bound(session, feeds)
    try:
        call()
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        reason = f"{path.name} does not run in this configuration: {sessions.one_line(error)}"
        raise sessions.UnsupportedGraphError(reason) from error
    return call, sessions.nodes_per_provider(session)


def search(path, provider, sizes, settings):
    """The fastest configuration in a short trial of all levels of optimisation and numbers of threads."""
    best_mode = "graph" if provider == sessions.CUDA else "bound"
    candidates = dict.fromkeys(
        configuration.model_copy(update={"mode": best_mode, "optimisation": level})
        for configuration in grid(provider, "", settings)
        for level in settings["optimisations"]
    )
    calls = {}
    for configuration in candidates:
        with contextlib.suppress(sessions.UnsupportedGraphError):
            calls[configuration], _ = prepare(path, provider, sizes, configuration, settings["tf32"])
    medians = timing.brief(calls, **SEARCH)
    return min(medians, key=medians.get, default=default(provider, settings))


def advise(measured, usual, batch):
    """The `Advice` of measured {configuration: row}: the fastest beside the usual one; None if that was not measured.

    The verdict is "faster" only where the 95 % interval of the logarithm of the ratio, taken block by block, lies above
    0; otherwise it is "same", and the advice is the usual configuration.
    """
    if usual not in measured:
        return None
    best = min(measured, key=lambda configuration: statistics.median(measured[configuration]["block_p50_us"]))
    pairs = zip(measured[usual]["block_p50_us"], measured[best]["block_p50_us"], strict=True)
    ratios = [math.log(slow / fast) for slow, fast in pairs]
    bounds = interval(ratios)
    if best == usual or bounds is None or bounds[0] <= 0:
        return Advice(batch=batch, default=usual, best=usual, ratio=1.0, verdict="same")
    return Advice(batch=batch, default=usual, best=best, ratio=math.exp(statistics.fmean(ratios)), verdict="faster")


def compare_with_cpu(path, provider, sizes):
    """The `agreement` of a provider's outputs, without TF32, with the CPU's on the same random inputs.

    {"not_measured": reason} where the provider does not run the graph or computes something else.
    """
    outputs = []
    try:
        for each in (sessions.CPU, provider):
            session = sessions.open_session(path, each)
            outputs.append(sessions.host(session, sessions.random_feeds(session, sizes))())
        return agreement(*outputs)
    except (sessions.UnsupportedGraphError, OutputMismatchError) as reason:
        return {"not_measured": str(reason)}


def agreement(expected, given):
    """{"largest_difference", "scale"} of two lists of arrays: the largest absolute difference, and value of `expected`.

    Values that are not finite must be at equal positions, and are left out. Raises OutputMismatchError where shapes or
    those positions differ, or an output is off by more than 1e-3 times its own largest value.
    """
    if [value.shape for value in expected] != [value.shape for value in given]:
        raise OutputMismatchError(f"its outputs have other shapes than {EXPECTED}")
    largest_difference = largest_scale = 0.0
    for ours, theirs in zip(expected, given, strict=True):
        finite = numpy.isfinite(ours)
        if not numpy.array_equal(finite, numpy.isfinite(theirs)):
            raise OutputMismatchError(f"its outputs are finite in other places than {EXPECTED}")
        difference = float(numpy.abs(ours[finite] - theirs[finite]).max(initial=0))
        scale = float(numpy.abs(ours[finite]).max(initial=0))
        if difference > TOLERANCE * scale:
            off = f"{difference:.2g} at a scale of {scale:.2g}"
            raise OutputMismatchError(f"it computes something else: its outputs differ from {EXPECTED} by {off}")
        largest_difference, largest_scale = max(largest_difference, difference), max(largest_scale, scale)
    return {"largest_difference": largest_difference, "scale": largest_scale}


# ---- a cold start


def cold_start(path, provider, sizes):
    """Load a graph and call it twice, with one thread, in a process that ran nothing before.

    Returns the fields of a `records.latency.Cold` but batch. Memory is the peak that is resident, less that of the
    process before the graph was loaded; it includes the parts of the runtime that this graph is the first to use.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(_cold, path, provider, sizes).result()
        except sessions.UnsupportedGraphError as error:
            return {"not_measured": str(error)}
        except BrokenProcessPool:
            return {"not_measured": "the process died: too little memory, or a fault of the runtime"}


def _cold(path, provider, sizes):
    before, device_before = psutil.Process().memory_info().rss, _device_memory()
    session, load_seconds = timing.once(functools.partial(sessions.open_session, path, provider))
    call = sessions.host(session, sessions.random_feeds(session, sizes))
    _, first = timing.once(call)
    peak, device = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, _device_memory()
    _, second = timing.once(call)
    durations = {"load_ms": load_seconds * 1e3, "first_call_us": first * 1e6, "second_call_us": second * 1e6}
    memory = {"memory_peak_mib": (peak - before) / 2**20}
    if provider != sessions.CPU:
        memory["device_memory_mib"] = (device - device_before) / 2**20
    return durations | memory


def _device_memory():
    """Bytes of the GPU's memory in use by all processes; 0 without a GPU."""
    return machine.of_gpu(lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).used) or 0
