"""Small ONNX graphs with behaviour known beforehand, written in ONNX's own text format."""

import json

import numpy
import onnx
from onnx import helper, numpy_helper

from zoo import files
from zoo.graphs import identity, interface
from zoo.records import parity

IMAGE = "float[batch,1,28,28]"
FLAT = "shape = Constant <value = int64[2] {-1, 784}> () flat = Reshape(image, shape)"
SQUARE = "square = Constant <value = int64[4] {-1, 1, 28, 28}> () image = Reshape(pixels, square)"


def described(model, words):
    """The interface of a graph whose inputs may have any name; there are ten labels, and so many `words`."""
    inputs, ranges = {}, {"label": 10, "words": words}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        axes = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
        inputs[value.name] = {"type": helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, "axes": axes}
        if value.name in ranges:
            inputs[value.name]["range"] = [0, ranges[value.name] - 1]
        elif value.name == "image":
            inputs[value.name]["range"] = [0, 1]
    return {"axes": interface.AXES, "inputs": inputs, "outputs": {}}


def save(path, signature, body, run=None, words=9, **constants):
    """Write `signature` ("(float[batch,2] x) => (...)") and `body` as a graph; `constants` are arrays it uses."""
    text = f'<ir_version: 10, opset_import: ["": 20]> {path.stem} {signature} {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    texts = {"run": run or {}, "facts": {"classes": 10}, "interface": described(model, words)}
    helper.set_model_props(model, {"verb": path.stem} | {key: json.dumps(value) for key, value in texts.items()})
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
