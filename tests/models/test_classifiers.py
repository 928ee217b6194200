"""The classifiers of write-ups 000 and 003: their layers, both normalisations, residuals, and chosen weights."""

import math

import numpy
import pytest
import scipy.stats
import torch
from networks import MODELS, array, batch_for, build, image_batch, inputs_of, losses, silence
from torch import nn

from zoo.models import deep_conv
from zoo.train import checkpoints, loop

DEEP = ["deep_conv_plain", "deep_conv_bn", "deep_conv_bn_manual"]


# ---- nineteen convolutions


@pytest.mark.parametrize("name", DEEP)
def test_deep_network_has_the_write_ups_layers(name):
    """Nineteen convolutions of 4, 8, ..., 76 maps; every third halves: 28, 14, 7, 4, 2, 1; then 100 units and 10."""
    network, places = build(name).eval(), []
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        layer.register_forward_hook(lambda module, inputs, output: places.append(output.shape[-1]))
    network.classify(image_batch()[0])
    assert [layer.out_channels for layer in convolutions] == [4 * layer for layer in range(1, 20)]
    assert [layer.stride[0] for layer in convolutions] == [1, 1, 2] * 6 + [1]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert places == [28] * 2 + [14] * 3 + [7] * 3 + [4] * 3 + [2] * 3 + [1] * 5
    dense = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in dense] == [(76, 100), (100, 10)]


@pytest.mark.parametrize("name", DEEP)
def test_ten_yes_or_no_answers(name):
    """At logits 0 each of the ten has a cross-entropy of ln 2, and so has their mean."""
    network = build(name)
    silence(network.head)
    assert losses(network, image_batch())["classifier"] == pytest.approx(math.log(2), rel=1e-6)
    network.head.bias.data[:] = torch.arange(10) / 3
    chance = 1 / (1 + numpy.exp(-numpy.arange(10) / 3))
    answers = numpy.eye(10)[numpy.arange(12) % 10]
    expected = -(answers * numpy.log(chance) + (1 - answers) * numpy.log(1 - chance)).mean()
    assert losses(network, image_batch())["classifier"] == pytest.approx(expected, rel=1e-6)


def test_manual_network_begins_as_a_truncated_normal():
    """Deviation 0.05, cut at two deviations: SYSTEMS.md; the others are Glorot's."""
    weights = array(build("deep_conv_bn_manual").body[30].weight).ravel()
    assert numpy.abs(weights).max() <= 0.1
    assert weights.std() == pytest.approx(0.05 * scipy.stats.truncnorm(-2, 2).std(), rel=0.03)
    layer = build("deep_conv_bn").body[30]
    bound = math.sqrt(6 / (9 * (layer.in_channels + layer.out_channels)))
    assert numpy.abs(array(layer.weight)).max() == pytest.approx(bound, rel=0.01)


# ---- normalisation


def test_batch_normalisation_is_tensorflows():
    """tf.layers: epsilon 0.001, and the moving mean keeps 0.99 of the old one."""
    network = build("deep_conv_bn")
    convolution, norm = network.body[0], network.body[1]
    image = image_batch()[0]
    maps = convolution(image).detach().numpy()
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
    expected = (maps - mean[:, None, None]) / numpy.sqrt(variance[:, None, None] + 0.001)
    numpy.testing.assert_allclose(norm(convolution(image)).detach().numpy(), expected, atol=1e-4)
    numpy.testing.assert_allclose(norm.running_mean.numpy(), 0.01 * mean, rtol=1e-4, atol=1e-8)
    others = [layer for layer in network.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert len(others) == 20
    assert {(layer.momentum, layer.eps) for layer in others} == {(0.01, 0.001)}
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in build("deep_conv_plain").modules())


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (7, 5)])
def test_normalisation_by_hand(shape):
    """Ioffe & Szegedy 2015, algorithm 1, in NumPy; the moving averages keep 0.99; evaluation uses them."""
    values = torch.randn(shape, dtype=torch.float64) * 3 + 1
    layer = deep_conv.ManualBatchNorm(5, momentum=0.01, eps=1e-3).double()
    scale, shift = numpy.linspace(0.5, 2, 5), numpy.linspace(-1, 1, 5)
    layer.scale.data, layer.shift.data = torch.from_numpy(scale.copy()), torch.from_numpy(shift.copy())
    rows = numpy.moveaxis(values.numpy(), 1, -1)
    mean, variance = rows.reshape(-1, 5).mean(0), rows.reshape(-1, 5).var(0)

    def normal(mean, variance):
        return numpy.moveaxis((rows - mean) / numpy.sqrt(variance + 1e-3) * scale + shift, -1, 1)

    numpy.testing.assert_allclose(array(layer(values)), normal(mean, variance), atol=1e-12)
    numpy.testing.assert_allclose(array(layer.moving_mean), 0.01 * mean, atol=1e-12)
    numpy.testing.assert_allclose(array(layer.moving_variance), 0.99 + 0.01 * variance, atol=1e-12)
    layer(values)
    numpy.testing.assert_allclose(array(layer.moving_mean), (0.99 * 0.01 + 0.01) * mean, atol=1e-12)
    moved = 0.01 * mean * 1.99, 0.99**2 + 0.01 * 1.99 * variance
    before = layer.moving_mean.clone()
    numpy.testing.assert_allclose(array(layer.eval()(values)), normal(*moved), atol=1e-12)
    assert torch.equal(layer.moving_mean, before)


def twins():
    """The manual network and the library's, equal weights, scales and shifts away from where they begin."""
    manual = build("deep_conv_bn_manual").double().train()
    library = build("deep_conv_bn_manual", normalisation="batch").double().train()
    own = [layer for layer in manual.modules() if isinstance(layer, deep_conv.ManualBatchNorm)]
    theirs = [layer for layer in library.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    generator = torch.Generator().manual_seed(2)
    for one, other in zip(own, theirs, strict=True):
        for values in (one.scale, one.shift):
            values.data += 0.3 * torch.randn(values.shape, generator=generator, dtype=values.dtype)
        other.weight.data, other.bias.data = one.scale.data.clone(), one.shift.data.clone()
    return manual, library, own, theirs


def test_twins_begin_with_equal_weights():
    manual, library, own, _ = twins()
    layers = [[part for part in n.modules() if isinstance(part, (nn.Conv2d, nn.Linear))] for n in (manual, library)]
    assert len(own) == 20
    assert all(torch.equal(one.weight, other.weight) for one, other in zip(*layers, strict=True))


def test_written_out_normalisation_is_the_librarys():
    """Layer by layer in training: values, gradients, running means; running variances after the factor n / (n - 1)."""
    manual, library, own, theirs = twins()
    image, label = image_batch(16)
    outputs, slopes = ([], []), ([], [])
    for network, values, gradients in zip((manual, library), outputs, slopes, strict=True):
        for layer in network.body:
            layer.register_forward_hook(lambda module, inputs, output, values=values: values.append(output))
        next(network.losses((image.double(), label)))[1].backward()
        gradients += [weight.grad for weight in network.parameters()]
    assert len(outputs[0]) == len(outputs[1]) == 20 * 3 + 1
    for one, other in zip(*outputs, strict=True):
        numpy.testing.assert_allclose(array(one), array(other), atol=1e-8)
    for one, other in zip(*slopes, strict=True):
        numpy.testing.assert_allclose(array(one), array(other), atol=1e-8 * max(1, float(other.abs().max())))
    convolved = [n for n, layer in enumerate(library.body) if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    counts = [outputs[1][n].numel() / outputs[1][n].shape[1] for n in convolved]
    for one, other, n in zip(own, theirs, counts, strict=True):
        numpy.testing.assert_allclose(array(one.moving_mean), array(other.running_mean), atol=1e-10)
        batch_variance = (array(one.moving_variance) - 0.99) / 0.01
        numpy.testing.assert_allclose(array(other.running_var), 0.99 + 0.01 * batch_variance * n / (n - 1), atol=1e-9)


def test_written_out_normalisation_agrees_in_single_precision():
    """As it is trained; the deeper the layer, the more rounding has gone in."""
    manual, library, *_ = (part.float() if isinstance(part, nn.Module) else part for part in twins())
    image, _ = image_batch(16)
    numpy.testing.assert_allclose(array(manual.classify(image)), array(library.classify(image)), atol=1e-3)


def test_written_out_statistics_are_part_of_the_checkpoint(tmp_path):
    """Trained a step, saved, loaded: the evaluation answers with the moving averages of the training."""
    network, path = build("deep_conv_bn_manual"), tmp_path / "0.safetensors"
    loop.fit(network, iter([image_batch(16)]), MODELS["deep_conv_bn_manual"]["players"], 1)
    checkpoints.save(path, network, {"seed": 0})
    again = build("deep_conv_bn_manual", seed=1)
    checkpoints.load(path, again)
    image = image_batch(3)[0]
    assert torch.equal(network.eval().classify(image), again.eval().classify(image))
    assert bool(again.body[1].moving_mean.any())


# ---- fully connected


@pytest.mark.parametrize(("activation", "expected"), [
    ("sigmoid", lambda values: 1 / (1 + numpy.exp(-values))), ("relu", lambda values: numpy.maximum(values, 0)),
])  # fmt: skip
@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_dense_classifier_is_its_equations(activation, expected, normalisation):
    """Normalisation comes between a layer and its activation; cross-entropy of the softmax."""
    network = build("mlp_relu", activation=activation, normalisation=normalisation).double().train()
    image, label = image_batch(16)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [512, 512, 512, 256, 256, 10]
    values = array(image).reshape(16, 784)
    for layer in layers[:-1]:
        values = values @ array(layer.weight).T
        if normalisation == "batch":
            assert layer.bias is None
            values = (values - values.mean(0)) / numpy.sqrt(values.var(0) + 1e-3)
        values = expected(values)
    logits = values @ array(layers[-1].weight).T
    numpy.testing.assert_allclose(array(network.classify(image.double())), logits, atol=1e-9)
    chances = numpy.exp(logits) / numpy.exp(logits).sum(1, keepdims=True)
    loss = next(network.losses((image.double(), label)))[1].item()
    assert loss == pytest.approx(-numpy.log(chances[numpy.arange(16), label.numpy()]).mean(), rel=1e-9)


def test_dense_normalisation_is_tensorflows():
    """Epsilon 0.001, and the moving mean keeps 0.99 of the old one."""
    norms = [layer for layer in build("mlp_sigmoid_bn").modules() if isinstance(layer, nn.BatchNorm1d)]
    assert [(norm.eps, norm.momentum) for norm in norms] == [(1e-3, 0.01)] * 5


# ---- residuals


def test_residual_network_halves_in_the_last_bottleneck_of_a_block():
    """He et al. 2015: 1x1 down, 3x3, 1x1 up to four times the width. 28 -> 14 -> 7 -> 4 over three blocks of two."""
    network, places = build("resnet").eval(), []
    bottlenecks = list(network.body)[2:]
    for layer in bottlenecks:
        layer.register_forward_hook(lambda module, inputs, output: places.append(tuple(output.shape[1:])))
    features = network.encode(image_batch()[0])
    assert places == [(32, 28, 28), (32, 14, 14), (64, 14, 14), (64, 7, 7), (128, 7, 7), (128, 4, 4)]
    assert features.shape == (12, 128)
    for layer in bottlenecks:
        kernels = [part.kernel_size[0] for part in layer.residual.modules() if isinstance(part, nn.Conv2d)]
        assert kernels == [1, 3, 1]


def test_residual_is_added_to_the_shortcut():
    """With a residual of 0 a bottleneck of equal sizes is ReLU alone; with one of r it is ReLU(x + r)."""
    network = build("resnet", stem=32, widths=[8], bottlenecks=2).eval()
    bottleneck, maps = network.body[2], torch.randn(2, 32, 9, 9)
    expected = numpy.maximum(maps.numpy() + bottleneck.residual(maps).detach().numpy(), 0)
    numpy.testing.assert_allclose(bottleneck(maps).detach().numpy(), expected, atol=1e-6)
    norm = [part for part in bottleneck.residual.modules() if isinstance(part, nn.BatchNorm2d)][-1]
    nn.init.zeros_(norm.weight)
    assert torch.equal(bottleneck(maps), maps.clamp(min=0))


def test_residual_network_loss():
    """At logits 0 the softmax over ten classes costs ln 10."""
    network = build("resnet")
    silence(network.head)
    assert losses(network, image_batch())["classifier"] == pytest.approx(math.log(10), rel=1e-6)


# ---- chosen weights


@pytest.fixture
def trained(tmp_path):
    """(an autoencoder no weight of whose encoder is as it began, the path of its checkpoint)."""
    autoencoder, path = build("ae_dense32", seed=7), tmp_path / "0.safetensors"
    for weight in autoencoder.encoder.parameters():
        nn.init.normal_(weight, std=0.1)
    checkpoints.save(path, autoencoder, {"seed": 0})
    return autoencoder, path


def probe(name, path):
    network = build(name)
    assert checkpoints.load_matching(path, network) == 2  # weight and bias
    return network


@pytest.mark.parametrize("name", ["probe_frozen", "probe_two_rates"])
def test_a_probe_begins_with_the_trained_encoder(name, trained):
    """Every number of its code is the autoencoder's, and its answers are one linear layer of them."""
    autoencoder, path = trained
    network, (image, label) = probe(name, path), image_batch()
    assert torch.equal(network.encode(image), autoencoder.encode(image))
    assert bool(network.encode(image).any())
    logits = array(autoencoder.encode(image)) @ array(network.head.weight).T
    numpy.testing.assert_allclose(array(network.classify(image)), logits, atol=1e-5)
    chances = numpy.exp(logits) / numpy.exp(logits).sum(1, keepdims=True)
    expected = -numpy.log(chances[numpy.arange(12), label.numpy()]).mean()
    assert losses(network, (image, label))["classifier"] == pytest.approx(expected, rel=1e-5)


def test_a_frozen_encoder_does_not_move(trained):
    _, path = trained
    network, begun = probe("probe_frozen", path), probe("probe_frozen", path)
    loop.fit(network, iter([image_batch()] * 5), MODELS["probe_frozen"]["players"], 5)
    for key, value in network.state_dict().items():
        assert torch.equal(value, begun.state_dict()[key]) == key.startswith("encoder")


def test_two_rates_are_two_rates(trained):
    """Adam's first step has the length of its rate wherever there is a slope: Kingma & Ba 2014, section 2.1."""
    _, path = trained
    network, begun = probe("probe_two_rates", path), probe("probe_two_rates", path)
    loop.fit(network, iter([batch_for("probe_two_rates")]), MODELS["probe_two_rates"]["players"], 1)
    rates = MODELS["probe_two_rates"]["players"]["classifier"]["updates"]
    assert rates["encoder"] < rates["head"]
    for part, rate in rates.items():
        moved, before = (dict(one.named_parameters()) for one in (network, begun))
        key = {"encoder": "encoder.1.weight", "head": "head.weight"}[part]
        assert numpy.abs(array(moved[key]) - array(before[key])).max() == pytest.approx(rate, rel=1e-2)


def test_a_probe_sees_rectified_codes(trained):
    network, seen = probe("probe_frozen", trained[1]), []
    inputs_of(network.head, seen)
    network.classify(image_batch()[0])
    assert float(seen[0].min()) == 0
