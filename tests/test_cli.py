"""The `zoo` command, called as it is installed."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from zoo import cli, code, files, params
from zoo.report import band, render

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
def zoo(monkeypatch, capfd):
    """Call `zoo` with arguments: in this process, its exit status and what it and what it started printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["zoo", *arguments])
        with pytest.raises(SystemExit) as ended:
            sys.exit(cli.main())  # as the installed script does
        status = ended.value.code
        if isinstance(status, str):  # which Python's end prints
            print(status, file=sys.stderr)
        printed, errors = capfd.readouterr()
        return SimpleNamespace(returncode=1 if isinstance(status, str) else status or 0, stdout=printed, stderr=errors)

    return call


@pytest.fixture
def started(root):
    """The same as a process."""

    def call(*arguments):
        code = "import sys; sys.argv[0] = 'zoo'; from zoo.cli import main; sys.exit(main())"
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


def test_check_counts_the_experiments(started, folder):
    done = started("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"params.yaml: {len(names_of(folder))} experiments" in done.stdout


def test_check_names_what_is_wrong(started, folder):
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(text.replace("fit: {batch: 60}", "fit: {batch: 0}"), encoding="utf-8")
    done = started("check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("zoo: params.yaml: models.cae_strided.fit.batch = 0: ")
    assert len(done.stderr.splitlines()) == 1


def test_check_in_another_folder(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert zoo("check").stderr == "zoo: params.yaml is missing: run this from the project's top folder\n"


COMMANDS = ("repro", "compare", "benchmark", "check", "clean", "plots", "readme", "twin")


def test_help_lists_the_commands_and_imports_nothing_large(root):
    source = "import sys; sys.argv = ['zoo', '--help']; from zoo.cli import main\ntry: main()\n"
    source += "finally: print(*sys.modules, file=sys.stderr)"
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert all(f"    {name} " in done.stdout or f"    {name}\n" in done.stdout for name in COMMANDS)
    assert not {"dvc", "numpy", "pydantic", "ruamel.yaml", "torch"} & set(done.stderr.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(capsys, monkeypatch, name):
    monkeypatch.setattr(sys, "argv", ["zoo", name, "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert (ended.value.code, shown.err) == (0, "")
    assert shown.out.startswith(f"usage: zoo {name}")


def test_version_is_that_of_pyproject_and_the_commit(root, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["zoo", "--version"])
    assert cli.main() is None
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert re.fullmatch(rf"zoo {re.escape(version)}( \([0-9a-f]{{7,40}}(-dirty)?\))?\n", capsys.readouterr().out)


def test_profiles_are_those_of_params_yaml():
    assert cli.PROFILES == params.PROFILES


@pytest.mark.parametrize("arguments", [[], ["chekc"]])
def test_without_a_command_that_there_is(zoo, arguments):
    done = zoo(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "COMMAND" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["check", "quick"], "unrecognized arguments: quick"), (["benchmark", "fast"], "invalid choice: 'fast'"),
     (["repro", "--jobs", "0"], "0 is not a number of stages"), (["compare"], "required: BASE")],
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
    monkeypatch.setattr(code, "ROOT", checkout)
    for folder in (checkout, checkout / "full"):
        monkeypatch.chdir(folder)
        assert zoo("repro", "--dry").stderr == (
            "zoo: params.yaml: judge.by = 'resnt': unknown name; did you mean resnet?\n"
        )


def test_a_checkout_runs_its_own_code_in_the_environment_of_another(started, checkout, monkeypatch):
    """As in a git worktree, whose `zoo` is that of the first checkout."""
    cli_file = checkout / "src" / "zoo" / "cli.py"
    text = cli_file.read_text(encoding="utf-8")
    cli_file.write_text(text.replace("the experiments of ReproZoo", "a copy of the project"), encoding="utf-8")
    for folder in (checkout, checkout / "full"):
        monkeypatch.chdir(folder)
        done = started("--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "a copy of the project" in done.stdout


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
    monkeypatch.setattr(code, "ROOT", checkout)
    monkeypatch.chdir(checkout)
    assert zoo("twin").stderr == ""
    assert (checkout / cli.TWIN).read_bytes() == (root / cli.TWIN).read_bytes()
    monkeypatch.chdir(checkout / "src")
    assert zoo("twin").stderr == "zoo: dvc.yaml is missing: run this from the project's top folder\n"


# ---- zoo readme


@pytest.fixture
def readme(root, folder):
    files.write_json(files.report("full", "summary.json"), SUMMARY)
    for source in band.SOURCES:
        source.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / source, source)
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
    rows = [line for line in block.splitlines() if "[cae_strided](reports/full/README.md#cae_strided)" in line]
    assert len(rows) == 1
    for part in ("| MSE |", "0.00095", "0.000948159", "**reproduced**"):
        assert part in rows[0]
    assert "Published figures, one per experiment: reproduced 1. Verbal claims: holds 1." in block
    assert "commit" not in block


def test_readme_says_of_which_commit_the_report_says_it_is(readme):
    files.report("full", "README.md").write_text("> **The figures below are those of commit 81a3487.**\n")
    cli.readme()
    assert "are from commit 81a3487** and" in readme.read_text(encoding="utf-8")


def test_readme_draws_the_picture(root, readme):
    cli.readme()
    drawn, committed = (np.asarray(Image.open(path).convert("L"), float) for path in (band.PATH, root / band.PATH))
    assert drawn.shape == committed.shape
    assert np.abs(drawn - committed).mean() < 1
    digits = band._digits(root / band.AUTOENCODER, 3)
    assert np.abs(digits[1].astype(float) - digits[0]).mean() > 25 > np.abs(digits[2].astype(float) - digits[0]).mean()
    cells = band._cells(root / band.CLASSIFIER).astype(float).mean(axis=2)
    assert np.diag(cells).max() < 100 < cells[~np.eye(10, dtype=bool)].min()


def test_readme_says_where_the_records_are_missing(zoo, readme):
    assert zoo("readme").stdout.startswith("reports/full/metrics is missing: the report is from an earlier version")
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
        (band.LATENCY, None, (str(band.LATENCY), "git restore")),
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
    graphs = {name: files.graphs("quick", name) for name in ("gan", "withdrawn")}
    for path in (*outputs.values(), *graphs.values()):
        path.mkdir(parents=True)
    page = files.report("quick", "charts") / "withdrawn.png"
    page.parent.mkdir()
    page.touch()
    zoo("clean", "quick")
    assert [path.exists() for path in (*outputs.values(), *graphs.values(), page)] == [True, False, True, False, True]
