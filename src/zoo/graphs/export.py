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

from zoo.graphs import identity, interface, verbs
from zoo.records.parity import Check

BATCHES = (1, 3, 64)
TIMES = (1, 7, 35)
TOLERANCE = 1e-5
TIMES_ROUNDING = 10
MOST_UNDECIDED = 0.01
PERTURBATIONS, EPSILON = 8, 4 * 2**-23
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
    _describe(model, module, run)
    _check(model, module.inputs)
    return model


def draw_inputs(inputs, batch, time, run):
    """Random tensors for a verb's inputs, as `interface.draw` has them."""
    drawn = interface.draw(interface.of_inputs(inputs, run["data"]), {"batch": batch, "time": time})
    return tuple(torch.from_numpy(value) for value in drawn.values())


def parity(network, verb, model, run):
    """The `Check` of a graph: ONNX Runtime (CPU) beside torch over batches 1, 3, 64 (and times 1, 7, 35).

    The bound of the largest difference is 1e-5 times the larger of 1 and the largest output. Where it is passed, the
    network is computed in float64 as well. Where weights are so large that its own float32 rounding, the 99 % quantile
    of its distance from float64, is of that size, the bound is ten times that; at a place in the tail beyond, ten times
    its own. Outputs that a near-tie decides (the place of a maximum, say), at most one in a hundred, are left out: see
    `_undecided`. What the check says are the difference and the bound of the place that comes nearest to its bound.

    Raises RuntimeError beyond that or where an output is not finite. Of a run that diverged only the places that are
    not finite are compared, and the outcome is recorded.
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
                raise RuntimeError(f"{verb} at batch {batch}: shapes or non-finite places differ from the network's")
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
        if undecided <= MOST_UNDECIDED:
            decided = ~numpy.concatenate(open_)
            largest, bound = nearest(*(numpy.concatenate(one)[decided] for one in (differences, roundings)), bound)
    if run["diverged_at_step"] is None and not (finite and largest <= bound):
        raise RuntimeError(f"{verb}: differs from the network by {largest:.3g}, allowed {bound:.3g}; {finite=}")
    return Check(largest_difference=largest, bound=bound, calls=len(calls), finite=finite, undecided=undecided)


def _difference(expected, given):
    """The absolute differences of all finite outputs, in a row."""
    return numpy.concatenate([numpy.abs(given[name] - ours)[numpy.isfinite(ours)] for name, ours in expected.items()])


@torch.no_grad()
def _outputs(module, values):
    return {name: value.numpy() for name, value in module(*values).items()}


def _in_double(module, values):
    """The outputs of a float64 module on float32 values."""
    try:
        torch.set_default_dtype(torch.float64)  # for what a network makes as it goes
        return _outputs(module, [value.double() if value.is_floating_point() else value for value in values])
    finally:
        torch.set_default_dtype(torch.float32)


def nearest(differences, roundings, bound):
    """(difference, bound) of the place that comes nearest to its bound.

    The bound of a place is `bound`, or ten times the network's own rounding there where that is more.
    """
    bounds = numpy.maximum(bound, TIMES_ROUNDING * roundings)
    place = (differences / bounds).argmax()
    return float(differences[place]), float(bounds[place])


def _undecided(double, compared, rounding, bound):
    """Places, in the order of `_difference`, where the network itself does not know better than `bound`.

    A choice between floats (which of four is the largest) that rounding can turn makes the network jump. So a place is
    undecided where float32 and float64 differ by more, or where the float64 network does when its inputs are moved by
    a few units of float32's last place. What the graph says is not looked at: it cannot excuse itself.
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
    """The bytes of a model's file; equal models give equal bytes."""
    return model.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _without_noise():
    """Drop what the exporter says of itself: torchvision is absent, `batch` stands in two inputs."""
    logger = logging.getLogger("torch.onnx")
    with warnings.catch_warnings(action="ignore"), contextlib.ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        yield


def _describe(model, module, run):
    """Replace what the exporter says of files and lines of code by what the graph is and where it comes from."""
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
    deviation = getattr(module.network, "prior_deviation", None)
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
