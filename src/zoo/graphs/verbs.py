"""The table of verbs: what a network can do, and the names of tensors and axes in its ONNX graphs."""

import inspect
from typing import NamedTuple

OPSET = 20


class Tensor(NamedTuple):
    """NumPy type and axes of an input. "batch" and "time" are dynamic; other names are attributes of the network."""

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
SIZES = {"image_size": 28}  # defaults for attributes that a network does not have


class Verb(NamedTuple):
    """`output` names the output of a method that returns one tensor; if `predicts`, its predictions are saved."""

    output: str
    predicts: bool = False


# In display order. zoo.evaluate.evaluation has a function of the same name for each.
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
    """The verbs that a network's class defines, without those that it lists as `untrained`, in the order of VERBS."""
    untrained = getattr(network, "untrained", ())
    return [verb for verb in VERBS if verb in vars(type(network)) and verb not in untrained]


def inputs(network, verb):
    """{input name: Tensor with the network's sizes filled in}, from the signature of the verb's method.

    A parameter with a default (the label, the cell state) is an input only if the network's `takes` lists it.
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
