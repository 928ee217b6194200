"""What `zoo.runner.dvc_graph` takes for granted of DVC; fails when an upgrade changes it."""

import ast
import contextlib
import hashlib
import inspect
import random
import subprocess

import dvc
import dvc.dependency.param
import dvc.dvcfile
import dvc.lock
import dvc.prompt
import dvc.repo
import dvc.repo.reproduce
import dvc.repo.scm_context
import dvc.rwlock
import dvc.stage
import dvc.stage.cache
import dvc.stage.decorators
import dvc.stage.loader
import dvc.stage.run
import dvc.stage.serialize
import dvc.utils.serialize
import pytest
import yaml
from dvc.fs import localfs
from scmrepo.git.backend.dulwich import DulwichBackend

from zoo.errors import InputError
from zoo.runner import dvc_graph

# The first digits of the sha256 of each function's source, as read when zoo.runner.dvc_graph was written against it.
READ = {
    dvc.repo.reproduce._reproduce: "c763611bd0ef",
    dvc.repo.reproduce._reproduce_stage: "32cb1baa118f",
    dvc.repo.reproduce.reproduce: "290e8114b421",
    dvc.repo.reproduce.plan_repro: "3b40949c0a24",
    dvc.repo.reproduce.get_active_graph: "6f91d99314c7",
    dvc.repo.lock_repo: "77da8142ad03",
    dvc.stage.Stage.reproduce: "a4fd0ff85381",
    dvc.stage.Stage.run: "d0e5527866ee",
    dvc.stage.Stage.save: "277cc65d776c",
    dvc.stage.Stage.changed: "1425cb5a6a8c",
    dvc.stage.PipelineStage.changed_stage: "39ebcc56d478",
    dvc.stage.run.run_stage: "d4b66f275003",
    dvc.stage.run.cmd_run: "d2696e63976b",
    dvc.stage.run._run: "4ee9956e4314",
    dvc.stage.run.prepare_kwargs: "b7f2672fdcd4",
    dvc.stage.decorators.rwlocked: "2f9910ef188b",
    dvc.stage.decorators.unlocked_repo: "48479e14bcce",
    dvc.stage.cache._get_stage_hash: "72e8460cc11b",
    dvc.stage.cache._get_cache_hash: "a880dc015fd4",
    dvc.dvcfile.ProjectFile._reset: "a808c5ce9840",
    dvc.stage.loader.StageLoader.fill_from_lock: "da565947ec83",
    dvc.stage.loader.StageLoader.load_stage: "b4dc4f46436a",
    dvc.stage.cache._can_hash: "5fbce5b4695b",
    dvc.stage.cache.StageCache.save: "49b8f5c04149",
    dvc.stage.cache.StageCache.restore: "c7e43f44087e",
    dvc.stage.cache.StageCache._create_stage: "ade1cc22e4d4",
    dvc.stage.serialize.to_lockfile: "78f9e179200f",
    dvc.stage.serialize.to_single_stage_lockfile: "a85109472374",
    dvc.dvcfile.Lockfile.dump_stages: "be78a3c7bd28",
    dvc.utils.serialize.modify_yaml: "f12395992e53",
    dvc.utils.serialize.load_path: "01206ebc3cfa",
    dvc.dependency.param.read_param_file: "710593e1b78d",
    dvc.dependency.param.ParamsDependency.read_params: "687935587223",
    dvc.rwlock.rwlock: "e8e87c10cc64",
    dvc.rwlock._check_blockers: "dfab1ca07593",
    dvc.lock.Lock.lock: "a00e17950e40",
    DulwichBackend.is_tracked: "46579190a956",
}


def digest(function):
    return hashlib.sha256(inspect.getsource(inspect.unwrap(function)).encode()).hexdigest()[:12]


def test_the_version_is_the_one_that_was_read():
    assert dvc.__version__ == dvc_graph.VERSION


def test_dvc_is_as_it_was_read():
    """When this fails: read what changed, see that zoo.runner.dvc_graph still does the same, note the new digest."""
    now = {function: digest(function) for function in READ}
    assert {function.__qualname__: now[function] for function in READ if now[function] != READ[function]} == {}


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(dvc, "__version__", "4.0.0")
    with pytest.raises(InputError, match=r"DVC 4\.0\.0 is installed.*make setup"), dvc_graph.open_pipeline():
        pass


def test_one_module_alone_imports_dvc(root):
    for path in (root / "src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert path.name == "dvc_graph.py" or "dvc" not in {(name or "").split(".")[0] for name in names}, path


def test_what_git_tracks_is_what_dvc_finds(tmp_path):
    """Files, folders of files, and neither; also after the index has changed, and where there is none."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    with contextlib.closing(DulwichBackend(str(tmp_path))) as backend:
        for name in (None, "a", "folder/below/é", "folder2"):
            if name:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(name)
                subprocess.run(["git", "-C", tmp_path, "add", name], check=True)
            for path in ("a", "folder", "folder/below", "folder/below/é", "folder/b", "folder2", "folder2/x", "none"):
                path = str(tmp_path / path)
                assert dvc_graph.is_tracked(backend, path) == backend.is_tracked(path), (name, path)


@pytest.mark.parametrize(
    "keys",
    [["a"], ["a.b", "a.b.c"], ["a.none", "l"], ["l.0"], ["a.*"], ["n", "s.x"], ["a.b", "a", "l.1.d"], ["", "zzz"]],
)
def test_params_are_read_as_dvc_reads_them(tmp_path, keys):
    path = str(tmp_path / "params.yaml")
    values = {"a": {"b": {"c": 1.0e-5}}, "l": [1, {"d": 2}], "n": None, "s": "text"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))

    def outcome(read):
        try:
            return read(localfs, path, keys, flatten=True)
        except Exception as error:
            return type(error)

    assert outcome(dvc_graph.read_params) == outcome(dvc.dependency.param.read_param_file)


def test_changed_params_are_read_again(tmp_path):
    path = tmp_path / "params.yaml"
    for value in (1, 22, {"x": 333}):
        path.write_text(yaml.safe_dump({"a": value}))
        found = dvc_graph.read_params(localfs, str(path), ["a"], flatten=True)
        assert found == {"a": value}
        found["a"] = "what a reader does to it stays with the reader"
        assert dvc_graph.read_params(localfs, str(path), ["a"], flatten=True) == {"a": value}


def test_entries_in_any_order_read_as_in_plan_order(tmp_path):
    """Old entries stay in their places; new ones follow in plan order, also when another run takes it up."""
    names = [f"s{number}" for number in range(9)]
    path = tmp_path / "dvc.lock"
    old = {"schema": "2.0", "stages": {name: {"cmd": name} for name in ("gone", "s7", "s2")}}
    for seed in range(5):
        path.write_text(yaml.safe_dump(old, sort_keys=False))
        shuffled = random.Random(seed).sample(names, len(names))
        for part in (shuffled[:4], shuffled[4:6], shuffled[6:]):
            lock = dvc_graph.LockFile(path, names, tmp_path)  # as after a kill: begun anew
            for name in part:
                lock.add({name: {"cmd": f"{name} new"}})
                assert lock.write()
        lock.forget()
        stages = yaml.safe_load(path.read_text())["stages"]
        assert list(stages) == ["gone", "s7", "s2", "s0", "s1", "s3", "s4", "s5", "s6", "s8"]
        assert stages["gone"]["cmd"] == "gone"
        assert all(stages[name]["cmd"] == f"{name} new" for name in names)
        assert sorted(tmp_path.iterdir()) == [path]
