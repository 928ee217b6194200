"""The DVC internals that `zoo repro` and `zoo compare` use: graph, change detection, caches, locks.

DVC's own `repro` is serial, reads params.yaml once for each stage and writes the whole dvc.lock after each. This module
splits it into steps (from `Stage.reproduce`, `Stage.run` and `run_stage` in DVC's source), so that commands can run in
parallel between them; all decisions remain DVC's. It is written for one version of DVC: tests/runner/test_dvc_graph.py
fails if the source of a function that is repeated or replaced here has changed.
"""

import contextlib
import copy
import functools
import hashlib
import logging
import math
import operator
import os
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

import dvc
import dvc.dependency.param
import dvc.prompt
import dvc.rwlock
import dvc.utils.serialize
import psutil
from dvc.dependency.param import read_param_file
from dvc.exceptions import CheckoutError, DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.rwlock import rwlock
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError, RunCacheNotSupported, _can_hash, _get_stage_hash
from dvc.stage.loader import StageLoader
from dvc.stage.run import _enforce_cmd_list, _make_cmd, _pull_missing_deps, get_executable, prepare_kwargs
from dvc.stage.serialize import to_lockfile, to_single_stage_lockfile
from dvc.utils import parse_target, relpath
from dvc.utils.serialize import dumps_yaml, load_path, parse_yaml_for_update
from scmrepo.git.backend.dulwich import DulwichBackend

from zoo import files
from zoo.errors import InputError

VERSION = "3.67.1"
# Writing a lock file takes at most 1 / LOCK_SHARE of the elapsed time.
LOCK_SHARE = 50
# Another run holds DVC's lock while it checks its stages, which takes seconds.
PATIENCE_SECONDS = 60


class StageError(Exception):
    """A stage cannot be run or finished; the message is usually DVC's."""


class Step(NamedTuple):
    """A stage as the scheduler sees it."""

    name: str  # as DVC prints it: train@cvae, full/dvc.yaml:train@cvae
    group: str  # the name without the key that `foreach` adds
    alone: bool  # `meta: {alone: true}`: never runs in parallel with another stage
    after: frozenset  # names of the steps that it waits for
    imports: tuple = ()  # `meta: {imports: [...]}`: modules, or paths of scripts, to preload for its Python program
    first: bool = False  # `meta: {first: true}` and `after` empty: once it has run, other runs may read its outputs


def cache_path():
    """A function from an object's md5 to its path in DVC's cache, whether it exists or not.

    Raises InputError outside a DVC project.
    """
    with _as_input_error(), contextlib.closing(Repo()) as repo:
        return repo.cache.local.oid_to_path


@contextlib.contextmanager
def open_pipeline(targets=(), force=False, pull=False):
    """Yield the `Pipeline` of the targets (as for `dvc repro`), with its files locked against other processes.

    Raises InputError outside a DVC project, for an unknown target, or if another process uses the same files.
    """
    if dvc.__version__ != VERSION:
        raise InputError(f"DVC {dvc.__version__} is installed, but zoo repro needs {VERSION}: run `make setup`")
    with _as_input_error():
        repo = Repo()
    with contextlib.closing(repo), _quick_and_quiet(), contextlib.ExitStack() as stack:
        pipeline = Pipeline(repo, force, pull)
        with pipeline.locked(PATIENCE_SECONDS), _as_input_error():
            pipeline.plan(targets)
            pipeline.reserve(stack)
        with repo.scm_context(quiet=True):
            yield pipeline


class Pipeline:
    """The stages of a run, and DVC's operations on them. Only one thread may call it, inside `locked()`."""

    def __init__(self, repo, force, pull):
        self.repo, self.force, self.pull = repo, force, pull
        self.folder = Path(repo.tmp_dir, "repro")
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self.stages, self.steps, self._locks, self._pushed = {}, {}, {}, set()
        self._first_outs, self._writing = set(), None

    def plan(self, targets):
        """Fill `stages` and `steps`, keyed by name, in the order in which `dvc repro` would run them."""
        index = self.repo.index
        wanted, self._outs = _find(index.stages, targets), index.outs_trie
        graph = get_active_graph(index.graph)
        planned = plan_repro(graph, wanted)
        names = {stage: stage.addressing for stage in planned}
        for stage, name in names.items():
            self.stages[name], meta = stage, stage.meta or {}
            after = frozenset(names[other] for other in graph.successors(stage))
            self.steps[name] = step = Step(
                name=name, group=name.partition("@")[0], after=after, alone=bool(meta.get("alone")),
                imports=_located(meta.get("imports", ()), stage.wdir), first=bool(meta.get("first")) and not after,
            )  # fmt: skip
            self._first_outs |= {out.fs_path for out in stage.outs if step.first}
        for path in {stage.path for stage in planned if isinstance(stage, PipelineStage)}:
            order = [stage.name for stage in planned if stage.path == path]
            self._locks[path] = LockFile(Path(path).with_suffix(".lock"), order, self.folder)
        if self.pull:
            with contextlib.suppress(RunCacheNotSupported):
                self.repo.stage_cache.pull(None)

    @contextlib.contextmanager
    def locked(self, patience_seconds=math.inf):
        """Hold DVC's lock on the project. Raises InputError if another process holds it for `patience_seconds`."""
        give_up = time.monotonic() + patience_seconds
        while True:
            try:
                self.repo.lock.lock()
                break
            except LockError:
                if time.monotonic() >= give_up:
                    raise InputError(f"{self._holder()}: wait for it or end it, then start again") from None
        self.repo._lock_depth += 1
        try:
            yield
        finally:
            self.repo._lock_depth -= 1
            self.repo.lock.unlock()

    def reserve(self, stack):
        """Lock the inputs and outputs of the stages until `stack` closes, except those that `reserve_first` locks."""
        outs = {out.fs_path for stage in self.stages.values() for out in stage.outs} - self._first_outs
        deps = [dep for stage in self.stages.values() for dep in stage.deps]
        deps = {dep.fs_path for dep in deps if not any(dep.fs.isin_or_eq(dep.fs_path, out) for out in self._first_outs)}
        self._hold(stack, deps - outs, outs)

    def reserve_first(self, stack):
        """Lock the outputs of stages that run first: for reading, and for writing until a changed stage has run.

        Returns False while another process writes them. Raises InputError if another process reads the outputs of a
        changed stage.
        """
        with self.locked():
            try:
                self._hold(stack, self._first_outs, set())
            except InputError:
                return False
            first = [name for name, step in self.steps.items() if step.first]
            for name in first:
                _read_entry(self.stages[name])
            self._writing = {name: stack.enter_context(contextlib.ExitStack()) for name in first if self.changed(name)}
            for name, writing in self._writing.items():
                self._hold(writing, set(), {out.fs_path for out in self.stages[name].outs})
            return True

    def _hold(self, stack, read, write):
        """Lock files by DVC's `rwlock`, which records our pid. Raises InputError if another process has locked one."""
        repo, command = self.repo, " ".join(sys.argv)
        hardlink = repo.config["core"].get("hardlink_lock", False)
        try:
            stack.enter_context(rwlock(repo.tmp_dir, repo.fs, command, sorted(read), sorted(write), hardlink))
        except LockError as error:
            holders = dict(re.findall(r"\(PID (\d+)\): (.*)", str(error)))
            who = " and ".join(f"process {pid} ({command})" for pid, command in holders.items())
            raise InputError(f"{who} is running these stages: wait until it has ended, or end it") from None

    def changed(self, name):
        """True if `dvc repro` would reproduce the stage now; with `pull`, outputs that are only missing are fetched.

        `force` does not apply to stages that run first: another run may be reading their outputs.
        """
        stage, first = self.stages[name], self.steps[name].first
        upstream = [self.stages[other] for other in self.steps[name].after]
        if first and self._writing is not None:
            return name in self._writing
        if self.force and not first:
            return True
        with _as_stage_error():
            if not stage.changed(False, upstream):
                return False
            if self.pull and not stage.changed(True, upstream):
                with contextlib.suppress(CheckoutError):
                    self.repo.pull(stage.addressing)
                    stage.checkout()
                    return False
        return True

    def start(self, name):
        """Prepare a changed stage and return its commands for a runner; [] if there is nothing to run.

        That is so if it was restored from the run-cache or has no command. Call `finish` when the commands have ended.
        """
        stage = self.stages[name]
        with _as_stage_error():
            if (stage.cmd or stage.is_import) and not stage.frozen:
                stage.remove_outs(ignore_remove=False, force=False)
            if (stage.is_import and not stage.frozen) or stage.is_partial_import:
                stage._sync_import(False, self.force, None, False)
                return []
            if stage.frozen or not stage.cmd:
                stage._check_missing_outputs()
                return []
            if not self.force:
                if self.pull:
                    _pull_missing_deps(stage)
                try:
                    self.repo.stage_cache.restore(stage, pull=self.pull)
                    return []
                except RunCacheNotFoundError:
                    stage.save_deps()
            return self.commands(name)

    def commands(self, name):
        """The commands of a stage: [(command as written, arguments of Popen to run it as DVC would)]."""
        return _commands(self.stages[name])

    def finish(self, name):
        """Hash and cache the outputs of a stage, save its run-cache entry, and remember its entry for the lock."""
        stage = self.stages[name]
        with _as_stage_error():
            # Outputs that are kept in git only: the run-cache could not restore them.
            uncached = any(not out.use_cache for out in stage.outs if not (out.is_metric or out.is_plot))
            stage.save(run_cache=not uncached)
            stage.commit()
            if isinstance(stage, PipelineStage):
                self._locks[stage.path].add(to_lockfile(stage))
            else:  # a .dvc file is its own lock
                stage.dump()
        if self.steps[name].first:
            self._writing[name].close()

    def remove_outputs(self, name):
        """Remove the outputs of an interrupted stage, except those marked `persist`."""
        with _as_stage_error():
            self.stages[name].remove_outs(ignore_remove=False, force=False)

    # ---- stages that run on another machine

    def parcel(self, name):
        """What another machine needs to run a started stage, or None if it must run here.

        It can run elsewhere if the run-cache can restore all of its outputs, and each dependency is in git (as outputs
        of stages that run first are) or is exactly one cached output. The inputs are pushed to the remote.
        """
        stage = self.stages[name]
        if not _can_hash(stage) or any(not (out.use_cache or out.is_metric or out.is_plot) for out in stage.outs):
            return None
        made = set()
        for dep in stage.deps:
            overlapping = self._outs_at(dep)
            if len(overlapping) > 1 or any(out.fs_path != dep.fs_path or not out.use_cache for out in overlapping):
                return None
            if overlapping:
                made.add(dep.def_path)
        entry = to_single_stage_lockfile(stage)
        # Keyed by path: a stage may list a dependency twice.
        inputs = {dep["path"]: dep for dep in entry.get("deps", []) if dep["path"] in made}
        inputs = {"cmd": stage.cmd, "outs": list(inputs.values())}
        with _as_stage_error():
            objects = _objects(self.repo, stage, inputs)
            _push(self.repo, objects - self._pushed)
            self._pushed |= objects
        remote = self.repo.config["core"]["remote"]
        return {
            "file": relpath(stage.path, self.repo.root_dir), "name": stage.name, "inputs": inputs,
            "entry": {key: entry[key] for key in ("cmd", "deps", "params") if key in entry},
            "key": _get_stage_hash(stage),
            "remote": {"core": {"remote": remote}, "remote": {remote: dict(self.repo.config["remote"][remote])}},
        }  # fmt: skip

    def receive(self, name, entry):
        """Fetch and check out the outputs of a stage that ran elsewhere, by its run-cache entry."""
        stage = self.stages[name]
        with _as_stage_error():
            objects = _objects(self.repo, stage, entry)
            _pull(self.repo, objects)
            self._pushed |= objects
            self.repo.stage_cache._create_stage(entry, wdir=stage.wdir).checkout()

    def from_git(self):
        """Paths that other machines get by git: DVC files, and dependencies that no stage, or a first one, writes."""
        deps = [dep for stage in self.stages.values() for dep in stage.deps if not self._outs_at(dep)]
        return {stage.path for stage in self.stages.values()} | {dep.fs_path for dep in deps if dep.protocol == "local"}

    def _outs_at(self, dep):
        """The outputs that equal, contain or lie in a dependency, except those of stages that run first."""
        key, outs = dep.fs.parts(dep.fs_path), self._outs
        above = [step.value for step in outs.prefixes(key)]
        found = above or (outs.values(prefix=key) if outs.has_subtrie(key) else [])
        return [out for out in found if out.fs_path not in self._first_outs]

    def is_lock_due(self):
        return any(lock.is_due() for lock in self._locks.values())

    def write_locks(self, ended=False, complete=False):
        """Write the lock files that are due, or all that have new entries when the run has `ended`.

        `complete` means that the run was not interrupted: the next one has nothing to resume.
        """
        for lock in self._locks.values():
            if (ended or lock.is_due()) and lock.write():
                self.repo.scm_context.track_file(relpath(lock.path))
            if complete:
                lock.forget()

    def _holder(self):
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            pid = int(Path(self.repo.tmp_dir, "lock").read_text())
            return f"DVC's lock is held by process {pid} ({' '.join(psutil.Process(pid).cmdline())})"
        return "DVC's lock is held by another process"


class Visit:
    """The stage of a `Pipeline.parcel` on another machine, in a clone at the driver's commit; raises StageError.

    The clone must be the working directory, and only one visit at a time may be created or deliver in it.
    """

    def __init__(self, parcel):
        """Fetch the inputs from the DVC remote, and remove old outputs."""
        self._repo = repo = Repo(config=parcel["remote"])
        with repo.lock, _as_stage_error():
            self._stage = stage = repo.stage.load_one(parcel["file"], parcel["name"])
            StageLoader.fill_from_lock(stage, parcel["entry"])
            _pull(repo, _objects(repo, stage, parcel["inputs"]))
            repo.stage_cache._create_stage(parcel["inputs"], wdir=stage.wdir).checkout(force=True)
            stage.remove_outs(ignore_remove=False, force=False)
            stage.save_deps()
            if _get_stage_hash(stage) != parcel["key"]:
                raise DvcException("the stage's command or inputs differ from the driver's: commit them first")
            self.commands = _commands(stage)

    def deliver(self):
        """Push the outputs to the remote; return the run-cache entry."""
        stage, repo = self._stage, self._repo
        with repo.lock, _as_stage_error():
            stage.save()
            stage.commit()
            entry = to_single_stage_lockfile(stage)
            _push(repo, _objects(repo, stage, entry))
            return entry

    def close(self):
        self._repo.close()


class LockFile:
    """A dvc.lock whose new entries are in plan order, in whatever order the stages finish.

    DVC appends new entries in the order of execution. A note in `folder` records which entries are new, so that an
    interrupted and resumed run ends with the same text as an uninterrupted one.
    """

    def __init__(self, path, order, folder):
        self.path, self._order = path, order
        self._note = folder / f"{_digest(str(path))[:16]}.json"
        self._new, self._written, self._data, self._known = {}, None, None, None
        self._due = time.monotonic()

    def add(self, entries):
        self._new |= entries

    def is_due(self):
        return bool(self._new) and time.monotonic() >= self._due

    def write(self):
        """Write the entries added since the last write; return True if there were any."""
        if not self._new:
            return False
        began = time.monotonic()
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        before = _digest(text)
        if self._data is None or before != self._written:  # another `dvc` command has written it since
            self._data = parse_yaml_for_update(text, self.path) or {"schema": "2.0"}
        stages = self._data.setdefault("stages", {})
        if self._known is None:
            self._known = self._known_before(before, stages)
        stages.update(self._new)
        for name in self._order:
            if name in stages and name not in self._known:
                stages[name] = stages.pop(name)
        text = dumps_yaml(self._data)
        self._new, self._written = {}, _digest(text)
        # Before the lock file itself: a run may be killed between the two writes.
        files.write_json(self._note, {"known": sorted(self._known), "texts": [before, self._written]})
        with files.replacing(self.path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self._due = time.monotonic() + max(LOCK_SHARE * (time.monotonic() - began), 2)
        return True

    def forget(self):
        """Delete the note when a run is complete: its entries are no longer new."""
        self._note.unlink(missing_ok=True)

    def _known_before(self, digest, stages):
        """The entries that existed before this run, or before the interrupted run that left this text."""
        with contextlib.suppress(InputError, KeyError, TypeError):
            note = files.read_json(self._note)
            if digest in note["texts"]:
                return set(note["known"])
        return set(stages)


def _located(modules, folder):
    """Module names unchanged; paths of scripts joined to the folder of the stage."""
    return tuple(os.path.join(folder, module) if module.endswith(".py") else module for module in modules)


def _read_entry(stage):
    """Reload a stage's entry in dvc.lock: another run may have written it since."""
    stage.dvcfile._reset()
    if entry := stage.dvcfile.lockfile_contents.get("stages", {}).get(stage.name):
        StageLoader.fill_from_lock(stage, entry)
        stage.cmd_changed = entry.get("cmd") != stage.cmd


def _commands(stage):
    options = prepare_kwargs(stage)
    # A stage runs this Python, even if its environment is not activated.
    options["env"]["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), options["env"].get("PATH", os.defpath)])
    commands = _enforce_cmd_list(stage.cmd) if stage.cmd else []
    return [(command, {"args": _make_cmd(get_executable(), command), **options}) for command in commands]


def _objects(repo, stage, entry):
    """The hashes of all outputs in a run-cache entry of a stage; fetches the file lists of folders."""
    used = repo.stage_cache._create_stage(entry, wdir=stage.wdir).get_used_objs().values()
    return {found for some in used for found in some}


def _push(repo, objects):
    if objects and repo.cloud.push(objects).failed:
        raise DvcException("not everything could be pushed to the DVC remote")


def _pull(repo, objects):
    if objects and repo.cloud.pull(objects).failed:
        raise DvcException("not everything is on the DVC remote")


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _find(stages, targets):
    """The stages that the targets name: a DVC file, or a stage or `foreach` group with or without its file."""
    wanted = []
    for target in targets or ["dvc.yaml"]:
        file, name = parse_target(target)
        path = os.path.abspath(file or "dvc.yaml")
        here = [stage for stage in stages if stage.path == path]
        named = [stage for stage in here if name in (None, getattr(stage, "name", None), stage.raw_data.generated_from)]
        if not named:
            known = dict.fromkeys(stage.raw_data.generated_from or stage.name for stage in here)
            use = ", ".join(known) or "dvc.yaml or full/dvc.yaml"
            raise InputError(f"{relpath(path)} has no stage {name or 'at all'}; use {use}")
        wanted += named
    return list(dict.fromkeys(wanted))


@contextlib.contextmanager
def _quick_and_quiet():
    """Skip work that DVC repeats for each stage, and suppress its progress bars and prompts.

    One lock on all files of the run replaces those that DVC takes and releases several times per stage.
    """
    replaced = [
        (dvc.rwlock, "rwlock", lambda *arguments: contextlib.nullcontext()),
        (dvc.dependency.param, "read_param_file", read_params),
        (dvc.utils.serialize, "load_path", load_params),
        (DulwichBackend, "is_tracked", is_tracked),
        (dvc.prompt, "confirm", lambda *arguments: False),
    ]
    loggers = {logging.getLogger("dvc"): logging.WARNING, logging.getLogger("dvc.progress"): logging.CRITICAL}
    with contextlib.ExitStack() as stack:
        for logger, level in loggers.items():
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(level)
        for owner, name, replacement in replaced:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, replacement)
        yield


@functools.lru_cache(maxsize=8)
def _parsed(path, fs, version):
    """The values of a parameter file, parsed once until it changes."""
    return load_path(path, fs)


def load_params(path, fs):
    """Replaces DVC's `load_path`; callers must not modify the result."""
    status = os.stat(path)
    return _parsed(os.path.abspath(path), fs, (status.st_mtime_ns, status.st_size, status.st_ino))


@functools.lru_cache(maxsize=1)
def _tracked(repo, version):
    """The files in git's index, and the folders that they are in."""
    names = [Path(os.fsdecode(name)) for name in repo.open_index()]
    return {path for name in names for path in (name, *name.parents)}


def is_tracked(backend, path):
    """Replaces the method of DVC's git backend, which reads the index for every output; here, until it changes."""
    try:
        status = os.stat(backend.repo.index_path())
    except FileNotFoundError:  # nothing was ever added
        return False
    return Path(relpath(path, backend.root_dir)) in _tracked(backend.repo, (status.st_mtime_ns, status.st_ino))


def read_params(fs, path, key_paths=None, flatten=False, **options):
    """Replaces DVC's `read_param_file`: {key path: value} for the dotted key paths that the file has."""
    if not flatten or options or not key_paths:
        return read_param_file(fs, path, key_paths, flatten, **options)
    values = load_params(path, fs)
    try:
        found = {key_path: functools.reduce(operator.getitem, key_path.split("."), values) for key_path in key_paths}
    except (LookupError, TypeError):  # missing, an index or a pattern: use DVC's slow search
        return read_param_file(fs, path, key_paths, flatten)
    # One copy, as if parsed anew: YAML would write a value that two stages share as an alias.
    return copy.deepcopy(found)


@contextlib.contextmanager
def _raised_as(kind, *errors):
    try:
        yield
    except errors as error:
        raise kind(" ".join(str(error).split()) or type(error).__name__) from error


_as_input_error = functools.partial(_raised_as, InputError, DvcException)
_as_stage_error = functools.partial(_raised_as, StageError, DvcException, OSError)
