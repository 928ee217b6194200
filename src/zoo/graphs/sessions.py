"""ONNX Runtime sessions that run on the requested provider, or raise."""

import contextlib
import functools
import io
import json
import os
from collections import Counter
from pathlib import Path

import numpy
import onnx
import onnxruntime
import psutil
import pynvml
from onnx import numpy_helper

from zoo import files
from zoo.errors import InputError
from zoo.graphs import identity, interface
from zoo.records import parity

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
DTYPES = {"tensor(float)": numpy.float32, "tensor(int64)": numpy.int64, "tensor(int32)": numpy.int32}
LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
REFERENCE = """<ir_version: 10, opset_import: ["": 20]> reference (float[batch,256] x) => (float[batch,256] y) {
    sum = MatMul(x, first) hidden = Relu(sum) y = MatMul(hidden, second)
}"""


class UnsupportedGraphError(Exception):
    """The graph is valid, but the provider cannot run all of it."""


def open_session(path, provider=CPU, threads=1, **options):
    """Open an onnxruntime.InferenceSession with every node on `provider` and `threads` intra-op threads.

    `options`: `optimisation` is a key of LEVELS (default "all"); "none" runs the graph as exported, without constant
    folding or fusion. `cuda_graph` captures the first call as a CUDA graph, which later calls replay; they must keep
    sizes and addresses (`bound`). `tf32` lets CUDA round the factors of products to ten bits of mantissa. `profile_to`,
    a file prefix, makes the session write a profile, whose path `session.end_profiling()` returns.

    Raises InputError if the graph is missing or damaged, UnsupportedGraphError if `provider` cannot run all of it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro`, which makes it")
    try:
        session = _open(str(path), provider, threads, **options)
    except Exception as error:  # onnxruntime's exceptions have no common base class
        kind = type(error).__name__
        if provider == CPU or kind in ("InvalidProtobuf", "InvalidGraph"):
            raise InputError(f"{path} is damaged ({kind}): delete it and run `dvc repro` again") from error
        if options.get("cuda_graph") and "control flow" in str(error):
            raise UnsupportedGraphError(f"{path.name} has a loop, which cannot be part of a CUDA graph") from error
        raise UnsupportedGraphError(f"{path} cannot run on {provider} alone: {one_line(error)}") from error
    nodes_per_provider(session)
    return session


def open_all(profile, name, seed, identities, threads):
    """Open the graphs of one seed on the CPU; return {verb: session}. `identities` is {verb: records.Identity}.

    Raises InputError if a file is missing, damaged, or not the graph that its record names.
    """
    by_verb = {}
    for verb, graph in identities.items():
        path = files.graph(profile, name, seed, verb)
        by_verb[verb] = open_session(path, threads=threads)
        identity.check(path, graph.graph_sha256, parity.path(profile, name))
    return by_verb


def why_unavailable(provider):
    """Try to open a session on `provider`; return None if it opens, else the reason in one line.

    Raises InputError for a name that onnxruntime does not know.
    """
    known = onnxruntime.get_all_providers()
    if provider not in known:
        raise InputError(f"provider {provider!r} is unknown to onnxruntime: use one of {', '.join(known)}")
    if provider not in onnxruntime.get_available_providers():
        return f"onnxruntime {onnxruntime.__version__} was built without {provider}"
    try:
        reference(provider)()
    except Exception as error:
        return one_line(error) if provider == CPU else _missing_from_cuda(provider)
    return None


def reference(provider=CPU, threads=1):
    """A `bound` call of the reference graph, the same on every machine: two layers of 256 units on 16 rows.

    Raises onnxruntime's own exception if `provider` is not available.
    """
    random = numpy.random.default_rng(0)
    model = onnx.parser.parse_model(REFERENCE)
    for name in ("first", "second"):
        weights = random.standard_normal((256, 256), dtype=numpy.float32) / 16
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
    session = _open(model.SerializeToString(), provider, threads)
    return _bound(session, {"x": random.standard_normal((16, 256), dtype=numpy.float32)})


def cores():
    """The default number of threads of onnxruntime: one per physical core that this process may use."""
    usable = len(os.sched_getaffinity(0))
    return min(usable, psutil.cpu_count(logical=False) or usable)


def check(session, feeds):
    """Raise InputError, in one line, unless the feeds {input: array} match the graph's interface (`interface.check`).

    Call this once per set of feeds before running a graph: some invalid feeds abort the process.
    """
    graph, takes = read_interface(session)
    interface.check(takes, feeds, graph)


def host(session, feeds):
    """Return a call without arguments that runs the session on host arrays and returns the list of outputs.

    `call.write({name: array})` replaces the inputs of later calls, here as in `bound`. Raises InputError like `check`.
    """
    check(session, feeds)
    feeds = dict(feeds)
    call = functools.partial(session.run, None, feeds)
    call.write = feeds.update
    return call


def bound(session, feeds):
    """Return a call without arguments whose inputs and outputs stay on the session's device, at fixed addresses.

    Only `call.write` copies from host to device. The call returns None; `outputs` copies its outputs to the host.
    Raises InputError like `check`.
    """
    check(session, feeds)
    return _bound(session, feeds)


def _bound(session, feeds):
    device = "cpu" if session.get_providers()[0] == CPU else "cuda"
    binding, sizes, inputs = session.io_binding(), {}, {}
    for entry in session.get_inputs():
        value = feeds[entry.name]
        sizes |= {axis: size for axis, size in zip(entry.shape, value.shape, strict=True) if isinstance(axis, str)}
        # Copied because, on the CPU, an OrtValue shares the memory of its array, which belongs to the caller.
        inputs[entry.name] = onnxruntime.OrtValue.ortvalue_from_numpy(value.copy(), device, 0)
        binding.bind_ortvalue_input(entry.name, inputs[entry.name])
    for entry in session.get_outputs():
        shape = [sizes.get(axis, axis) for axis in entry.shape]
        empty = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, DTYPES[entry.type], device, 0)
        binding.bind_ortvalue_output(entry.name, empty)

    def write(arrays):
        for name, value in inputs.items():
            value.update_inplace(arrays[name])

    call = functools.partial(session.run_with_iobinding, binding)
    call.write = write
    return call


def outputs(call):
    """Run a call made by `host` or `bound`; return its outputs as a list of arrays."""
    result = call()
    return call.args[0].copy_outputs_to_cpu() if result is None else result


def nodes_per_provider(session):
    """{provider: number of nodes}. Raises UnsupportedGraphError if a node is not on the session's provider."""
    asked = session.get_providers()[0]
    assigned = session.get_provider_graph_assignment_info()
    nodes = Counter(part.ep_name for part in assigned for _ in part.get_nodes())
    if set(nodes) - {asked}:
        raise UnsupportedGraphError(f"nodes are not all on {asked}: {dict(nodes)}")
    return dict(nodes)


def metadata(session):
    """The metadata of the graph, {key: text}; `facts`, `interface` and `run` hold JSON."""
    return dict(session.get_modelmeta().custom_metadata_map)


def random_feeds(session, sizes, seed=0):
    """{input: random array}, by `interface.draw` for sizes such as {"batch": 16, "time": 20}."""
    return interface.draw(read_interface(session)[1]["inputs"], sizes, seed)


def run_batched(session, feeds, batch):
    """Run the items of `feeds`, at most `batch` per call; return {output: array of all items}.

    Inputs are split, and outputs concatenated, along the axis "batch"; an input without that axis is passed whole.
    Raises InputError like `check`, and ValueError if an output has no such axis.
    """
    check(session, feeds)
    cut = {entry.name: entry.shape.index("batch") for entry in session.get_inputs() if "batch" in entry.shape}
    length = next(feeds[name].shape[axis] for name, axis in cut.items())
    joined = {entry.name: entry.shape.index("batch") for entry in session.get_outputs()}
    parts = []
    for start in range(0, length, batch):
        items = slice(start, start + batch)
        whole = {name: value for name, value in feeds.items() if name not in cut}
        pieces = {name: feeds[name][(slice(None),) * axis + (items,)] for name, axis in cut.items()}
        parts.append(session.run(list(joined), whole | pieces))
    return {
        name: numpy.concatenate(column, axis)
        for (name, axis), column in zip(joined.items(), zip(*parts, strict=True), strict=True)
    }


def read_interface(session):
    """("profile/experiment/seed/verb", interface) of a graph. Raises InputError if its metadata has no interface."""
    about = metadata(session)
    graph = "/".join(about.get(key, "?") for key in ("profile", "experiment", "seed", "verb"))
    if "interface" not in about:
        raise InputError(f"the graph {graph} does not describe its inputs: run `dvc repro`, which exports it again")
    return graph, json.loads(about["interface"])


def _open(graph, provider, threads, *, profile_to=None, optimisation="all", cuda_graph=False, tf32=False):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[optimisation]
    # By default (0) onnxruntime pins each thread to a core. With an explicit number it pins none, and two threads that
    # shared a core ran as slowly as one.
    options.intra_op_num_threads = 0 if threads == cores() else threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_to)
    settings = {"use_tf32": int(tf32), "enable_cuda_graph": int(cuda_graph)} if provider == CUDA else {}
    with contextlib.ExitStack() as stack:
        if provider != CPU:
            # Without this, onnxruntime silently falls back to the CPU if the provider's libraries do not load.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            options.log_severity_level = 4
            _load_cuda()
            stack.enter_context(_quiet())
        asked = [(provider, settings)]
        session = onnxruntime.InferenceSession(graph, options, providers=asked, enable_fallback=0)
    if session.get_providers()[0] != provider:
        raise UnsupportedGraphError(f"onnxruntime opened the session on {session.get_providers()[0]}")
    return session


@contextlib.contextmanager
def _quiet():
    """Silence the default logger, which repeats the exception's text and prints local paths."""
    onnxruntime.set_default_logger_severity(4)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(2)


def _load_cuda():
    """Load the CUDA libraries of torch's wheels; return what onnxruntime prints about missing ones."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls()
    return said.getvalue()


def _missing_from_cuda(provider):
    try:
        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return f"no NVIDIA driver ({error})"
    missing = _load_cuda().splitlines()
    return missing[0] if missing else f"the CUDA libraries load, but no session opens on {provider}"


def one_line(error):
    """The text of an error as one line."""
    return " ".join(str(error).split())
