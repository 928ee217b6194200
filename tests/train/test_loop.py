"""The one loop, against gradient descent written out by hand."""

import math

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.train import loop

torch.set_num_threads(1)


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


def sgd(lr, updates="all", **options):
    return {"algorithm": "SGD", "lr": lr, "updates": updates, **options}


def line_data(count):
    source = numpy.random.default_rng(0)
    return [(source.standard_normal((5, 3)), source.standard_normal((5, 2))) for _ in range(count)]


def fit_line(player, data, **options):
    """(weights before, weights after) of `Line` in double precision; weights are [2, 4], the bias last."""
    torch.manual_seed(0)
    network = Line().double()
    before = torch.cat([network.layer.weight, network.layer.bias[:, None]], 1).detach().numpy()
    stream = ((torch.from_numpy(inputs), torch.from_numpy(targets)) for inputs, targets in data)
    loop.fit(network, stream, {"line": player}, len(data), **options)
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
    player = {"algorithm": "Adam", "lr": 0.01, "betas": list(betas), "updates": "all"}
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
    rows, _ = loop.fit(network, iter(range(9)), players, 3)
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
    ("updates", "rates"),
    [
        ("all", {"a": 0.5, "b": 0.5, "c": 0.5}),
        (["a", "c"], {"a": 0.5, "b": 0.0, "c": 0.5}),
        ({"a": 0.25, "b": 0.125}, {"a": 0.25, "b": 0.125, "c": 0.0}),
    ],
)
def test_updates_and_rates(updates, rates):
    """Slopes are 1, 2 and 3 everywhere: after steps scaled by 1 and 1/2 a number has gone 1.5 * its rate * slope."""

    def rule(values, batch):
        yield "all", values["a"] + 2 * values["b"] + 3 * values["c"]

    network = Game(rule, a=0, b=0, c=0)
    loop.fit(network, iter(range(2)), {"all": sgd(0.5, updates)}, 2, rate=lambda step: (1, 0.5)[step])
    slopes = {"a": 1, "b": 2, "c": 3}
    assert network.values() == pytest.approx({name: -1.5 * rates[name] * slopes[name] for name in slopes})


def test_frozen_weights_stay():
    def rule(values, batch):
        yield "all", values["a"] + values["b"]

    network = Game(rule, a=1, b=2)
    network.b.value.requires_grad_(False)
    loop.fit(network, iter(range(1)), {"all": sgd(0.5)}, 1)
    assert network.values() == {"a": 0.5, "b": 2}


def test_decay_is_the_tutorials():
    """TensorFlow's PTB tutorial, small model: lr_decay ** max(epoch + 1 - max_epoch, 0), and the rates that it logs."""
    rate = loop.decayed(2323, after_epochs=4, factor=0.5)
    for epoch, logged in enumerate([1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125, 0.062, 0.031, 0.016, 0.008, 0.004, 0.002]):
        for step in (2323 * epoch, 2323 * epoch + 2322):
            assert rate(step) == 0.5 ** max(epoch + 1 - 4, 0)
            assert rate(step) == pytest.approx(logged, abs=5.1e-4)


def test_cooling_is_a_straight_line_to_zero():
    rate, steps = loop.cooled(1000, 0.4), [0, 599, 600, 601, 700, 800, 999, 1000]
    assert [rate(step) for step in steps] == pytest.approx(numpy.interp(steps, [0, 600, 1000], [1, 1, 0]))


def test_curve():
    """The slope is 1: before step s the number is -0.1 s. Batch b adds b to the loss, validation 100 and 200."""
    seen, looked = [], []

    def rule(values, batch):
        yield "all", values["a"] + batch

    rows, diverged = loop.fit(
        Game(rule, a=0), iter(range(12)), {"all": sgd(0.1)}, 12, log_every=5, validate_every=6,
        validation=[100, 200], on_log=lambda step, losses: seen.append((step, losses)), on_validate=looked.append,
    )  # fmt: skip
    training_rows = [(step, pytest.approx(step - 0.1 * step)) for step in (0, 1, 2, 4, 5, 10, 11)]
    assert [(row[0], row[3]) for row in rows if row[1:3] == ("training", "all")] == training_rows
    validation_rows = [(step, pytest.approx(150 - 0.1 * step)) for step in (0, 6, 12)]
    assert [(row[0], row[3]) for row in rows if row[1:3] == ("validation", "all")] == validation_rows
    assert len(rows) == 10
    assert seen == [(step, {"all": loss}) for step, loss in training_rows]
    assert looked == [0, 6, 12]
    assert diverged is None


@pytest.mark.parametrize(
    ("log_every", "expected"),
    [(1, range(20)), (4, [0, 1, 2, 4, 8, 12, 16, 19]), (10, [0, 1, 2, 4, 8, 10, 19]), (50, [0, 1, 2, 4, 8, 16, 19])],
)
def test_losses_are_read_often_at_first(log_every, expected):
    """At 1, 2, 4, 8, ... before the first multiple of `log_every`, at those, and at the last step."""

    def rule(values, batch):
        yield "all", values["a"]

    rows, _ = loop.fit(Game(rule, a=0), iter(range(20)), {"all": sgd(0.1)}, 20, log_every=log_every)
    assert [row[0] for row in rows] == list(expected)


@pytest.mark.parametrize("clip", [None, 1e-3, 1e3])
def test_norms_of_the_rows_are_of_each_players_gradient(clip):
    """sqrt of the sum of squares over all its weights; where gradients are clipped, before; none in validation rows."""
    data = line_data(3)
    network = Line().double()
    batches = [tuple(torch.from_numpy(part) for part in pair) for pair in data]
    rows, _ = loop.fit(
        network, iter(batches), {"line": sgd(1e-9)}, 3, clip=clip, validate_every=2, validation=batches[:1]
    )
    weights = torch.cat([network.layer.weight, network.layer.bias[:, None]], 1).detach().numpy()
    norms = [numpy.sqrt((gradient(weights, *pair) ** 2).sum()) for pair in data]
    assert [row[4] for row in rows if row[1] == "training"] == pytest.approx(norms, rel=1e-5)
    assert {row[4] for row in rows if row[1] == "validation"} == {None}


def test_norms_of_players_are_their_own():
    """Each loss has a slope in both numbers; a player's norm is of the numbers that it moves."""

    def rule(values, batch):
        yield "left", 3 * values["a"] + 100 * values["b"]
        yield "right", 50 * values["a"] + 4 * values["b"] - 12 * values["c"]

    players = {"left": sgd(0.1, ["a"]), "right": sgd(0.1, ["b", "c"])}
    rows, _ = loop.fit(Game(rule, a=0, b=0, c=0), iter(range(1)), players, 1)
    assert [(row[2], row[4]) for row in rows] == [("left", 3), ("right", pytest.approx(math.hypot(4, 12)))]


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
        rows, _ = loop.fit(network, iter(data[:8]), {"line": sgd(0.1)}, 8, **options)
        outcomes.append(network.state_dict())
        assert network.training
    assert all(torch.equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])
    first, norm, _, last = network.body
    inputs, targets = data[8]
    hidden = first(inputs) - norm.running_mean
    normal = hidden / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    assert rows[-1] == (8, "validation", "line", pytest.approx((last(normal) - targets).square().mean().item()), None)


def read_at(log_every, steps):
    """The steps after which losses are read: multiples of `log_every`, powers of two before the first, the last one."""
    powers = {2**power for power in range(20) if 2**power < log_every}
    return sorted({step for step in range(steps) if step % log_every == 0} | powers & {*range(steps)} | {steps - 1})


@pytest.mark.parametrize("log_every", [1, 4, 100])
@pytest.mark.parametrize("step", [0, 3, 4, 7, 9])
def test_divergence_is_the_first_step_without_a_finite_loss(step, log_every):
    """Weights come from the last reading before it; the last row is the first reading after it."""

    def rule(values, batch):
        yield "all", values["a"] * (math.nan if batch == step else 1)

    network = Game(rule, a=0)
    rows, diverged = loop.fit(network, iter(range(10)), {"all": sgd(0.5)}, 10, log_every=log_every)
    readings = read_at(log_every, 10)
    steps_kept = max((reading + 1 for reading in readings if reading < step), default=0)
    assert diverged == (step, "loss")
    assert network.values() == {"a": -0.5 * steps_kept}
    before = [reading for reading in readings if reading < step]
    assert [row[0] for row in rows] == [*before, readings[len(before)]]


@pytest.mark.parametrize("log_every", [1, 7, 100])
def test_divergence_by_growth(log_every):
    """Up the slope of -w^2 at rate 4.5, w grows tenfold a step: 10^(2 n) leaves float32 (3.4e38) at n = 20."""

    def rule(values, batch):
        yield "all", -(values["a"] ** 2)

    network = Game(rule, a=1)
    _, diverged = loop.fit(network, iter(range(50)), {"all": sgd(4.5)}, 50, log_every=log_every)
    assert diverged == (20, "loss")
    assert math.isfinite(network.values()["a"])


@pytest.mark.parametrize("log_every", [1, 5])
def test_a_finite_loss_with_an_infinite_slope(log_every):
    """sqrt(w) at 0: the loss of step 2 is 0 and its slope is not finite. Read there, it is the weights that diverged
    (before step 3); read later, it is the loss of step 3."""

    def rule(values, batch):
        yield "all", values["a"] if batch < 2 else (0 * values["a"]).sqrt()

    for first in (2, 3):
        network = Game(lambda values, batch, first=first: rule(values, batch + 2 - first), a=1)
        rows, diverged = loop.fit(network, iter(range(9)), {"all": sgd(0.5)}, 9, log_every=log_every)
        is_read = first in read_at(log_every, 9)
        assert diverged == (first + 1, "weights" if is_read else "loss")
        assert math.isfinite(network.values()["a"])
        assert not is_read or not math.isfinite(rows[-1][4])


def test_weights_that_no_loss_looks_at():
    """A player's weights leave float32 while its loss stays 1: the weights are what is not finite."""

    def rule(values, batch):
        yield "all", 1 + 1e30 * (values["a"] - values["a"].detach())

    network = Game(rule, a=0)
    _, diverged = loop.fit(network, iter(range(9)), {"all": sgd(1e8)}, 9)
    assert diverged == (4, "weights")  # 1e38 a step: 3e38 is finite, 4e38 is not
    assert network.values() == {"a": pytest.approx(-3e38)}


def test_an_infinite_norm_clips_to_nothing_or_to_what_is_not_a_number():
    """Slopes of 1, 3e38 and 3e38 have a norm beyond float32, and 5 / infinity times each is 0: no weight moves. Of an
    infinite slope (the root at 0) that product is not a number."""

    def rule(values, batch):
        steep = 3e38 * (values["b"] + values["c"]) if batch == 0 else values["b"].sqrt()
        yield "all", values["a"] + steep

    network = Game(rule, a=1, b=0, c=0)
    rows, diverged = loop.fit(network, iter(range(3)), {"all": sgd(0.1)}, 3, clip=5.0)
    assert network.values() == {"a": 1, "b": 0, "c": 0}
    assert [row[4] for row in rows] == [math.inf, math.inf]
    assert diverged == (2, "weights")


@pytest.mark.parametrize(
    ("players", "message"),
    [
        ({"line": sgd(0.1, momentun=0.9)}, r"players\.line\.momentun is unknown to SGD.*momentum"),
        ({"line": sgd(0.1, ["layers"])}, r"players\.line\.updates = layers.*it has layer"),
        ({"line": sgd(0.1, {"layers": 0.1})}, r"players\.line\.updates = layers.*it has layer"),
        ({"other": sgd(0.1)}, "players has no 'line'"),
        ({"line": sgd(0.1), "idle": sgd(0.1)}, "players has idle,.*remove it"),
    ],
)
def test_mistakes_in_players(players, message):
    batch = torch.zeros(1, 3), torch.zeros(1, 2)
    with pytest.raises(InputError, match=rf"^params\.yaml: {message}"):
        loop.fit(Line(), iter([batch] * 3), players, 3)
