"""The `zoo` command, called as it is installed."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from zoo import cli, files
from zoo.report import render

ROW = {
    "key": "reconstruct.mse", "label": "MSE", "unit": "", "mean": 0.00095, "low": None, "high": None, "floor": None,
    "seeds": {"0": 0.00095}, "published": {"value": 0.000948159, "source": "write-up 001"}, "verdict": "reproduced",
    "why": None,
}  # fmt: skip
EXPERIMENT = {
    "about": "two strided convolutions", "headline": ROW, "budget": "5,000 steps, seed 0", "steps": 5000,
    "diverged_at_step": {}, "drawn": [],
}  # fmt: skip
SIDE = {"experiment": "cae_strided", "metric": "reconstruct.mse", "label": "MSE", "diverged": 0, "mean": 0.00095}
TEST = {
    "left": SIDE | {"seeds": {"0": 0.00095}},
    "relation": "<",
    "right": {"value": 0.01},
    "seeds": None,
    "step": None,
}
CLAIM = {
    "key": "sharp", "says": "pictures are sharp", "source": "write-up 001", "explains": [], "verdict": "holds",
    "evidence": [TEST | {"outcome": "holds"}],
}  # fmt: skip
SUMMARY = {
    "profile": "full", "order": ["cae_strided"], "experiments": {"cae_strided": EXPERIMENT}, "claims": [CLAIM],
}  # fmt: skip
ABOVE, BELOW = f"# Zoo\n\ntext | above\n{render.START}\n", f"\n{render.END}\nbelow \\1 é\n"


@pytest.fixture
def zoo(root):
    def call(*arguments):
        code = "import sys; sys.argv[0] = 'zoo'; from zoo.cli import main; main()"
        environment = os.environ | {"PYTHONPATH": str(root / "src")}
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return call


@pytest.fixture
def folder(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def names_of(folder):
    return list(yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["models"])


def test_check_counts_the_experiments(zoo, folder):
    done = zoo("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"params.yaml: {len(names_of(folder))} experiments" in done.stdout


def test_check_names_what_is_wrong(zoo, folder):
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(text.replace("fit: {batch: 60}", "fit: {batch: 0}"), encoding="utf-8")
    done = zoo("check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("zoo: params.yaml: models.cae_strided.fit.batch = 0: ")
    assert len(done.stderr.splitlines()) == 1


def test_check_in_another_folder(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert zoo("check").stderr == "zoo: params.yaml is missing: run this from the project's top folder\n"


@pytest.mark.parametrize("arguments", [[], ["chekc"], ["--help"]])
def test_without_a_command_all_are_named(zoo, arguments):
    done = zoo(*arguments)
    assert done.returncode == (0 if arguments == ["--help"] else 2)
    for name in ("check", "repro", "compare", "benchmark", "readme", "plots", "twin"):
        assert name in done.stdout + zoo("chekc").stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["check", "quick"], "unrecognized arguments: quick"), (["benchmark", "fast"], "invalid choice: 'fast'"),
     (["repro", "--jobs", "0"], "0 is not a number of stages"), (["compare"], "required: REV")],
)  # fmt: skip
def test_wrong_arguments(zoo, folder, arguments, named):
    done = zoo(*arguments)
    assert done.returncode == 2
    assert named in done.stderr


# ---- zoo repro


@pytest.fixture
def checkout(root, tmp_path):
    """A copy of the code and of params.yaml: another checkout of this project, without an environment."""
    shutil.copytree(root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", "constraints.txt"):
        shutil.copy(root / name, tmp_path / name)
    (tmp_path / "full").mkdir()
    return tmp_path


def test_repro_checks_params_yaml_first(zoo, checkout, monkeypatch):
    text = (checkout / "params.yaml").read_text(encoding="utf-8")
    (checkout / "params.yaml").write_text(text.replace("by: resnet", "by: resnt"), encoding="utf-8")
    for folder in (checkout, checkout / "full"):
        monkeypatch.chdir(folder)
        assert zoo("repro", "--dry").stderr == (
            "zoo: params.yaml: judge.by = 'resnt': unknown name; did you mean resnet?\n"
        )


def test_a_checkout_runs_its_own_code_in_the_environment_of_another(zoo, checkout, monkeypatch):
    """As in a git worktree, whose `zoo` is that of the first checkout."""
    cli_file = checkout / "src" / "zoo" / "cli.py"
    text = cli_file.read_text(encoding="utf-8")
    cli_file.write_text(text.replace("experiments, nothing wrong", "experiments in a copy"), encoding="utf-8")
    for folder in (checkout, checkout / "full"):
        (folder / "params.yaml").write_bytes((checkout / "params.yaml").read_bytes())
        monkeypatch.chdir(folder)
        done = zoo("check")
        assert (done.returncode, done.stderr) == (0, "")
        assert "experiments in a copy" in done.stdout


# ---- zoo twin


def test_full_is_the_twin_of_dvc_yaml(root):
    """full/dvc.yaml is what `zoo twin` writes, and differs from dvc.yaml in the profile, in `code` and in flags."""
    text, twin = (path.read_text(encoding="utf-8") for path in (root / cli.PIPELINE, root / cli.TWIN))
    assert cli.twin_of(text) == twin
    quick, full = yaml.safe_load(text), yaml.safe_load(twin)
    assert full.pop("vars") == [{"profile": "full", "root": ".."}, "../params.yaml"]
    assert quick.pop("vars") == [{"profile": "quick", "root": "."}]
    assert quick["stages"].pop("code")["outs"] == [{"code": {"cache": False}}]
    assert "code" not in full["stages"]
    assert json.dumps(full).replace("item.full.", "item.quick.") == json.dumps(quick).replace(
        '"cache": true', '"cache": false'
    )


def test_twin_writes_the_file(zoo, checkout, monkeypatch, root):
    monkeypatch.chdir(checkout)
    assert zoo("twin").stderr == ""
    assert (checkout / cli.TWIN).read_bytes() == (root / cli.TWIN).read_bytes()
    monkeypatch.chdir(checkout / "src")
    assert zoo("twin").stderr == "zoo: dvc.yaml is missing: run this from the project's top folder\n"


# ---- zoo readme


@pytest.fixture
def readme(folder):
    files.write_json(files.report("full", "summary.json"), SUMMARY)
    path = folder / "README.md"
    path.write_text(f"{ABOVE}an old table{BELOW}", encoding="utf-8")
    return path


def test_readme_changes_between_the_markers_alone(readme):
    cli.readme()
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(ABOVE)
    assert text.endswith(BELOW)
    block = text.removeprefix(ABOVE).removesuffix(BELOW)
    assert "old table" not in block
    rows = [line for line in block.splitlines() if line.startswith("| [cae_strided]")]
    assert len(rows) == 1
    for part in ("two strided convolutions", "0.00095", "0.000948159", "**reproduced**", "5,000 steps, seed 0"):
        assert part in rows[0]
    assert "| Pictures are sharp. | write-up 001 | **holds** | cae_strided MSE 0.0009500 (claimed < 0.01) |" in block


def test_readme_says_where_the_records_are_missing(zoo, readme):
    assert zoo("readme").stdout.startswith(
        "reports/full/metrics is missing: reports/full/summary.json is of an earlier"
    )
    files.report("full", "metrics").mkdir()
    assert zoo("readme").stdout == ""


def test_readme_again_changes_nothing(readme):
    cli.readme()
    first = readme.read_bytes()
    cli.readme()
    assert readme.read_bytes() == first


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("README.md", "# Zoo\nno markers\n", ("README.md", render.START, "add them")),
        ("README.md", None, ("README.md is missing",)),
        ("reports/full/summary.json", None, ("reports/full/summary.json is missing", "zoo repro full/dvc.yaml")),
        ("reports/full/summary.json", '{"order": [', ("reports/full/summary.json is damaged", "dvc repro")),
        ("reports/full/summary.json", '{"order": []}', ("summary.json lacks claims", "dvc repro")),
    ],
)
def test_readme_without_what_it_needs(zoo, folder, readme, name, text, words):
    path = folder / name
    path.unlink()
    if text is not None:
        path.write_text(text)
    before = readme.read_bytes() if readme.exists() else None
    done = zoo("readme")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in words:
        assert part in done.stderr
    assert (readme.read_bytes() if readme.exists() else None) == before


# ---- zoo benchmark


@pytest.fixture
def calls(folder):
    """Stand-ins for the stages, which note their arguments and fail where there is a file `fail`; reads the notes."""
    (folder / "stages").mkdir()
    for name in ("benchmark", "peers"):
        (folder / "stages" / f"{name}.py").write_text(
            "import json, pathlib, sys\n"
            "with open('calls.json', 'a') as stream: print(json.dumps(sys.argv), file=stream)\n"
            "sys.exit(3 if pathlib.Path('fail').exists() else 0)\n"
        )
    return lambda: [json.loads(line) for line in (folder / "calls.json").read_text().splitlines()]


def test_benchmark_measures_all_again(zoo, calls):
    assert zoo("benchmark", "quick").returncode == 0
    assert calls() == [[f"stages/{name}.py", "quick", "--again"] for name in ("benchmark", "peers")]


def test_benchmark_of_controls(zoo, calls):
    assert zoo("benchmark", "full", "--control").returncode == 0
    assert calls() == [["stages/benchmark.py", "full", "--control"]]


def test_benchmark_stops_at_a_failure(zoo, folder, calls):
    (folder / "fail").touch()
    done = zoo("benchmark", "quick")
    assert (done.returncode, len(calls())) == (1, 1)
    assert "benchmark quick failed" in done.stderr


# ---- zoo clean


def test_clean_frees_what_one_profile_has_kept(zoo, folder):
    kept = {profile: files.unfinished(profile, "gan", 0) for profile in ("quick", "full")}
    for path in kept.values():
        path.parent.mkdir(parents=True)
        path.touch()
    assert "artifacts/quick/unfinished" in zoo("clean", "quick").stdout
    assert [path.exists() for path in kept.values()] == [False, True]
    assert zoo("clean", "quick").returncode == 0  # nothing there any more


def test_clean_removes_the_outputs_of_an_experiment_that_is_no_more(zoo, folder):
    outputs = {name: files.figures("quick", name) for name in ("gan", "withdrawn")}
    for path in outputs.values():
        path.mkdir(parents=True)
    page = files.report("quick", "charts") / "withdrawn.png"
    page.parent.mkdir()
    page.touch()
    zoo("clean", "quick")
    assert [path.exists() for path in (*outputs.values(), page)] == [True, False, True]
