"""A step as a CUDA graph: what it computes is what the eager step computes, to the bit."""

import itertools

import pytest
import torch
from networks import MODELS
from torch import nn

from zoo.train import loop

pytestmark = pytest.mark.cuda


class Noisy(nn.Module):
    """Drawn noise, dropout and running statistics; `on_host` reads a loss, which a capture does not allow."""

    def __init__(self, on_host):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.on_host = on_host

    def losses(self, batch):
        loss = self.body(batch + torch.randn_like(batch)).square().mean()
        yield "line", loss * 2 if self.on_host and loss.item() < 0 else loss


def trained(algorithm, capture, on_host=False, **options):
    """(state, rows) of `Noisy` after 20 steps on CUDA with a falling rate."""
    torch.manual_seed(0)
    device = torch.device("cuda")
    network, values = Noisy(on_host).to(device), torch.randn(50, 3, device=device)
    draws = ((index,) for index in itertools.cycle(torch.arange(50, device=device).split(10)))
    player = {"algorithm": algorithm, "lr": 0.01, "updates": "all", **options}
    rows, _ = loop.fit(
        network, draws, {"line": player}, 20, batch_of=lambda draw: values[draw[0]], rate=loop.cooled(20, 0.5),
        log_every=4, validate_every=5, validation=[values[:20]], capture=capture,
    )  # fmt: skip
    return {key: value.cpu() for key, value in network.state_dict().items()}, rows


def assert_equal(one, other):
    assert all(torch.equal(value, other[0][key]) for key, value in one[0].items())
    assert one[1] == other[1]


@pytest.mark.parametrize(
    "algorithm", sorted({"SGD"} | {p["algorithm"] for m in MODELS.values() for p in m["players"].values()})
)
def test_captured_steps_are_eager_ones(algorithm, capsys):
    assert_equal(trained(algorithm, capture=True), trained(algorithm, capture=False))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("options", [{"algorithm": "SGD", "on_host": True}, {"algorithm": "Adagrad", "fused": False}])
def test_what_cannot_be_captured_stays_eager_and_says_why(options, capsys):
    captured = trained(capture=True, **options)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no CUDA graph of a step: " in said
    assert_equal(captured, trained(capture=False, **options))
