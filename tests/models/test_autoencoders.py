"""The autoencoders of write-ups 001, 003 and 004, against their layers written out with NumPy and SciPy."""

import math

import numpy
import pytest
import scipy.stats
import torch
from networks import MODELS, array, build, image_batch, inputs_of, losses, of_file, silence
from scipy import ndimage
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from zoo.models import unpool_autoencoder
from zoo.train import loop


def sigmoid(values):
    return 1 / (1 + numpy.exp(-values))


def relu(values):
    return numpy.maximum(values, 0)


def slid(images, layer):
    """A convolution of stride 1 that keeps the size: every map is a sum of SciPy's over the maps before."""
    kernels = array(layer.weight)
    if isinstance(layer, nn.ConvTranspose2d):  # its adjoint: maps change places, the kernel is turned
        kernels = kernels.swapaxes(0, 1)[:, :, ::-1, ::-1]
    bias = numpy.zeros(len(kernels)) if layer.bias is None else array(layer.bias)
    return numpy.array([
        [
            shift + sum(ndimage.correlate(part, k, mode="constant") for part, k in zip(image, kernel, strict=True))
            for kernel, shift in zip(kernels, bias, strict=True)
        ]
        for image in images
    ])  # fmt: skip


def pooled(images):
    """The largest of every 2x2 block; an odd last row or column is a block of its own."""
    rows, columns = images.shape[2:]
    padded = numpy.pad(images, [(0, 0), (0, 0), (0, rows % 2), (0, columns % 2)], constant_values=-numpy.inf)
    return padded.reshape(*images.shape[:2], -(-rows // 2), 2, -(-columns // 2), 2).max((3, 5))


def cross_entropy(drawn, pixels):
    return -(pixels * numpy.log(drawn) + (1 - pixels) * numpy.log(1 - drawn)).mean()


# ---- fully connected


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_dense_autoencoder_losses(loss):
    """Means over pixels of what the verb `reconstruct` gives: the training objective is of the picture it draws."""
    network, (image, label) = build("ae_dense32", loss=loss), image_batch()
    drawn, pixels = array(network.reconstruct(image)), array(image)
    expected = {"bce": cross_entropy(drawn, pixels), "mse": ((pixels - drawn) ** 2).mean()}[loss]
    assert losses(network, (image, label))["autoencoder"] == pytest.approx(expected, rel=1e-5)


def test_dense_autoencoder_mirrors_itself():
    network = build("ae_dense32", hidden=[50, 40], code=3)
    sizes = [(layer.in_features, layer.out_features) for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert sizes == [(784, 50), (50, 40), (40, 3), (3, 40), (40, 50), (50, 784)]
    assert network.encode(image_batch()[0]).shape == (12, 3)


@pytest.mark.parametrize(("activation", "expected"), [("relu", relu), ("linear", lambda values: values)])
def test_dense_autoencoder_is_its_equations(activation, expected):
    """Hidden layers are rectified, the code as its word says, the picture squashed."""
    network, (image, _) = build("ae_dense32", hidden=[50], code=7, code_activation=activation), image_batch()
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    weights = [(array(layer.weight).T, array(layer.bias) + 0.1) for layer in layers]
    for layer in layers:
        layer.bias.data += 0.1
    values = array(image).reshape(12, 784)
    for (weight, bias), after in zip(weights, (relu, expected, relu, sigmoid), strict=True):
        values = after(values @ weight + bias)
        if after is expected and values.shape == (12, 7):
            numpy.testing.assert_allclose(array(network.encode(image)), values, atol=1e-5)
    numpy.testing.assert_allclose(array(network.reconstruct(image)).reshape(12, 784), values, atol=1e-5)


def test_dense_autoencoder_without_ink():
    """Logits 0 are pixels of one half, whose cross-entropy with any image is ln 2."""
    network = build("ae_dense32")
    silence(network.decoder)
    assert losses(network, image_batch())["autoencoder"] == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("name", ["ae_dense2", "aae_gaussian"])
def test_weights_of_write_up_004_begin_normal(name):
    """N(0, 0.01^2), biases 0, for encoder and decoder."""
    network = build(name)
    layers = [
        layer for part in (network.encoder, network.decoder) for layer in part.modules() if isinstance(layer, nn.Linear)
    ]
    assert len(layers) == 6
    for layer in layers:
        weights = array(layer.weight).ravel()[:50_000]
        assert scipy.stats.kstest(weights, scipy.stats.norm(scale=0.01).cdf).pvalue > 0.001
        assert not layer.bias.any()


# ---- strided convolutions


@pytest.mark.parametrize("name", ["cae_strided", *of_file("unpool_autoencoder")])
def test_convolutions_of_write_up_001_begin_as_a_truncated_normal(name):
    """Biases of the encoder at the value of params.yaml; of the decoder, where it has any, at 0."""
    network, entry = build(name), MODELS[name]["net"]
    weights = torch.cat([weight.detach().flatten() for weight in network.parameters() if weight.dim() == 4]).numpy()
    expected = scipy.stats.truncnorm(-2, 2, scale=entry["weight_std"])
    assert scipy.stats.kstest(weights, expected.cdf).pvalue > 0.001
    biases = {key: weight for key, weight in network.named_parameters() if key.endswith("bias")}
    assert [len(bias) for bias in biases.values()] == entry["maps"] + [16, 1] * entry.get("decoder_bias", False)
    for key, bias in biases.items():
        assert bool((bias == (entry["bias"] if key.startswith("encoder") else 0)).all())


def test_strided_autoencoder_halves_and_doubles():
    network, (image, label) = build("cae_strided"), image_batch()
    assert network.encode(image).shape == (12, 32, 7, 7)
    drawn = network.reconstruct(image)
    assert drawn.shape == image.shape
    assert bool((drawn >= 0).all())
    expected = ((drawn - image) ** 2).mean().item()
    assert losses(network, (image, label))["autoencoder"] == pytest.approx(expected, rel=1e-5)


# ---- resizing


def test_resizing_autoencoder_is_its_layers():
    """Three times convolve, rectify, pool: 28, 14, 7, 4 pixels; three times repeat, convolve, rectify; once more."""
    network, (image, _) = build("cae_upsample"), image_batch(2)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.bias, std=0.1)
    encoder, decoder = (
        [layer for layer in part if isinstance(layer, nn.Conv2d)] for part in (network.encoder, network.decoder)
    )
    values = array(image)
    for layer in encoder:
        values = pooled(relu(slid(values, layer)))
    assert values.shape == (2, 8, 4, 4)
    numpy.testing.assert_allclose(array(network.encode(image)), values, atol=1e-5)
    for layer, size in zip(decoder[:3], (7, 14, 28), strict=True):
        nearest = numpy.arange(size) * values.shape[2] // size
        values = relu(slid(values[:, :, nearest][:, :, :, nearest], layer))
    assert [layer.out_channels for layer in (*encoder, *decoder)] == [16, 8, 8, 8, 8, 16, 1]
    numpy.testing.assert_allclose(array(network.reconstruct(image)), sigmoid(slid(values, decoder[3])), atol=1e-5)


@pytest.mark.parametrize(("name", "deviation"), [("cae_upsample", 0.0), ("cae_denoise", 0.5)])
def test_the_input_is_corrupted_and_the_target_is_not(name, deviation):
    """clip(x + 0.5 N(0, 1), 0, 1) goes in; the cross-entropy is with x."""
    network, (image, label), seen = build(name), image_batch(40), []
    inputs_of(network.encoder, seen)
    loss = losses(network, (image, label), seed=5)["autoencoder"]  # seed 0 has drawn the images
    noisy = seen[0]
    assert loss == pytest.approx(cross_entropy(array(network.reconstruct(noisy)), array(image)), rel=1e-5)
    assert torch.equal(noisy, image) == (deviation == 0)
    assert (float(noisy.min()) >= 0, float(noisy.max()) <= 1) == (True, True)
    inside = ((noisy > 0) & (noisy < 1)).numpy()
    if deviation:  # where it was not clipped, the noise is normal, cut at the image's distance from 0 and from 1
        shares = (noisy - image).numpy()[inside] / deviation
        low, high = (scipy.stats.norm.cdf((edge - image.numpy()[inside]) / deviation) for edge in (0, 1))
        uniform = (scipy.stats.norm.cdf(shares) - low) / (high - low)
        assert scipy.stats.kstest(uniform, "uniform").pvalue > 0.001
        emptied = scipy.stats.norm.cdf(-image.numpy() / deviation).mean()
        assert (noisy == 0).float().mean().item() == pytest.approx(emptied, abs=0.01)


def test_reconstruct_adds_no_noise():
    network, (image, _) = build("cae_denoise"), image_batch(3)
    assert torch.equal(network.train().reconstruct(image), network.eval().reconstruct(image))


# ---- unpooling


def unpooled(values, kind, places=None):
    """Every value as a block of four: at its top left, four times, or at flat index `places`."""
    batch, maps, rows, columns = values.shape
    if kind == "nearest":
        return values.repeat(2, axis=2).repeat(2, axis=3)
    result = numpy.zeros((batch, maps, 2 * rows, 2 * columns))
    if kind == "zero":
        result[:, :, ::2, ::2] = values
    else:
        for index in numpy.ndindex(values.shape):
            result[(*index[:2], *divmod(places[index], 2 * columns))] = values[index]
    return result


def places_of(values):
    """For every 2x2 block, the flat index in the map of its largest value."""
    batch, maps, rows, columns = values.shape
    places = numpy.zeros((batch, maps, rows // 2, columns // 2), dtype=int)
    for n, m, row, column in numpy.ndindex(places.shape):
        block = values[n, m, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        down, right = numpy.unravel_index(block.argmax(), (2, 2))
        places[n, m, row, column] = (2 * row + down) * columns + 2 * column + right
    return places


@pytest.mark.parametrize("kind", ["zero", "nearest", "argmax"])
def test_unpoolings_are_numpys(kind):
    maps = torch.randn(2, 3, 8, 6)
    largest, places = F.max_pool2d(maps, 2, return_indices=True)
    found = unpool_autoencoder.UNPOOLINGS[kind](largest, places).numpy()
    expected = unpooled(pooled(maps.numpy()), kind, places_of(maps.numpy()))
    assert numpy.array_equal(found, expected)


def test_putting_back_is_torchs_unpooling():
    """Forward and gradient."""
    outcomes = []
    maps = torch.randn(2, 3, 8, 6)
    weight = torch.randn(2, 3, 8, 6)
    for unpool in (unpool_autoencoder.max_unpool, lambda values, places: F.max_unpool2d(values, places, 2)):
        largest, places = F.max_pool2d(maps, 2, return_indices=True)
        largest.requires_grad_()
        result = unpool(largest, places)
        (result * weight).sum().backward()
        outcomes.append((result, largest.grad))
    assert all(torch.equal(own, torchs) for own, torchs in zip(*outcomes, strict=True))


# The table of the write-up and its readers: unpooling, before or after the convolution, hidden and output activation.
UNPOOLED = {
    "cae_zero_unpool": ("zero", "after", sigmoid, sigmoid),
    "cae_nearest_unpool": ("nearest", "after", sigmoid, sigmoid),
    "cae_nearest_linear": ("nearest", "after", sigmoid, lambda values: values),
    "cae_nearest_logits": ("nearest", "after", relu, sigmoid),
    "cae_nearest_unpool_first": ("nearest", "before", sigmoid, sigmoid),
    "cae_nearest_relu_mse": ("nearest", "after", relu, relu),
    "cae_argmax_unpool": ("argmax", "before", sigmoid, sigmoid),
}


@pytest.mark.parametrize("name", of_file("unpool_autoencoder"))
def test_unpooling_autoencoder_is_its_layers(name):
    """Every entry's own order and activations; its loss is of the picture that it draws."""
    network, (image, label) = build(name), image_batch(2)
    for layer in network.decoder:
        if layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.1)
    kind, order, hidden, output = UNPOOLED[name]
    values, places = array(image), []
    for layer in network.encoder:
        maps = relu(slid(values, layer))
        places.append(places_of(maps))
        values = pooled(maps)
    numpy.testing.assert_allclose(array(network.encode(image)), values, atol=1e-4)
    for layer, activation, where in zip(network.decoder, (hidden, output), places[::-1], strict=True):
        if order == "before":
            values = activation(slid(unpooled(values, kind, where), layer))
        else:
            values = unpooled(activation(slid(values, layer)), kind, where)
    numpy.testing.assert_allclose(array(network.reconstruct(image)), values, atol=1e-4)
    wanted = cross_entropy(values, array(image)) if name.endswith("logits") else ((values - array(image)) ** 2).mean()
    assert losses(network, (image, label))["autoencoder"] == pytest.approx(wanted, rel=1e-4)


def test_zero_fill_leaves_three_quarters_empty():
    """Which bounds the error from below: no decoder draws the other pixels."""
    network, (image, label) = build("cae_zero_unpool"), image_batch()
    drawn = network.reconstruct(image)
    assert bool((drawn[:, :, ::2, ::2] > 0).all())
    assert float((drawn == 0).float().mean()) == 0.75
    pixels = array(image)
    pixels[:, :, ::2, ::2] = 0
    assert losses(network, (image, label))["autoencoder"] >= (pixels**2).mean()


@pytest.mark.parametrize("name", ["cae_nearest_unpool", "cae_nearest_unpool_first"])
def test_blocks_of_four_come_of_unpooling_last(name):
    """Unpooled last, all blocks are of one value, and no picture is nearer than the blocks' means; first, none are."""
    network, (image, _) = build(name), image_batch()
    drawn = array(network.reconstruct(image)).reshape(-1, 14, 2, 14, 2)
    spread = drawn.std((2, 4)).max()
    assert (spread < 1e-7) == (name == "cae_nearest_unpool")


def enlarged_digits():
    """scikit-learn's digits [1797, 1, 28, 28]: each of 8x8 pixels a 3x3 block, with a margin of two."""
    images = numpy.kron(load_digits().images / 16, numpy.ones((3, 3)))
    return torch.from_numpy(numpy.pad(images, [(0, 0), (2, 2), (2, 2)])[:, None]).float()


@pytest.mark.parametrize("seed", range(4))
def test_rectified_output_and_squared_error_die(seed):
    """The write-up's failure: within a few steps nothing is drawn, and the gradient is exactly 0 for ever after."""
    network, images = build("cae_nearest_relu_mse", seed), enlarged_digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    batches = [(images[chosen], None) for chosen in order.split(60)][:14]
    rows, diverged = loop.fit(network, iter(batches), MODELS["cae_nearest_relu_mse"]["players"], len(batches))
    assert diverged is None
    assert rows[0][4] > 0
    for (image, _), (_, _, _, loss, norm) in list(zip(batches, rows, strict=True))[10:]:
        assert norm == 0
        assert loss == pytest.approx(image.square().mean().item(), rel=1e-5)
    assert not network.reconstruct(images[-100:]).any()
