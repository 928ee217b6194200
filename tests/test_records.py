"""What all records have in common."""

import importlib.metadata

from zoo import records


def test_versions_are_those_that_constraints_pin(monkeypatch):
    """Without the part that names the build: one for CUDA is the same version."""
    installed = {"torch": "2.13.0+cu130", "numpy": "2.4.0"}
    monkeypatch.setattr(importlib.metadata, "version", installed.get)
    assert records.versions("torch", "numpy") == {"torch": "2.13.0", "numpy": "2.4.0"}
