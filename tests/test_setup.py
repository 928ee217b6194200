"""The environment is the one that is pinned, and the pins are complete and free of addresses."""

import importlib.metadata
import itertools
import re
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

made_by_setup = pytest.mark.skipif(
    not Path(sys.prefix, "installed").exists(), reason="not the environment that `make setup` makes"
)


@pytest.fixture
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture
def pins(root):
    requirements = [Requirement(line) for line in (root / "constraints.txt").read_text().splitlines()]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def test_pins_are_plain_versions(root):
    for line in (root / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; [^/@+]+)?", line), line


def test_every_dependency_is_pinned(project, pins):
    extras = project["project"]["optional-dependencies"].values()
    for text in itertools.chain(project["project"]["dependencies"], *extras):
        dependency = Requirement(text)
        if dependency.name == project["project"]["name"]:  # an extra that is part of another
            continue
        pin = next(iter(pins[canonicalize_name(dependency.name)].specifier))
        assert pin.operator == "=="
        assert pin.version in dependency.specifier


def test_cuda_packages_are_pinned_for_linux(pins):
    cuda = [pins[name] for name in pins if name.startswith(("nvidia-cu", "nvidia-nccl", "triton"))]
    assert len(cuda) >= 5
    for pin in cuda:
        assert pin.marker is None or pin.marker.evaluate({"sys_platform": "linux", "platform_machine": "x86_64"})


def test_only_one_onnxruntime(pins):
    assert [name for name in pins if name.startswith("onnxruntime")] == ["onnxruntime-gpu"]


def test_build_backend_is_pinned(project):
    assert all("==" in requirement for requirement in project["build-system"]["requires"])


@made_by_setup
def test_installed_versions_are_the_pinned(pins):
    """A package may be absent (the CPU file of torch brings no CUDA); torch may carry a local tag (+cpu)."""
    # Of the environment alone: setuptools, once imported, adds what it carries with it to the path.
    for distribution in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")]):
        pin = pins.get(canonicalize_name(distribution.name))
        if pin is not None:
            version = Version(distribution.version).public if pin.name == "torch" else distribution.version
            assert version in pin.specifier, f"{distribution.name} {version} is installed, {pin} is pinned"


@made_by_setup
def test_installed_dependencies_are_all_pinned(project, pins):
    """Whatever our dependencies drew in here has a pin too."""
    seen, queue = set(), [Requirement(text) for text in project["project"]["dependencies"]]
    while queue:
        name = canonicalize_name(queue.pop().name)
        if name in seen:
            continue
        seen.add(name)
        assert name in pins, f"{name} has no pin: run `make lock`"
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and _is_installed(requirement.name):
                queue.append(requirement)


def _is_installed(name):
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
