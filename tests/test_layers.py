"""The blocks against TensorFlow's formulas, and against the sums that they stand for, written out in NumPy."""

import math

import numpy
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from zoo import training
from zoo.layers import LSTM, SameConv2d, SameConvTranspose2d, dense_stack, glorot, same_padding

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


@given(st.integers(1, 64), st.integers(1, 9), st.integers(1, 4))
def test_padding_is_tensorflows(size, kernel, stride):
    assert same_padding(size, kernel, stride) == tensorflow_padding(size, kernel, stride)


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


def basic_lstm_cell(values, hidden, cell, kernel, bias, forget_bias):
    """TensorFlow's BasicLSTMCell over time; kernel [2 * units, 4 * units], gates in the order of torch: i, f, j, o."""

    def sigmoid(x):
        return 1 / (1 + numpy.exp(-x))

    outputs = []
    for value in values:
        i, f, j, o = numpy.split(numpy.concatenate([value, hidden], 1) @ kernel + bias, 4, axis=1)
        cell = cell * sigmoid(f + forget_bias) + sigmoid(i) * numpy.tanh(j)
        hidden = numpy.tanh(cell) * sigmoid(o)
        outputs.append(hidden)
    return numpy.stack(outputs), hidden, cell


def kernel_of(cells, layer):
    weights = [getattr(cells, f"weight_{kind}_l{layer}") for kind in ("ih", "hh")]
    return torch.cat(weights, 1).detach().numpy().T


def fill(network, seed):
    """Large weights, so that every gate counts."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        if "weight" in name:
            weight.data = 0.5 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
def test_lstm_is_basic_lstm_cell(forget_bias):
    """The cell as TensorFlow defines it, its own biases 0, the forget bias added apart."""
    torch.manual_seed(0)
    network = LSTM(layers=2, units=4, forget_bias=forget_bias, initial_range=0.1, dropout=0.0).double()
    fill(network, seed=1)
    values, hidden, cell = torch.randn(7, 3, 4).double(), torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    expected, states = values.numpy(), []
    for layer in range(2):
        kernel = kernel_of(network.cells, layer)
        expected, *state = basic_lstm_cell(
            expected, hidden[layer].numpy(), cell[layer].numpy(), kernel, numpy.zeros(16), forget_bias
        )
        states.append(state)
    outputs = [value.detach().numpy() for value in network(values, hidden, cell)]
    numpy.testing.assert_allclose(outputs[0], expected, atol=1e-12)
    for layer in range(2):
        for output, wanted in zip(outputs[1:], states[layer], strict=True):
            numpy.testing.assert_allclose(output[layer], wanted, atol=1e-12)


def test_lstm_begins_in_its_range():
    network = LSTM(layers=2, units=50, forget_bias=0.5, initial_range=0.1, dropout=0.0)
    for name, weight in network.cells.named_parameters():
        if name.startswith("weight"):
            assert scipy.stats.kstest(weight.detach().numpy().ravel(), scipy.stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3
        else:
            assert set(weight.detach().numpy()) == ({0.0, 0.5} if name.startswith("bias_ih") else {0.0})


def test_lstm_trains_one_bias_a_gate():
    """TensorFlow's cell has 4 * units * (2 * units + 1) weights; torch's second bias stays 0 through training."""

    class Wanted(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent = LSTM(layers=2, units=4, forget_bias=0.0, initial_range=0.5, dropout=0.0)

        def losses(self, batch):
            yield "all", (self.recurrent(*batch)[0] - 1).square().mean()

    torch.manual_seed(0)
    network = Wanted()
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    assert sum(weight.numel() for weight in trained) == 2 * 4 * 4 * (2 * 4 + 1)
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    batch = torch.randn(5, 3, 4), torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    player = {"algorithm": "SGD", "lr": 0.5, "moves": "all"}
    training.fit(network, iter([batch] * 5), {"all": player}, 5)
    for name, weight in network.named_parameters():
        assert torch.equal(weight, before[name]) == ("bias_hh" in name)
        assert "bias_hh" not in name or not weight.any()
