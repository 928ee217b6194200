"""The one loop, against gradient descent written out by hand, and runs that repeat to the bit."""

import copy
import hashlib
import json
import math
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from zoo import checkpoints, params, runs, seeding, training
from zoo.errors import InputError

torch.set_num_threads(1)
EVERYTHING = params.load(Path(__file__).parent.parent / "params.yaml")
ONE_OF_EACH = {entry["file"]: name for name, entry in reversed(EVERYTHING["models"].items())}


class Line(nn.Module):
    """A linear layer and its mean squared error; a batch is (inputs, targets)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def losses(self, batch):
        inputs, targets = batch
        yield "line", F.mse_loss(self.layer(inputs), targets)


class Number(nn.Module):
    """One weight, `value`."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))


class Game(nn.Module):
    """Numbers, one a part; `rule(values, batch)` yields (player, loss)."""

    def __init__(self, rule, **values):
        super().__init__()
        self.rule = rule
        for name, value in values.items():
            self.add_module(name, Number(value))

    def losses(self, batch):
        yield from self.rule({name: part.value for name, part in self.named_children()}, batch)

    def values(self):
        return {name: part.value.item() for name, part in self.named_children()}


def sgd(lr, moves="all", **options):
    return {"algorithm": "SGD", "lr": lr, "moves": moves, **options}


def line_data(count):
    source = numpy.random.default_rng(0)
    return [(source.standard_normal((5, 3)), source.standard_normal((5, 2))) for _ in range(count)]


def fit_line(player, data, **options):
    """(weights before, weights after) of `Line` in double precision; weights are [2, 4], the bias last."""
    torch.manual_seed(0)
    network = Line().double()
    before = torch.cat([network.layer.weight, network.layer.bias[:, None]], 1).detach().numpy()
    stream = ((torch.from_numpy(inputs), torch.from_numpy(targets)) for inputs, targets in data)
    training.fit(network, stream, {"line": player}, len(data), **options)
    return before, torch.cat([network.layer.weight, network.layer.bias[:, None]], 1).detach().numpy()


def gradient(weights, inputs, targets):
    """Of mean((x W' + b - y)^2), by hand: 2 / size * residual' [x, 1]."""
    extended = numpy.concatenate([inputs, numpy.ones((len(inputs), 1))], 1)
    return 2 / targets.size * (extended @ weights.T - targets).T @ extended


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_by_hand(momentum):
    data = line_data(6)
    weights, after = fit_line(sgd(0.3, momentum=momentum), data)
    velocity = 0
    for inputs, targets in data:
        velocity = momentum * velocity + gradient(weights, inputs, targets)
        weights = weights - 0.3 * velocity
    numpy.testing.assert_allclose(after, weights, rtol=1e-9)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.99)])
def test_adam_by_hand(betas):
    """Algorithm 1 of Kingma & Ba 2014, epsilon 1e-8."""
    data = line_data(6)
    player = {"algorithm": "Adam", "lr": 0.01, "betas": list(betas), "moves": "all"}
    weights, after = fit_line(player, data)
    first = second = numpy.zeros((2, 4))
    for step, (inputs, targets) in enumerate(data, 1):
        slope = gradient(weights, inputs, targets)
        first = betas[0] * first + (1 - betas[0]) * slope
        second = betas[1] * second + (1 - betas[1]) * slope**2
        unbiased = first / (1 - betas[0] ** step), second / (1 - betas[1] ** step)
        weights = weights - 0.01 * unbiased[0] / (numpy.sqrt(unbiased[1]) + 1e-8)
    numpy.testing.assert_allclose(after, weights, rtol=1e-7)


@pytest.mark.parametrize("clip", [0.1, 1e6])
def test_clipping_by_the_global_norm(clip):
    """Kernel and bias together are scaled to the norm `clip` where they are longer (Pascanu et al. 2013)."""
    data = line_data(4)
    weights, after = fit_line(sgd(0.5), data, clip=clip)
    for inputs, targets in data:
        slope = gradient(weights, inputs, targets)
        weights = weights - 0.5 * slope * min(1, clip / numpy.sqrt((slope**2).sum()))
    numpy.testing.assert_allclose(after, weights, rtol=1e-5)


def test_players_take_turns():
    """Each moves its own number down its own loss alone, and the second sees where the first has moved to."""

    def rule(values, batch):
        yield "left", (values["a"] * values["b"] - 1) ** 2
        yield "right", (values["a"] + 3 * values["b"]) ** 2

    network = Game(rule, a=0.5, b=-0.7)
    players = {"left": sgd(0.1, ["a"]), "right": sgd(0.02, ["b"])}
    rows, _ = training.fit(network, iter(range(9)), players, 3)
    a, b, losses = 0.5, -0.7, []
    for _ in range(3):
        losses += [(a * b - 1) ** 2]
        slope = 2 * (a * b - 1) * b
        a -= 0.1 * slope
        losses += [(a + 3 * b) ** 2]
        b -= 0.02 * 2 * (a + 3 * b) * 3
    assert network.values() == pytest.approx({"a": a, "b": b}, rel=1e-5)
    assert network.a.value.grad.item() == pytest.approx(slope, rel=1e-5)  # the other's loss adds nothing
    assert [row[:3] for row in rows] == [(s, "training", player) for s in range(3) for player in ("left", "right")]
    assert [row[3] for row in rows] == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize(
    ("moves", "rates"),
    [
        ("all", {"a": 0.5, "b": 0.5, "c": 0.5}),
        (["a", "c"], {"a": 0.5, "b": 0.0, "c": 0.5}),
        ({"a": 0.25, "b": 0.125}, {"a": 0.25, "b": 0.125, "c": 0.0}),
    ],
)
def test_moves_and_rates(moves, rates):
    """Slopes are 1, 2 and 3 everywhere: after steps scaled by 1 and 1/2 a number has gone 1.5 * its rate * slope."""

    def rule(values, batch):
        yield "all", values["a"] + 2 * values["b"] + 3 * values["c"]

    network = Game(rule, a=0, b=0, c=0)
    training.fit(network, iter(range(2)), {"all": sgd(0.5, moves)}, 2, rate=lambda step: (1, 0.5)[step])
    slopes = {"a": 1, "b": 2, "c": 3}
    assert network.values() == pytest.approx({name: -1.5 * rates[name] * slopes[name] for name in slopes})


def test_frozen_weights_stay():
    def rule(values, batch):
        yield "all", values["a"] + values["b"]

    network = Game(rule, a=1, b=2)
    network.b.value.requires_grad_(False)
    training.fit(network, iter(range(1)), {"all": sgd(0.5)}, 1)
    assert network.values() == {"a": 0.5, "b": 2}


def test_decay_is_the_tutorials():
    """TensorFlow's PTB tutorial, small model: lr_decay ** max(epoch + 1 - max_epoch, 0), and the rates that it logs."""
    rate = training.decayed(2323, after_epochs=4, factor=0.5)
    for epoch, logged in enumerate([1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125, 0.062, 0.031, 0.016, 0.008, 0.004, 0.002]):
        for step in (2323 * epoch, 2323 * epoch + 2322):
            assert rate(step) == 0.5 ** max(epoch + 1 - 4, 0)
            assert rate(step) == pytest.approx(logged, abs=5.1e-4)


def test_cooling_is_a_straight_line_to_zero():
    rate, steps = training.cooled(1000, 0.4), [0, 599, 600, 601, 700, 800, 999, 1000]
    assert [rate(step) for step in steps] == pytest.approx(numpy.interp(steps, [0, 600, 1000], [1, 1, 0]))


@pytest.mark.parametrize(
    ("fit", "expected"), [({}, [1, 1, 1]), ({"decay": {"after_epochs": 1, "factor": 0.5}}, [1, 0.5, 0.25])]
)
def test_runs_choose_the_rate(fit, expected):
    """With 10 steps an epoch."""
    assert [runs._rate(fit, 30, 10)(step) for step in (0, 10, 29)] == expected


def test_curve():
    """The slope is 1: before step s the number is -0.1 s. Batch b adds b to the loss, validation 100 and 200."""
    seen = []

    def rule(values, batch):
        yield "all", values["a"] + batch

    rows, diverged_at_step = training.fit(
        Game(rule, a=0), iter(range(12)), {"all": sgd(0.1)}, 12, log_every=5, validate_every=6,
        validation=[100, 200], watch=lambda step, losses: seen.append((step, losses)),
    )  # fmt: skip
    training_rows = [(step, pytest.approx(step - 0.1 * step)) for step in (0, 5, 10, 11)]
    assert [(row[0], row[3]) for row in rows if row[1:3] == ("training", "all")] == training_rows
    validation_rows = [(step, pytest.approx(150 - 0.1 * step)) for step in (0, 6, 12)]
    assert [(row[0], row[3]) for row in rows if row[1:3] == ("validation", "all")] == validation_rows
    assert len(rows) == 7
    assert seen == [(step, {"all": loss}) for step, loss in training_rows]
    assert diverged_at_step is None


class Noisy(nn.Module):
    """Whatever differs between training and evaluation: dropout, batch statistics, drawn noise."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))

    def losses(self, batch):
        inputs, targets = batch
        noise = torch.randn_like(inputs) if self.training else 0
        yield "line", F.mse_loss(self.body(inputs + noise), targets)


def test_validation_disturbs_nothing_and_is_in_evaluation_mode():
    data = [tuple(torch.from_numpy(part).float() for part in pair) for pair in line_data(9)]
    outcomes = []
    for validate_every in (None, 2):
        torch.manual_seed(0)
        network = Noisy()
        options = {"validate_every": validate_every, "validation": data[8:] if validate_every else []}
        rows, _ = training.fit(network, iter(data[:8]), {"line": sgd(0.1)}, 8, **options)
        outcomes.append(network.state_dict())
        assert network.training
    assert all(torch.equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])
    first, norm, _, last = network.body
    inputs, targets = data[8]
    hidden = first(inputs) - norm.running_mean
    normal = hidden / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    assert rows[-1] == (8, "validation", "line", pytest.approx((last(normal) - targets).square().mean().item()))


@pytest.mark.parametrize("log_every", [1, 4, 100])
@pytest.mark.parametrize("step", [0, 3, 4, 7, 9])
def test_divergence_is_the_first_step_without_a_finite_loss(step, log_every):
    """Weights come from the last reading before it: reading happens after the steps 0, log_every, ..., and the last."""

    def rule(values, batch):
        yield "all", values["a"] * (math.nan if batch == step else 1)

    network = Game(rule, a=0)
    rows, diverged_at_step = training.fit(network, iter(range(10)), {"all": sgd(0.5)}, 10, log_every=log_every)
    steps_kept = max((reading + 1 for reading in range(0, step, log_every)), default=0)
    assert diverged_at_step == step
    assert network.values() == {"a": -0.5 * steps_kept}
    assert [row[0] for row in rows][:-1] == list(range(0, step, log_every))


@pytest.mark.parametrize("log_every", [1, 7, 100])
def test_divergence_by_growth(log_every):
    """Up the slope of -w^2 at rate 4.5, w grows tenfold a step: 10^(2 n) leaves float32 (3.4e38) at n = 20."""

    def rule(values, batch):
        yield "all", -(values["a"] ** 2)

    network = Game(rule, a=1)
    _, diverged_at_step = training.fit(network, iter(range(50)), {"all": sgd(4.5)}, 50, log_every=log_every)
    assert diverged_at_step == 20
    assert math.isfinite(network.values()["a"])


@pytest.mark.parametrize("log_every", [1, 5])
def test_a_finite_loss_with_an_infinite_slope(log_every):
    """sqrt(w) at 0: the loss of step 2 is 0, its slope is not finite, so step 3 would be the first bad loss."""

    def rule(values, batch):
        yield "all", values["a"] if batch < 2 else (0 * values["a"]).sqrt()

    network = Game(rule, a=1)
    _, diverged_at_step = training.fit(network, iter(range(9)), {"all": sgd(0.5)}, 9, log_every=log_every)
    assert diverged_at_step == 3
    assert math.isfinite(network.values()["a"])


@pytest.mark.parametrize(
    ("players", "message"),
    [
        ({"line": sgd(0.1) | {"algorithm": "Adamant"}}, r"players\.line\.algorithm = Adamant"),
        ({"line": sgd(0.1) | {"algorithm": "lr_scheduler"}}, r"players\.line\.algorithm = lr_scheduler"),
        ({"line": sgd(0.1, momentun=0.9)}, r"players\.line\.momentun is unknown to SGD.*momentum"),
        ({"line": sgd(0.1, ["layers"])}, r"players\.line\.moves = layers.*it has layer"),
        ({"line": sgd(0.1, {"layers": 0.1})}, r"players\.line\.moves = layers.*it has layer"),
        ({"other": sgd(0.1)}, "players has no 'line'"),
        ({"line": sgd(0.1), "idle": sgd(0.1)}, "players has idle,.*remove it"),
    ],
)
def test_mistakes_in_players(players, message):
    batch = torch.zeros(1, 3), torch.zeros(1, 2)
    with pytest.raises(InputError, match=rf"^params\.yaml: {message}"):
        training.fit(Line(), iter([batch] * 3), players, 3)


def small_data(kind):
    """Random images or words, just enough for the batches of params.yaml."""
    source = numpy.random.default_rng(0)
    if kind == "text":
        splits = {split: source.integers(0, 30, 2000, dtype=numpy.int32) for split in ("train", "validation")}
        return splits, {"vocabulary": 30}
    arrays = {}
    for split, count in (("train", 200), ("validation", 20)):
        arrays[f"{split}_images"] = source.integers(0, 256, (count, 28, 28), dtype=numpy.uint8)
        arrays[f"{split}_labels"] = (numpy.arange(count) % 10).astype(numpy.uint8)
    return arrays, {"classes": 10}


def run(name, seed, steps=3, **changes):
    """One small run on the CPU of an experiment of params.yaml, with `changes` to its entry."""
    entry = copy.deepcopy(EVERYTHING["models"][name]) | changes
    entry["steps"] = {"quick": min(steps, entry["steps"]["full"])}
    arrays, facts = small_data(entry["data"])
    everything = EVERYTHING | {"device": "cpu"}
    return runs.train(everything, entry, "quick", seed, arrays, facts, lambda step, losses: None)


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH.values() if EVERYTHING["models"][name]["players"]])
def test_equal_seeds_give_equal_weights(name):
    (first, rows, record), (second, rows_again, _), (third, _, _) = run(name, 0), run(name, 0), run(name, 1)
    states = [network.state_dict() for network in (first, second, third)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert rows == rows_again
    assert {row[1] for row in rows} == {"training", "validation"}
    assert (record["seed"], record["threads"], record["diverged_at_step"]) == (0, EVERYTHING["threads"], None)


def test_record():
    """The digest is of the recipe alone: what an experiment says about itself is not part of it."""
    network, _, record = run("ae_dense32", 0, steps=0)
    recipe = {
        "file": "dense_autoencoder", "data": "images", "start": "data/images.npz", "steps": 0,
        **{key: EVERYTHING["models"]["ae_dense32"][key] for key in ("net", "fit", "players")},
    }  # fmt: skip
    assert record["recipe"] == recipe
    assert record["params_sha256"] == hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    assert record["parameters"] == sum(weight.numel() for weight in network.parameters())
    assert run("ae_dense32", 0, steps=0, about="else")[2]["params_sha256"] == record["params_sha256"]
    assert run("ae_dense32", 0, steps=0, fit={"batch": 100})[2]["params_sha256"] != record["params_sha256"]


def test_record_of_a_share_of_labels():
    """`labelled` is the profile's: the other profile's number changes nothing."""
    record = run("aae_semi", 0, steps=0)[2]
    entry = EVERYTHING["models"]["aae_semi"]
    assert record["recipe"]["fit"] == entry["fit"] | {"labelled": entry["fit"]["labelled"]["quick"]}


def test_start_from_a_checkpoint(tmp_path, monkeypatch):
    """The encoder of another experiment's checkpoint of the same seed is where a network begins."""
    source = run("ae_dense32", 0, steps=0)[0]
    other = run("ae_dense32", 1, steps=0)[0]
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "artifacts" / "quick" / "checkpoints" / "elsewhere"
    folder.mkdir(parents=True)
    save_file(
        {name: value for name, value in source.state_dict().items() if "encoder" in name}, folder / "1.safetensors"
    )
    network = run("ae_dense32", 1, steps=0, start="checkpoints/elsewhere")[0]
    for name, value in network.state_dict().items():
        assert torch.equal(value, (source if "encoder" in name else other).state_dict()[name])
    with pytest.raises(InputError, match=r"artifacts/quick/checkpoints/elsewhere/0\.safetensors is missing"):
        run("ae_dense32", 0, steps=0, start="checkpoints/elsewhere")


def test_start_that_shares_nothing(tmp_path):
    path = tmp_path / "0.safetensors"
    save_file({"layer.weight": torch.zeros(5, 5), "other": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"0\.safetensors shares no weights"):
        checkpoints.begin_from(path, Line())


def test_cuda_asked_for_and_absent():
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    with pytest.raises(InputError, match=r"params\.yaml: device = cuda.*set it to auto or cpu"):
        seeding.prepare(0, 1, "cuda")
    assert seeding.prepare(0, 1, "auto") == torch.device("cpu")


def test_the_order_of_the_data_has_a_generator_of_its_own():
    """Equal seeds give equal orders, whatever a network has drawn in between."""
    seeding.prepare(3, 1, "cpu")
    first = torch.randperm(50, generator=seeding.generator(3, "cpu"))
    torch.randn(7)
    assert torch.equal(first, torch.randperm(50, generator=seeding.generator(3, "cpu")))
    assert not torch.equal(first, torch.randperm(50, generator=seeding.generator(4, "cpu")))
