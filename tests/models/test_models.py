"""Every experiment of params.yaml keeps the contract, and its weights are as many as its write-up's."""

import itertools
import json

import pytest
import torch
from networks import ENTRIES, EVERYTHING, FACTS, MODELS, batch_for, build, build_small, example
from torch import nn

from zoo.errors import InputError
from zoo.graphs import verbs
from zoo.params import experiments
from zoo.train import checkpoints, loop

TRAINED = [name for name, entry in MODELS.items() if entry["players"]]


def named_by(network, updates):
    """Names of the weights that `updates` stands for."""
    parts = dict(network.named_children()) if updates == "all" else {part: getattr(network, part) for part in updates}
    return {
        f"{part}.{name}"
        for part, module in parts.items()
        for name, weight in module.named_parameters()
        if weight.requires_grad
    }


@pytest.mark.parametrize("name", MODELS)
def test_builds(name):
    """And its headline is a metric of something that it can do, or that the judge says of it."""
    scored = verbs.of(build(name)) + ["judge"] * (name in EVERYTHING["judge"]["of"])
    assert MODELS[name].get("headline", scored[0]).split(".")[0] in scored


@pytest.mark.parametrize("name", TRAINED)
def test_one_step_moves_the_weights_named(name):
    """The loop's step of each player: a finite loss, and all of its own weights move and no others."""
    network, players, moved = build_small(name), MODELS[name]["players"], {}
    plain_losses = network.losses

    def watched(batch):
        for player, loss in plain_losses(batch):
            assert bool(loss.isfinite())
            before = {key: weight.detach().clone() for key, weight in network.named_parameters()}
            yield player, loss
            assert player not in moved
            moved[player] = {key for key, weight in network.named_parameters() if not torch.equal(weight, before[key])}

    network.losses = watched
    rows, diverged = loop.fit(network, iter([batch_for(name)]), players, 1)
    assert diverged is None
    assert {row[2] for row in rows} == set(players)
    assert moved == {player: named_by(network, options["updates"]) for player, options in players.items()}


@pytest.mark.parametrize("name", MODELS)
def test_verbs_are_deterministic(name):
    """Noise is an input: in evaluation mode a verb gives the same for the same inputs, and leaves no trace."""
    network = build_small(name).eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    for verb in verbs.of(network):
        values = example(network, verb, device="cpu", fill=1)
        with torch.no_grad():
            first, second = (getattr(network, verb)(**values) for _ in range(2))
        if not isinstance(first, dict):
            first, second = {"": first}, {"": second}
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert all(bool(value.isfinite().all()) for value in first.values())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def dense(*sizes):
    """Weights and biases of fully connected layers."""
    return sum((before + 1) * after for before, after in itertools.pairwise(sizes))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cae_strided", 26_448), ("cae_zero_unpool", 26_448), ("cae_nearest_unpool", 26_448),
        ("cae_nearest_unpool_first", 26_465), ("cae_argmax_unpool", 26_465), ("cae_upsample", 4_385),
        ("cae_denoise", 30_689), ("ae_dense32", 50_992), ("ae_dense2", 3_576_786), ("vae_bce", 224_464),
        ("cvae", 226_384), ("vae_2d", 807_700), ("deep_conv_plain", 337_826), ("deep_conv_bn", 338_686),
        ("deep_conv_bn_manual", 338_686), ("probe_frozen", dense(784, 32, 10)),
        ("gan", dense(100, 150, 300, 784) + dense(784, 300, 150, 1)),
        ("cgan", dense(110, 150, 300, 784) + dense(794, 300, 150, 1)),
        ("infogan", dense(62 + 10 + 2, 150, 300, 784) + dense(784, 300, 150, 1 + 10 + 2)),
        ("aae_gaussian", 3_576_786 + dense(2, 250, 250, 1)),
        ("aae_supervised", 3_576_786 + 10 * 1000 + dense(2 + 10, 250, 250, 1)),
        ("mlp_sigmoid", dense(784, 512, 512, 512, 256, 256, 10)),
        ("mlp_sigmoid_bn", dense(784, 512, 512, 512, 256, 256, 10) + 512 * 3 + 256 * 2),  # scale and shift, no bias
        ("lstm", 2 * 10_000 * 200 + 10_000 + 2 * (4 * 200 * 400 + 800)),
        ("lstm_1layer", 2 * 10_000 * 200 + 10_000 + 4 * 200 * 400 + 800),
        ("lstm_3layer", 2 * 10_000 * 200 + 10_000 + 3 * (4 * 200 * 400 + 800)),
        ("rnn_tanh", 2 * 10_000 * 200 + 10_000 + 2 * (200 * 400 + 200)),
        ("lstm_medium", 2 * 10_000 * 650 + 10_000 + 2 * (4 * 650 * 1300 + 2600)),
    ],
)  # fmt: skip
def test_weights_are_as_many_as_published(name, count):
    """As a write-up's listing has them, biases that it never adds left out; the others by the sizes of their table."""
    entry = experiments.in_profile(name, ENTRIES[name], "full")
    network = experiments.build(entry.file, entry.net, FACTS["images"] | {"vocabulary": 10_000})
    assert sum(weight.numel() for weight in network.parameters() if weight.requires_grad) == count


def test_a_net_that_cannot_be():
    with pytest.raises(InputError, match=r"params\.yaml: models\.ae_dense32\.net .*'tanh'.*linear, relu"):
        build("ae_dense32", code_activation="tanh")
    with pytest.raises(InputError, match=r"models\.ae_dense32\.net .*depth"):
        build("ae_dense32", depth=3)


WORDS = {
    "dense_autoencoder": ["code_activation", "loss"],
    "unpool_autoencoder": ["unpooling", "unpool", "output", "loss"],
    "variational": ["activation", "spread", "likelihood", "initial_weights"],
    "deep_conv": ["normalisation"],
    "dense_classifier": ["activation", "normalisation"],
    "recurrent": ["cell"],
    "operators": ["operator"],
}


@pytest.mark.parametrize(("file", "key"), [(file, key) for file, keys in WORDS.items() for key in keys])
def test_a_word_that_a_network_does_not_know(file, key):
    """It is named, beside the words that there are."""
    name = next(name for name, entry in MODELS.items() if entry["file"] == file)
    known = MODELS[name]["net"][key]
    with pytest.raises(InputError, match=rf"'upwards' is unknown: use one of .*\b{known}\b"):
        build(name, **{key: "upwards"})


# ---- checkpoints


@pytest.mark.parametrize("name", MODELS)
def test_checkpoints_round_trip(name, tmp_path):
    """Every tensor to the bit, the record beside them, and equal weights in equal bytes."""
    network, other, record = build_small(name), build_small(name, seed=1), dict.fromkeys(checkpoints.KEYS, 0)
    record |= {"recipe": {"file": "gan", "net": {}}, "data": {"classes": 10}}
    path, again = tmp_path / "0.safetensors", tmp_path / "1.safetensors"
    checkpoints.save(path, network.to(memory_format=torch.channels_last), record)
    checkpoints.load(path, other)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in other.state_dict().items())
    assert checkpoints.load_metadata(path) == record
    checkpoints.save(again, other, dict(reversed(record.items())))
    assert path.read_bytes() == again.read_bytes()


def saved(folder, name="ae_dense32"):
    path = folder / "0.safetensors"
    checkpoints.save(path, build(name), {"seed": 0})
    return path


READERS = {
    "load": checkpoints.load,
    "load_matching": checkpoints.load_matching,
    "load_metadata": lambda path, network: checkpoints.load_metadata(path),
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
    ids=["cut", "empty", "text", "changed"],
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
        checkpoints.load_metadata(path)


def test_load_matching(tmp_path):
    """What has name and shape in common is taken over, the rest stays: here all but the last layer."""
    path, network, untouched = saved(tmp_path, "resnet"), build("resnet", seed=1), build("resnet", seed=1)
    network.head = untouched.head = nn.Linear(128, 7)
    stored = build("resnet").state_dict()
    assert checkpoints.load_matching(path, network) == len(stored) - 2
    for key, value in network.state_dict().items():
        assert torch.equal(value, (untouched.state_dict() if key.startswith("head") else stored)[key])
    with pytest.raises(InputError, match=r"0\.safetensors shares no weights with zoo\.models\.variational.*start:"):
        checkpoints.load_matching(path, build("vae_bce"))
