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
    "hidden": Tensor("float32", ("layers", "batch", "units")),
    "cell": Tensor("float32", ("layers", "batch", "units")),
}
DYNAMIC = ("batch", "time")
SIZES = {"image_size": 28}  # where the network does not say otherwise


class Verb(NamedTuple):
    """`output` names what a method returns that gives no dictionary of outputs; `caption` is that of its picture.

    `predicts`: its items are worth a predictions file. `quality`: the metrics that are set against its latency.
    """

    output: str
    caption: str
    predicts: bool = False
    quality: tuple = ()


# In the order in which they are shown. zoo.evaluate.evaluation has a function of each name.
VERBS = {
    "reconstruct": Verb(
        "reconstruction",
        "Test images and what the network returns for them.",
        predicts=True,
        quality=("reconstruct.mse", "reconstruct.bce"),
    ),
    "encode": Verb("code", "What the encoder makes of test images."),
    "generate": Verb(
        "image",
        "Samples drawn from noise; where the network takes a label, a row for each digit asked for.",
        quality=("judge.frechet_distance",),
    ),
    "decode": Verb(
        "image",
        "Images that the decoder draws from random codes, a row a digit where it is told which. A code of two "
        "dimensions is drawn as a grid over the plane instead, (0, 0) in its middle; a longer one without a prior is "
        "interpolated, along a row, from one test image's code to the next one's.",
        quality=("judge.frechet_distance",),
    ),
    "classify": Verb("logits", "Confusion matrix on the test set.", predicts=True, quality=("classify.accuracy",)),
    "next_word": Verb(
        "logits",
        "How well words are predicted along a line of the test text.",
        predicts=True,
        quality=("next_word.perplexity",),
    ),
    "apply": Verb(
        "result",
        "What the operator makes of test images, or of their middle where it takes fewer pixels.",
        predicts=True,
    ),
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
