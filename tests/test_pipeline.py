"""The pipeline itself, scaled down: `zoo repro` in a fresh clone, then `dvc repro`, and after one changed number."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PLAIN = "ae_dense32"  # run once more by plain DVC, for comparison
KEPT = ("ae_dense32", "gan", "resnet", "lstm", "op_upsample_nearest")  # one of each kind; resnet judges gan


def run(folder, *command):
    """What the command printed; the clone's own sources come first, whatever is installed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder / "src")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stages_run(printed):
    return set(re.findall(r"Running stage '([^']+)'", printed))


def commit(folder):
    run(folder, "git", "add", "--all")
    run(
        folder,
        "git",
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@localhost",
        "commit",
        "--quiet",
        "--message",
        "run",
    )


def rewrite(folder, change):
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    change(params)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def scale_down(params):
    params["models"] = {name: params["models"][name] for name in KEPT}
    for key in ("published", "published_curves"):
        params[key] = {name: value for name, value in params[key].items() if name in KEPT}
    params["claims"] = {}
    params["judge"]["of"] = ["gan"]
    params["evaluate"]["importance_samples"] = 2
    params["benchmark"] |= {"batches": {"quick": [2], "full": [2]}}
    times = ("seconds", "most_seconds", "reference_seconds", "warmup_seconds", "warmup_most_seconds")
    params["benchmark"] |= {key: {"quick": 0.01, "full": 0.01} for key in times}
    for entry in params["models"].values():
        entry["steps"]["quick"] = min(entry["steps"]["quick"], 4)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A fresh clone, with what the working tree has beyond HEAD, scaled down and run once; a copy that was not run."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    run(ROOT, "git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    for name in run(ROOT, "git", "ls-files", "--modified", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    rewrite(folder, scale_down)
    shutil.copytree(folder, copy := folder.with_name("copy"))
    printed = run(folder, "zoo", "repro", "--jobs", "2")
    commit(folder)
    return folder, copy, printed


def test_every_stage_runs_and_every_experiment_is_reported(clone):
    folder, _, printed = clone
    per_model = {f"{stage}@{name}" for stage in ("train", "export", "evaluate", "benchmark") for name in KEPT}
    ran = set(re.findall(r"(\S+) ran in", printed))
    assert ran == per_model | {"download@images", "download@text", "judge@gan", "peers", "report"}
    summary = json.loads((folder / "reports/quick/summary.json").read_text())
    assert list(summary["order"]) == list(KEPT)
    for page in ("README.md", "index.html"):
        text = (folder / "reports/quick" / page).read_text()
        assert all(name in text for name in KEPT)


def test_two_at_a_time_give_what_plain_dvc_gives_one_by_one(clone):
    """Same entries in dvc.lock, so the same weights, graphs, metrics, predictions and pictures."""
    folder, copy, _ = clone
    (copy / "dvc.lock").unlink()
    run(copy, "dvc", "repro", f"evaluate@{PLAIN}")
    ours, plain = (yaml.safe_load((path / "dvc.lock").read_text())["stages"] for path in (folder, copy))
    assert plain.keys() == {"download@images", f"train@{PLAIN}", f"export@{PLAIN}", f"evaluate@{PLAIN}"}
    assert {name: ours[name] for name in plain} == plain


def test_again_nothing_runs(clone):
    """Neither by `zoo repro` nor by plain `dvc repro`."""
    folder, _, _ = clone
    before = {path: path.stat().st_mtime_ns for part in ("artifacts", "reports") for path in (folder / part).rglob("*")}
    assert run(folder, "zoo", "repro") == "All stages are up to date.\n"
    assert not stages_run(run(folder, "dvc", "repro"))
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert "up to date" in run(folder, "dvc", "status", "dvc.yaml")


def test_one_learning_rate_reruns_one_experiment(clone):
    """That experiment, its peers and the report, nothing else; and DVC's diffs show it."""
    folder, _, _ = clone
    peers = {path.stem: path.read_bytes() for path in (folder / "reports/quick/peers").iterdir()}
    full = {path: path.read_bytes() for path in (folder / "full").iterdir()}

    def faster(params):
        params["models"]["ae_dense32"]["players"]["autoencoder"]["lr"] = 0.01

    rewrite(folder, faster)
    stages = {f"{stage}@ae_dense32" for stage in ("train", "export", "evaluate", "benchmark")}
    assert stages_run(run(folder, "dvc", "repro")) == stages | {"peers", "report"}
    after = {path.stem: path.read_bytes() for path in (folder / "reports/quick/peers").iterdir()}
    assert {name for name in KEPT if after[name] != peers[name]} == {"ae_dense32"}
    changed = json.loads(run(folder, "dvc", "metrics", "diff", "--json", "HEAD"))
    metric = changed["reports/quick/metrics/ae_dense32.json"]["reconstruct.mse.mean"]
    assert metric["old"] != metric["new"]
    assert not {path for path in changed if "/metrics/" in path and "ae_dense32" not in path}
    plots = json.loads(run(folder, "dvc", "plots", "diff", "--json", "HEAD"))
    assert any("curves/ae_dense32.csv" in name for name in plots["data"])
    assert full == {path: path.read_bytes() for path in (folder / "full").iterdir()}
