"""The pipeline itself, scaled down: `zoo repro` in a fresh clone, then `dvc repro`, and after one change of each kind.

The tests go on from each other's state, in their order.
"""

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from dvc_projects import dvc, inside, keep_experiments

from zoo.runner import processes
from zoo.runner.preloaded import Preloaded
from zoo.runner.repro import reproduce

ROOT = Path(__file__).parent.parent
AGAIN = "gan"  # trained and evaluated again by plain DVC
KEPT = ("ae_dense32", AGAIN, "probe_frozen")  # the probe begins with ae_dense32, and judges gan
PER_MODEL = ("train", "export", "evaluate")


def run(folder, *command):
    """What a program printed, as started by a user who has activated this environment."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def zoo_ran(folder, *targets):
    with inside(folder) as printed:
        assert reproduce(targets, jobs=2) == 0, printed.getvalue()
    return set(re.findall(r"(\S+) ran in", printed.getvalue()))


def dvc_ran(folder, *targets, **options):
    with inside(folder), contextlib.closing(Repo()) as repo:
        return {stage.addressing for stage in repo.reproduce(targets or None, **options)}


def due(folder):
    """The stages that would run, whatever those before them write."""
    with inside(folder) as printed:
        assert reproduce(dry=True) == 0
    return set(re.findall(r"^(\S+): would run", printed.getvalue(), re.MULTILINE))


def commit(folder):
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    run(folder, "git", "add", "--all")
    run(folder, "git", *who, "commit", "--quiet", "--message", "run")


def rewrite(folder, change):
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(params)
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def scale_down(params):
    params["evaluate"]["importance_samples"] = 2
    params["curve"]["quick"]["validation_rows"] = 1
    params["peers"]["quick"]["runtimes"] = ["torch"]
    for entry in params["models"].values():
        entry["steps"]["quick"] = min(entry["steps"]["quick"], 4)


def edit(path, old, new):
    """Replace the first `old` of a file; a call puts the file back."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return lambda: path.write_text(text)


def content(folder, *parts):
    return {path: path.read_bytes() for part in parts for path in (folder / part).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def _preloaded():
    """One process with the imports done, from which all runs start all stages: imports are most of what one takes."""
    shared, init = [], processes.Local.__init__

    def preloaded(modules):
        if not shared:
            shared.append(Preloaded(modules))
            select.select([shared[0]._control], [], [])
        return shared[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)  # as where it is activated
        patch.setattr(processes.Local, "__init__", lambda local, slots, logs, imports: init(
            local, slots, logs, dict.fromkeys(logs, tuple(dict.fromkeys(chain(*imports.values()))))))  # fmt: skip
        patch.setattr(processes, "Preloaded", preloaded)
        patch.setattr(Preloaded, "close", lambda self: None)
        yield
    for process in shared:
        process.close()


@pytest.fixture(scope="module")
def clone(_preloaded, tmp_path_factory):
    """A fresh clone, with what the working tree has beyond HEAD, scaled down and committed; run once."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    run(ROOT, "git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    for name in run(ROOT, "git", "ls-files", "--modified", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    keep_experiments(folder, KEPT, {"by": "probe_frozen", "of": ["gan"]})
    rewrite(folder, scale_down)
    for name in ("dvc.lock", "full/dvc.lock", "full/dvc.yaml"):  # of all experiments: DVC reads them at every start
        (folder / name).unlink(missing_ok=True)
    run(folder, "python", "stages/digest.py")
    commit(folder)
    return folder, zoo_ran(folder)


def test_every_stage_runs_and_every_experiment_is_reported(clone):
    folder, ran = clone
    per_model = {f"{stage}@{name}" for stage in PER_MODEL for name in KEPT}
    once = {"code", "download@images", "download@text", "judge@gan", "benchmark", "peers", "report"}
    assert ran == per_model | once
    summary = json.loads((folder / "reports/quick/summary.json").read_text(encoding="utf-8"))
    assert list(summary["order"]) == list(KEPT)
    for page in ("README.md", "index.html"):
        text = (folder / "reports/quick" / page).read_text(encoding="utf-8")
        assert all(name in text for name in KEPT)


def test_a_run_changes_dvc_lock_alone(clone):
    """What `code` wrote is what was committed, and reports/quick is not in git."""
    folder, _ = clone
    assert [line[3:] for line in run(folder, "git", "status", "--porcelain").splitlines()] == ["dvc.lock"]
    commit(folder)


def test_again_nothing_runs(clone):
    """Neither by `zoo repro` nor by plain `dvc repro`."""
    folder, _ = clone
    before = {path: path.stat().st_mtime_ns for path in content(folder, "artifacts", "code", "reports")}
    assert run(folder, "zoo", "repro") == "All stages are up to date.\n"
    assert not dvc_ran(folder)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert not run(folder, "git", "status", "--porcelain")


# ---- changes of code


def test_docstrings_and_comments_run_code_alone(clone):
    """Changed in every module."""
    folder, _ = clone
    undo = [edit(path, '"""', '"""Again: ') for path in (folder / "src/zoo").rglob("*.py")]
    undo += [edit(path, "\nimport", "\n# Why.\nimport") for path in (folder / "stages").glob("[a-z]*.py")]
    assert len(undo) > 60
    assert zoo_ran(folder) == {"code"}
    for put_back in undo:
        put_back()


def test_a_statement_in_a_model_file_trains_its_experiments(clone):
    """tests/test_code.py: which units a change of another file concerns."""
    folder, _ = clone
    put_back = edit(folder / "src/zoo/models/gan.py", "\n\n\n", "\n\n\nUNUSED = 1\n\n\n")
    run(folder, "python", "stages/digest.py")
    assert due(folder) - {"code"} == {"train@gan", "export@gan", "peers"}
    put_back()
    run(folder, "git", "checkout", "--quiet", "code")


# ---- the same and another training


def test_two_runs_of_one_commit_are_the_same(clone):
    """One stage at a time by plain DVC: equal weights, curves, metrics, predictions and pictures."""
    folder, _ = clone
    outputs = f"artifacts/quick/checkpoints/{AGAIN}", "reports/quick"
    before = content(folder, *outputs)
    run(folder, "zoo", "clean", "quick")  # else the finished seed is kept
    stages = [f"{stage}@{AGAIN}" for stage in ("train", "evaluate")]  # tests/graphs exports twice
    assert dvc_ran(folder, *stages, force=True, single_item=True) == set(stages)
    after = content(folder, *outputs)
    assert after.keys() == before.keys()
    assert {path.relative_to(folder).as_posix() for path in after if after[path] != before[path]} <= {
        f"reports/quick/cost/{AGAIN}.json"}  # fmt: skip
    commit(folder)


def test_one_learning_rate_reruns_one_experiment(clone):
    """And what looks at all of them; a time is kept, as its graph has the same structure. DVC's diffs show it."""
    folder, _ = clone
    latency = content(folder, "reports/quick/latency")

    def faster(params):
        params["models"][AGAIN]["players"]["generator"]["lr"] = 0.01

    rewrite(folder, faster)
    stages = {f"{stage}@{AGAIN}" for stage in (*PER_MODEL, "judge")}
    assert zoo_ran(folder, f"evaluate@{AGAIN}", f"judge@{AGAIN}", "benchmark") == stages | {"code", "benchmark"}
    assert due(folder) == {"peers", "report"}
    assert latency
    assert content(folder, "reports/quick/latency") == latency
    changed = json.loads(dvc(folder, "metrics", "diff", "--json", "HEAD"))
    metric = changed[f"reports/quick/judged/{AGAIN}.json"]["metrics.frechet_distance.mean"]
    assert metric["old"] != metric["new"]
    assert not {path for path in changed if AGAIN not in path}
    curve = f"reports/quick/curves/{AGAIN}.csv"
    plots = json.loads(dvc(folder, "plots", "diff", "--json", "HEAD", "--targets", curve))
    assert {row["rev"] for row in plots["data"][curve][0]["content"]["data"]["values"]} == {"HEAD", "workspace"}
    compared = run(folder, "zoo", "compare", "HEAD")
    assert "judge.frechet_distance" in compared
    assert not re.search(r"\d (worse|better|different)\b", compared), compared  # one seed, one processor: changed
    assert not run(folder, "git", "status", "--porcelain", "full", "code")
