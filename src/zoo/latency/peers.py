"""ONNX Runtime beside its peers: the same verb on the same arrays, timed in turns within the same blocks.

Two modes. `host`: NumPy arrays in, NumPy arrays out. `bound`: tensors that stay on the runtime's device. All compute in
float32 with one thread, the only number that means the same to all of them. ONNX Runtime is also timed with its default
options, `onnxruntime_default`, and in the configuration that the latencies advise, `onnxruntime_best`.
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
from zoo.train import checkpoints

sys.modules["openvino_telemetry"] = None  # it would report the import over the network
import openvino  # noqa: E402

MODES = ("host", "bound")
PROVIDERS = {"cpu": sessions.CPU, "cuda": sessions.CUDA}
THREADS = 1
VERSION = openvino.__version__.partition("-")[0]
OPENVINO = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": THREADS,
    "INFERENCE_PRECISION_HINT": "f32",  # else it takes bfloat16 where the CPU has it
    "ENABLE_CPU_PINNING": False,  # it would pin the calling thread, which times the next runtime
}
REASON_CHARACTERS = 200


def devices(settings):
    """Those of cpu and cuda whose provider is asked for; cuda where both torch and onnxruntime compute there."""
    asked = [device for device, provider in PROVIDERS.items() if provider in settings["providers"]]
    if "cuda" in asked and not (torch.cuda.is_available() and sessions.why_unavailable(sessions.CUDA) is None):
        asked.remove("cuda")
    return asked


def advice(measured, devices, settings):
    """[{"device", "batch", "best"}] that a `records.latency.Latency` advises for the batches of the peers."""
    return [
        {"device": device, "batch": row.batch, "best": row.best.model_dump()}
        for device in devices
        if PROVIDERS[device] in measured.sources
        for row in measured.sources[PROVIDERS[device]].advice
        if row.batch in settings["batches"]
    ]


def network(checkpoint):
    """The trained network of a checkpoint, built from its own recipe, in evaluation mode."""
    run = checkpoints.run_of(checkpoint)
    recipe, where = run["recipe"], f"models.{run['experiment']}.net"
    built = experiments.build(recipe["file"], recipe["net"], run["data"], where)
    checkpoints.load(checkpoint, built)
    return built.eval()


def compare(graph, path, checkpoint, devices, here):
    """The `records.peers.Peers` of a `TimedGraph`: every runtime at every batch on every device.

    `path` and `checkpoint` are its files; `here` has machine, openvino, settings and advice, as the record.
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
    """The rows of a `TimedGraph` at one batch on one device ("cpu", "cuda"): every runtime in every mode.

    `path` is the graph's file, and `load()` returns the network that it was exported from. `best` is the advised
    configuration {"mode", "threads", "optimisation"}, or None; where it is the default, the measurement of the default
    serves for both. A runtime that does not build or run, or that computes something else, has rows that say so.
    Raises InputError where the graph or the checkpoint is missing or damaged.
    """
    torch.set_num_threads(THREADS)
    torch.backends.fp32_precision = "tf32" if settings["tf32"] and device == "cuda" else "ieee"
    session = sessions.open_session(path)
    feeds = sessions.random_feeds(session, {"batch": batch, "time": settings["time"]})
    expected = sessions.host(session, feeds)()
    about = {"batch": batch, "device": device, "graph_sha256": graph.graph_sha256}
    calls, rows, refused = {}, {}, []
    with _no_compiled_code(settings["runtimes"]), torch.inference_mode():
        for runtime, (build, configurations) in runtimes(path, load, feeds, device, best, settings).items():
            modes = {options["mode"]: about | {"runtime": runtime} | options for options in configurations}
            try:
                ready, seconds = timing.once(functools.partial(_ready, build))
            except InputError:
                raise
            except Exception as error:  # compilers and runtimes raise all kinds
                refused += [Row(**row, not_measured=_reason(error)) for row in modes.values()]
                continue
            for mode, row in modes.items():
                try:
                    row |= latency.agreement(expected, outputs(ready[mode])) | {"build_ms": seconds * 1e3}
                except latency.OutputMismatchError as error:
                    refused.append(Row(**row, not_measured=str(error)))
                else:
                    calls[runtime, mode] = ready[mode], latency.reference(PROVIDERS[device], row["threads"])
                    rows[runtime, mode] = row
        measured = timing.measure(calls, **{key: settings[key] for key in timing.RULE})
    timed = [Row(**rows[key], times=latency.times(row, batch)) for key, row in measured.items()] + refused
    if best != _default(device, settings):
        return timed
    default = [row for row in timed if row.runtime == "onnxruntime_default"]
    return timed + [row.model_copy(update={"runtime": "onnxruntime_best"}) for row in default]


def outputs(call):
    """The outputs of `call()` as a list of arrays."""
    result = call()
    if result is None:  # `sessions.bound` leaves it in the binding
        return call.args[0].copy_outputs_to_cpu()
    return [value.numpy(force=True) if torch.is_tensor(value) else numpy.asarray(value) for value in _listed(result)]


def runtimes(path, load, feeds, device, best, settings):
    """{runtime: (a function that returns {mode: call}, the configuration of each mode)}, for one device.

    A call takes no arguments: it computes on `feeds`. `outputs` returns its outputs. `best` is left out where it is
    None or the default.
    """
    both = [{"mode": mode, "threads": THREADS} for mode in MODES]
    default, partial = _default(device, settings), functools.partial
    ours = {"onnxruntime": [options | {"optimisation": "all"} for options in both], "onnxruntime_default": [default]}
    if best not in (None, default):
        ours["onnxruntime_best"] = [best]
    session = partial(_onnxruntime, path, feeds, PROVIDERS[device], settings["tf32"])
    network = partial(_torch, load, path.stem, feeds, device)
    known = {"torch": network, "torch_compile": partial(network, compiled=True)}
    if device == "cpu":
        known["openvino"] = partial(_openvino, path, feeds)
    return {runtime: (partial(session, configurations), configurations) for runtime, configurations in ours.items()} | {
        runtime: (known[runtime], both) for runtime in settings["runtimes"] if runtime in known
    }


@contextlib.contextmanager
def _no_compiled_code(runtimes):
    """Give torch.compile an empty cache, and delete it afterwards."""
    if "torch_compile" not in runtimes:
        yield
        return
    from torch._inductor.utils import fresh_cache  # here: it takes seconds

    with fresh_cache():
        with contextlib.suppress(Exception):
            # Its first use imports modules and probes the compiler and the CPU, which is no part of a network's build.
            torch.compile(torch.neg)(torch.zeros(1024))
        yield


def _default(device, settings):
    return latency.default(PROVIDERS[device], settings).model_dump()


def _ready(build):
    """The calls that `build` returns, after one run of the first."""
    calls = build()
    next(iter(calls.values()))()
    return calls


def _onnxruntime(path, feeds, provider, tf32, configurations):
    """One session for `configurations` that differ in their mode only."""
    modes, usual = [options["mode"] for options in configurations], configurations[0]
    options = {"optimisation": usual["optimisation"], "cuda_graph": "graph" in modes, "tf32": tf32}
    session = sessions.open_session(path, provider, usual["threads"], **options)
    return {mode: (sessions.host if mode == "host" else sessions.bound)(session, feeds) for mode in modes}


def _torch(load, verb, feeds, device, compiled=False):
    run = getattr(load().to(device), verb)
    if compiled:
        torch.compiler.reset()  # else it silently stops compiling after several networks of one class
        run = torch.compile(run, dynamic=False, fullgraph=True)  # else it silently runs eagerly what it cannot compile
    there, back = torch.from_numpy, torch.Tensor.numpy
    if device == "cuda":
        there, back = (lambda array: torch.from_numpy(array).cuda()), (lambda tensor: tensor.cpu().numpy())
    values = {name: there(array) for name, array in feeds.items()}

    def host():
        return [back(value) for value in _listed(run(**{name: there(array) for name, array in feeds.items()}))]

    def bound():
        result = run(**values)
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    return {"host": host, "bound": bound}


def _openvino(path, feeds):
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: array.shape for name, array in feeds.items()})  # fixed, as for torch.compile
    compiled = core.compile_model(model, "CPU", OPENVINO)
    host, bound = compiled.create_infer_request(), compiled.create_infer_request()
    for name, array in feeds.items():
        bound.set_tensor(name, openvino.Tensor(array))
    return {
        "host": functools.partial(host.infer, feeds, share_inputs=True),
        "bound": functools.partial(bound.infer, share_outputs=True),
    }


def _listed(result):
    """The outputs of a verb as a list: a network returns a tensor or a dictionary, OpenVINO a mapping."""
    return [result] if torch.is_tensor(result) else list(result.values()) if hasattr(result, "values") else result


def _reason(error):
    """The first paragraph of an error as one line, without the folders in its paths."""
    text = str(error).strip().partition("\n\n")[0]
    text = " ".join(re.sub(r"Exception from \S+|(?<!\w)/\S*/", "", text).split())
    return textwrap.shorten(f"{type(error).__name__}: {text}", REASON_CHARACTERS, placeholder=" ...")
