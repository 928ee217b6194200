"""ONNX Runtime beside its peers: one verb on the same arrays, in turns within the same blocks of one run.

Two modes. `host`: NumPy arrays in, NumPy arrays out. `bound`: tensors that stay where the runtime computes. All compute
in float32 with one thread, the only number that means the same to each; beside them ONNX Runtime runs as it does where
nobody chose, `onnxruntime_default`, and as the latencies' advice says, `onnxruntime_best`.
"""

import contextlib
import functools
import re
import sys
import textwrap

import numpy
import torch

from zoo import files, params, protocol
from zoo.errors import InputError
from zoo.graphs import sessions
from zoo.latency import measure as latency
from zoo.latency import timing
from zoo.train import checkpoints

sys.modules["openvino_telemetry"] = None  # with it, the import would report itself over the network
import openvino  # noqa: E402

MODES = ("host", "bound")
PROVIDERS = {"cpu": sessions.CPU, "cuda": sessions.CUDA}
THREADS = 1
VERSION = openvino.__version__.partition("-")[0]
OPENVINO = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": THREADS,
    "INFERENCE_PRECISION_HINT": "f32",  # else it takes bfloat16 where the CPU has it
    "ENABLE_CPU_PINNING": False,  # it would move the thread that calls it, and with it whatever is timed next
}
REASON_CHARACTERS = 200


def settings(everything, profile):
    """`protocol.settings` of the peers on this machine."""
    return protocol.settings(everything, profile, sessions.cores(), "peers")


def devices(settings):
    """cpu, and cuda where both torch and onnxruntime compute there."""
    cuda = sessions.CUDA in settings["providers"] and torch.cuda.is_available()
    return ["cpu", "cuda"] if cuda and sessions.why_unavailable(sessions.CUDA) is None else ["cpu"]


def advice(profile, name, device, settings):
    """[{"verb", "batch", "best"}] that the experiment's latencies on `device` give for what is measured here."""
    path = files.latency(profile, name) / f"{device}.json"
    given = files.read_json(path).get("advice", []) if path.exists() else []
    wanted = [one for one in given if one["verb"] in settings["verbs"] and one["batch"] in settings["batches"]]
    return [{key: one[key] for key in ("verb", "batch", "best")} for one in wanted]


def network(entry, checkpoint):
    """The trained network of an experiment, in evaluation mode."""
    built = params.build(entry, checkpoints.run_of(checkpoint)["data"])
    checkpoints.load(checkpoint, built)
    return built.eval()


def measure(path, load, batch, device, best, settings):
    """The rows of one graph at one batch on one device ("cpu", "cuda"): every runtime in every mode.

    `load()` gives the network that the graph at `path` was made from; `best` is the configuration {"mode", "threads",
    "optimisation"} that is advised, or None. Beside what `timing.measure` gives, a row has "build_ms", to load and to
    compile with the first call, and what `latency.agreement` says of its outputs and those of ONNX Runtime on the CPU.

    Where the default is what is advised, one measurement has a row as each. A runtime that does not build, does not run
    or computes something else has rows that say so. Raises InputError where the graph or the checkpoint is missing or
    damaged.
    """
    torch.set_num_threads(THREADS)
    torch.backends.fp32_precision = "tf32" if settings["tf32"] and device == "cuda" else "ieee"
    session = sessions.open_session(path)
    feeds = sessions.random_feeds(session, {"batch": batch, "time": settings["time"]})
    expected = session.run(None, feeds)
    about = {"verb": path.stem, "seed": int(path.parent.name), "batch": batch, "device": device}
    about |= {"graph_sha256": latency.sha256(path), "graph_bytes": path.stat().st_size}
    calls, rows, refused = {}, {}, []
    with _nothing_compiled_before(settings["runtimes"]), torch.inference_mode():
        for runtime, (build, configurations) in runtimes(path, load, feeds, device, best, settings).items():
            modes = {one["mode"]: about | {"runtime": runtime} | one for one in configurations}
            try:
                ready, seconds = timing.once(functools.partial(_ready, build))
            except InputError:
                raise
            except Exception as error:  # whatever a compiler or a runtime raises
                refused += [row | {"not_measured": _reason(error)} for row in modes.values()]
                continue
            for mode, row in modes.items():
                try:
                    equal = latency.agreement(expected, outputs(ready[mode]))
                except latency.Unequal as error:
                    refused.append(row | {"not_measured": str(error)})
                    continue
                calls[runtime, mode] = ready[mode], latency.reference(PROVIDERS[device], row["threads"])
                rows[runtime, mode] = row | equal | {"build_ms": seconds * 1e3}
        rule = {key: settings[key] for key in timing.RULE}
        measured = timing.measure(calls, **rule) if calls else {}
    speed = {key: {"items_per_second": batch * row["calls"] / row["seconds"]} for key, row in measured.items()}
    found = [rows[key] | measured[key] | speed[key] for key in measured] + refused
    both = [row | {"runtime": "onnxruntime_best"} for row in found if row["runtime"] == "onnxruntime_default"]
    return found + both if best == _default(device, settings) else found


def outputs(call):
    """What `call()` computes, as a list of arrays, wherever it leaves it."""
    result = call()
    if result is None:  # `sessions.bound` leaves it in the binding
        return call.args[0].copy_outputs_to_cpu()
    return [value.numpy(force=True) if torch.is_tensor(value) else numpy.asarray(value) for value in _listed(result)]


def runtimes(path, load, feeds, device, best, settings):
    """{runtime: (a function that gives {mode: call}, the configuration of each mode)}, those of the device alone.

    A call takes no arguments: it computes on `feeds`. `outputs` gives what it computes. `best` is left out where it
    is None or the default.
    """
    both = [{"mode": mode, "threads": THREADS} for mode in MODES]
    usual = [one | {"optimisation": "all"} for one in both]
    provider, tf32 = PROVIDERS[device], settings["tf32"]
    run = functools.partial(_torch, load, path.stem, feeds, device)
    known = {"torch": (run, both), "torch_compile": (functools.partial(run, compiled=True), both)}
    if device == "cpu":
        known["openvino"] = functools.partial(_openvino, path, feeds), both
    default = _default(device, settings)
    ours = {"onnxruntime": usual, "onnxruntime_default": [default]}
    if best not in (None, default):
        ours["onnxruntime_best"] = [best]
    wanted = {
        runtime: (functools.partial(_onnxruntime, path, feeds, provider, tf32, configurations), configurations)
        for runtime, configurations in ours.items()
    }
    return wanted | {runtime: known[runtime] for runtime in settings["runtimes"] if runtime in known}


@contextlib.contextmanager
def _nothing_compiled_before(runtimes):
    """Let torch.compile find nothing that it made of a network before, and leave nothing of it behind."""
    if "torch_compile" not in runtimes:
        yield
        return
    from torch._inductor.utils import fresh_cache  # here: it takes seconds

    with fresh_cache():
        with contextlib.suppress(Exception):
            # What it does once is no part of a network's build: imports, headers, trying what the CPU can do.
            torch.compile(torch.neg)(torch.zeros(1024))
        yield


def _default(device, settings):
    return latency.default(PROVIDERS[device], settings)._asdict()


def _ready(build):
    """The calls that `build` gives, the first of which has run once."""
    calls = build()
    next(iter(calls.values()))()
    return calls


def _onnxruntime(path, feeds, provider, tf32, configurations):
    """One session: what differs between `configurations` is the mode alone."""
    modes = [one["mode"] for one in configurations]
    threads, optimisation = configurations[0]["threads"], configurations[0]["optimisation"]
    session = sessions.open_session(
        path, provider, threads, optimisation=optimisation, cuda_graph="graph" in modes, tf32=tf32
    )
    return {mode: (sessions.host if mode == "host" else sessions.bound)(session, feeds) for mode in modes}


def _torch(load, verb, feeds, device, compiled=False):
    run = getattr(load().to(device), verb)
    if compiled:
        torch.compiler.reset()  # it gives up, and says nothing, where one function was compiled for many networks
        run = torch.compile(run, dynamic=False, fullgraph=True)  # else what it cannot compile runs eagerly, unsaid
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
    model.reshape({name: array.shape for name, array in feeds.items()})  # as torch.compile is given this batch alone
    compiled = core.compile_model(model, "CPU", OPENVINO)
    host, bound = compiled.create_infer_request(), compiled.create_infer_request()
    for name, array in feeds.items():
        bound.set_tensor(name, openvino.Tensor(array))
    return {
        "host": functools.partial(host.infer, feeds, share_inputs=True),
        "bound": functools.partial(bound.infer, share_outputs=True),
    }


def _listed(result):
    """The outputs of a verb in order: a network gives a tensor or a dictionary, OpenVINO a mapping, others a list."""
    if torch.is_tensor(result):
        return [result]
    return list(result.values()) if hasattr(result, "values") else result


def _reason(error):
    """The first paragraph of an error as one line, without where its files lie."""
    text = str(error).strip().partition("\n\n")[0]
    text = " ".join(re.sub(r"Exception from \S+|(?<!\w)/\S*/", "", text).split())
    return textwrap.shorten(f"{type(error).__name__}: {text}", REASON_CHARACTERS, placeholder=" ...")
