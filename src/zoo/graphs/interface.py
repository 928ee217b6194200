"""The interface of a graph, stored in its metadata: meanings, units, ranges and axes of its inputs and outputs.

A graph cannot validate its inputs. ONNX Runtime aborts the process on an LSTM at batch 0, loses the state at time 0,
reads word -1 as the last word and label -1 as no class. Callers therefore call `check` on their feeds first, which
needs only NumPy and the interface.
"""

import numpy

from zoo.errors import InputError

IMAGES = "greyscale images [item, channel, row, column], row 0 at the top: 0 is the background, 1 the stroke"
STATE = "state of the recurrent layers: zeros at the start of a text, then the `next_{}` of the previous call"
AFTER = "state of the recurrent layers after the last word: pass it as the `{}` of the next call"
LOGITS = "logits of {}: the largest is the prediction"
AXES = {
    "batch": {"least": 1, "meaning": "items, computed independently of each other"},
    "time": {"least": 1, "meaning": "consecutive words of a text"},
}
# Ranges are enforced for integers only: for floats out of range, and for NaN, a graph computes what its network does.
INPUTS = {
    "image": {"meaning": IMAGES, "unit": "brightness", "range": [0, 1]},
    "label": {"meaning": "the class of each item", "unit": "class"},
    "code": {"meaning": "codes of images; if `deviation` is given, their prior is N(0, deviation^2)", "unit": "none"},
    "noise": {"meaning": "samples of N(0, 1), one per generated image", "unit": "none"},
    "words": {
        "meaning": "texts as word ids by the rule `word_ids`; `word_list_sha256` is that of all words in order of id, "
        "in UTF-8, each followed by a line feed",
        "unit": "word",
    },
    "hidden": {"meaning": STATE.format("hidden"), "unit": "none"},
    "cell": {"meaning": STATE.format("cell"), "unit": "none"},
}
OUTPUTS = {
    "reconstruction": {
        "meaning": f"{IMAGES}; clip it to [0, 1], which the output of a network without a final sigmoid can exceed",
        "unit": "brightness",
    },
    "image": {"meaning": IMAGES, "unit": "brightness", "range": [0, 1]},
    "code": {"meaning": "the code of each image (for a classifier, its features)", "unit": "none"},
    "mean": {"meaning": "mean of the normal posterior of each image's code", "unit": "none"},
    "log_variance": {"meaning": "natural logarithm of the variance of this posterior", "unit": "none"},
    "result": {"meaning": "output of the operator for each image", "unit": "none"},
    "next_hidden": {"meaning": AFTER.format("hidden"), "unit": "none"},
    "next_cell": {"meaning": AFTER.format("cell"), "unit": "none"},
}
OF_VERB = {
    "classify": {"logits": {"meaning": LOGITS.format("the classes"), "unit": "nats"}},
    "next_word": {"logits": {"meaning": LOGITS.format("the word that follows each word"), "unit": "nats"}},
}


def of_inputs(tensors, facts, deviation=None):
    """{input: description} for the `zoo.graphs.verbs.inputs` of a network and the `facts` of its data set."""
    found = {}
    for name, (kind, axes) in tensors.items():
        found[name] = {"type": kind, "axes": list(axes)} | INPUTS[name]
        if name == "label":
            found[name] |= {"range": [0, facts["classes"] - 1], "names": facts["class_names"]}
        elif name == "words":
            found[name] |= {"range": [0, facts["vocabulary"] - 1]}
            found[name] |= {key: facts[key] for key in ("word_ids", "word_list_sha256", "end_of_sentence")}
        elif name == "code" and deviation is not None:
            found[name]["deviation"] = deviation
    return found


def describe(verb, tensors, outputs, facts, deviation=None):
    """The interface of a graph as JSON values: {"axes", "inputs", "outputs"}, each {name: description}.

    `outputs` is {name: axes} of the graph, all float32. `deviation` is the standard deviation of the code's prior.
    """
    inputs, known = of_inputs(tensors, facts, deviation), OUTPUTS | OF_VERB.get(verb, {})
    given = {name: {"type": "float32", "axes": axes} | known[name] for name, axes in outputs.items()}
    if verb == "classify":
        given["logits"]["names"] = facts["class_names"]
    used = {axis for one in inputs.values() for axis in one["axes"]}
    return {"axes": {axis: AXES[axis] for axis in AXES if axis in used}, "inputs": inputs, "outputs": given}


def check(interface, feeds, graph):
    """Raise InputError, in one line that begins with `graph`, unless the feeds {input: array} match the interface.

    Feeds must have exactly the inputs, types, ranks and fixed axes of the interface. A dynamic axis must have at least
    its least size, equal in all inputs. Integers must be in range; floats may have any value.
    """
    inputs, least = interface["inputs"], {axis: one["least"] for axis, one in interface["axes"].items()}
    for name in sorted(feeds.keys() ^ inputs.keys()):
        wrong = "unknown" if name in feeds else "missing"
        raise InputError(f"{graph}: input {name} is {wrong}: it takes {', '.join(inputs)}")
    sizes = {}
    for name, one in inputs.items():
        kind, shape = (getattr(feeds[name], key, None) for key in ("dtype", "shape"))
        for axis, size in zip(one["axes"], shape or (), strict=False):
            if axis in least:
                sizes.setdefault(axis, max(size, least[axis]))
        if kind != one["type"] or shape != tuple(sizes.get(axis, axis) for axis in one["axes"]):
            given = f"{kind or type(feeds[name]).__name__}{list(shape or ())}"
            rules = (f", {axis} {least[axis]} or more and equal in all inputs" for axis in one["axes"] if axis in least)
            takes = f"{one['type']}[{', '.join(map(str, one['axes']))}]{''.join(rules)}"
            raise InputError(f"{graph}: input {name} is {given}: it takes {takes}")
        if "range" in one and kind.kind == "i":
            low, high = one["range"]
            outside = feeds[name][(feeds[name] < low) | (feeds[name] > high)]
            if len(outside):
                raise InputError(f"{graph}: input {name} has the value {outside[0]}: it takes {low} to {high}")


def draw(inputs, sizes, seed=0):
    """{input: random array} for described inputs: uniform over the range of an input, N(0, 1) for floats without one.

    `sizes` are those of the dynamic axes, {"batch": 16, "time": 20}. Raises ValueError for an axis without a size.
    """
    generator, feeds = numpy.random.default_rng(seed), {}
    for name, one in inputs.items():
        missing = [axis for axis in one["axes"] if isinstance(axis, str) and axis not in sizes]
        if missing:
            raise ValueError(f"input {name}{one['axes']}: no size for {', '.join(missing)}")
        shape, dtype = [sizes.get(axis, axis) for axis in one["axes"]], numpy.dtype(one["type"])
        if dtype.kind == "i":
            low, high = one["range"]
            feeds[name] = generator.integers(low, high, shape, dtype, endpoint=True)
        elif "range" in one:
            low, high = one["range"]
            feeds[name] = low + (high - low) * generator.random(shape, dtype=dtype)
        else:
            feeds[name] = generator.standard_normal(shape, dtype=dtype)
    return feeds
