"""The tests of graphs export a hundred of them."""

import functools

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry


@pytest.fixture(scope="session", autouse=True)
def _operators_translated_once():
    """The exporter reads the sources of its five hundred translations for every graph: half of the time of one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield
