"""The blocks against TensorFlow's formulas, and against the sums that they stand for, written out in NumPy."""

import itertools
import math

import numpy
import pytest
import scipy.stats
import torch
from torch import nn

from zoo.models.layers import (
    Recurrent,
    SameConv2d,
    SameConvTranspose2d,
    dense_stack,
    glorot,
    max_unpool,
    one_hot,
    repeat,
    same_padding,
)
from zoo.train import loop

torch.set_num_threads(1)
SIZES = [(28, 5, 2), (14, 5, 2), (28, 3, 2), (14, 3, 2), (7, 3, 2), (7, 5, 2), (9, 5, 2), (9, 3, 1), (10, 4, 3)]


def tensorflow_padding(size, kernel, stride):
    """The two cases of TensorFlow's guide (tf.nn, notes on padding conventions)."""
    total = max(kernel - (stride if size % stride == 0 else size % stride), 0)
    return total // 2, total - total // 2


def convolve(image, kernel, bias, stride):
    """[maps out, places, places] from [maps in, size, size]: each place sums over its window, outside which is 0."""
    size, width = image.shape[1], kernel.shape[2]
    places, before = math.ceil(size / stride), tensorflow_padding(size, width, stride)[0]
    result = numpy.tile(bias[:, None, None], (1, places, places))
    for row, column, down, right in numpy.ndindex(places, places, width, width):
        y, x = row * stride - before + down, column * stride - before + right
        if 0 <= y < size and 0 <= x < size:
            result[:, row, column] += kernel[:, :, down, right] @ image[:, y, x]
    return result


def test_padding_is_tensorflows():
    for case in itertools.product(range(1, 65), range(1, 10), range(1, 5)):
        assert same_padding(*case) == tensorflow_padding(*case), case


@pytest.mark.parametrize(
    ("case", "expected"),
    [((28, 3, 2), (0, 1)), ((28, 5, 2), (1, 2)), ((7, 3, 2), (1, 1)), ((14, 3, 1), (1, 1)), ((9, 5, 2), (2, 2))],
)
def test_padding_by_hand(case, expected):
    """28 places, kernel 3, stride 2: the last of 14 windows ends at 2 * 13 + 3 = 29, one place after the image."""
    assert same_padding(*case) == expected


@pytest.mark.parametrize(("size", "kernel", "stride"), SIZES)
def test_convolution_is_its_sum(size, kernel, stride):
    torch.manual_seed(0)
    layer = SameConv2d(2, 3, kernel, stride, size).double()
    image = torch.randn(1, 2, size, size, dtype=torch.float64)
    expected = convolve(image[0].numpy(), layer.weight.detach().numpy(), layer.bias.detach().numpy(), stride)
    numpy.testing.assert_allclose(layer(image)[0].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("size", "kernel", "stride"), SIZES)
def test_transposed_convolution_is_the_adjoint(size, kernel, stride):
    """<A x, y> = <x, A' y> for the same kernel, and A' y has exactly the places of x: 5 -> 9 where 9 -> 5."""
    torch.manual_seed(0)
    down = SameConv2d(2, 3, kernel, stride, size, bias=False).double()
    up = SameConvTranspose2d(3, 2, kernel, stride, size, bias=False).double()
    up.weight = down.weight
    image = torch.randn(4, 2, size, size, dtype=torch.float64)
    code = torch.randn(4, 3, *[math.ceil(size / stride)] * 2, dtype=torch.float64)
    assert down(image).shape == code.shape
    assert up(code).shape == image.shape
    assert (down(image) * code).sum().item() == pytest.approx((image * up(code)).sum().item(), rel=1e-12)


def test_glorot():
    """Uniform in +-sqrt(6 / (fan in + fan out)), where a fan counts the places of the kernel; biases 0."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(300, 70), nn.Conv2d(10, 30, 5), nn.ConvTranspose2d(30, 10, 5), nn.Linear(9, 9))
    for weight in network.parameters():
        nn.init.constant_(weight, 7.0)
    glorot(network)
    for layer, fans in zip(network, (300 + 70, 25 * (10 + 30), 25 * (30 + 10), 9 + 9), strict=True):
        bound = math.sqrt(6 / fans)
        weights = layer.weight.detach().numpy().ravel()
        assert numpy.abs(weights).max() <= bound
        assert scipy.stats.kstest(weights, scipy.stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.001
        assert not layer.bias.any()


def test_dense_stack_is_its_equations():
    stack = dense_stack([6, 5, 4]).double()
    values = numpy.random.default_rng(0).standard_normal((3, 6))
    expected = values
    for layer in (layer for layer in stack if isinstance(layer, nn.Linear)):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        expected = numpy.maximum(expected @ weight.T + bias, 0)
    numpy.testing.assert_allclose(stack(torch.from_numpy(values)).detach().numpy(), expected, atol=1e-12)


def test_dense_stack_drops_out_in_training_alone():
    """A rate of 0.25 silences a quarter of the units and scales the rest by 4/3."""
    torch.manual_seed(0)
    stack = dense_stack([1, 40_000], dropout=0.25)
    nn.init.zeros_(stack[0].weight)
    nn.init.ones_(stack[0].bias)
    values = stack(torch.zeros(1, 1))
    assert set(numpy.unique(values.detach().numpy()).round(5)) == {0.0, numpy.float32(4 / 3).round(5)}
    assert float((values == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert bool((stack.eval()(torch.zeros(1, 1)) == 1).all())


def test_one_hot_is_a_row_of_the_identity():
    label = torch.tensor([3, 0, 9, 3])
    assert torch.equal(one_hot(label, 10), torch.eye(10, dtype=torch.bool)[label])


def with_ties(seed=0):
    """Maps [2, 3, 8, 12] of few different values, so that many blocks have several largest."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, (2, 3, 8, 12), generator=generator).double()


def test_repeat_is_numpys():
    maps = with_ties()
    assert numpy.array_equal(repeat(maps), maps.numpy().repeat(2, axis=2).repeat(2, axis=3))


def test_put_back_is_torchs_unpooling():
    """To the bit, of equal values at the first: outputs, and the gradient of each value, which is that of its place."""
    values, places = nn.functional.max_pool2d(with_ties(), 2, return_indices=True)
    values = torch.randn_like(values)
    ours, theirs = (values.clone().requires_grad_() for _ in range(2))
    found, expected = max_unpool(ours, places), nn.functional.max_unpool2d(theirs, places, 2)
    assert torch.equal(found, expected)
    slope = torch.randn_like(found)
    found.backward(slope)
    expected.backward(slope)
    assert torch.equal(ours.grad, theirs.grad)


def test_put_back_keeps_the_first_of_equals():
    """By NumPy's argmax, row by row; what is not the largest becomes 0, also where it is infinite."""
    maps = with_ties()
    maps[0, 0, 0, :2], maps[0, 0, 1, :2] = -torch.inf, torch.tensor([-torch.inf, 5])
    blocks = maps.numpy().reshape(2, 3, 4, 2, 6, 2).swapaxes(3, 4).reshape(2, 3, 4, 6, 4)
    first = numpy.arange(4) == blocks.argmax(-1)[..., None]
    expected = numpy.where(first, blocks, 0).reshape(2, 3, 4, 6, 2, 2).swapaxes(3, 4).reshape(2, 3, 8, 12)
    assert numpy.array_equal(max_unpool(*nn.functional.max_pool2d(maps, 2, return_indices=True)), expected)


def sigmoid(values):
    return 1 / (1 + numpy.exp(-values))


def rectified(values):
    return numpy.maximum(values, 0)


def gated(values, hidden, cell, kernel, bias, squash):
    """TensorFlow's BasicLSTMCell over time; kernel [2 * units, 4 * units], gates in the order of torch: i, f, j, o."""
    outputs = []
    for value in values:
        i, f, j, o = numpy.split(numpy.concatenate([value, hidden], 1) @ kernel + bias, 4, axis=1)
        cell = cell * sigmoid(f) + sigmoid(i) * squash(j)
        hidden = squash(cell) * sigmoid(o)
        outputs.append(hidden)
    return numpy.stack(outputs), hidden, cell


def plain(values, hidden, kernel, bias, squash):
    """Elman's cell over time: the squashed sum of what comes in and what was there."""
    outputs = []
    for value in values:
        hidden = squash(numpy.concatenate([value, hidden], 1) @ kernel + bias)
        outputs.append(hidden)
    return numpy.stack(outputs), hidden


CELLS = {
    "lstm": (gated, numpy.tanh), "lstm_relu": (gated, rectified), "tanh": (plain, numpy.tanh),
    "relu": (plain, rectified),
}  # fmt: skip


def recurrent(cell, layers=2, units=4, seed=0, **changes):
    """Layers whose every gate counts: large weights, biases away from 0, in double precision."""
    torch.manual_seed(seed)
    settings = {"forget_bias": 0.0, "initial_range": 0.1, "dropout": 0.0} | changes
    network = Recurrent(cell, layers, units, **settings).double()
    for name, weight in network.named_parameters():
        if "weight" in name:
            weight.data = 0.4 * torch.randn_like(weight)
        elif "bias_ih" in name:
            weight.data += 0.3 * torch.randn_like(weight)
    return network


def states(cell, layers=2, batch=3, units=4):
    return [torch.randn(batch, layers, units).double() for _ in range(2 if "lstm" in cell else 1)]


def stacked(network):
    """torch's own module of all the LSTM layers of a `Recurrent`, with its weights."""
    whole = nn.LSTM(4, 4, len(network.cells)).double()
    for depth, cell in enumerate(network.cells):
        for name, weight in cell.named_parameters():
            getattr(whole, name.replace("_l0", f"_l{depth}")).data.copy_(weight.data)
    return whole


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_layers_are_their_equations(cell):
    """Word by word and layer by layer in NumPy, from states that are not 0: outputs and all end states."""
    network, (rule, squash), begun = recurrent(cell), CELLS[cell], states(cell)
    values = torch.randn(7, 3, 4).double()
    expected, ends = values.numpy(), []
    for layer in range(2):
        kernel, recurrent_kernel, bias = (
            getattr(network.cells[layer], f"{part}_l0").detach().numpy()
            for part in ("weight_ih", "weight_hh", "bias_ih")
        )
        begin = [state[:, layer].numpy() for state in begun]
        joined = numpy.concatenate([kernel, recurrent_kernel], 1).T
        expected, *end = rule(expected, *begin, joined, bias, squash)
        ends.append(end)
    outputs, *found = (value.detach().numpy() for value in network(values, *begun))
    numpy.testing.assert_allclose(outputs, expected, atol=1e-12)
    for values, wanted in zip(found, zip(*ends, strict=True), strict=True):
        numpy.testing.assert_allclose(values, numpy.stack(wanted, 1), atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_gradients_are_differences(cell):
    """Of every input, state and weight, by torch's numerical check in double precision."""
    network, begun = recurrent(cell, units=3), states(cell, units=3, batch=2)
    values = torch.randn(3, 2, 3).double()
    weights = {key: weight for key, weight in network.named_parameters() if weight.requires_grad}

    def outputs(values, *rest):
        return torch.func.functional_call(network, dict(zip(weights, rest[len(begun) :], strict=True)),
                                          (values, *rest[: len(begun)]))  # fmt: skip

    inputs = [value.detach().clone().requires_grad_() for value in (values, *begun, *weights.values())]
    assert torch.autograd.gradcheck(outputs, inputs)


def test_rectified_lstm_is_torchs_loop_but_for_its_activation(monkeypatch):
    """With tanh put in the place of its ReLU, the loop that is written out gives what torch.nn.LSTM gives."""
    network, begun, values = recurrent("lstm_relu"), states("lstm_relu"), torch.randn(7, 3, 4).double()
    torchs = stacked(network)
    expected, ends = torchs(values, tuple(state.transpose(0, 1).contiguous() for state in begun))
    monkeypatch.setattr(torch.Tensor, "relu", torch.Tensor.tanh)
    for found, wanted in zip(network(values, *begun), (expected, *(end.transpose(0, 1) for end in ends)), strict=True):
        numpy.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_drops_out_what_comes_from_the_layer_below(cell):
    """At rate 1 the second of two layers is given zeros, the first and the output lose nothing; in training alone."""
    network, begun, values = recurrent(cell, dropout=1.0), states(cell), torch.randn(7, 3, 4).double()
    outputs, *ends = network.train()(values, *begun)
    alone = recurrent(cell, layers=1)
    for depth, below in enumerate((values, torch.zeros_like(values))):
        for part in ("weight_ih", "weight_hh", "bias_ih"):
            getattr(alone.cells[0], f"{part}_l0").data = getattr(network.cells[depth], f"{part}_l0").data
        expected, *end = alone(below, *(state[:, depth : depth + 1] for state in begun))
        for found, wanted in zip(ends, end, strict=True):
            assert torch.allclose(found[:, depth], wanted[:, 0])
    assert torch.allclose(outputs, expected)
    assert not torch.allclose(network.eval()(values, *begun)[0], outputs)


@pytest.mark.parametrize(("cell", "kind"), [("lstm", nn.LSTM), ("tanh", nn.RNN)])
def test_a_seed_drops_out_and_begins_as_in_torchs_stack(cell, kind):
    """One module of torch a layer draws what torch's module of all layers draws, weights and dropout alike."""
    torch.manual_seed(0)
    whole = kind(4, 4, 3, dropout=0.5)
    for name, weight in whole.named_parameters():
        nn.init.uniform_(weight, -0.1, 0.1) if "weight" in name else nn.init.zeros_(weight)
    torch.manual_seed(0)
    network = Recurrent(cell, 3, 4, forget_bias=0.0, initial_range=0.1, dropout=0.5)
    for depth, layer in enumerate(network.cells):
        for name, weight in layer.named_parameters():
            assert torch.equal(weight, getattr(whole, name.replace("_l0", f"_l{depth}")))
    values, begun = torch.randn(7, 3, 4), [state.float() for state in states(cell, layers=3)]
    turned = tuple(state.transpose(0, 1).contiguous() for state in begun)
    torch.manual_seed(1)
    outputs = network(values, *begun)[0]
    torch.manual_seed(1)
    expected = whole(values, turned if kind is nn.LSTM else turned[0])[0]
    assert torch.allclose(outputs, expected)


@pytest.mark.parametrize("forget_bias", [0.0, 0.5])
def test_forget_bias_is_basic_lstm_cells(forget_bias):
    """TensorFlow adds it to the forget gate apart from the cell's own bias, which begins at 0."""
    network = Recurrent("lstm", 1, 4, forget_bias, 0.5, 0.0).double()
    values, begun = torch.randn(7, 3, 4).double(), states("lstm", layers=1)
    joined = torch.cat([network.cells[0].weight_ih_l0, network.cells[0].weight_hh_l0], 1).detach().numpy().T
    bias = numpy.repeat([0, forget_bias, 0, 0], 4)
    expected, *_ = gated(values.numpy(), *(state[:, 0].numpy() for state in begun), joined, bias, numpy.tanh)
    numpy.testing.assert_allclose(network(values, *begun)[0].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_layers_begin_in_their_range(cell):
    network = Recurrent(cell, layers=2, units=50, forget_bias=0.5, initial_range=0.1, dropout=0.0)
    for name, weight in network.cells.named_parameters():
        if "weight" in name:
            assert scipy.stats.kstest(weight.detach().numpy().ravel(), scipy.stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3
        else:
            expected = {0.0, 0.5} if "bias_ih" in name and "lstm" in cell else {0.0}
            assert set(weight.detach().numpy()) == expected


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("lstm_relu", 4), ("tanh", 1), ("relu", 1)])
def test_recurrent_layers_train_one_bias_a_gate(cell, gates):
    """TensorFlow's cells have gates * units * (2 * units + 1) weights; torch's second bias stays 0 through training."""

    class Wanted(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent = recurrent(cell).float()

        def losses(self, batch):
            yield "all", (self.recurrent(*batch)[0] - 1).square().mean()

    network = Wanted()
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    assert sum(weight.numel() for weight in trained) == 2 * gates * 4 * (2 * 4 + 1)
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    batch = torch.randn(5, 3, 4), *(torch.zeros_like(state).float() for state in states(cell))
    player = {"algorithm": "SGD", "lr": 0.5, "updates": "all"}
    loop.fit(network, iter([batch] * 5), {"all": player}, 5)
    for name, weight in network.named_parameters():
        assert torch.equal(weight, before[name]) == ("bias_hh" in name)
        assert "bias_hh" not in name or not weight.any()


def test_an_unknown_word_is_named_beside_those_that_there_are():
    with pytest.raises(ValueError, match="'gru' is unknown: use one of lstm, lstm_relu, tanh, relu"):
        recurrent("gru")
