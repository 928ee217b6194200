"""A training step as a CUDA graph holds it: the same operators every time, and nothing that waits for the host.

On torch's device `meta`, where tensors have shapes and no values: a host read raises there, and so does a shape that
depends on values. What a GPU can do, but not within a captured step, is watched for.
"""

import contextlib

import pytest
import torch
from networks import MODELS, batch_for, build_small, example
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.graphs import verbs
from zoo.train import loop

META = torch.device("meta")
TRAINED = [name for name, entry in MODELS.items() if entry["players"]]
FROM_HOST = {torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor}
aten = torch.ops.aten


class Calls(TorchFunctionMode):
    """Raises where a tensor is made of numbers of the host."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function not in FROM_HOST, f"{function} copies from the host"
        return function(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    """Keeps the operators that run, and raises for one that a captured step may not have."""

    def __init__(self):
        super().__init__()
        self.operators = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        self.operators.append(operator)
        tensors = [value for value in tree_leaves((args, kwargs, result)) if isinstance(value, torch.Tensor)]
        assert {tensor.device for tensor in tensors} <= {META}, f"{operator} has a tensor on another device"
        if operator.overloadpacket in (aten.index, aten.index_put, aten.index_put_):
            assert torch.bool not in {tensor.dtype for tensor in tensors}, f"{operator} counts where a mask is true"
        return result


@contextlib.contextmanager
def watched():
    """Within it, the list of the operators that ran."""
    with Calls(), Operators() as mode:
        yield mode.operators


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_can_be_captured(name):
    """And each is of the same operators, but for the first of those that allocate.

    The loop's step, but with SGD: the optimisers of params.yaml have no fused kernels on `meta`.
    """
    network, batch = build_small(name).to(META).train(), [part.to(META) for part in batch_for(name)]
    if MODELS[name]["data"] == "text":  # on `meta` a word is twenty operators, and the second is as any other
        batch[:2] = [words[:, :2] for words in batch[:2]]
    players = {
        player: {"algorithm": "SGD", "lr": 0.1, "updates": options["updates"], "fused": False}
        for player, options in MODELS[name]["players"].items()
    }
    optimizers, steps = loop.optimizers_of(network, players), []
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = 0.1  # only the fused kernels read a rate on the device
    while len(steps) < 2 or (len(steps) == 2 and steps[0] != steps[1]):
        with watched() as operators:
            losses, norms = loop.step_of(network, optimizers, batch, MODELS[name]["fit"].get("clip"))
        assert {value.shape for value in (*losses.values(), *norms.values())} == {()}
        assert losses.keys() == norms.keys() == players.keys()
        steps.append(operators)
    assert len(steps[-1]) > 10
    assert steps[-2] == steps[-1]


@pytest.mark.parametrize("name", MODELS)
def test_a_verb_can_be_captured(name):
    network = build_small(name).to(META).eval()
    for verb in verbs.of(network):
        values = example(network, verb)
        with torch.no_grad(), watched() as operators:
            getattr(network, verb)(**values)
        assert operators


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda values: values + torch.zeros(3),
        lambda values: values * torch.tensor([1.0, 2.0, 3.0], device=META),
        lambda values: values * values.new_tensor([1.0, 2.0, 3.0]),
        lambda values: values * values.sum().item(),
        lambda values: values if values.sum() > 0 else -values,
        lambda values: values[values > 0],
        lambda values: values.nonzero(),
        lambda values: values.sum().cpu(),
    ],
    ids=["other-device", "from-host", "new-from-host", "item", "branch", "mask", "nonzero", "to-host"],
)
def test_what_cannot_be_captured_is_found(forbidden):
    values = torch.zeros(3, device=META)
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)), watched():
        forbidden(values)


@pytest.mark.parametrize("name", [name for name in TRAINED if MODELS[name]["data"] == "text"])
def test_a_carried_state_keeps_its_address(name):
    """And its values are those that the step ended with, in the same tensors, whatever `fresh` says."""
    network, (words, following, fresh) = build_small(name).train(), batch_for(name)
    network.dropout.p = network.recurrent.dropout.p = 0.0
    loop.evaluate(network, [(words, following, fresh)])
    next(network.losses((words, following, fresh)))
    carried = {training: list(states) for training, states in network.carried.items()}
    assert carried.keys() == {True, False}
    before = [state.clone() for state in carried[True]]
    for begins in (False, True, False):
        next(network.losses((words, following, torch.tensor(begins))))
        for state, same, old in zip(network.carried[True], carried[True], before, strict=True):
            assert state is same
            assert state.shape == (4, network.layers, network.units)
            assert not state.requires_grad
            assert torch.equal(state, old) == begins
