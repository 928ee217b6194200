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
SEARCH = {"rounds": 3, "calls": 5, "seconds": 0.005, "max_seconds": 0.05}


class OutputMismatchError(Exception):
    """Outputs differ from those of ONNX Runtime on the CPU."""


def measure(graph, path, provider, settings):
    """Measure a `TimedGraph`, whose file is at `path`, with one provider; return the `Source`."""
    before, cold, rows, advice, agreements = machine.conditions(), [], [], [], []
    for batch in settings["batches"]:
        sizes, reason, refused = {"batch": batch, "time": settings["time"]}, None, {}
        configurations = dict.fromkeys([*grid(provider, graph.verb, settings), *candidates(provider, settings)])
        if settings["cold_start"]:
            start = cold_start(path, provider, sizes)
            cold.append(Cold(batch=batch, **start))
            reason = start.get("not_measured") or _too_slow(start, settings)
        if reason:
            refused = dict.fromkeys(configurations, reason)
        elif provider != sessions.CPU:
            checked = compare_with_cpu(path, provider, sizes, configurations)
            agreements += [Agreement(**one.model_dump(), batch=batch, **found) for one, found in checked.items()]
            refused = {one: found["not_measured"] for one, found in checked.items() if "not_measured" in found}
        of_batch, best = time_configurations(graph, path, provider, sizes, settings, refused)
        rows += of_batch
        advice += [best] if best else []
    return Source(
        graph=graph, machine=machine.describe(), settings=settings, commit=machine.commit(),
        conditions={"before": before, "after": machine.conditions()},
        cold=cold, rows=rows, advice=advice, agreement=agreements,
    )  # fmt: skip


def control(profile, groups, settings):
    """Time graphs of equal structure separately; return {threads: [relative difference of p50 for each pair]}.

    `groups` has a list of `TimedGraph` for each structure. The differences show how precise a single row is.
    """
    differences = {}
    for graphs, batch in itertools.product(groups, settings["batches"]):
        sizes, medians = {"batch": batch, "time": settings["time"]}, []
        for graph in graphs:
            rows, _ = time_configurations(graph, structures.path(profile, graph), sessions.CPU, sizes, settings)
            medians.append({(row.threads, row.mode, row.optimisation): row.times.p50_us for row in rows if row.times})
        for left, right in itertools.combinations(medians, 2):
            for configuration in left.keys() & right.keys():
                fast, slow = sorted((left[configuration], right[configuration]))
                differences.setdefault(configuration[0], []).append(slow / fast - 1)
    return differences


@functools.cache
def reference(provider, threads):
    """This process's `timing.Reference` for calls with `threads` threads: logical cores may share a physical one."""
    return timing.Reference(sessions.reference(provider, threads))


def default_configuration(provider, settings):
    """The default configuration: all cores (one thread on a GPU), all optimisations, arrays in and out."""
    threads = settings["cores"] if provider == sessions.CPU else 1
    return Configuration(mode="host", threads=threads, optimisation="all")


def grid(provider, verb, settings):
    """The configurations that are always measured: modes x threads, the default and, for some verbs, unoptimised."""
    threads = settings["threads"] if provider == sessions.CPU else [1]
    modes = ["host", "bound", "graph"] if provider == sessions.CUDA else ["host", "bound"]
    whole = [Configuration(mode=mode, threads=count, optimisation="all") for mode in modes for count in threads]
    as_written = [Configuration(mode="host", threads=1, optimisation="none")] * (verb in settings["as_written"])
    return list(dict.fromkeys([*whole, default_configuration(provider, settings), *as_written]))


def time_configurations(graph, path, provider, sizes, settings, refused=None):
    """Time all configurations at one batch size, in turns within the same blocks; return (rows, `Advice` or None).

    The row of a configuration that does not run gives the reason. `refused` {configuration: reason} are not tried.
    """
    always, refused = grid(provider, graph.verb, settings), refused or {}
    about = {"batch": sizes["batch"], "graph_sha256": graph.graph_sha256}
    calls, nodes, reasons = {}, {}, {one: why for one, why in refused.items() if one in always}
    allowed = [one for one in always if one not in refused]
    for configuration in dict.fromkeys([*allowed, *search(path, provider, sizes, settings, refused)]):
        try:
            call, nodes[configuration] = prepare(path, provider, sizes, configuration, settings["tf32"])
            calls[configuration] = call, reference(provider, configuration.threads)
        except sessions.UnsupportedGraphError as error:
            reasons[configuration] = str(error)
    rows = [Row(**one.model_dump(), **about, not_measured=why) for one, why in reasons.items()]
    measured = timing.measure(calls, **{key: settings[key] for key in timing.RULE})
    about |= {"tf32": settings["tf32"]} if provider == sessions.CUDA else {}
    timed = [
        Row(**configuration.model_dump(), **about, nodes=nodes[configuration], times=times(row, sizes["batch"]))
        for configuration, row in measured.items()
    ]
    return timed + rows, advise(measured, default_configuration(provider, settings), sizes["batch"])


def times(row, batch):
    """The `Times` of a row of `timing.measure`."""
    return Times(**row, items_per_second=batch * row["calls"] / row["seconds"])


def _too_slow(cold, settings):
    seconds, limit = min(cold["first_call_us"], cold["second_call_us"]) / 1e6, settings["max_seconds"]
    return f"a call takes {seconds:.1f} s, more than max_seconds ({limit:g} s)" if seconds > limit else None


def prepare(path, provider, sizes, configuration, tf32, feeds=None):
    """Open a session, call it once, and return (a call without arguments, {provider: number of nodes}).

    The call computes on `feeds` (default: random inputs). Raises UnsupportedGraphError if the graph does not run.
    """
    mode = configuration.mode
    options = {"optimisation": configuration.optimisation, "cuda_graph": mode == "graph", "tf32": tf32}
    session = sessions.open_session(path, provider, configuration.threads, **options)
    feeds = sessions.random_feeds(session, sizes) if feeds is None else feeds
    call = sessions.host(session, feeds) if mode == "host" else sessions.bound(session, feeds)
    try:
        call()
    except Exception as error:  # onnxruntime's exceptions have no common base class
        reason = f"{path.name} does not run in this configuration: {sessions.one_line(error)}"
        raise sessions.UnsupportedGraphError(reason) from error
    return call, sessions.nodes_per_provider(session)


def candidates(provider, settings):
    """The configurations that `search` tries: every optimisation level with every number of threads."""
    best_mode = "graph" if provider == sessions.CUDA else "bound"
    found = (
        configuration.model_copy(update={"mode": best_mode, "optimisation": level})
        for configuration in grid(provider, "", settings)
        for level in settings["optimisations"]
    )
    return list(dict.fromkeys(found))


def search(path, provider, sizes, settings, refused):
    """[the fastest of the `candidates` that are not `refused`], found in a short trial; empty if none runs."""
    calls, trial = {}, [one for one in candidates(provider, settings) if one not in refused]
    if len(trial) < 2:
        return trial
    for configuration in trial:
        with contextlib.suppress(sessions.UnsupportedGraphError):
            calls[configuration], _ = prepare(path, provider, sizes, configuration, settings["tf32"])
    medians = timing.best_medians(calls, **SEARCH)
    return [min(medians, key=medians.get)] if medians else []


def advise(measured, usual, batch):
    """Compare the fastest of `measured` {configuration: row} with the usual one; None if that was not measured.

    Returns an `Advice`. Its verdict is "faster" only if the 95 % interval of the logarithm of the ratio, taken block by
    block, lies above 0; otherwise it is "same", and the advice is the usual configuration.
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


def compare_with_cpu(path, provider, sizes, configurations):
    """{configuration: its `agreement` with the CPU, or {"not_measured": reason}}, computed in another process.

    If the first configuration fails, the others are not tried. The process is separate because a CUDA error or a failed
    capture makes a process unusable for measurements.
    """
    found = {}
    for configuration in configurations:
        try:
            found[configuration] = call_in_worker(agreement_with_cpu, path, provider, sizes, configuration)
        except (sessions.UnsupportedGraphError, OutputMismatchError) as error:
            found[configuration] = {"not_measured": str(error)}
            if len(found) == 1:
                return dict.fromkeys(configurations, found[configuration])
    return found


def agreement_with_cpu(path, provider, sizes, configuration):
    """The `agreement` of a configuration's outputs, computed without TF32, with those of the CPU.

    The first call gets zeros, the second random inputs: a CUDA graph must not depend on the inputs of its capture.
    Raises UnsupportedGraphError if the graph does not run, OutputMismatchError if its outputs differ.
    """
    session = sessions.open_session(path)
    feeds = sessions.random_feeds(session, sizes)
    call, _ = prepare(path, provider, sizes, configuration, tf32=False, feeds=zeros(feeds))
    call.write(feeds)
    return agreement(session.run(None, feeds), sessions.outputs(call))


def zeros(feeds):
    """Zero inputs: their outputs differ from those of random inputs, which may hardly differ from each other."""
    return {name: numpy.zeros_like(array) for name, array in feeds.items()}


def agreement(expected, given):
    """Compare two lists of arrays: {"largest_difference": max |given - expected|, "scale": max |expected|}.

    Non-finite values must be at the same positions, and are left out. Raises OutputMismatchError if shapes or these
    positions differ, or if an output is off by more than 1e-3 times its own largest absolute value.
    """
    if [value.shape for value in expected] != [value.shape for value in given]:
        raise OutputMismatchError(f"its outputs differ in shape from {EXPECTED}")
    largest_difference = largest_scale = 0.0
    for ours, theirs in zip(expected, given, strict=True):
        finite = numpy.isfinite(ours)
        if not numpy.array_equal(finite, numpy.isfinite(theirs)):
            raise OutputMismatchError(f"its outputs are finite at other positions than {EXPECTED}")
        difference = float(numpy.abs(ours[finite] - theirs[finite]).max(initial=0))
        scale = float(numpy.abs(ours[finite]).max(initial=0))
        if difference > TOLERANCE * scale:
            off = f"{difference:.2g} at a scale of {scale:.2g}"
            raise OutputMismatchError(f"its outputs differ from {EXPECTED} by {off}")
        largest_difference, largest_scale = max(largest_difference, difference), max(largest_scale, scale)
    return {"largest_difference": largest_difference, "scale": largest_scale}


# ---- other processes


def call_in_worker(function, *arguments):
    """Call `function(*arguments)` in a worker process, which is reused until a call raises an error.

    Returns or raises what the function does. Raises UnsupportedGraphError if the process dies.
    """
    try:
        return _result(_kept_process(), function, *arguments)
    except Exception:
        _kept_process().shutdown()
        _kept_process.cache_clear()
        raise


@functools.cache
def _kept_process():
    return _new_process()


def _new_process():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    return ProcessPoolExecutor(1, context)


def _result(process, function, *arguments):
    try:
        return process.submit(function, *arguments).result()
    except BrokenProcessPool:
        reason = "the process died: too little memory, or a fault of the runtime"
        raise sessions.UnsupportedGraphError(reason) from None


def cold_start(path, provider, sizes):
    """Load a graph and call it twice, with one thread, in a fresh process.

    Returns the fields of `records.latency.Cold` except batch. Memory is the peak resident memory minus the resident
    memory before loading; it includes the parts of the runtime that this graph is the first to use.
    """
    with _new_process() as process:
        try:
            return _result(process, _cold, path, provider, sizes)
        except sessions.UnsupportedGraphError as error:
            return {"not_measured": str(error)}


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
    """GPU memory in use by all processes, in bytes; 0 without a GPU."""
    (used,) = machine.of_gpu(lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).used)
    return used or 0
