"""The shape of the code: imports point down, and dvc.yaml depends on what is imported and lists what is written."""

import ast
import fnmatch
import functools
import graphlib
import re
from pathlib import Path

import pytest
import yaml

from zoo import files
from zoo.records import cost, curve, judged, latency, metrics, parity, peers, run

ROOT = Path(__file__).parent.parent
# From the top; a room imports from those of lower floors alone. On the first and the last, also from each other.
FLOORS = (
    ("cli", "check", "signatures", "stages", "benchmarks"),
    ("report", "compare", "release"),
    ("latency",),
    ("evaluate", "train"),
    ("graphs", "data", "runner"),
    ("params", "records", "files", "errors", "statistics", "stage", "code", "hardware", "models", "pages"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = [path for folder in ("src/zoo", "stages", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SCRIPTS = [stage for stage in STAGES if stage != "code"]
# What each stage writes below reports/, the report apart; * is an experiment.
WRITTEN = {
    "train": [of.path("quick", "*") for of in (run, cost, curve)],
    "export": [parity.path("quick", "*")],
    "evaluate": [metrics.path("quick", "*"), files.predictions("quick", "*"), files.figures("quick", "*")],
    "judge": [judged.path("quick", "*")],
    "benchmark": [latency.folder("quick")],
    "peers": [peers.folder("quick")],
}
# Stages that import what params.yaml names, or read its experiments, beside their own code.
NAMED = {
    "train": "code/models/${item.file}.json",
    "export": "code/models/${item.file}.json",
    "peers": "code/models",
    "download": "code/data/${item.quick.source}.json",
    "report": "code/experiments/${profile}.json",
}


def relative(path):
    return path.relative_to(ROOT).as_posix()


def imported(path):
    """The modules that a file imports, by full name; `from zoo import files` counts as zoo and as zoo.files."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


@functools.cache
def own(path):
    """The project's own files that a file imports."""
    found = set()
    for name in imported(path):
        parts = name.split(".")
        folders = [ROOT / "src"] if parts[0] == "zoo" else [path.parent] * (path.parts[-2] in ("stages", "benchmarks"))
        bases = [folder.joinpath(*parts) for folder in folders]
        found |= {file for base in bases for file in (base.with_suffix(".py"), base / "__init__.py") if file.exists()}
    return found


def room(path):
    """The wing of a module, or its own name where it stands in none."""
    first, *parts = path.relative_to(ROOT).parts
    if first != "src":
        return first
    return parts[1] if len(parts) > 2 else path.stem


def may_import(path, target):
    here, there = room(path), room(target)
    beside = FLOOR[here] in (0, len(FLOORS) - 1) and FLOOR[here] == FLOOR[there]
    return here == there or beside or FLOOR[here] < FLOOR[there]


def definition(stage):
    return STAGES[stage].get("do", STAGES[stage])


def paths(stage, *keys):
    """Paths under keys of a stage in the quick profile, * in the place of an experiment or data set."""
    entries = [entry for key in keys for entry in definition(stage).get(key, [])]
    flat = [path for entry in entries for path in ([entry] if isinstance(entry, str) else entry)]
    return {re.sub(r"\$\{[\w.]+\}", "*", path.replace("${profile}", "quick")) for path in flat}


def outputs(stage):
    return paths(stage, "outs", "metrics", "plots")


# ---- imports


def test_every_room_has_a_floor():
    assert {room(path) for path in FILES} - {"__init__"} <= FLOOR.keys()


def test_imports_point_down():
    arrows = ((path, target) for path in FILES for target in own(path) - {ROOT / "src" / "zoo" / "__init__.py"})
    assert not [f"{relative(path)} -> {relative(target)}" for path, target in arrows if not may_import(path, target)]


def test_no_module_imports_itself_through_others():
    graphlib.TopologicalSorter({path: own(path) - {path} for path in FILES}).prepare()  # raises CycleError


def test_models_import_layers_alone():
    targets = set().union(*(own(path) for path in FILES if room(path) == "models"))
    assert {relative(path) for path in targets} == {"src/zoo/models/layers.py"}


def test_the_runner_knows_nothing_of_experiments():
    targets = set().union(*(own(path) for path in FILES if room(path) == "runner"))
    assert {room(path) for path in targets} <= {"__init__", "runner", "errors", "files", "code"}


# ---- dvc.yaml


def test_every_script_is_a_stage():
    scripts = {path.stem for path in (ROOT / "stages").glob("[!_]*.py")}
    assert scripts == {*SCRIPTS, "digest"}
    assert STAGES["code"]["cmd"] == "python stages/digest.py"


def test_what_measures_time_runs_alone_and_nothing_else():
    assert {stage for stage in STAGES if definition(stage).get("meta", {}).get("alone")} == {"benchmark", "peers"}


@pytest.mark.parametrize("stage", SCRIPTS)
def test_a_stage_runs_its_script_and_depends_on_its_code(stage):
    assert definition(stage)["cmd"].startswith(f"python stages/{stage}.py ${{profile}}")
    code = {dep for dep in definition(stage)["deps"] if dep.startswith("code/")}
    assert code == {f"code/{stage}.json"} | ({NAMED[stage]} if stage in NAMED else set())


@pytest.mark.parametrize(("stage", "written"), WRITTEN.items())
def test_records_are_outputs(stage, written):
    assert {path for path in outputs(stage) if path.startswith("reports/")} == {str(path) for path in written}


@pytest.mark.parametrize("stage", SCRIPTS)
def test_what_a_stage_depends_on_is_an_output_of_another(stage):
    """Or a folder of outputs, or the results of a visit to a GPU, which are in git."""
    made = set().union(*(outputs(other) for other in STAGES if other != stage))
    for dep in paths(stage, "deps") - {"artifacts/quick/*", f"code/{stage}.json", "reports/gpu"}:
        assert any(fnmatch.fnmatch(dep, out) or out.startswith(f"{dep}/") or dep.startswith(f"{out}/") for out in made)


def test_records_alone_spell_their_paths():
    folders = {path.parts[2] for written in WRITTEN.values() for path in written} - {"predictions", "figures"}
    spelled = re.compile(rf"(^|reports/\w+)/({'|'.join(folders)})/")
    readers = [path for path in FILES if room(path) not in ("records", "benchmarks")]
    nodes = ((path, node) for path in readers for node in ast.walk(ast.parse(path.read_text())))
    words = ((path, node.value) for path, node in nodes if isinstance(node, ast.Constant))
    assert not [f"{relative(path)}: {word}" for path, word in words if spelled.search(str(word))]
