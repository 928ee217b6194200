"""Compare ONNX Runtime with other runtimes: the same verb on the same arrays, timed in turns within the same blocks.

Modes: `host` takes and returns NumPy arrays; `bound` uses tensors that stay on the runtime's device; `graph`, on CUDA
only, is bound and replayed as a CUDA graph. All runtimes compute in float32 with one thread, the only number of threads
that means the same in all of them. ONNX Runtime is also timed with its default options (`onnxruntime_default`) and in
the configuration that the latency record advises (`onnxruntime_best`).
"""

import contextlib
import functools
import itertools
import re
import sys
import textwrap

import numpy
import torch

from zoo.errors import InputError
from zoo.graphs import sessions
from zoo.latency import machine, timing
from zoo.latency import measure as latency
from zoo.params import experiments
from zoo.records.peers import Peers, Row
from zoo.train import checkpoints, seeding

MODES = ("host", "bound")
PROVIDERS = {"cpu": sessions.CPU, "cuda": sessions.CUDA}
THREADS = 1
CALLS_BEFORE_CAPTURE = 3  # as torch advises: the first calls allocate memory and choose kernels
OPENVINO = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": THREADS,
    "INFERENCE_PRECISION_HINT": "f32",  # otherwise it uses bfloat16 on CPUs that support it
    "ENABLE_CPU_PINNING": False,  # it would pin the calling thread, which also times the other runtimes
}
REASON_CHARACTERS = 200


def devices(settings):
    """The devices ("cpu", "cuda") of the requested providers; "cuda" only if torch and onnxruntime can both use it."""
    asked = [device for device, provider in PROVIDERS.items() if provider in settings["providers"]]
    if "cuda" in asked and not (torch.cuda.is_available() and sessions.why_unavailable(sessions.CUDA) is None):
        asked.remove("cuda")
    return asked


def advice(measured, devices, settings):
    """The advice of a `records.latency.Latency` for the peers' batch sizes: [{"device", "batch", "best"}]."""
    return [
        {"device": device, "batch": row.batch, "best": row.best.model_dump()}
        for device in devices
        if PROVIDERS[device] in measured.sources
        for row in measured.sources[PROVIDERS[device]].advice
        if row.batch in settings["batches"]
    ]


def network(checkpoint):
    """The trained network of a checkpoint, built from its own recipe, in evaluation mode."""
    run = checkpoints.load_metadata(checkpoint)
    recipe, where = run["recipe"], f"models.{run['experiment']}.net"
    built = experiments.build(recipe["file"], recipe["net"], run["data"], where)
    checkpoints.load(checkpoint, built)
    return built.eval()


def compare(graph, path, checkpoint, devices, here):
    """Time a `TimedGraph` in every runtime at every batch size on every device; return its `records.peers.Peers`.

    `path` and `checkpoint` are its files; `here` has the record's fields machine, openvino, settings and advice.
    """
    before, rows, settings = machine.conditions(), [], here["settings"]
    load = functools.partial(network, checkpoint)
    best = {(row["device"], row["batch"]): row["best"] for row in here["advice"]}
    for device, batch in itertools.product(devices, settings["batches"]):
        rows += measure(graph, path, load, batch, device, best.get((device, batch)), settings)
    return Peers(
        structure_sha256=graph.structure_sha256, graph=graph, **here, rows=rows, commit=machine.commit(),
        conditions={"before": before, "after": machine.conditions()},
    )  # fmt: skip


def measure(graph, path, load, batch, device, best, settings):
    """Time every runtime in every mode, at one batch size on one device ("cpu" or "cuda"); return the rows.

    `path` is the graph's file, and `load()` returns the network that it was exported from. `best` is the advised
    configuration {"mode", "threads", "optimisation"} or None; if it is the default, one measurement serves for both.
    If a runtime fails to build or run, or its outputs differ, its rows give the reason. Raises InputError if the graph
    or the checkpoint is missing or damaged.
    """
    session = sessions.open_session(path)
    feeds = sessions.random_feeds(session, {"batch": batch, "time": settings["time"]})
    inputs = latency.zeros(feeds), feeds, sessions.host(session, feeds)()
    about = {"batch": batch, "device": device, "graph_sha256": graph.graph_sha256}
    about |= {"tf32": settings["tf32"]} if device == "cuda" else {}
    calls, rows, refused = {}, {}, []
    with _prepared(settings["runtimes"], settings["tf32"]):
        for runtime, build, configurations in runtimes(path, load, device, best, settings):
            modes = {options["mode"]: about | {"runtime": runtime} | options for options in configurations}
            try:
                if "graph" in modes:  # a failed capture would make this process unusable
                    latency.call_in_worker(try_out, runtime, build, *inputs, settings["tf32"])
                checked = build_and_check(build, *inputs)
            except InputError:
                raise
            except Exception as error:  # compilers and runtimes raise errors of any type
                refused += [Row(**row, not_measured=_reason(error)) for row in modes.values()]
                continue
            for mode, (call, found) in checked.items():
                if "not_measured" in found:
                    refused.append(Row(**modes[mode], **found))
                else:
                    calls[runtime, mode] = call, latency.reference(PROVIDERS[device], modes[mode]["threads"])
                    rows[runtime, mode] = modes[mode] | found
        measured = timing.measure(calls, **{key: settings[key] for key in timing.RULE})
    timed = [Row(**rows[key], times=latency.times(row, batch)) for key, row in measured.items()] + refused
    if best != _default(device, settings):
        return timed
    default = [row for row in timed if row.runtime == "onnxruntime_default"]
    return timed + [row.model_copy(update={"runtime": "onnxruntime_best"}) for row in default]


def build_and_check(build, first, feeds, expected):
    """Build the calls of a runtime on the inputs `first`, then check them on `feeds`; return {mode: (call, result)}.

    The inputs differ because a CUDA graph must not depend on those of its capture. `expected` are the outputs of ONNX
    Runtime on the CPU for `feeds`. A result is {"largest_difference", "scale", "build_ms"}, or {"not_measured": reason}
    if the outputs differ.
    """
    calls, seconds = timing.once(functools.partial(_ready, build, first))
    checked = {}
    for mode, call in calls.items():
        call.write(feeds)
        try:
            found = latency.agreement(expected, outputs(call)) | {"build_ms": seconds * 1e3}
        except latency.OutputMismatchError as error:
            found = {"not_measured": str(error)}
        checked[mode] = call, found
    return checked


def try_out(runtime, build, first, feeds, expected, tf32):
    """Call `build_and_check` in a worker process; raises UnsupportedGraphError with the reason if it fails."""
    with _prepared([runtime], tf32):
        try:
            build_and_check(build, first, feeds, expected)
        except InputError:
            raise
        except Exception as error:
            raise sessions.UnsupportedGraphError(_reason(error)) from None


def outputs(call):
    """The outputs of `call()` as a list of NumPy arrays."""
    return [
        value.numpy(force=True) if torch.is_tensor(value) else numpy.asarray(value)
        for value in _listed(sessions.outputs(call))
    ]


def runtimes(path, load, device, best, settings):
    """The runtimes of a device: [(name, function from arrays to {mode: call}, [configuration of each mode])].

    A call takes no arguments: it computes on these arrays, or on those last passed to `call.write`. `outputs` returns
    its outputs. `best` is left out if it is None or the default.
    """
    both, graph = [{"mode": mode, "threads": THREADS} for mode in MODES], [{"mode": "graph", "threads": THREADS}]
    default, partial = _default(device, settings), functools.partial
    groups = [both, graph] if device == "cuda" else [both]
    ours = [("onnxruntime", [options | {"optimisation": "all"} for options in group]) for group in groups]
    ours += [("onnxruntime_default", [default])] + [("onnxruntime_best", [best])] * (best not in (None, default))
    session = partial(_onnxruntime, path, PROVIDERS[device], settings["tf32"])
    network, recorded = (partial(kind, load, path.stem, device) for kind in (_torch, _torch_graph))
    theirs = [("torch", network, both), ("torch_compile", partial(network, compiled=True), both)]
    if device == "cuda":
        theirs += [("torch", recorded, graph), ("torch_compile", partial(recorded, compiled=True), graph)]
    else:
        theirs += [("openvino", partial(_openvino, path), both)]
    return [(runtime, partial(session, configurations), configurations) for runtime, configurations in ours] + [
        one for one in theirs if one[0] in settings["runtimes"]
    ]


@contextlib.contextmanager
def _prepared(runtimes, tf32):
    """Set torch's number of threads and precision; give torch.compile an empty cache, which is deleted afterwards."""
    torch.set_num_threads(THREADS)
    seeding.set_precision(tf32)
    with contextlib.ExitStack() as stack:
        # The first use imports modules and probes the compiler and the CPU: keep that out of a network's build time.
        if "openvino" in runtimes:
            with contextlib.suppress(ModuleNotFoundError):
                _import_openvino()
        if "torch_compile" in runtimes:
            from torch._inductor.utils import fresh_cache  # imported here because it takes seconds

            stack.enter_context(fresh_cache())
            with contextlib.suppress(Exception):
                torch.compile(torch.neg)(torch.zeros(1024))
            torch.compiler.reset()  # otherwise it silently stops compiling after several networks of one class
        stack.enter_context(torch.inference_mode())
        yield


def _default(device, settings):
    return latency.default_configuration(PROVIDERS[device], settings).model_dump()


def _ready(build, feeds):
    """Build the calls and run the first of them once."""
    calls = build(feeds)
    next(iter(calls.values()))()
    return calls


def _onnxruntime(path, provider, tf32, configurations, feeds):
    """{mode: call} of one session; `configurations` differ only in their mode."""
    modes, usual = [options["mode"] for options in configurations], configurations[0]
    options = {"optimisation": usual["optimisation"], "cuda_graph": "graph" in modes, "tf32": tf32}
    session = sessions.open_session(path, provider, usual["threads"], **options)
    return {mode: (sessions.host if mode == "host" else sessions.bound)(session, feeds) for mode in modes}


def _torch(load, verb, device, feeds, compiled=False):
    run = getattr(load().to(device), verb)
    if compiled:
        run = torch.compile(run, dynamic=False, fullgraph=True)  # else it silently runs eagerly what it cannot compile
    back = torch.Tensor.numpy if device == "cpu" else lambda tensor: tensor.cpu().numpy()
    feeds, values = dict(feeds), _tensors(feeds, device)

    def host():
        there = {name: torch.from_numpy(array).to(device) for name, array in feeds.items()}
        return [back(value) for value in _listed(run(**there))]

    def bound():
        return _finished(run(**values), device)

    host.write, bound.write = feeds.update, functools.partial(_write, values)
    return {"host": host, "bound": bound}


def _torch_graph(load, verb, device, feeds, compiled=False):
    run, values = getattr(load().to(device), verb), _tensors(feeds, device)
    call = (reduced_overhead if compiled else captured)(run, values, device)
    call.write = functools.partial(_write, values)
    return {"graph": call}


def captured(run, values, device):
    """A call that replays `run(**values)` as a CUDA graph; it returns the same tensors each time."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(CALLS_BEFORE_CAPTURE):
            run(**values)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        result = run(**values)

    def call():
        graph.replay()
        return _finished(result, device)

    return call


def reduced_overhead(run, values, device):
    """A call of `run(**values)` as torch.compile's own CUDA graph. Raises UnsupportedGraphError if it makes none."""
    from torch._dynamo.utils import counters  # imported here because it takes a second

    before = counters["inductor"]["cudagraph_skips"]
    compiled = torch.compile(run, mode="reduce-overhead", dynamic=False, fullgraph=True)

    def call():
        torch.compiler.cudagraph_mark_step_begin()
        return _finished(compiled(**values), device)

    for _ in range(CALLS_BEFORE_CAPTURE):  # they compile, record, then replay
        call()
    if counters["inductor"]["cudagraph_skips"] > before:
        raise sessions.UnsupportedGraphError("torch.compile made no CUDA graph of it")
    return call


def _tensors(feeds, device):
    """Copies of arrays on the device, which `_write` overwrites."""
    return {name: torch.tensor(array, device=device) for name, array in feeds.items()}


def _write(values, arrays):
    for name, value in values.items():
        value.copy_(torch.from_numpy(arrays[name]))


def _finished(result, device):
    """Wait until the device has computed `result`, and return it."""
    if device == "cuda":
        torch.cuda.synchronize()
    return result


def _import_openvino():
    sys.modules["openvino_telemetry"] = None  # it would report the import over the network
    import openvino

    return openvino


def _openvino(path, feeds):
    openvino = _import_openvino()
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: array.shape for name, array in feeds.items()})  # fixed shapes, as for torch.compile
    compiled = core.compile_model(model, "CPU", OPENVINO)
    feeds, request, bound_request = dict(feeds), compiled.create_infer_request(), compiled.create_infer_request()
    tensors = {name: openvino.Tensor(array) for name, array in feeds.items()}
    for name, tensor in tensors.items():
        bound_request.set_tensor(name, tensor)

    def write(arrays):
        for name, tensor in tensors.items():
            tensor.data[:] = arrays[name]

    host = functools.partial(request.infer, feeds, share_inputs=True)
    bound = functools.partial(bound_request.infer, share_outputs=True)
    host.write, bound.write = feeds.update, write
    return {"host": host, "bound": bound}


def _listed(result):
    """The outputs of a verb as a list: a network returns a tensor or a dictionary, OpenVINO a mapping."""
    return [result] if torch.is_tensor(result) else list(result.values()) if hasattr(result, "values") else result


def _reason(error):
    """The first paragraph of an error as one line, without the folders in its paths."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    text = str(error).strip().partition("\n\n")[0]
    text = " ".join(re.sub(r"Exception from \S+|(?<!\w)/\S*/", "", text).split())
    kind = "" if isinstance(error, sessions.UnsupportedGraphError) else f"{type(error).__name__}: "
    return textwrap.shorten(f"{kind}{text}", REASON_CHARACTERS, placeholder=" ...")
