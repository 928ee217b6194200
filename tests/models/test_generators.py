"""Variational, adversarial and adversarial-variational networks: densities by torch.distributions, games by hand."""

import math

import numpy
import pytest
import scipy.stats
import torch
from networks import MODELS, array, batch_for, build, image_batch, inputs_of, losses, of_file, silence
from torch import distributions, nn
from torch.nn import functional as F

from zoo.graphs import verbs
from zoo.train import loop

VARIATIONAL = of_file("variational")


# ---- variational autoencoders


@pytest.mark.parametrize("likelihood", ["bce", "mse"])
@pytest.mark.parametrize("name", VARIATIONAL)
def test_variational_loss_is_torchs_own(name, likelihood):
    """-log p(x|z) and KL(q || N(0, I)) by torch.distributions: summed over pixels and code, averaged over images."""
    network, (image, label) = build(name, likelihood=likelihood), image_batch()
    condition = {"label": label} if MODELS[name]["net"]["conditional"] else {}
    with torch.no_grad():
        found = network.eval().encode(image, **condition)
        posterior = distributions.Normal(found["mean"], (found["log_variance"] / 2).exp())
        torch.manual_seed(5)
        code = found["mean"] + posterior.stddev * torch.randn(len(image), network.code_size)
        logits, drawn = network.logits(code, label), network.decode(code, **condition)
    assert torch.equal(logits.sigmoid(), drawn.flatten(1))
    divergence = distributions.kl_divergence(posterior, distributions.Normal(0.0, 1.0)).sum()
    pixels = distributions.Bernoulli(logits=logits, validate_args=False).log_prob(image.flatten(1)).sum()
    error = {"bce": -pixels, "mse": ((drawn - image) ** 2).sum()}[likelihood]
    found = losses(network, (image, label), seed=5)["autoencoder"]
    assert found == pytest.approx(((error + divergence) / len(image)).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("spread", "deviation"),
    [("softplus", lambda values: 1e-6 + numpy.log1p(numpy.exp(values))), ("log_variance", lambda v: numpy.exp(v / 2))],
)
def test_deviation_of_the_posterior(spread, deviation):
    """Write-up 000 has sigma = 1e-6 + softplus, 002 the logarithm of sigma^2; the decoder draws at the mean."""
    network, (image, _) = build("vae_bce", spread=spread), image_batch()
    network.spread.bias.data[:] = torch.linspace(-20, 20, 32)
    code = network.encode(image)
    values = array(network.spread(network.encoder(image.flatten(1))))
    numpy.testing.assert_allclose(numpy.exp(array(code["log_variance"]) / 2), deviation(values), rtol=1e-4)
    assert torch.equal(network.reconstruct(image), network.decode(code["mean"]))


@pytest.mark.parametrize(("activation", "expected"), [("relu", lambda v: numpy.maximum(v, 0)), ("tanh", numpy.tanh)])
def test_variational_decoder_is_its_equations(activation, expected):
    network = build("vae_bce", activation=activation, hidden=[20, 15])
    layers = [layer for layer in network.decoder.modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [15, 20, 784]
    code = torch.randn(5, 32)
    values = array(code)
    for layer in layers:
        before = values @ array(layer.weight).T + array(layer.bias)
        values = expected(before)
    drawn = 1 / (1 + numpy.exp(-before))
    numpy.testing.assert_allclose(array(network.decode(code)).reshape(5, 784), drawn, atol=1e-5)


def test_weights_of_write_up_002_begin_by_their_first_dimension():
    """Deviation sqrt(2 / n): n is a bias's length, and of a weight the inputs, which TensorFlow has first."""
    layers = [part for part in build("vae_2d").modules() if isinstance(part, nn.Linear)]
    sizes = [(784, 512), (512, 2), (512, 2), (2, 512), (512, 784)]
    for layer, (inputs, outputs) in zip(layers, sizes, strict=True):
        for values, count in ((layer.weight, inputs), (layer.bias, outputs)):
            spread = scipy.stats.norm(scale=math.sqrt(2 / count))
            assert scipy.stats.kstest(array(values).ravel(), spread.cdf).pvalue > 0.001


def test_naive_weights_are_standard_normal():
    for values in build("vae_2d_naive_init").parameters():
        assert scipy.stats.kstest(array(values).ravel(), "norm").pvalue > 0.001


# ---- labels as a condition


@pytest.mark.parametrize(
    ("name", "net", "verb"),
    [
        (name, {"conditional": True, "initial_weights": "glorot"}, verb)
        for name in ("vae_bce", "vae_mse", "vae_2d")
        for verb in ("decode", "encode", "reconstruct")
    ]
    + [(name, {}, verb) for name in ("cvae", "cvae_tuned") for verb in ("decode", "encode", "reconstruct")]
    + [("gan", {"conditional": True}, "generate"), ("cgan", {}, "generate"), ("infogan", {}, "generate")]
    + [("aae_supervised", {"weight_std": 0.1}, verb) for verb in ("decode", "reconstruct", "generate")]
    + [("aae_semi", {}, "decode")],
)
def test_the_label_matters(name, net, verb):
    """Each label gives another picture of the same code, and the others of the batch have no part in it."""
    network, values = build(name, **net).eval(), {}
    for key, tensor in verbs.inputs(network, verb).items():
        if key != "label":
            values[key] = torch.rand(1, *tensor.axes[1:], generator=torch.Generator().manual_seed(0))
    repeated = {key: value.expand(10, *value.shape[1:]) for key, value in values.items()}
    result = getattr(network, verb)(**repeated, label=torch.arange(10))
    alone = getattr(network, verb)(**values, label=torch.tensor([3]))
    result, alone = (r["mean"] if isinstance(r, dict) else r for r in (result, alone))
    assert all(not torch.allclose(result[i], result[j], atol=1e-6) for i in range(10) for j in range(i))
    assert torch.allclose(result[3], alone[0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "verb"),
    [("vae_bce", "decode"), ("vae_bce", "encode"), ("gan", "generate"), ("aae_gaussian", "decode"),
     ("aae_gaussian", "reconstruct"), ("aae_gaussian", "generate")],
)  # fmt: skip
def test_without_the_condition_there_is_no_label(name, verb):
    network = build(name, conditional=False)
    assert "label" not in verbs.inputs(network, verb)
    assert "label" in verbs.inputs(build(name, conditional=True), verb)


def test_style_is_read_without_the_label():
    """The encoder of an adversarial autoencoder is not told the digit: decoder and critic are."""
    assert list(verbs.inputs(build("aae_supervised"), "encode")) == ["image"]


# ---- generator against discriminator


@pytest.mark.parametrize("conditional", [False, True])
def test_gan_losses_at_a_critic_without_an_opinion(conditional):
    """D = 1/2 everywhere: -log D(x) - log(1 - D(G(z))) is 2 ln 2, -log D(G(z)) is ln 2 (Goodfellow et al. 2014)."""
    network = build("gan", conditional=conditional)
    silence(network.discriminator)
    expected = {"discriminator": 2 * math.log(2), "generator": math.log(2)}
    assert losses(network, image_batch()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("conditional", [False, True])
def test_gan_losses_are_cross_entropies(conditional):
    """Real pictures are asked to be 1, drawn ones 0; the generator asks for 1."""
    network, (image, label) = build("gan", conditional=conditional).eval(), image_batch()
    torch.manual_seed(5)
    with torch.no_grad():
        drawn = network.generate(torch.randn(len(image), network.noise_size), label)
        real, fake = (torch.sigmoid(network.score(pixels.flatten(1), label)) for pixels in (image, drawn))
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    expected = {
        "discriminator": (F.binary_cross_entropy(real, ones) + F.binary_cross_entropy(fake, zeros)).item(),
        "generator": F.binary_cross_entropy(fake, ones).item(),
    }
    assert losses(network, (image, label), seed=5) == pytest.approx(expected, rel=1e-5)


def test_infogan_losses():
    """A discriminator's as above; the generator pays as well for a class and a code that are not found again."""
    network, (image, label), given, drawn = build("infogan", code_weight=0.7, class_weight=3.0), image_batch(), [], []
    inputs_of(network.generator, given)
    inputs_of(network.trunk, drawn)
    found = losses(network, (image, label))
    noise, digit, code = numpy.split(array(given[0]), [62, 72], axis=1)
    assert noise.shape[1] + code.shape[1] == 64
    assert (set(digit.ravel()), set(digit.sum(1))) == ({0.0, 1.0}, {1.0})
    assert torch.equal(drawn[0], image.flatten(1))
    assert torch.equal(drawn[1], drawn[2])
    real, fake = (1 / (1 + numpy.exp(-array(network.verdict(network.trunk(pixels))))) for pixels in drawn[:2])
    answers = array(network.recognition(network.trunk(drawn[2])))
    chances = numpy.exp(answers[:, :10]) / numpy.exp(answers[:, :10]).sum(1, keepdims=True)
    class_error = -numpy.log((chances * digit).sum(1)).mean()
    code_error = ((answers[:, 10:] - code) ** 2).mean()
    assert found["discriminator"] == pytest.approx(-numpy.log(real).mean() - numpy.log(1 - fake).mean(), rel=1e-5)
    assert found["generator"] == pytest.approx(-numpy.log(fake).mean() + 3.0 * class_error + 0.7 * code_error, rel=1e-5)
    encoded = array(network.encode(drawn[2].view(-1, 1, 28, 28)))
    numpy.testing.assert_allclose(encoded, answers[:, 10:], atol=1e-6)


def test_infogan_draws_its_three_parts_from_their_distributions():
    network, given = build("infogan").eval(), []
    inputs_of(network.generator, given)
    torch.manual_seed(1)
    next(network.losses(image_batch(1000)))
    noise, digit, code = numpy.split(array(given[0]), [62, 72], axis=1)
    assert scipy.stats.kstest(noise.ravel(), "norm").pvalue > 0.001
    assert scipy.stats.kstest(code.ravel(), "norm").pvalue > 0.001
    assert scipy.stats.chisquare(digit.sum(0)).pvalue > 0.001


@pytest.fixture
def in_double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def slopes(layers, pixels):
    """[images, 784]: how the logit of a ReLU network changes with each pixel, by the chain rule."""
    values, passed = pixels, []
    for layer in layers[:-1]:
        values = values @ array(layer.weight).T + array(layer.bias)
        passed.append(values > 0)
        values = values * passed[-1]
    slope = array(layers[-1].weight)
    for layer, open_units in zip(layers[-2::-1], passed[::-1], strict=True):
        slope = slope * open_units @ array(layer.weight)
    return slope[:, :784]


def discriminator_of(network):
    """The linear layers between an image and the verdict on it."""
    parts = [network.discriminator] if hasattr(network, "discriminator") else [network.trunk, network.verdict]
    return [layer for part in parts for layer in part.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.usefixtures("in_double_precision")
@pytest.mark.parametrize("name", ["gan", "cgan_tuned", "infogan"])
def test_the_penalty_is_on_the_slope_at_real_images(name):
    """Mescheder et al. 2018, equation 9: gamma / 2 times the mean squared length of the slope; in training alone."""
    found, (image, label) = {}, image_batch()
    for gamma in (0.0, 3.0):
        network = build(name, dropout=0.0, gradient_penalty=gamma).train()
        torch.manual_seed(5)
        found[gamma] = dict(network.losses((image, label)))
    pixels = array(image).reshape(12, 784)
    if name == "cgan_tuned":
        pixels = numpy.concatenate([pixels, numpy.eye(10)[label.numpy()]], axis=1)
    expected = 3.0 / 2 * (slopes(discriminator_of(network), pixels) ** 2).sum(1).mean()
    assert expected > 1e-3
    added = {player: (found[3.0][player] - found[0.0][player]).item() for player in found[0.0]}
    assert added == pytest.approx({"discriminator": expected, "generator": 0}, rel=1e-6, abs=1e-12)
    assert not image.requires_grad
    outcomes = [losses(build(name, gradient_penalty=gamma), (image, label)) for gamma in (0.0, 3.0)]
    assert outcomes[0] == outcomes[1]


@pytest.mark.usefixtures("in_double_precision")
def test_the_penalty_has_a_gradient():
    """Up the gradient of the discriminator's loss, the loss grows as fast as the gradient is long, squared."""
    network, (image, label) = build("cgan_tuned", dropout=0.0, gradient_penalty=3.0).train(), image_batch()
    weights = list(network.discriminator.parameters())

    def loss(step=0.0, along=None):
        for weight, direction in zip(weights, along or weights, strict=True):
            weight.data += step * direction
        torch.manual_seed(5)
        return next(network.losses((image, label)))[1]

    slope = torch.autograd.grad(loss(), weights)
    step = 1e-6
    up = loss(step, slope).item()
    down = loss(-2 * step, slope).item()
    assert (up - down) / (2 * step) == pytest.approx(sum(s.square().sum().item() for s in slope), rel=1e-4)


@pytest.mark.parametrize("name", ["gan", "cgan", "infogan"])
def test_the_generator_faces_the_discriminator_where_it_has_moved(name):
    """Set to no opinion between the two turns, it makes the generator's loss ln 2 (and what recognition adds)."""
    network = build(name, **({"class_weight": 0.0, "code_weight": 0.0} if name == "infogan" else {})).eval()
    turns = network.losses(image_batch())
    next(turns)
    silence(network.discriminator if name != "infogan" else network.verdict)
    player, loss = next(turns)
    assert (player, loss.item()) == ("generator", pytest.approx(math.log(2), rel=1e-6))


# ---- adversarial autoencoders


def test_adversarial_autoencoder_takes_two_turns():
    """Cross-entropies of prior and code; squared error with that of codes that should pass for the prior."""
    network, (image, label), judged = build("aae_gaussian", weight_std=0.1).eval(), image_batch(), []
    inputs_of(network.critic, judged)
    found = losses(network, (image, label))
    prior, code, codes_again = judged
    numpy.testing.assert_array_equal(code, network.encode(image).detach())
    assert torch.equal(codes_again, code)
    real, fake = (1 / (1 + numpy.exp(-array(network.critic(values)))) for values in (prior, code))
    error = ((array(network.reconstruct(image)) - array(image)) ** 2).mean()
    net = MODELS["aae_gaussian"]["net"]
    expected = {
        "critic": -numpy.log(real).mean() - numpy.log(1 - fake).mean(),
        "autoencoder": net["reconstruction_weight"] * error - net["adversarial_weight"] * numpy.log(fake).mean(),
    }
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_told_critic_sees_the_digit_beside_prior_and_code():
    """Makhzani et al. 2015, section 2.3: every digit's codes are to fill the prior."""
    network, (image, label), judged = build("aae_supervised").eval(), image_batch(), []
    inputs_of(network.critic, judged)
    dict(network.losses((image, label)))
    assert [values.shape for values in judged] == [(12, 2 + 10)] * 3
    for values in judged:
        assert numpy.array_equal(values[:, 2:].numpy(), numpy.eye(10)[label.numpy()])


def test_the_critic_that_is_to_be_fooled_has_moved():
    """Set to 0 in its own turn it has no opinion, and fooling it costs ln 2."""
    network = build("aae_gaussian", weight_std=0.1, reconstruction_weight=0.0, adversarial_weight=1.0)
    turns = network.losses(image_batch())
    next(turns)
    silence(network.critic)
    player, loss = next(turns)
    assert (player, loss.item()) == ("autoencoder", pytest.approx(math.log(2), rel=1e-6))


def test_the_critics_gradient_stops_at_the_code():
    """Its own turn moves no encoder: there is no path to it."""
    network = build("aae_gaussian", weight_std=0.1)
    turns = dict(network.losses(image_batch()))
    weights = list(network.encoder.parameters())
    assert all(g is None for g in torch.autograd.grad(turns["critic"], weights, allow_unused=True, retain_graph=True))
    assert all(g is not None for g in torch.autograd.grad(turns["autoencoder"], weights, allow_unused=True))


@pytest.mark.parametrize("deviation", [1.0, 2.0])
def test_the_prior_has_the_deviation_asked_for(deviation):
    """In training, and in what is generated: decode(deviation * noise)."""
    network, judged = build("aae_gaussian", prior_std=deviation, weight_std=0.1).eval(), []
    inputs_of(network.critic, judged)
    torch.manual_seed(1)
    dict(network.losses(image_batch(2000)))
    assert scipy.stats.kstest(array(judged[0]).ravel(), scipy.stats.norm(scale=deviation).cdf).pvalue > 0.001
    noise = torch.randn(5, 2)
    assert torch.equal(network.generate(noise), network.decode(deviation * noise))
    assert not torch.allclose(network.generate(noise), network.decode(3 * deviation * noise))


# ---- the semi-supervised one


def test_semi_supervised_losses():
    """Two critics without an opinion: 4 ln 2 for them, 2 ln 2 for who fools them; the rest is what the verbs give."""
    network, batch = build("aae_semi"), batch_for("aae_semi")
    silence(network.critic)
    image, _, labelled_image, label = batch
    found = losses(network, batch)
    error = ((network.reconstruct(image) - image) ** 2).mean().item()
    chances = network.classify(labelled_image).double().softmax(1)[torch.arange(len(label)), label]
    net = MODELS["aae_semi"]["net"]
    assert found["critic"] == pytest.approx(4 * math.log(2), rel=1e-6)
    assert found["autoencoder"] == pytest.approx(
        net["reconstruction_weight"] * error
        + net["adversarial_weight"] * 2 * math.log(2)
        - chances.log().mean().item(),
        rel=1e-5,
    )


def test_the_encoder_faces_critics_where_they_have_moved():
    network, batch = build("aae_semi", reconstruction_weight=0.0, adversarial_weight=1.0).eval(), batch_for("aae_semi")
    turns = network.losses(batch)
    next(turns)
    silence(network.critic)
    _, loss = next(turns)
    supervised = F.cross_entropy(network.classify(batch[2]), batch[3])
    assert loss.item() == pytest.approx(2 * math.log(2) + supervised.item(), rel=1e-5)


@pytest.mark.parametrize("name", of_file("semi_supervised_aae"))
def test_labels_of_the_unlabelled_change_nothing(name):
    network, (image, label, *labelled) = build(name), batch_for(name)
    assert losses(network, (image, label, *labelled)) == losses(network, (image, 9 - label, *labelled))


def test_noise_on_the_input_is_for_training():
    """Its deviation is the one in params.yaml; evaluation sees the image itself."""
    network, image = build("aae_semi"), torch.zeros(200, 1, 28, 28)
    torch.manual_seed(0)
    assert network.train().disturb(image).std().item() == pytest.approx(MODELS["aae_semi"]["net"]["noise"], rel=0.01)
    assert torch.equal(network.eval().disturb(image), image)


def test_critics_know_a_one_hot_class_and_a_normal_style():
    """Critics shown their own priors: the class critic sees one-hot rows, the style critic standard normal ones."""
    network, seen = build("aae_semi").eval(), []
    for critic in network.critic:
        inputs_of(critic, seen)
    torch.manual_seed(0)
    batch = [torch.cat([value] * 100) for value in batch_for("aae_semi")]
    next(network.losses(batch))
    classes, _, style, _ = seen
    assert set(classes.unique().tolist()) == {0.0, 1.0}
    assert bool((classes.sum(1) == 1).all())
    assert scipy.stats.chisquare(classes.sum(0).numpy()).pvalue > 0.001
    assert scipy.stats.kstest(style.flatten().numpy(), "norm").pvalue > 0.001


def test_labels_alone_are_plain_supervised_training():
    """The loop's weights after three steps are those of torch's Adam on the cross-entropy of noisy labelled images."""
    batches = [tuple(image_batch(seed=step) + image_batch(seed=10 + step)) for step in range(3)]
    player = MODELS["aae_labels_only"]["players"]["autoencoder"]
    network, plain = build("aae_labels_only"), build("aae_labels_only")
    torch.manual_seed(1)
    rows, _ = loop.fit(network, iter(batches), {"autoencoder": player}, 3)
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(plain.encoder.parameters(), player["lr"], player["betas"])
    expected = []
    for _, _, image, label in batches:
        noisy = image + MODELS["aae_labels_only"]["net"]["noise"] * torch.randn(image.shape)
        loss = F.cross_entropy(plain.encoder(noisy.flatten(1))[:, :10], label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert [row[3] for row in rows] == pytest.approx(expected, rel=1e-5)
    for key, value in network.state_dict().items():
        numpy.testing.assert_allclose(array(value), array(plain.state_dict()[key]), atol=1e-6)
    begun = build("aae_labels_only").state_dict()
    still = [key for key in begun if key.startswith(("decoder", "critic"))]
    assert still
    assert all(torch.equal(network.state_dict()[key], begun[key]) for key in still)


def test_what_labels_alone_do_not_train_is_no_verb():
    assert verbs.of(build("aae_labels_only")) == ["classify"]
    assert set(verbs.of(build("aae_semi"))) == {"classify", "encode", "reconstruct", "decode"}
