"""What holds on a GPU alone: precision, equal weights of equal seeds, graphs in every mode. Skipped elsewhere."""

import numpy
import pytest
import sample_graphs
import torch
from networks import ENTRIES, EVERYTHING, FACTS
from torch import nn

from zoo.graphs import sessions
from zoo.latency import machine, measure
from zoo.params import experiments, training
from zoo.records.latency import Configuration
from zoo.train import runs, seeding

pytestmark = pytest.mark.cuda
EXACT = 1e-5  # of the largest value; with TF32 the factors have ten bits, and the error is near 1e-3


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(500, 300), (40, 500)),
        (nn.Conv2d(32, 48, 3), (16, 32, 14, 14)),
        (nn.ConvTranspose2d(32, 48, 3), (16, 32, 14, 14)),
        (nn.LSTM(200, 200, batch_first=True), (16, 20, 200)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_float32_is_not_rounded_to_tf32(layer, shape):
    cuda, given = seeding.prepare(0, 1, "cuda"), torch.randn(shape)
    with torch.no_grad():
        expected, ours = layer.double()(given.double()), layer.float().to(cuda)(given.to(cuda))
    expected, ours = (value[0] if isinstance(value, tuple) else value for value in (expected, ours))
    assert (ours.cpu() - expected).abs().max() < EXACT * expected.abs().max()


def trained(name):
    """The weights of an experiment after six steps on random data."""
    experiment = experiments.in_profile(name, ENTRIES[name], "quick").model_copy(update={"steps": 6})
    settings = training.training(EVERYTHING | {"device": "cuda"}, "quick")
    source, arrays = numpy.random.default_rng(0), {}
    for split in ("train", "validation"):
        arrays[f"{split}_images"] = source.integers(256, size=(300, 28, 28), dtype=numpy.uint8)
        arrays[f"{split}_labels"] = numpy.arange(300, dtype=numpy.uint8) % 10
        arrays[split] = source.integers(30, size=3000, dtype=numpy.int32)
    outcome = runs.train(experiment, settings, 0, arrays, FACTS[experiment.data], lambda *_: None)
    assert outcome.device.type == "cuda"
    return [value.cpu() for value in outcome.network.state_dict().values()]


@pytest.mark.parametrize("name", ["gan", "resnet", "lstm", "cae_argmax_unpool"])
def test_equal_seeds_give_equal_weights(tmp_path, monkeypatch, name):
    weights = []
    for run in ("first", "again"):  # a folder each: a finished run would be kept
        (tmp_path / run).mkdir()
        monkeypatch.chdir(tmp_path / run)
        weights.append(trained(name))
    assert all(torch.equal(first, again) for first, again in zip(*weights, strict=True))


@pytest.mark.parametrize("mode", ["host", "bound", "graph"])
def test_a_graph_gives_the_outputs_of_the_cpu(tmp_path, mode):
    path, sizes = sample_graphs.save_scale(tmp_path / "scale.onnx"), {"batch": 3}
    configuration = Configuration(mode=mode, threads=1, optimisation="all")
    call, nodes = measure.prepare(path, sessions.CUDA, sizes, configuration, tf32=False)
    call()
    given = call.args[0].copy_outputs_to_cpu() if mode != "host" else call()
    plain = sessions.open_session(path)
    expected = plain.run(None, sessions.random_feeds(plain, sizes))
    assert list(nodes) == [sessions.CUDA]
    for ours, theirs in zip(given, expected, strict=True):
        assert numpy.allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_the_machine_names_its_gpu():
    assert machine.describe()["gpu"] in torch.cuda.get_device_name()
    assert machine.conditions()["gpu_mhz"] > 0
