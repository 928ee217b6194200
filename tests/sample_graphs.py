"""Small ONNX graphs with behaviour known beforehand, written in ONNX's own text format."""

import json

import numpy
import onnx
from onnx import helper, numpy_helper

from zoo import files
from zoo.graphs import identity
from zoo.records import parity

IMAGE = "float[batch,1,28,28]"
FLAT = "shape = Constant <value = int64[2] {-1, 784}> () flat = Reshape(image, shape)"
SQUARE = "square = Constant <value = int64[4] {-1, 1, 28, 28}> () image = Reshape(pixels, square)"


def save(path, signature, body, run=None, **constants):
    """Write `signature` ("(float[batch,2] x) => (...)") and `body` as a graph; `constants` are arrays it uses."""
    text = f'<ir_version: 10, opset_import: ["": 20]> {path.stem} {signature} {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    helper.set_model_props(model, {"run": json.dumps(run or {}), "facts": json.dumps({"classes": 10})})
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def save_scale(path, weight=2.0):
    """Inputs float[batch,1,2,2], label and state; scaled = image * weight * label, carried = relu(state)."""
    return save(
        path,
        "(float[batch,1,2,2] image, int64[batch] label, float[1,batch,4] state)"
        " => (float[batch,1,2,2] scaled, float[1,batch,4] carried)",
        "factor = Gather(table, label) scaled = Mul(image, factor) carried = Relu(state)",
        table=(numpy.arange(10) * weight).astype(numpy.float32).reshape(10, 1, 1, 1),
    )


def write_parity(profile, name):
    """Write the parity record of an experiment's graphs, as the stage `export` does."""
    graphs, check = {}, parity.Check(largest_difference=0.0, bound=1e-6, calls=1, finite=True)
    for path in sorted(files.graphs(profile, name).glob("*/*.onnx")):
        of_verb = graphs.setdefault(path.stem, {})
        of_verb[path.parent.name] = parity.Export(graph=identity.of_file(path), check=check)
    parity.write(parity.Exports(experiment=name, profile=profile, versions={}, graphs=graphs))
