"""What every test runs under: the repository root as working folder, exact floats, properties that repeat exactly."""

import environment  # noqa: F401  # before what reads the environment when it is imported

# isort: split
import gc
import importlib
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

LONGEST = ("test_pipeline.py", "test_export.py", "test_peers.py", "test_repro.py", "test_cluster.py", "test_code.py")


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest; skip what is marked `cuda` where torch finds no GPU."""
    items.sort(key=lambda item: [*LONGEST, item.path.name].index(item.path.name))
    for item in items if not torch.cuda.is_available() else ():
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="has no CUDA device"))


def pytest_collection_finish():
    """What the imports made stays: collections of garbage, a fifth of the time of many tests, need not look there."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


@pytest.fixture(scope="session")
def exporter():
    """torch's exporter, set up once for all graphs, as in the stage that exports."""
    importlib.import_module("_exporter")


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
