"""Run the stages of a DVC pipeline in parallel: when a stage may start, and what happens when it ends.

DVC decides what a stage is and whether it has changed (`dvc_graph`). A runner executes its commands: `processes.Local`
on this machine, `cluster.Cluster` on a Ray cluster.
"""

import concurrent.futures
import contextlib
import graphlib
import os
import re
import signal
import time

from zoo import files
from zoo.errors import InputError
from zoo.runner import dvc_graph
from zoo.runner.dvc_graph import StageError
from zoo.runner.live_view import LiveView
from zoo.runner.processes import Local

TICK_SECONDS = 0.5
TAIL_LINES = 20


def reproduce(targets=(), jobs=None, keep_going=False, dry=False, force=False, pull=False, ray=None):
    """Reproduce the targets as `dvc repro` would, `jobs` stages at a time (default: the number of usable cores).

    Returns the exit status: 0 if everything is up to date, 1 if a stage failed, 128 + the number of the signal that
    stopped the run. Finished stages are kept in any case.
    """
    with dvc_graph.open_pipeline(targets, force, pull) as pipeline:
        if dry:
            print("\n".join(dry_run(pipeline)))
            return 0
        logs = {name: pipeline.folder / "logs" / f"{re.sub('[/:]', '-', name)}.log" for name in pipeline.steps}
        with contextlib.ExitStack() as stack:
            while not pipeline.reserve_first(stack):
                time.sleep(TICK_SECONDS)
            if ray:
                from zoo.runner import cluster

                runner = stack.enter_context(cluster.connected(ray, pipeline, jobs, logs))
            else:
                imports = {name: step.imports for name, step in pipeline.steps.items() if step.imports}
                slots = jobs or len(os.sched_getaffinity(0))
                runner = stack.enter_context(contextlib.closing(Local(slots, logs, imports)))
            stopped = stack.enter_context(_signals())
            view = stack.enter_context(LiveView(pipeline.steps, runner.slots, _seconds(pipeline.folder)))
            run = Run(pipeline, runner, view, keep_going, stopped)
            run.go()
        files.write_json(pipeline.folder / "seconds.json", _seconds(pipeline.folder) | view.seconds)
        view.summarise(run.why, lambda name: tail(logs[name]))
        if stopped:
            return 128 + stopped[0]
        return int("failed" in run.state.values())


def dry_run(pipeline):
    """Describe what would run, as lines: the changed stages, and those that may run after them."""
    doubtful, lines = set(), []
    with pipeline.locked():
        for name, step in pipeline.steps.items():
            if pipeline.changed(name):
                doubtful.add(name)
                lines += [f"{name}: would run", *(f"  > {command}" for command, _ in pipeline.commands(name))]
            elif step.after & doubtful:
                doubtful.add(name)
                lines.append(f"{name}: runs if the outputs of a stage before it change")
    return lines or ["Nothing would run: all stages are up to date."]


class Run:
    """One run: the state of every stage, and the scheduling loop.

    States: waiting (for stages before it), changed (waiting for a free slot), running; finally unchanged, restored,
    ran, failed, skipped (a stage that it needs failed), stopped (was running when the run was stopped).
    """

    def __init__(self, pipeline, runner, view, keep_going, stopped):
        self.pipeline, self.runner, self.view = pipeline, runner, view
        self.keep_going, self.stopped = keep_going, stopped
        self.steps = pipeline.steps  # in the order in which `dvc repro` would run them, as is `state`
        self.state = dict.fromkeys(self.steps, "waiting")
        self.why = {}
        self._running = {}
        self._waiting = graphlib.TopologicalSorter({name: step.after for name, step in self.steps.items()})
        self._waiting.prepare()
        self._unchecked = set(self._waiting.get_ready())

    def go(self):
        """Run stages until none is running and none can start; write the lock files."""
        try:
            while True:
                with self.pipeline.locked():
                    for future in [future for future in self._running if future.done()]:
                        self._attempt(self._end, self._running.pop(future), future)
                    self._advance()
                    self.pipeline.write_locks()
                if not self._running or self.stopped:
                    break
                done = False
                while not (done or self.stopped or self.pipeline.is_lock_due()):
                    self.view.refresh(self.state)
                    done, _ = concurrent.futures.wait(self._running, TICK_SECONDS, concurrent.futures.FIRST_COMPLETED)
        finally:
            self._stop()

    def _advance(self):
        """Check the stages that are ready and start those that may start, in plan order, those that run alone last."""
        while not self.stopped and (self.keep_going or "failed" not in self.state.values()):
            if name := self._startable():
                self._attempt(self._start, name)
            elif self._unchecked:
                name = next(name for name in self.steps if name in self._unchecked)
                self._unchecked.remove(name)
                self._attempt(self._check, name)
            else:
                break

    def _startable(self):
        """The first changed stage that may start now, or None."""
        running = self._running.values()
        if len(running) >= self.runner.slots or any(self.steps[name].alone for name in running):
            return None
        changed = [name for name, state in self.state.items() if state == "changed"]
        together = [name for name in changed if not self.steps[name].alone]
        return next(iter(together if together or running or self._unchecked else changed), None)

    def _attempt(self, step, name, *more):
        """Call `step` for a stage; if it fails, skip every stage that needs this one."""
        try:
            step(name, *more)
        except StageError as error:
            self.why[name] = str(error)
            self._set(name, "failed")
            lost = {name}
            for other, step in self.steps.items():
                if step.after & lost and self.state[other] == "waiting":
                    lost.add(other)
                    self._set(other, "skipped")

    def _check(self, name):
        if self.pipeline.changed(name):
            self._set(name, "changed")
        else:
            self._settle(name, "unchanged")

    def _start(self, name):
        if commands := self.pipeline.start(name):
            self._running[self.runner.start(name, commands)] = name
            self._set(name, "running")
        else:
            self.pipeline.finish(name)
            self._settle(name, "restored")

    def _end(self, name, future):
        if why := self.runner.collect(name, future):
            raise StageError(why)
        self.pipeline.finish(name)
        self._settle(name, "ran")

    def _settle(self, name, state):
        self._set(name, state)
        self._waiting.done(name)
        self._unchecked |= set(self._waiting.get_ready())

    def _stop(self):
        """However the loop ended: end running stages, keep finished ones, write the lock files."""
        finished = {future for future in self._running if future.done()}
        if self._running:
            self.runner.end()
            concurrent.futures.wait(self._running)
        with self.pipeline.locked():
            for future, name in self._running.items():
                if future in finished:
                    self._attempt(self._end, name, future)
                else:  # whatever its status: an interrupted stage may still exit with status 0
                    with contextlib.suppress(StageError):
                        self.pipeline.remove_outputs(name)
                    self._set(name, "stopped")
            self.pipeline.write_locks(ended=True, complete=not self.stopped and "stopped" not in self.state.values())
        self.view.refresh(self.state)

    def _set(self, name, state):
        self.state[name] = state
        self.view.note(name, state, self.state)


@contextlib.contextmanager
def _signals():
    """Yield a list that receives the first signal to stop; a second signal raises KeyboardInterrupt."""
    stopped = []

    def stop(number, frame):
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tail(log):
    """The last lines of a log file; none if there is no file."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    # A progress bar rewrites its line: keep only what it showed last.
    return [line.rpartition("\r")[2] for line in lines if line.strip()][-TAIL_LINES:]


def _seconds(folder):
    with contextlib.suppress(InputError):
        return files.read_json(folder / "seconds.json")
    return {}
