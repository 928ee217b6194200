"""Which nodes of a graph ONNX Runtime would leave to the CPU where it runs it on CUDA: it refuses such a graph whole.

By its own rules, which test_export.py applies to the exported graphs: `GetCapability` in cuda_execution_provider.cc,
`GetCpuPreferredNodes` in fallback_cpu_capability.cc, and docs/OperatorKernels.md.
"""

import math

import onnx
import pytest

from zoo.graphs import identity

# Operators of our graphs that have a kernel for CUDA in the types that they have here.
KERNELS = {
    "Add", "BatchNormalization", "Cast", "Concat", "ConstantOfShape", "Conv", "ConvTranspose", "Equal", "Gather",
    "Gemm", "Greater", "Identity", "LSTM", "Log", "MatMul", "MaxPool", "Mul", "Not", "Pad", "RNN", "ReduceMean",
    "Relu", "Reshape", "Resize", "Scan", "Shape", "Sigmoid", "Slice", "Softmax", "Softplus", "Split", "Squeeze",
    "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
# What cuDNN's recurrent layers compute; another activation is left to the CPU.
ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "RNN": ["Tanh"]}
# Kernels for CUDA that write their result to the host, and those that read these inputs there.
ON_HOST = {"Shape"}
READ_ON_HOST = {
    "ConstantOfShape": {0}, "Pad": {1}, "Reshape": {1}, "Resize": {1, 2, 3}, "Slice": {1, 2, 3, 4}, "Split": {1},
    "Squeeze": {1}, "Unsqueeze": {1},
}  # fmt: skip
SMALL = 100  # numbers of an initialiser that is copied to the host without a thought


def has_kernel(node):
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type in ACTIVATIONS:
        asked = [name.decode() for name in attributes.get("activations", [])] or ACTIVATIONS[node.op_type]
        return asked == ACTIVATIONS[node.op_type]
    pads = attributes.get("pads", [])
    if node.op_type == "ConvTranspose" and pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
        return False  # cuDNN pads alike on both sides
    return node.op_type in KERNELS


def left_to_the_cpu(graph):
    """Operators of the nodes without a kernel for CUDA, and of those that compute on small numbers of the host."""
    return [operator for part in identity.nested(graph) for operator in left_by(part)]


def left_by(graph):
    """Those of the graph itself, without the bodies of its loops."""
    within_reach = {value.name for value in graph.input}
    within_reach |= {one.name for one in graph.initializer if math.prod(one.dims) <= SMALL}
    on_host, left = set(), []
    for node in graph.node:
        inputs = [(place, name) for place, name in enumerate(node.input) if name]
        wanted_there = READ_ON_HOST.get(node.op_type, set())
        stays = not has_kernel(node)
        if any(name in on_host for _, name in inputs):
            stays |= all(
                name in within_reach or (name in on_host and place not in wanted_there) for place, name in inputs
            )
        if stays:
            left.append(node.op_type)
        if stays or node.op_type in ON_HOST:
            on_host |= set(node.output)
    return left


# Like graphs that an H200 refused or ran: an image resized to sizes, zeros of a shape that is put together and of one
# that is taken over, recurrent layers.
SIZES = "shape = Shape(x) batch = Slice(shape, start, end) sizes = Concat <axis = 0> (batch, size)"
RULES = {
    "resized": (SIZES + ' y = Resize <mode = "nearest"> (x, , , sizes)', ["Slice", "Concat"]),
    "zeros-like": ("shape = Shape(x) zeros = ConstantOfShape(shape) y = Add(x, zeros)", []),
    "zeros": (SIZES + " zeros = ConstantOfShape(sizes) y = Add(x, zeros)", ["Slice", "Concat"]),
    "relu": ('y, h = RNN <hidden_size = 4, activations = ["Relu"]> (x, w, r)', ["RNN"]),
    "tanh": ('y, h = RNN <hidden_size = 4, activations = ["Tanh"]> (x, w, r)', []),
    "unknown": ("y = Det(x)", ["Det"]),
}


@pytest.mark.parametrize(("body", "expected"), RULES.values(), ids=RULES)
def test_the_rule_finds_what_cuda_refuses(body, expected):
    inputs = "float[b,c,h,w] x, float[1,4,4] w, float[1,4,4] r, int64[1] start, int64[1] end, int64[2] size"
    assert left_to_the_cpu(onnx.parser.parse_graph(f"g ({inputs}) => (float y) {{ {body} }}")) == expected
