"""The shape of the code: imports point one way, and DVC knows every file that a stage's outcome depends on."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zoo import data

ROOT = Path(__file__).parent.parent
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py"))
TORCH_FREE = ("download", "evaluate", "judge", "benchmark", "report")
LEAVES = ("training", "scores", "timing", "figures", "files", "layers", "statistics", "sessions", "verbs", "errors")
PROFILES = {"quick": ROOT / "dvc.yaml", "full": ROOT / "full" / "dvc.yaml"}


def imported(path):
    """The modules that a file imports, by full name; `from zoo import files` counts as zoo and as zoo.files."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def file_of(module):
    base = ROOT / "src" / Path(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


def own_imports(path):
    """The project's own files that a file imports, with the packages above them."""
    found = set()
    for module in imported(path):
        parts = module.split(".")
        if parts[0] == "zoo":
            found |= {file_of(".".join(parts[:length])) for length in range(1, len(parts) + 1)}
    return found - {None}


def closure(path):
    """Every file of the project that a file imports, directly or through others."""
    seen, todo = set(), [path]
    while todo:
        for found in own_imports(todo.pop()) - seen:
            seen.add(found)
            todo.append(found)
    return seen


def modules(*folders):
    return [path for folder in folders for path in sorted((ROOT / "src" / "zoo" / folder).glob("*.py"))]


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_imports(stage):
    """What the script imports, transitively, is in `deps`: nothing can change a result behind DVC's back."""
    stages = yaml.safe_load(PROFILES["quick"].read_text())["stages"]
    definition = stages[stage].get("do", stages[stage])
    needed = {str(path.relative_to(ROOT)) for path in closure(ROOT / "stages" / f"{stage}.py")}
    # A package's empty __init__ holds a docstring alone.
    needed -= {"src/zoo/__init__.py", "src/zoo/models/__init__.py"}
    assert f"stages/{stage}.py" in definition["deps"]
    assert needed <= set(definition["deps"])
    unused = {dep for dep in definition["deps"] if dep.startswith("src/") and dep.endswith(".py")} - needed
    by_name = ("models/", "layers.py", *(f"data/{name}.py" for name in (*data.SOURCES, "fetch")))
    assert not {dep for dep in unused if not dep.removeprefix("src/zoo/").startswith(by_name)}


@pytest.mark.parametrize("stage", ["train", "export"])
def test_the_model_file_is_a_dep(stage):
    """Model files are found by name at run time, where no import shows: the entry's own file must be listed."""
    deps = yaml.safe_load(PROFILES["quick"].read_text())["stages"][stage]["do"]["deps"]
    assert {"src/zoo/models/${item.file}.py", "src/zoo/layers.py"} <= set(deps)


def test_data_sources_are_deps():
    """Sources are found by name as well; all of them and what they import are listed."""
    deps = yaml.safe_load(PROFILES["quick"].read_text())["stages"]["download"]["do"]["deps"]
    sources = {ROOT / "src" / "zoo" / "data" / f"{name}.py" for name in data.SOURCES}
    needed = sources.union(*map(closure, sources)) - {ROOT / "src" / "zoo" / "__init__.py"}
    assert {str(path.relative_to(ROOT)) for path in needed} <= set(deps)


@pytest.mark.parametrize("path", modules("models"), ids=lambda path: path.stem)
def test_models_import_layers_alone(path):
    assert own_imports(path) <= {file_of("zoo"), file_of("zoo.layers")}


@pytest.mark.parametrize("name", LEAVES)
def test_leaves_import_no_other_module(name):
    assert own_imports(file_of(f"zoo.{name}")) <= {file_of("zoo"), file_of("zoo.errors")}


@pytest.mark.parametrize("path", modules(".", "data", "models"), ids=lambda path: path.stem)
def test_the_library_imports_no_stage_and_no_command(path):
    names = imported(path)
    assert not {name for name in names if name.split(".")[0] == "stages"}
    assert path.name == "cli.py" or "zoo.cli" not in names


@pytest.mark.parametrize("stage", TORCH_FREE)
def test_stages_after_export_import_no_torch(stage):
    """Seen in a process of its own: everything the script imports, ours or not, leaves torch alone."""
    code = f"import sys; sys.path.insert(0, 'stages'); import {stage}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_profiles_are_twins():
    """full/dvc.yaml is dvc.yaml but for its first line of YAML."""
    quick, full = (
        [line for line in path.read_text().splitlines() if not line.startswith("#")] for path in PROFILES.values()
    )
    assert (quick[0], full[0]) == (
        "vars: [{profile: quick, root: .}]", "vars: [{profile: full, root: ..}, ../params.yaml]")  # fmt: skip
    assert quick[1:] == full[1:]
