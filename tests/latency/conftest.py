"""Each measurement begins with a collection of garbage, which the modules that tests import make ten times as long."""

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _imports_left_out_of_collections():
    """Also those that the tests of other files made."""
    gc.collect()
    gc.freeze()
