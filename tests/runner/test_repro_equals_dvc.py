"""`zoo repro` against plain `dvc repro` on a copy: random pipelines of deterministic stages, random changes."""

import contextlib
import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.exceptions import ReproductionError
from dvc.repo import Repo
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.runner.repro import reproduce

SOURCES, PARAMS = ("s0", "s1"), ("p", "q.r")
OUTS = {"file": {}, "folder": {}, "metric": {"cache": False}, "uncached": {"cache": False}, "kept": {"persist": True}}


@st.composite
def pipelines(draw):
    """Stages as dictionaries; each depends on sources, parameters and outputs of stages before it."""
    stages, made = [], []
    for number in range(draw(st.integers(1, 6))):
        kinds = draw(st.lists(st.sampled_from(sorted(OUTS)), min_size=1, max_size=2, unique=True))
        stage = {
            "name": f"t{number}",
            "deps": draw(st.lists(st.sampled_from([*SOURCES, *made]), max_size=3, unique=True)),
            "params": draw(st.lists(st.sampled_from(PARAMS), max_size=2, unique=True)),
            "outs": [(f"o{number}/{kind}", kind) for kind in kinds],
            "version": 0, "fails": False, "frozen": False,
            "always": draw(st.integers(0, 9)) == 0, "alone": draw(st.booleans()), "lines": draw(st.booleans()),
        }  # fmt: skip
        stages.append(stage)
        made += [path for path, _ in stage["outs"]]
    draw(st.randoms(use_true_random=False)).shuffle(stages)  # DVC's order is the file's only where the graph allows
    return stages


CHANGES = st.tuples(
    st.sampled_from(
        ["source", "param", "command", "delete", "tamper", "fail", "freeze", "forget", "empty cache", "add", "nothing"]
    ),
    st.integers(0, 5),
    st.integers(0, 2),
)


def command(stage):
    """Shell lines: every output holds the stage's version and all that it depends on; each run leaves a note."""
    reads = " ".join([*stage["deps"], *(["params.yaml"] if stage["params"] else [])])
    text = f"find {reads} -type f | sort | xargs cat" if reads else "true"
    lines = [f"echo {stage['name']} >> .ran"]
    for path, kind in stage["outs"]:
        lines.append(f"mkdir -p {path if kind == 'folder' else Path(path).parent}")
        target = f"{path}/inside" if kind == "folder" else path
        lines.append(
            f"(echo '# {stage['name']} {stage['version']}'; {text}) {'>>' if kind == 'kept' else '>'} {target}"
        )
    if stage["fails"]:
        lines.append("exit 3")
    return lines if stage["lines"] else " && ".join(lines)


def dvc_yaml(stages):
    entries = {}
    for stage in stages:
        entry = {"cmd": command(stage), "meta": {"alone": stage["alone"]}}
        entry |= {key: stage[key] for key in ("deps", "params") if stage[key]}
        entry["outs"] = [{path: OUTS[kind]} for path, kind in stage["outs"] if kind != "metric"]
        entry["metrics"] = [{path: OUTS[kind]} for path, kind in stage["outs"] if kind == "metric"]
        entry |= {"always_changed": True} if stage["always"] else {}
        entry |= {"frozen": True} if stage["frozen"] else {}
        entries[stage["name"]] = {key: value for key, value in entry.items() if value}
    return yaml.safe_dump({"stages": entries}, sort_keys=False)


def change(folder, stages, values, kind, which, value):
    """Apply one change to a project folder; `stages` and `values` (sources and parameters) are changed in place."""
    stage = stages[which % len(stages)]
    out = folder / stage["outs"][value % len(stage["outs"])][0]
    if kind == "source":
        values[SOURCES[which % 2]] = value
    elif kind == "param":
        values[PARAMS[which % 2]] = value
    elif kind == "command":
        stage["version"] = value
    elif kind in ("fail", "freeze"):
        key = {"fail": "fails", "freeze": "frozen"}[kind]
        stage[key] = not stage[key]
    elif kind == "delete":
        shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
    elif kind == "tamper" and out.exists():
        file = out / "inside" if out.is_dir() else out
        text = file.read_text() if file.exists() else ""
        file.unlink(missing_ok=True)  # it may be a link into the cache
        file.write_text(text + "tampered\n")
    elif kind == "forget":
        (folder / "dvc.lock").unlink(missing_ok=True)
    elif kind == "empty cache":
        shutil.rmtree(folder / ".dvc" / "cache", ignore_errors=True)
    elif kind == "add" and not any(stage["name"] == "new" for stage in stages):
        new = {"name": "new", "deps": ["s0"], "params": [], "outs": [("new/file", "file")]}
        stages.insert(0, stages[0] | new)


def write(folder, stages, values):
    (folder / "dvc.yaml").write_text(dvc_yaml(stages))
    (folder / "params.yaml").write_text(yaml.safe_dump({"p": values["p"], "q": {"r": values["q.r"], "x": [1.0e-5]}}))
    for source in SOURCES:
        (folder / source).write_text(f"- {source}\n- {values[source]}\n")


def tree(folder, *but):
    """{path: bytes} of the lock, the outputs and DVC's cache, the run-cache included, but for files of some names."""
    return {
        name: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".ran", *but)
        and not (name := str(path.relative_to(folder))).startswith((".dvc/tmp", ".git/"))
    }  # fmt: skip


def ran(folder):
    notes = folder / ".ran"
    return sorted(notes.read_text().split()) if notes.exists() else []


@pytest.fixture(scope="module")
def empty_project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty") / "project"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    Repo.init(str(folder)).close()
    (folder / ".dvc" / "config").write_text("[core]\n    autostage = false\n    analytics = false\n")
    return folder


@contextlib.contextmanager
def inside(folder):
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        yield


@settings(max_examples=int(os.environ.get("ZOO_EXAMPLES", 10)))
@given(
    stages=pipelines(), changes=st.lists(st.lists(CHANGES, min_size=1, max_size=3), max_size=3), jobs=st.integers(1, 4)
)
def test_equals_plain_dvc_repro(empty_project, tmp_path_factory, stages, changes, jobs):
    """Same executions, same dvc.lock to the byte, same outputs, cache and run-cache, after every change."""
    base = tmp_path_factory.mktemp("pair")
    plain, ours = base / "plain", base / "ours"
    but = []
    values = dict.fromkeys((*SOURCES, *PARAMS), 0)
    for folder in (plain, ours):
        shutil.copytree(empty_project, folder)
    for step in [[], *changes]:
        for folder in (plain, ours):
            mine, of_mine = [dict(stage) for stage in stages], dict(values)
            for one in step:
                change(folder, mine, of_mine, *one)
            write(folder, mine, of_mine)
        stages, values = mine, of_mine
        with inside(plain):
            try:
                with contextlib.closing(Repo()) as repo:
                    repo.reproduce(on_error="keep-going")
                    repo.close()
                status = 0
            except ReproductionError:
                status = 1
        with inside(ours):
            assert reproduce(jobs=jobs, keep_going=True) == status
        assert ran(ours) == ran(plain)
        if status:  # after a failure plain DVC takes what it had added to .gitignore back, of good stages too
            but = [".gitignore"]
        assert tree(ours, *but) == tree(plain, *but)
        if not status and not any(stage["always"] for stage in stages):
            with inside(ours), contextlib.closing(Repo()) as repo:
                assert repo.status() == {}
    shutil.rmtree(base)
