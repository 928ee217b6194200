"""Export a verb of a network as an ONNX graph, describe it in its metadata, and compare it with the network."""

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

from zoo.graphs import identity, interface, verbs
from zoo.records.parity import Check

BATCHES = (1, 3, 64)
TIMES = (1, 7, 35)
TOLERANCE = 1e-5
TIMES_ROUNDING = 10
MAX_UNDECIDED = 0.01
PERTURBATIONS, EPSILON = 8, 4 * 2**-23
LARGE = 2**30


class Verb(nn.Module):
    """A network as the function that is exported: positional input tensors, a dictionary of output tensors."""

    def __init__(self, network, verb):
        super().__init__()
        self.network, self.verb = network, verb
        self.inputs = verbs.inputs(network, verb)

    def forward(self, *values):
        result = getattr(self.network, self.verb)(**dict(zip(self.inputs, values, strict=True)))
        return result if isinstance(result, dict) else {verbs.VERBS[self.verb].output: result}


def export(network, verb, run):
    """Export `network.verb` as an ONNX model with named dynamic axes and the record `run` as metadata.

    Equal weights and records give equal bytes. Raises RuntimeError if an axis is not dynamic or the opset is not the
    requested one, and the exceptions of ONNX's checker and strict shape inference.
    """
    module, as_written = Verb(network.eval(), verb), getattr(network, "as_written", False)
    example = draw_inputs(module.inputs, batch=3, time=5, run=run)
    axes = {name: torch.export.Dim(name) for name in verbs.DYNAMIC}
    shapes = (tuple({i: axes[axis] for i, axis in enumerate(t.axes) if axis in axes} for t in module.inputs.values()),)
    with torch.no_grad(), _without_noise():
        names = list(module(*example))
        # torch.export first: it raises if an axis cannot be dynamic, where torch.onnx.export would make it static.
        program = torch.export.export(module, example, dynamic_shapes=shapes)
        program = torch.onnx.export(
            program, input_names=list(module.inputs), output_names=names, dynamic_shapes=shapes,
            opset_version=verbs.OPSET, external_data=False, verbose=False, optimize=False,
        )  # fmt: skip
        if as_written:
            # Operators are not fused, but a bias of zeros becomes a constant instead of six nodes that compute it.
            onnxscript.optimizer.fold_constants(program.model)
            onnxscript.optimizer.remove_unused_nodes(program.model)
        else:
            # With no limit of size, as the exporter has: the LSTM's reordered gates are large constants.
            onnxscript.optimizer.optimize_ir(program.model, input_size_limit=LARGE, output_size_limit=LARGE)
        model = program.model_proto
    _describe(model, module, run)
    _check(model, module.inputs)
    return model


def draw_inputs(inputs, batch, time, run):
    """Random tensors for the inputs of a verb, by `interface.draw`."""
    drawn = interface.draw(interface.of_inputs(inputs, run["data"]), {"batch": batch, "time": time})
    return tuple(torch.from_numpy(value) for value in drawn.values())


def parity(network, verb, model, run):
    """Compare a graph in ONNX Runtime (CPU) with torch at batches 1, 3, 64 (and times 1, 7, 35); return the `Check`.

    The bound on the absolute difference is 1e-5 times the larger of 1 and the largest output. If it is exceeded, the
    network is also run in float64 to find its own float32 rounding error, which is large for large weights. The bound
    then rises to ten times the 99 % quantile of that error, and for a single element to ten times its own error.
    Elements that depend on a near-tie (the index of a maximum), if at most 1 %, are excluded: see `_undecided`.
    The `Check` holds the difference and the bound of the element that is closest to its bound.

    Raises RuntimeError if a bound is exceeded or an output is not finite. For a run that diverged, only shapes and the
    positions of non-finite values have to match, and the result is recorded.
    """
    module = Verb(network.eval(), verb)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    calls = [(b, t) for b in BATCHES for t in (TIMES if "words" in module.inputs else TIMES[:1])]
    compared, largest_output, finite = [], 0.0, True
    for batch, time in calls:
        values = draw_inputs(module.inputs, batch, time, run)
        expected = _outputs(module, values)
        feeds = {name: value.numpy() for name, value in zip(module.inputs, values, strict=True)}
        given = dict(zip(expected, session.run(None, feeds), strict=True))
        for name, ours in expected.items():
            good = numpy.isfinite(ours)
            if given[name].shape != ours.shape or not numpy.array_equal(numpy.isfinite(given[name]), good):
                raise RuntimeError(f"{verb} at batch {batch}: shapes or non-finite positions differ from the network's")
            finite &= bool(good.all())
            largest_output = max(largest_output, float(numpy.abs(ours)[good].max(initial=0)))
        compared.append((values, expected, given))
    bound, undecided = TOLERANCE * max(1.0, largest_output), 0.0
    differences = [_difference(expected, given) for _, expected, given in compared]
    largest = max(float(values.max(initial=0)) for values in differences)
    if finite and largest > bound:
        double = copy.deepcopy(module).double()
        roundings = [_difference(expected, _in_double(double, values)) for values, expected, _ in compared]
        bound = max(bound, TIMES_ROUNDING * max(float(numpy.quantile(values, 0.99)) for values in roundings))
        open_ = [_undecided(double, *one, bound) for one in zip(compared, roundings, strict=True)]
        undecided = max(float(places.mean()) for places in open_)
        if undecided <= MAX_UNDECIDED:
            decided = ~numpy.concatenate(open_)
            decisive = (numpy.concatenate(one)[decided] for one in (differences, roundings))
            largest, bound = closest_to_bound(*decisive, bound)
    if run["diverged_at_step"] is None and not (finite and largest <= bound):
        raise RuntimeError(f"{verb}: differs from the network by {largest:.3g}, allowed {bound:.3g}; {finite=}")
    return Check(largest_difference=largest, bound=bound, calls=len(calls), finite=finite, undecided=undecided)


def _difference(expected, given):
    """The absolute differences of all finite output elements, float32 [n]."""
    return numpy.concatenate([numpy.abs(given[name] - ours)[numpy.isfinite(ours)] for name, ours in expected.items()])


@torch.no_grad()
def _outputs(module, values):
    return {name: value.numpy() for name, value in module(*values).items()}


def _in_double(module, values):
    """The outputs of a float64 module for float32 inputs."""
    try:
        torch.set_default_dtype(torch.float64)  # for tensors that the network creates
        return _outputs(module, [value.double() if value.is_floating_point() else value for value in values])
    finally:
        torch.set_default_dtype(torch.float32)


def closest_to_bound(differences, roundings, bound):
    """(difference, bound) of the element that is closest to its bound.

    The bound of an element is `bound` or ten times the network's rounding error there, whichever is larger.
    """
    bounds = numpy.maximum(bound, TIMES_ROUNDING * roundings)
    place = (differences / bounds).argmax()
    return float(differences[place]), float(bounds[place])


def _undecided(double, compared, rounding, bound):
    """Mask, in the order of `_difference`, of the elements that the network determines less precisely than `bound`.

    Where a network chooses between floats (the largest of four), rounding can change the choice and make its output
    jump. An element is undecided if float32 and float64 differ by more than `bound`, or if the float64 output changes
    by more when the inputs move by a few float32 ulps. The graph's output is not used: it cannot excuse itself.
    """
    values, expected, _ = compared
    source, exact = numpy.random.default_rng(0), _in_double(double, values)
    places = rounding > bound
    for _ in range(PERTURBATIONS):
        moved = [
            value * torch.from_numpy(1 + EPSILON * source.standard_normal(value.shape))
            if value.is_floating_point()
            else value
            for value in values
        ]
        found = _in_double(double, moved)
        shifts = [numpy.abs(found[name] - exact[name])[numpy.isfinite(expected[name])].ravel() for name in expected]
        places |= numpy.concatenate(shifts) > bound
    return places


def content(model):
    """The bytes of a model file; equal models give equal bytes."""
    return model.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _without_noise():
    """Suppress the exporter's warnings: torchvision is not installed, two inputs share the axis `batch`."""
    logger = logging.getLogger("torch.onnx")
    with warnings.catch_warnings(action="ignore"), contextlib.ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        yield


def _describe(model, module, run):
    """Replace the exporter's metadata (source files and lines) by the interface and provenance of the graph."""
    model.doc_string = ""
    del model.metadata_props[:]
    for graph in identity.nested(model.graph):
        for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *model.functions):
            part.doc_string = ""
            del part.metadata_props[:]
    model.producer_name, model.producer_version = "repro-zoo", ""
    facts, names = run["data"], ("experiment", "profile", "seed", "params_sha256")
    outputs = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in model.graph.output
    }
    deviation = getattr(module.network, "prior_std", None)
    described = interface.describe(module.verb, module.inputs, outputs, facts, deviation)
    properties = {"verb": module.verb, "interface": json.dumps(described)} | {name: str(run[name]) for name in names}
    properties |= {"data": facts["source"], "data_sha256": facts["sha256"], "data_licence": facts["licence"]}
    properties |= {"facts": json.dumps(facts, sort_keys=True), "run": json.dumps(run, sort_keys=True)}
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
