"""Run stages on the nodes of a Ray cluster. No shared disk is needed: each node works in a clone of its own.

A node needs this environment with the extra `ray`, and access to the DVC remote. It gets the driver's commit as a git
bundle, pulls a stage's inputs from the remote, and pushes the outputs to it. The driver pulls these and alone writes
dvc.lock. Stages that the run-cache cannot restore (latencies, the report) run on the driver.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import platform
import socket
import subprocess
from pathlib import Path

from filelock import FileLock

from zoo.errors import InputError
from zoo.runner import dvc_graph
from zoo.runner.dvc_graph import StageError
from zoo.runner.processes import Local

RETRIES = 3  # for a stage whose node died; a stage that fails is not retried
LOG_BYTES = 1 << 20


@contextlib.contextmanager
def connected(address, pipeline, jobs, logs):
    """Yield a `Cluster` for the cluster at `address` that runs `jobs` stages at a time (default: its CPUs)."""
    try:
        import ray
    except ImportError:
        raise InputError("--ray needs Ray: pip install -c constraints.txt -e '.[ray]'") from None
    if not pipeline.repo.config["core"].get("remote"):
        raise InputError("--ray needs a DVC remote that every node can reach: dvc remote add -d NAME ADDRESS")
    commit, bundle = bundled(pipeline)
    try:
        host, _, port = address.rpartition(":")
        if port.isdecimal() and "://" not in host:  # Ray itself would retry for minutes
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster at {address} ({' '.join(str(error).split())}): see `ray status`") from None
    try:
        slots = jobs or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        project = hashlib.sha256(f"{platform.node()} {pipeline.repo.root_dir}".encode()).hexdigest()[:16]
        source = {"project": project, "commit": commit, "bundle": [ray.put(bundle)]}
        with contextlib.closing(Cluster(ray, pipeline, slots, source, logs)) as cluster:
            yield cluster
    finally:
        ray.shutdown()


def bundled(pipeline):
    """(commit, its git bundle). Raises InputError if the run reads a file with uncommitted changes."""
    root, read = pipeline.repo.root_dir, sorted(pipeline.from_git())
    for name, step in pipeline.steps.items():
        if step.first and pipeline.changed(name):
            raise InputError(f"{name} is not up to date: run `zoo repro {name}` and commit, the nodes work on a commit")
    try:
        commit, bundle = _git(root, "rev-parse", "HEAD"), _git(root, "bundle", "create", "--quiet", "-", "HEAD")
        changed = _git(root, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--", *read)
    except StageError as error:
        raise InputError(f"--ray needs a commit for the nodes to work on ({error})") from None
    if changed:  # for each file: two letters, a space and the path
        raise InputError(f"{changed.decode().split(chr(0))[0][3:]} is not committed: the nodes work on a commit")
    return commit.decode().strip(), bundle


class Cluster:
    """Runs stages on the nodes, or on this machine if they cannot run elsewhere."""

    def __init__(self, ray, pipeline, slots, source, logs):
        self.slots, self._ray, self._pipeline, self._source, self._logs = slots, ray, pipeline, source, logs
        self._here, self._work = Local(slots, logs, {}), ray.remote(work)
        self._references = {}

    def start(self, name, commands):
        """Start a stage; return a future for `collect`."""
        parcel = None if self._pipeline.steps[name].alone else self._pipeline.parcel(name)
        if parcel is None:
            return self._here.start(name, commands)
        variables = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}  # Ray sets its own value
        task = self._work.options(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")
        reference = self._references[name] = task.remote(self._source, parcel, variables)
        return reference.future()

    def collect(self, name, future):
        """Fetch the outputs of a stage that has ended; return the reason if it failed, else None."""
        if self._references.pop(name, None) is None:
            return self._here.collect(name, future)
        try:
            why, log, entry = future.result()
        except (self._ray.exceptions.RayError, concurrent.futures.CancelledError) as error:
            return " ".join(str(error).split())[:500]
        self._logs[name].write_bytes(log)
        if why is None:
            self._pipeline.receive(name, entry)
        return why

    def end(self):
        self._here.end()
        for reference in self._references.values():
            self._ray.cancel(reference, force=True)

    def close(self):
        self._here.close()


def work(source, parcel, variables):
    """Run one stage on a node; return (reason if it failed or None, its log, its run-cache entry or None)."""
    base = Path(os.environ.get("ZOO_NODE_FOLDER", Path.home() / ".cache" / "repro-zoo"))
    clone = base / platform.node() / source["project"]
    clone.mkdir(parents=True, exist_ok=True)
    log = clone.with_name(f"{clone.name}-{os.getpid()}.log")
    log.write_bytes(b"")
    one_at_a_time = FileLock(clone.with_name(f"{clone.name}.lock"))  # released even if the process is killed
    try:
        with one_at_a_time:
            _check_out(clone, source)
            os.chdir(clone)
            visit = dvc_graph.Visit(parcel)
        with contextlib.closing(visit), contextlib.closing(Local(1, {parcel["name"]: log}, {})) as here:
            for _, options in visit.commands:
                options["env"] = {k: v for k, v in (options["env"] | variables).items() if v is not None}
            if why := here.run(parcel["name"], visit.commands):
                return why, _end_of(log), None
            with one_at_a_time:
                return None, _end_of(log), visit.deliver()
    except StageError as error:
        return str(error), _end_of(log), None
    finally:
        log.unlink(missing_ok=True)


def _check_out(clone, source):
    _git(clone, "init", "--quiet")
    with contextlib.suppress(StageError):  # a new clone has no commit yet
        if _git(clone, "rev-parse", "--verify", "--quiet", "HEAD").decode().strip() == source["commit"]:
            return
    import ray

    bundle = clone.with_name(f"{clone.name}.bundle")
    bundle.write_bytes(ray.get(source["bundle"][0]))
    _git(clone, "fetch", "--quiet", str(bundle), "HEAD")
    _git(clone, "checkout", "--quiet", "--force", "--detach", source["commit"])
    _git(clone, "clean", "--quiet", "-d", "--force")
    bundle.unlink()


def _git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True)
    if done.returncode:
        raise StageError(f"git {arguments[0]}: {' '.join(done.stderr.decode().split())}")
    return done.stdout


def _end_of(log):
    return log.read_bytes()[-LOG_BYTES:]
