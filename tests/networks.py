"""Untrained networks of params.yaml and random batches for them, for the tests of what networks compute."""

from pathlib import Path

import torch

from zoo import params
from zoo.graphs import verbs
from zoo.params import experiments

torch.set_num_threads(1)
EVERYTHING = params.read(Path(__file__).parent.parent / "params.yaml")
MODELS = EVERYTHING["models"]
ENTRIES = experiments.entries(EVERYTHING)
FACTS = {
    "images": {"classes": 10, "class_names": [*"0123456789"]},
    "text": {"vocabulary": 30, "end_of_sentence": 0, "word_ids": "by count", "word_list_sha256": "4" * 64},
}


def of_file(file):
    """Names of the experiments whose network is of that model file."""
    return [name for name, entry in ENTRIES.items() if entry.file == file]


# What is at most left of sizes, and of how many there are in a list, where a test depends on neither.
MAX_SIZE = {"units": 24, "layers": 9, "hidden": 40, "generator": 40, "discriminator": 40, "critic": 30, "maps": 8}
MAX_LENGTH = {"hidden": 2, "widths": 1}


def small_net(name):
    """The `net` of an experiment in the quick profile, with fewer and smaller layers of the same kinds."""

    def smaller(key, value):
        if isinstance(value, list):
            return [smaller(key, size) for size in value[: MAX_LENGTH.get(key)]]
        return min(value, MAX_SIZE[key]) if key in MAX_SIZE and isinstance(value, int) else value

    net = experiments.in_profile(name, ENTRIES[name], "quick").net
    return {key: smaller(key, value) for key, value in net.items()}


def build(name, seed=0, **net):
    """The untrained network of an experiment in the quick profile, with changes to its `net`."""
    entry = experiments.in_profile(name, ENTRIES[name], "quick")
    torch.manual_seed(seed)
    return experiments.build(entry.file, entry.net | net, FACTS[entry.data], f"models.{name}.net")


def build_small(name, seed=0, **net):
    return build(name, seed, **small_net(name) | net)


def image_batch(count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 28, 28, generator=generator), torch.arange(count) % 10


def batch_for(name, count=12):
    """A random batch as the experiment's stream would give it."""
    if MODELS[name]["data"] == "text":
        words = torch.randint(30, (4, 7), generator=torch.Generator().manual_seed(0))
        return words[:, :-1], words[:, 1:], torch.tensor(True)
    batch = image_batch(count)
    return (*batch, *image_batch(count, seed=1)) if ENTRIES[name].size.quick.labelled else batch


def example(network, verb, device="meta", fill=0):
    """{input: tensor full of a number} of a verb, for three images or texts of five words."""
    tensors = {}
    for name, (kind, axes) in verbs.inputs(network, verb).items():
        shape = [{"batch": 3, "time": 5}.get(axis, axis) for axis in axes]
        tensors[name] = torch.full(shape, fill, dtype=getattr(torch, kind), device=device)
    return tensors


def losses(network, batch, seed=0):
    """{player: loss} in evaluation mode, without a step between."""
    torch.manual_seed(seed)
    with torch.no_grad():
        return {player: loss.item() for player, loss in network.eval().losses(batch)}


def inputs_of(layer, seen):
    """Let `seen` collect what `layer` is given from now on."""
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))


def silence(module):
    """Set every weight below `module` to 0: what it answers, it answers to everything."""
    for weight in module.parameters():
        torch.nn.init.zeros_(weight)


def array(tensor):
    return tensor.detach().double().numpy()
