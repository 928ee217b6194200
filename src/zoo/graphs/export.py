"""One verb of one network becomes one ONNX graph, checked, described, and proven equal to the network."""

import contextlib
import copy
import json
import logging
import warnings

import numpy
import onnx
import onnxruntime
import onnxscript
import onnxscript.optimizer
import torch
from torch import nn

from zoo.graphs import verbs

BATCHES = (1, 3, 64)
TIMES = (1, 7, 35)
TOLERANCE = 1e-5
TIMES_ROUNDING = 10
LARGE = 2**30


class Verb(nn.Module):
    """A network seen as the one function that is exported: tensors in by position, named tensors out."""

    def __init__(self, network, verb):
        super().__init__()
        self.network, self.verb = network, verb
        self.inputs = verbs.inputs(network, verb)

    def forward(self, *values):
        result = getattr(self.network, self.verb)(**dict(zip(self.inputs, values, strict=True)))
        return result if isinstance(result, dict) else {verbs.VERBS[self.verb].output: result}


def export(network, verb, run):
    """The ONNX model of `network.verb`, with really dynamic named axes and the record `run` as its metadata.

    Equal weights and records give equal bytes. Raises RuntimeError where an axis came out fixed, the opset is not
    the one asked for, or ONNX's checker or strict shape inference object.
    """
    module, as_written = Verb(network.eval(), verb), getattr(network, "as_written", False)
    example = draw_inputs(module.inputs, batch=3, time=5, run=run)
    axes = {name: torch.export.Dim(name) for name in verbs.DYNAMIC}
    shapes = (tuple({i: axes[axis] for i, axis in enumerate(t.axes) if axis in axes} for t in module.inputs.values()),)
    with torch.no_grad(), _without_noise():
        names = list(module(*example))
        # export() on the module first: it raises where an axis cannot be dynamic, torch.onnx.export would freeze it.
        program = torch.export.export(module, example, dynamic_shapes=shapes)
        program = torch.onnx.export(
            program, input_names=list(module.inputs), output_names=names, dynamic_shapes=shapes,
            opset_version=verbs.OPSET, external_data=False, verbose=False, optimize=not as_written,
        )  # fmt: skip
        if as_written:
            # No operator is joined to another, but a bias of zeros is a constant, not six nodes that compute it.
            onnxscript.optimizer.fold_constants(program.model)
            onnxscript.optimizer.remove_unused_nodes(program.model)
        else:
            # The exporter folds small constants only; the LSTM's reordered gates are large.
            onnxscript.optimizer.optimize_ir(program.model, input_size_limit=LARGE, output_size_limit=LARGE)
        model = program.model_proto
    _describe(model, verb, run)
    _check(model, module.inputs)
    return model


def draw_inputs(inputs, batch, time, run):
    """Random tensors for a verb's inputs: images in [0, 1), labels and words in range, the rest standard normal."""
    source = numpy.random.default_rng(0)
    sizes, facts = {"batch": batch, "time": time}, run["data"]
    ranges = {"label": facts.get("classes"), "words": facts.get("vocabulary")}
    values = []
    for name, (kind, axes) in inputs.items():
        shape = [sizes.get(axis, axis) for axis in axes]
        if name in ranges:
            value = source.integers(0, ranges[name], shape)
        else:
            value = source.random(shape) if name == "image" else source.standard_normal(shape)
        values.append(torch.from_numpy(value.astype(kind)))
    return tuple(values)


def parity(network, verb, model, run):
    """How far ONNX Runtime (CPU) is from torch: the largest difference over batches 1, 3, 64 (and times 1, 7, 35).

    Returns {"largest_difference", "bound", "calls", "finite"}; the bound is 1e-5 times the larger of 1 and the largest
    output. Where weights are so large that the network's own float32 rounding, its distance from itself in float64, is
    of that size, the bound is ten times that. Raises RuntimeError beyond it or where an output is not finite. Of a run
    that diverged only the places that are not finite are compared, and the outcome is recorded.
    """
    module = Verb(network.eval(), verb)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    largest_difference = largest_output = 0.0
    finite, calls = True, [(b, t) for b in BATCHES for t in (TIMES if "words" in module.inputs else TIMES[:1])]
    for batch, time in calls:
        values = draw_inputs(module.inputs, batch, time, run)
        with torch.no_grad():
            expected = [value.numpy() for value in module(*values).values()]
        feeds = dict(zip(module.inputs, (value.numpy() for value in values), strict=True))
        for theirs, ours in zip(session.run(None, feeds), expected, strict=True):
            if theirs.shape != ours.shape or not numpy.array_equal(numpy.isfinite(theirs), numpy.isfinite(ours)):
                raise RuntimeError(f"{verb} at batch {batch}: shapes or non-finite places differ from the network's")
            good = numpy.isfinite(ours)
            finite &= bool(good.all())
            largest_difference = max(largest_difference, float(numpy.abs(theirs - ours)[good].max(initial=0)))
            largest_output = max(largest_output, float(numpy.abs(ours)[good].max(initial=0)))
    bound = TOLERANCE * max(1.0, largest_output)
    if finite and largest_difference > bound:
        rounding = max(_rounding(module, draw_inputs(module.inputs, *call, run)) for call in calls)
        bound = max(bound, TIMES_ROUNDING * rounding)
    if run["diverged_at_step"] is None and not (finite and largest_difference <= bound):
        raise RuntimeError(
            f"{verb}: differs from the network by {largest_difference:.3g}, allowed {bound:.3g}; {finite=}"
        )
    return {"largest_difference": largest_difference, "bound": bound, "calls": len(calls), "finite": finite}


def _rounding(module, values):
    """How far the network in float32 is from itself in float64: the largest difference of an output."""
    with torch.no_grad():
        single = module(*values)
        try:
            torch.set_default_dtype(torch.float64)  # for what a network makes as it goes
            double = copy.deepcopy(module).double()(
                *(value.double() if value.is_floating_point() else value for value in values)
            )
        finally:
            torch.set_default_dtype(torch.float32)
    return max(float((double[name] - single[name].double()).abs().max()) for name in single)


def save(model, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _without_noise():
    """Drop what the exporter says of itself: torchvision is absent, `batch` stands in two inputs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _describe(model, verb, run):
    """Replace what the exporter says of files and lines of code by what the graph is and where it comes from."""
    model.doc_string = model.graph.doc_string = ""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.functions):
        part.doc_string = ""
        del part.metadata_props[:]
    model.producer_name, model.producer_version = "repro-zoo", ""
    facts = run["data"]
    properties = {
        "experiment": run["experiment"],
        "verb": verb,
        "profile": run["profile"],
        "seed": str(run["seed"]),
        "data": facts["source"],
        "data_sha256": facts["sha256"],
        "data_licence": facts["licence"],
        "params_sha256": run["params_sha256"],
        "torch": torch.__version__.split("+")[0],
        "onnxscript": onnxscript.__version__,
        "facts": json.dumps(facts, sort_keys=True),
        "run": json.dumps(run, sort_keys=True),
    }
    onnx.helper.set_model_props(model, properties)


def _check(model, inputs):
    opset = {entry.domain: entry.version for entry in model.opset_import}
    if opset.get("") != verbs.OPSET:
        raise RuntimeError(f"asked for opset {verbs.OPSET}, the exporter wrote {opset}")
    for value, (name, tensor) in zip(model.graph.input, inputs.items(), strict=True):
        axes = tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)
        if (value.name, axes) != (name, tensor.axes):
            raise RuntimeError(f"input {name} should have axes {tensor.axes}; the exporter wrote {value.name} {axes}")
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
