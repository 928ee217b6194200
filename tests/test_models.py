"""Every experiment of params.yaml keeps the contract; every model file computes what its write-up and papers say."""

import json
import math
from pathlib import Path

import numpy
import pytest
import scipy.stats
import torch
from torch import distributions, nn
from torch.nn import functional as F

from zoo import checkpoints, params, training, verbs
from zoo.errors import InputError

torch.set_num_threads(1)
EVERYTHING = params.load(Path(__file__).parent.parent / "params.yaml")
MODELS = EVERYTHING["models"]
FACTS = {"images": {"classes": 10}, "text": {"vocabulary": 30}}
TRAINED = [name for name, entry in MODELS.items() if entry["players"]]
VARIATIONAL = [name for name, entry in MODELS.items() if entry["file"] == "variational"]
DEEP = ["deep_conv_plain", "deep_conv_bn"]


def build(name, seed=0, **net):
    """The untrained network of an experiment, with changes to its `net`."""
    entry = MODELS[name]
    torch.manual_seed(seed)
    return params.build(entry | {"net": entry["net"] | net}, FACTS[entry["data"]])


def image_batch(count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 28, 28, generator=generator), torch.arange(count) % 10


def batch_for(name, count=12):
    """A random batch as the experiment's stream would give it."""
    if MODELS[name]["data"] == "text":
        words = torch.randint(30, (4, 7), generator=torch.Generator().manual_seed(0))
        return words[:, :-1], words[:, 1:], True
    batch = image_batch(count)
    return (*batch, *image_batch(count, seed=1)) if "labelled" in MODELS[name]["fit"] else batch


def losses(network, batch, seed=0):
    """{player: loss} in evaluation mode, without a step between."""
    torch.manual_seed(seed)
    with torch.no_grad():
        return {player: loss.item() for player, loss in network.eval().losses(batch)}


def named_by(network, moves):
    """Names of the weights that `moves` stands for."""
    parts = dict(network.named_children()) if moves == "all" else {part: getattr(network, part) for part in moves}
    return {
        f"{part}.{name}"
        for part, module in parts.items()
        for name, weight in module.named_parameters()
        if weight.requires_grad
    }


# ---- the contract, for every experiment


@pytest.mark.parametrize("name", MODELS)
def test_builds(name):
    """And its headline is a metric of something that it can do, or that the judge says of it."""
    scored = verbs.of(build(name)) + ["judge"] * (name in EVERYTHING["judge"]["of"])
    assert MODELS[name].get("headline", scored[0]).split(".")[0] in scored


@pytest.mark.parametrize("name", TRAINED)
def test_one_step_moves_the_weights_named(name):
    """The loop's step of each player: a finite loss, and all of its own weights move and no others."""
    network, players, moved = build(name), MODELS[name]["players"], {}
    plain_losses = network.losses

    def watched(batch):
        for player, loss in plain_losses(batch):
            assert bool(loss.isfinite())
            before = {key: weight.detach().clone() for key, weight in network.named_parameters()}
            yield player, loss
            assert player not in moved
            moved[player] = {key for key, weight in network.named_parameters() if not torch.equal(weight, before[key])}

    network.losses = watched
    rows, diverged_at_step = training.fit(network, iter([batch_for(name)]), players, 1)
    assert diverged_at_step is None
    assert {row[2] for row in rows} == set(players)
    assert moved == {player: named_by(network, options["moves"]) for player, options in players.items()}


@pytest.mark.parametrize("name", MODELS)
def test_verbs_are_deterministic(name):
    """Noise is an input: in evaluation mode a verb gives the same for the same inputs, and leaves no trace."""
    network = build(name).eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    for verb in verbs.of(network):
        values = {}
        for key, (kind, axes) in verbs.inputs(network, verb).items():
            shape = [{"batch": 3, "time": 5}.get(axis, axis) for axis in axes]
            values[key] = torch.ones(shape, dtype=getattr(torch, kind))
        with torch.no_grad():
            first, second = (getattr(network, verb)(**values) for _ in range(2))
        if not isinstance(first, dict):
            first, second = {"": first}, {"": second}
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert all(bool(value.isfinite().all()) for value in first.values())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cae_strided", 26_448), ("deep_conv_plain", 337_826), ("deep_conv_bn", 338_686), ("ae_dense32", 50_992),
        ("vae_bce", 224_464), ("cvae", 226_384), ("lstm", 2 * 10_000 * 200 + 10_000 + 2 * (4 * 200 * 400 + 800)),
    ],
)  # fmt: skip
def test_weights_are_as_many_as_published(name, count):
    network = params.build(MODELS[name], FACTS["images"] | {"vocabulary": 10_000})
    assert sum(weight.numel() for weight in network.parameters() if weight.requires_grad) == count


def test_a_net_that_cannot_be():
    entry = MODELS["ae_dense32"] | {"name": "ae_dense32"}
    with pytest.raises(InputError, match=r"params\.yaml: models\.ae_dense32\.net .*'tanh'.*linear, relu"):
        params.build(entry | {"net": entry["net"] | {"code_activation": "tanh"}}, FACTS["images"])
    with pytest.raises(InputError, match=r"models\.ae_dense32\.net .*depth"):
        params.build(entry | {"net": entry["net"] | {"depth": 3}}, FACTS["images"])


# ---- autoencoders


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_dense_autoencoder_losses(loss):
    """Means over pixels of what the verb `reconstruct` gives: the training objective is of the picture it draws."""
    network, (image, label) = build("ae_dense32", loss=loss), image_batch()
    drawn = network.reconstruct(image).detach().double().numpy()
    pixels = image.double().numpy()
    entropy = -(pixels * numpy.log(drawn) + (1 - pixels) * numpy.log(1 - drawn)).mean()
    expected = {"bce": entropy, "mse": ((pixels - drawn) ** 2).mean()}[loss]
    assert losses(network, (image, label))["autoencoder"] == pytest.approx(expected, rel=1e-5)


def test_dense_autoencoder_mirrors_itself():
    network = build("ae_dense32", hidden=[50, 40], code=3)
    sizes = [(layer.in_features, layer.out_features) for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert sizes == [(784, 50), (50, 40), (40, 3), (3, 40), (40, 50), (50, 784)]
    assert network.encode(image_batch()[0]).shape == (12, 3)


def test_dense_autoencoder_without_ink():
    """Logits 0 are pixels of one half, whose cross-entropy with any image is ln 2."""
    network = build("ae_dense32")
    for weight in network.decoder.parameters():
        nn.init.zeros_(weight)
    assert losses(network, image_batch())["autoencoder"] == pytest.approx(math.log(2), rel=1e-5)


def test_strided_autoencoder_begins_as_a_truncated_normal():
    network, entry = build("cae_strided"), MODELS["cae_strided"]["net"]
    weights = torch.cat([weight.detach().flatten() for weight in network.parameters() if weight.dim() == 4]).numpy()
    expected = scipy.stats.truncnorm(-2, 2, scale=entry["weight_deviation"])
    assert scipy.stats.kstest(weights, expected.cdf).pvalue > 0.001
    biases = [weight for key, weight in network.named_parameters() if key.endswith("bias")]
    assert [len(bias) for bias in biases] == entry["maps"]
    assert all(bool((bias == entry["bias"]).all()) for bias in biases)


def test_strided_autoencoder_halves_and_doubles():
    network, (image, label) = build("cae_strided"), image_batch()
    assert network.encode(image).shape == (12, 32, 7, 7)
    drawn = network.reconstruct(image)
    assert drawn.shape == image.shape
    assert bool((drawn >= 0).all())
    expected = ((drawn - image) ** 2).mean().item()
    assert losses(network, (image, label))["autoencoder"] == pytest.approx(expected, rel=1e-5)


# ---- variational autoencoders


@pytest.mark.parametrize("likelihood", ["bce", "mse"])
@pytest.mark.parametrize("name", VARIATIONAL)
def test_variational_loss_is_torchs_own(name, likelihood):
    """-log p(x|z) and KL(q || N(0, I)) by torch.distributions: summed over pixels and code, averaged over images."""
    network, (image, label) = build(name, likelihood=likelihood), image_batch()
    with torch.no_grad():
        mean, deviation = network.eval().posterior(image, label)
        torch.manual_seed(5)
        code = mean + deviation * torch.randn(mean.shape)
        drawn = network.decode(code, label)
    posterior = distributions.Normal(mean, deviation)
    divergence = distributions.kl_divergence(posterior, distributions.Normal(0.0, 1.0)).sum()
    pixels = distributions.Bernoulli(drawn, validate_args=False).log_prob(image).sum()
    error = {"bce": -pixels, "mse": ((drawn - image) ** 2).sum()}[likelihood]
    found = losses(network, (image, label), seed=5)["autoencoder"]
    assert found == pytest.approx(((error + divergence) / len(image)).item(), rel=1e-5)


def test_posterior_is_what_encode_says():
    network, (image, _) = build("vae_bce"), image_batch()
    hidden = network.encoder(image.flatten(1))
    deviation = 1e-6 + numpy.log1p(numpy.exp(network.deviation(hidden).detach().numpy()))
    code = network.encode(image)
    numpy.testing.assert_allclose(code["log_variance"].detach().numpy(), numpy.log(deviation**2), atol=1e-5)
    assert torch.equal(network.reconstruct(image), network.decode(code["mean"]))


# ---- labels as a condition


@pytest.mark.parametrize(
    ("name", "net", "verb"),
    [(name, {"conditional": True}, verb) for name in VARIATIONAL for verb in ("decode", "encode", "reconstruct")]
    + [("gan", {"conditional": True}, "generate"), ("aae_semi", {}, "decode")],
)
def test_the_label_matters(name, net, verb):
    """Each label gives another picture of the same code, and the others of the batch have no part in it."""
    network = build(name, **net).eval()
    key = next(iter(verbs.inputs(network, verb)))
    sizes = {"code": "code_size", "noise": "noise_size"}
    value = image_batch(1)[0] if key == "image" else torch.ones(1, getattr(network, sizes[key]))
    repeated, labels = value.expand(10, *value.shape[1:]), torch.arange(10)
    result, alone = (getattr(network, verb)(values, n) for values, n in ((repeated, labels), (value, labels[3:4])))
    result, alone = (r["mean"] if isinstance(r, dict) else r for r in (result, alone))
    assert all(not torch.allclose(result[i], result[j], atol=1e-6) for i in range(10) for j in range(i))
    assert torch.allclose(result[3], alone[0], atol=1e-6)


@pytest.mark.parametrize(("name", "verb"), [("vae_bce", "decode"), ("gan", "generate")])
def test_without_the_condition_there_is_no_label(name, verb):
    network = build(name, conditional=False)
    assert "label" not in verbs.inputs(network, verb)
    assert "label" in verbs.inputs(build(name, conditional=True), verb)


# ---- adversaries


@pytest.mark.parametrize("conditional", [False, True])
def test_gan_losses_at_a_critic_without_an_opinion(conditional):
    """D = 1/2 everywhere: -log D(x) - log(1 - D(G(z))) is 2 ln 2, -log D(G(z)) is ln 2 (Goodfellow et al. 2014)."""
    network = build("gan", conditional=conditional)
    for weight in network.discriminator.parameters():
        nn.init.zeros_(weight)
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


def test_adversarial_autoencoder_losses():
    """Two critics without an opinion: 4 ln 2 for them, 2 ln 2 for who fools them; the rest is what the verbs give."""
    network, batch = build("aae_semi"), batch_for("aae_semi")
    for weight in network.critic.parameters():
        nn.init.zeros_(weight)
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


def test_adversarial_autoencoder_uses_the_labels_it_was_given():
    """The labels of the unlabelled images change nothing."""
    network, (image, label, *labelled) = build("aae_semi"), batch_for("aae_semi")
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
        critic.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    torch.manual_seed(0)
    batch = [torch.cat([value] * 100) for value in batch_for("aae_semi")]
    next(network.losses(batch))
    classes, _, style, _ = seen
    assert set(classes.unique().tolist()) == {0.0, 1.0}
    assert bool((classes.sum(1) == 1).all())
    assert scipy.stats.chisquare(classes.sum(0).numpy()).pvalue > 0.001
    assert scipy.stats.kstest(style.flatten().numpy(), "norm").pvalue > 0.001


# ---- classifiers


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
    for weight in network.head.parameters():
        nn.init.zeros_(weight)
    assert losses(network, image_batch())["classifier"] == pytest.approx(math.log(2), rel=1e-6)
    network.head.bias.data[:] = torch.arange(10) / 3
    chance = 1 / (1 + numpy.exp(-numpy.arange(10) / 3))
    answers = numpy.eye(10)[numpy.arange(12) % 10]
    expected = -(answers * numpy.log(chance) + (1 - answers) * numpy.log(1 - chance)).mean()
    assert losses(network, image_batch())["classifier"] == pytest.approx(expected, rel=1e-6)


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
    for weight in network.head.parameters():
        nn.init.zeros_(weight)
    assert losses(network, image_batch())["classifier"] == pytest.approx(math.log(10), rel=1e-6)


# ---- the language model


def test_language_model_loss_is_a_sum_over_time():
    """At logits 0 every word costs ln 30; six words a row are summed, rows averaged."""
    network = build("lstm")
    for weight in network.logits.parameters():
        nn.init.zeros_(weight)
    assert losses(network, batch_for("lstm"))["language_model"] == pytest.approx(6 * math.log(30), rel=1e-6)


def test_language_model_carries_its_state():
    """Two stretches of five cost what one of ten costs; begun afresh, the second costs something else."""
    network = build("lstm", initial_range=1.0)
    words = torch.randint(30, (3, 11), generator=torch.Generator().manual_seed(0))
    whole = losses(network, (words[:, :10], words[:, 1:], True))["language_model"]
    first = losses(network, (words[:, :5], words[:, 1:6], True))["language_model"]
    second = losses(network, (words[:, 5:10], words[:, 6:], False))["language_model"]
    fresh = losses(network, (words[:, 5:10], words[:, 6:], True))["language_model"]
    assert first + second == pytest.approx(whole, rel=1e-5)
    assert abs(fresh - second) > 1e-3


def test_validation_does_not_interrupt_the_language_model():
    """The state of the training text is still there after a validation text was read."""
    words = torch.randint(30, (3, 11), generator=torch.Generator().manual_seed(0))
    second = words[:, 5:10], words[:, 6:], False
    outcomes = []
    for validation in ([], [(words[:, :5], words[:, 1:6], True)]):
        network = build("lstm", initial_range=1.0).train()
        for batch in ((words[:, :5], words[:, 1:6], True), second):
            outcomes.append(next(network.losses(batch))[1].item())
            training.evaluate(network, validation)
    assert outcomes[:2] == outcomes[2:]


def test_next_word_reads_in_pieces():
    network = build("lstm", initial_range=1.0).eval()
    words = torch.randint(30, (3, 10), generator=torch.Generator().manual_seed(0))
    state = network.silence(3, "cpu")
    whole = network.next_word(words, *state)
    pieces = []
    for piece in words.split(4, dim=1):
        result = network.next_word(piece, *state)
        pieces.append(result["logits"])
        state = result["next_hidden"], result["next_cell"]
    assert whole["logits"].shape == (3, 10, 30)
    assert torch.allclose(torch.cat(pieces, 1), whole["logits"], atol=1e-5)
    assert torch.allclose(state[0], whole["next_hidden"], atol=1e-6)


# ---- operators


@pytest.mark.parametrize("name", ["op_upsample_nearest", "op_upsample_transposed"])
def test_upsampling_is_numpys_repeat(name):
    image = image_batch()[0]
    expected = image.numpy().repeat(2, axis=2).repeat(2, axis=3)
    assert numpy.array_equal(build(name).apply(image).numpy(), expected)


# ---- checkpoints


@pytest.mark.parametrize("name", MODELS)
def test_checkpoints_round_trip(name, tmp_path):
    """Every tensor to the bit, the record beside them, and equal weights in equal bytes."""
    network, other, record = build(name, seed=0), build(name, seed=1), {"seed": 0, "data": {"classes": 10}}
    path, again = tmp_path / "0.safetensors", tmp_path / "1.safetensors"
    checkpoints.save(path, network.to(memory_format=torch.channels_last), record)
    checkpoints.load(path, other)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in other.state_dict().items())
    assert checkpoints.run_of(path) == record
    checkpoints.save(again, other, dict(reversed(record.items())))
    assert path.read_bytes() == again.read_bytes()


def saved(folder, name="ae_dense32"):
    path = folder / "0.safetensors"
    checkpoints.save(path, build(name), {"seed": 0})
    return path


READERS = {
    "load": checkpoints.load,
    "begin_from": checkpoints.begin_from,
    "run_of": lambda path, network: checkpoints.run_of(path),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"not a checkpoint",
        lambda content: content[:8] + b"?" + content[9:],
    ],
)
def test_damaged_checkpoints(reader, damage, tmp_path):
    path = saved(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"0\.safetensors is damaged.*delete it and run `dvc repro`"):
        reader(path, build("ae_dense32"))


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_missing_checkpoints(reader, tmp_path):
    with pytest.raises(InputError, match=r"0\.safetensors is missing: run `dvc repro`"):
        reader(tmp_path / "0.safetensors", build("ae_dense32"))


def test_foreign_checkpoints(tmp_path):
    """Those of another network, and files of safetensors that are not of this project."""
    path = saved(tmp_path)
    with pytest.raises(InputError, match=r"0\.safetensors is damaged or of another network"):
        checkpoints.load(path, build("vae_bce"))
    with pytest.raises(InputError, match=r"0\.safetensors is damaged or of another network"):
        checkpoints.load(path, build("ae_dense32", code=16))
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(InputError, match=r"0\.safetensors is damaged or of another network"):
        checkpoints.run_of(path)


def test_begin_from(tmp_path):
    """What has name and shape in common is taken over, the rest stays: here all but the last layer."""
    path, network, untouched = saved(tmp_path, "resnet"), build("resnet", seed=1), build("resnet", seed=1)
    network.head = untouched.head = nn.Linear(128, 7)
    stored = build("resnet").state_dict()
    assert checkpoints.begin_from(path, network) == len(stored) - 2
    for key, value in network.state_dict().items():
        assert torch.equal(value, (untouched.state_dict() if key.startswith("head") else stored)[key])
    with pytest.raises(InputError, match=r"0\.safetensors shares no weights with zoo\.models\.variational.*start:"):
        checkpoints.begin_from(path, build("vae_bce"))
