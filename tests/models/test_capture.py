"""A training step as a CUDA graph holds it: the same operators every time, and nothing that waits for the host.

On torch's device `meta`, where tensors have shapes and no values: a host read raises there, and so does a shape that
depends on values. What a GPU can do, but not within a captured step, is watched for.
"""

import contextlib

import pytest
import torch
from networks import MODELS, batch_for, build_small
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


def on_meta(name):
    return build_small(name).to(META).train(), tuple(part.to(META) for part in batch_for(name))


def step(network, batch):
    """The operators of one training step, without the optimisers'."""
    with watched() as operators:
        for _, loss in network.losses(batch):
            assert loss.shape == ()
            loss.backward(inputs=[weight for weight in network.parameters() if weight.requires_grad])
    return operators


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_can_be_captured(name):
    """And from the first step on, which allocates, each one is of the same operators."""
    network, batch = on_meta(name)
    step(network, batch)
    operators = step(network, batch)
    assert len(operators) > 10
    assert step(network, batch) == operators


@pytest.mark.parametrize("name", MODELS)
def test_a_verb_can_be_captured(name):
    network, _ = on_meta(name)
    for verb in verbs.of(network.eval()):
        values = {}
        for key, (kind, axes) in verbs.inputs(network, verb).items():
            shape = [{"batch": 3, "time": 5}.get(axis, axis) for axis in axes]
            values[key] = torch.zeros(shape, dtype=getattr(torch, kind), device=META)
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
