"""The one table of verbs: what a network can do, and how its ONNX graph names tensors and axes."""

import inspect
from typing import NamedTuple

OPSET = 20


class Tensor(NamedTuple):
    """An input: NumPy type and axes. "batch" and "time" are dynamic; another name is that attribute of the network."""

    type: str
    axes: tuple


INPUTS = {
    "image": Tensor("float32", ("batch", 1, 28, 28)),
    "label": Tensor("int64", ("batch",)),
    "code": Tensor("float32", ("batch", "code_size")),
    "noise": Tensor("float32", ("batch", "noise_size")),
    "words": Tensor("int64", ("batch", "time")),
    "hidden": Tensor("float32", ("layers", "batch", "units")),
    "cell": Tensor("float32", ("layers", "batch", "units")),
}
DYNAMIC = ("batch", "time")

# What a verb gives back. A method that gives a dictionary names its outputs itself.
OUTPUTS = {
    "reconstruct": "reconstruction",
    "encode": "code",
    "decode": "image",
    "generate": "image",
    "classify": "logits",
    "next_word": "logits",
    "apply": "result",
}


def of(network):
    """The verbs of a network: those that its own class defines, in the order of the table."""
    return [verb for verb in OUTPUTS if verb in vars(type(network))]


def inputs(network, verb):
    """{input name: Tensor with the network's sizes filled in}, from the signature of the verb's method.

    A parameter with a default (the label) is an input where the network is conditional.
    """
    parameters = inspect.signature(getattr(network, verb)).parameters.values()
    wanted = [p.name for p in parameters if p.default is p.empty or getattr(network, "conditional", False)]
    return {
        name: Tensor(INPUTS[name].type, tuple(_size(network, axis) for axis in INPUTS[name].axes)) for name in wanted
    }


def _size(network, axis):
    return axis if isinstance(axis, int) or axis in DYNAMIC else getattr(network, axis)
