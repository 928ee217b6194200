"""The `zoo` command, called as it is installed."""

import json
import os
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


def test_check_counts_the_experiments(zoo, folder):
    done = zoo("check")
    count = len(yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["models"])
    assert (done.returncode, done.stderr) == (0, "")
    assert f"params.yaml: {count} experiments" in done.stdout


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
def test_without_a_command_all_are_listed(zoo, arguments):
    done = zoo(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("usage: zoo COMMAND\n")
    assert [line.split()[0] for line in done.stderr.splitlines()[1:]] == list(cli.COMMANDS)


def test_too_many_arguments(zoo, folder):
    done = zoo("check", "quick")
    assert done.returncode == 2
    assert "unrecognized arguments: quick" in done.stderr


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
        ("reports/full/summary.json", None, ("reports/full/summary.json is missing", "dvc repro")),
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
def stages(folder):
    """Stand-ins for the stages: they note how they were called, and fail where the folder has a file `fail`."""
    (folder / "stages").mkdir()
    for name in ("benchmark", "peers"):
        (folder / "stages" / f"{name}.py").write_text(
            "import json, pathlib, sys\n"
            "with open('calls.json', 'a') as stream: print(json.dumps(sys.argv), file=stream)\n"
            "sys.exit(3 if pathlib.Path('fail').exists() and sys.argv[2] == 'ae_dense2' else 0)\n"
        )


def test_benchmark_measures_in_order_and_stops_at_a_failure(zoo, folder, stages):
    (folder / "fail").touch()
    done = zoo("benchmark", "quick")
    assert done.returncode == 1
    assert "benchmark quick ae_dense2 failed" in done.stderr
    calls = [json.loads(line) for line in (folder / "calls.json").read_text().splitlines()]
    names = list(yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["models"])
    assert calls == [["stages/benchmark.py", "quick", name, "--again"] for name in names[:2]]
    (folder / "calls.json").unlink()
    (folder / "fail").unlink()
    assert zoo("benchmark", "quick").returncode == 0
    calls = [json.loads(line) for line in (folder / "calls.json").read_text().splitlines()]
    assert len(calls) == len(names) + 1
    assert calls[-1] == ["stages/peers.py", "quick", "--again"]
