"""What every test runs under: the repository root as working folder, exact floats, properties that repeat exactly."""

import environment  # noqa: F401  # before what reads the environment when it is imported

# isort: split
import functools
import gc
import signal
from pathlib import Path

import hypothesis
import matplotlib
import pytest
import torch

matplotlib.use("Agg")
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it starts in the background


def pytest_collection_modifyitems(items):
    """Begin with the file that takes longest; skip what is marked `cuda` where torch finds no GPU."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")
    for item in items if not torch.cuda.is_available() else ():
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="has no CUDA device"))


def pytest_collection_finish():
    """What the imports made stays: collections of garbage, a fifth of the time of many tests, need not look there."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


@pytest.fixture(scope="session")
def exporter():
    """torch's exporter of graphs, which else reads the sources of its five hundred translations and lists all operators
    of torch for every graph: two thirds of the time of a small one."""
    from torch._export import utils
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        listed = functools.cache(utils._collect_all_valid_cia_ops_for_namespace)
        patch.setattr(utils, "_collect_all_valid_cia_ops_for_namespace", listed)
        yield


@pytest.fixture
def root():
    """The repository root as an absolute path."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _from_root(monkeypatch, root):
    monkeypatch.chdir(root)


@pytest.fixture(autouse=True)
def _exact_floats():
    """A run has its process take the smallest numbers for 0 for good; the next test of this process wants them back."""
    torch.set_flush_denormal(False)
