"""Stage commands as child processes: each in a process group of its own, its output in its own log file."""

import concurrent.futures
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from zoo.runner.preloaded import Preloaded, program

ORPHANS = Path(__file__).with_name("orphans.py")
# What a group is asked in turn when it should end, and for how many seconds it may go on: Python's `finally` runs on
# SIGINT, so that a stage takes its half-written files away; a shell started in the background ignores it.
ENDING = ((signal.SIGINT, 5), (signal.SIGTERM, 2), (signal.SIGKILL, 5))

# A command begins when we say so: were we killed before its group is noted, it never would.
HELD = ("/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sh")
PROGRAMS_BEFORE_PRELOADING = 2  # a run of so few does not wait for it


class Processes:
    """The running commands of this process. `run` may be called from several threads at once.

    `modules` are what Python programs may find imported; those of a run of many are then forked, not spawned.
    """

    def __init__(self, modules=()):
        self._groups, self._lock, self._ended, self._orphans = set(), threading.Lock(), False, None
        self._modules, self._preloaded, self._programs = list(modules), None, 0

    def run(self, commands, log, preload=False):
        """Run `commands` one after another until one fails; return (exit status, that command or None).

        Each is (command as written, what `subprocess.Popen` takes); `log` is a path, begun anew. A status below
        zero is a signal's number. After `end()` nothing starts: the status is that of SIGINT. With `preload` Python
        programs begin with the modules imported, where they are by then.
        """
        with open(log, "wb") as output:
            for command, options in commands:
                output.write(f"> {command}\n".encode())
                output.flush()
                with self._lock:  # so that `end` sees every child there is
                    if self._ended:
                        return -signal.SIGINT, command
                    words = program(command, options) if preload else None
                    child = (words and self._fork(words, options, output)) or Spawned(options, output)
                    self._note(child.pid, "+")
                child.go()
                child.wait()
                with self._lock:  # while the ended child keeps its number from being given to another process
                    self._note(child.pid, "-")
                if status := child.status():
                    return status, command
        return 0, None

    def end(self):
        """End all groups, gently at first, and wait until they are gone."""
        with self._lock:
            self._ended = True
            groups = set(self._groups)
        for number, seconds in ENDING:
            groups = {group for group in groups if _send(group, number)}
            give_up = time.monotonic() + seconds
            while groups and time.monotonic() < give_up:
                time.sleep(0.02)
                groups = {group for group in groups if _send(group, 0)}

    def close(self):
        self.end()
        if self._orphans:
            self._orphans.stdin.close()
            self._orphans.wait()
        if self._preloaded:
            self._preloaded.close()

    def _fork(self, words, options, output):
        """The program, forked; None where no process with the modules is ready."""
        self._programs += 1
        if self._preloaded is None and self._programs > PROGRAMS_BEFORE_PRELOADING:
            self._preloaded = Preloaded(self._modules)
        if self._preloaded and self._preloaded.ready():
            with contextlib.suppress(OSError):
                return self._preloaded.start(words, options, output)
        return None

    def _note(self, group, sign):
        if self._orphans is None:
            self._orphans = subprocess.Popen(
                [sys.executable, "-I", "-S", ORPHANS], stdin=subprocess.PIPE, start_new_session=True, text=True
            )
        self._orphans.stdin.write(f"{sign}{group}\n")
        self._orphans.stdin.flush()
        (self._groups.add if sign == "+" else self._groups.discard)(group)


class Spawned:
    """A command in a new process, which waits for `go`."""

    def __init__(self, options, output):
        self._child = subprocess.Popen(
            **options | {"args": [*HELD, *options["args"]]}, stdin=subprocess.PIPE, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.pid = self._child.pid

    def go(self):
        with contextlib.suppress(BrokenPipeError):  # it was ended already
            self._child.stdin.write(b"go\n")
            self._child.stdin.close()

    def wait(self):
        """Until it has ended; its number is its own until `status`."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def status(self):
        """Its exit status, below zero a signal's number."""
        return self._child.wait()


def _send(group, number):
    """Whether any process of the group was there to get the signal."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
        return True
    return False


class Local:
    """Runs stages on this machine, each with its log at `log_of(name)`.

    `imports` are the modules that stages find imported: {name: modules}, of those stages alone.
    """

    def __init__(self, places, log_of, imports):
        self.places, self._log_of, self._imports = places, log_of, imports
        self._processes = Processes(dict.fromkeys(itertools.chain(*imports.values())))
        self._threads = concurrent.futures.ThreadPoolExecutor(places)

    def start(self, name, commands):
        """A future for `collect`."""
        return self._threads.submit(self._processes.run, commands, self._log_of(name), name in self._imports)

    def collect(self, name, future):
        """Why the stage failed, or None."""
        return why_failed(*future.result())

    def end(self):
        self._processes.end()

    def close(self):
        self._processes.close()
        self._threads.shutdown()


def why_failed(status, command):
    """What `Processes.run` returned, in words; None for success."""
    if not status:
        return None
    how = f"ended with status {status}" if status > 0 else f"was ended by {signal.Signals(-status).name}"
    return f"`{command}` {how}"
