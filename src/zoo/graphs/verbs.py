"""The one table of verbs: what a network can do, and how its ONNX graph names tensors and axes."""

import inspect
from typing import NamedTuple

OPSET = 20


class Tensor(NamedTuple):
    """An input: NumPy type and axes. "batch" and "time" are dynamic; another name is that attribute of the network."""

    type: str
    axes: tuple


INPUTS = {
    "image": Tensor("float32", ("batch", 1, "image_size", "image_size")),
    "label": Tensor("int64", ("batch",)),
    "code": Tensor("float32", ("batch", "code_size")),
    "noise": Tensor("float32", ("batch", "noise_size")),
    "words": Tensor("int64", ("batch", "time")),
    "hidden": Tensor("float32", ("batch", "layers", "units")),
    "cell": Tensor("float32", ("batch", "layers", "units")),
}
DYNAMIC = ("batch", "time")
SIZES = {"image_size": 28}  # where the network does not say otherwise


class Verb(NamedTuple):
    """`output` names what a method returns that gives no dictionary of outputs; `predicts`: its items are kept."""

    output: str
    predicts: bool = False


# In the order in which they are shown. zoo.evaluate.evaluation has a function of each name.
VERBS = {
    "reconstruct": Verb("reconstruction", predicts=True),
    "encode": Verb("code"),
    "generate": Verb("image"),
    "decode": Verb("image"),
    "classify": Verb("logits", predicts=True),
    "next_word": Verb("logits", predicts=True),
    "apply": Verb("result", predicts=True),
}


def of(network):
    """The verbs of a network, in the order of the table: those that its own class defines and its losses train."""
    untrained = getattr(network, "untrained", ())
    return [verb for verb in VERBS if verb in vars(type(network)) and verb not in untrained]


def inputs(network, verb):
    """{input name: Tensor with the network's sizes filled in}, from the signature of the verb's method.

    A parameter with a default (the label, the cell state) is an input of the networks whose `takes` names it.
    """
    parameters = inspect.signature(getattr(network, verb)).parameters.values()
    wanted = [p.name for p in parameters if p.default is p.empty or p.name in getattr(network, "takes", ())]
    return {
        name: Tensor(INPUTS[name].type, tuple(_size(network, axis) for axis in INPUTS[name].axes)) for name in wanted
    }


def _size(network, axis):
    if isinstance(axis, int) or axis in DYNAMIC:
        return axis
    return getattr(network, axis, SIZES.get(axis))
