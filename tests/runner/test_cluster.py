"""`zoo repro --ray` on a real cluster: a head and another node, each with its folder; the other dies midway."""

import contextlib
import os
import subprocess
import sys
import types

import dvc_projects
import psutil
import pytest
from dvc.repo import Repo
from dvc_projects import inside, lock, wait_for, zoo

from zoo.errors import InputError
from zoo.runner.repro import reproduce

NODES = ("head", "other")
# The head looks for its nodes more often than it would by itself.
HEAD = {"num_cpus": 2, "include_dashboard": False, "_system_config": {
    "health_check_initial_delay_ms": 0, "health_check_period_ms": 200}}  # fmt: skip


def note(name):
    """Where a stage notes that it began, and on which node: a folder outside of all clones."""
    return f'echo $$ \\${{ZOO_NODE_FOLDER:-here}} >> "$ZOO_NOTES"/{name}'


def stages():
    """What runs first, in git; slow ones that wait for a word, what depends on them, what only the driver can run."""
    slow = f"{note('${item}')} && mkdir ${{item}} && (echo '# ${{item}}'; cat source) > ${{item}}/text"
    slow += ' && until [ -e "$ZOO_NOTES/go" ]; do sleep 0.1; done && echo \'{"lines": 2}\' > ${item}.json'
    return {
        "code": {"cmd": "mkdir code && cat source > code/slow", "deps": ["source"], "meta": {"first": True},
                 "outs": [{"code": {"cache": False}}]},
        "slow": {
            "foreach": ["a", "b", "c"],
            "do": {"cmd": slow, "deps": ["code/slow", "source"], "outs": ["${item}"],
                   "metrics": [{"${item}.json": {"cache": False}}]},
        },
        "join": {"cmd": f"{note('join')} && cat [abc]/text > join", "deps": ["a", "b", "c", "a"], "outs": ["join"]},
        "timed": {"cmd": f"{note('timed')} && echo 1 > timed", "deps": ["join"], "outs": ["timed"],
                  "meta": {"alone": True}},
        "report": {"cmd": f"{note('report')} && cat *.json > report", "deps": ["a.json", "b.json", "c.json", "join"],
                   "outs": [{"report": {"cache": False}}]},
    }  # fmt: skip


def commit(folder):
    git = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "all"], check=True)


@pytest.fixture
def shared(tmp_path):
    folder = dvc_projects.project(tmp_path / "driver", stages(), source="text\n")
    remote = (
        f"[core]\n    autostage = false\n    remote = shelf\n['remote \"shelf\"']\n    url = {tmp_path / 'shelf'}\n"
    )
    (folder / ".dvc" / "config").write_text(remote)
    with inside(folder):
        assert reproduce(["code"]) == 0
    commit(folder)
    return folder


@pytest.fixture
def address(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("ZOO_NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_TMPDIR", os.environ["HOME"])  # /tmp/ray may be another user's; sockets need a short path
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv("ZOO_NODE_FOLDER", str(tmp_path / NODES[0]))
    started = Cluster(initialize_head=True, head_node_args=HEAD)
    monkeypatch.setenv("ZOO_NODE_FOLDER", str(tmp_path / NODES[1]))
    other = started.add_node(num_cpus=2)
    monkeypatch.delenv("ZOO_NODE_FOLDER")

    def kill():
        """The node and its workers at once, as when the machine goes; a worker could else outlive it and deliver."""
        workers = psutil.Process(other.all_processes["raylet"][0].process.pid).children()
        started.remove_node(other, allow_graceful=False)
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()

    yield started.address, kill
    started.shutdown()


def test_a_node_that_dies_costs_only_its_stages(shared, address, tmp_path):
    """And the lock, the outputs and what is cached are those of plain `dvc repro`."""
    address, kill = address
    notes = tmp_path / "notes"
    driver = zoo(shared, "repro", "--ray", address)
    began = {name: wait_for(notes / name).split()[-1] for name in "abc"}
    assert set(began.values()) == {str(tmp_path / name) for name in NODES}
    victim = str(tmp_path / NODES[1])
    lost = [name for name in "abc" if began[name] == victim]
    commands = [psutil.Process(int((notes / name).read_text().split()[0])) for name in lost]
    kill()
    assert psutil.wait_procs(commands, timeout=20)[1] == []  # no command outlives its worker
    (notes / "go").write_text("go")
    printed, errors = driver.communicate(timeout=120)
    assert driver.returncode == 0, printed + errors
    runs = {path.name: [line.split()[1] for line in path.read_text().splitlines()] for path in notes.iterdir()
            if path.name != "go"}  # fmt: skip
    for name in "abc":
        assert len(runs[name]) == (2 if name in lost else 1)
        assert runs[name][-1] != victim
    assert runs["join"] == [runs["a"][-1]]  # from the survivor, though nothing of it was there before
    assert runs["timed"] == runs["report"] == ["here"]

    plain = tmp_path / "plain"
    subprocess.run(["git", "clone", "--quiet", str(shared), str(plain)], check=True)
    with inside(plain), contextlib.closing(Repo()) as repo:
        repo.reproduce()
    assert lock(shared) == lock(plain)
    for name in ("a/text", "c.json", "join", "report"):
        assert (shared / name).read_text() == (plain / name).read_text()
    with inside(shared), contextlib.closing(Repo()) as repo:
        assert repo.status() == {}


@pytest.mark.parametrize(
    ("file", "reproduced", "why"),
    [
        ("source", [], "code is not up to date: run `zoo repro code` and commit"),
        ("source", ["code"], "code/slow is not committed: the nodes work on a commit"),
        ("dvc.yaml", [], "dvc.yaml is not committed: the nodes work on a commit"),
    ],
)
def test_the_nodes_work_on_a_commit(shared, monkeypatch, file, reproduced, why):
    """What a run reads has to be as committed, what runs first included."""
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    with open(shared / file, "a") as opened:
        opened.write("# other\n")
    with inside(shared):
        if reproduced:
            assert reproduce(reproduced) == 0
        with pytest.raises(InputError, match=why):
            reproduce(ray="auto")


def test_without_a_remote(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    folder = dvc_projects.project(tmp_path / "driver", stages(), source="text\n")
    with inside(folder), pytest.raises(InputError, match="dvc remote add"):
        reproduce(ray="auto")


def test_without_ray(shared, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with inside(shared), pytest.raises(InputError, match=r"pip install .*\[ray\]"):
        reproduce(ray="auto")


def test_without_a_cluster(shared, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    with inside(shared), pytest.raises(InputError, match=r"no Ray cluster at 127\.0\.0\.1:1 .*refused"):
        reproduce(ray="127.0.0.1:1")
