"""Run stage commands as child processes, each in its own process group, with a log file for each stage."""

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
# The signals that end a group, in order, each with the seconds to wait for its effect. Python runs `finally` on SIGINT,
# so that a stage removes its half-written files; a shell started in the background ignores SIGINT.
ENDING = ((signal.SIGINT, 5), (signal.SIGTERM, 2), (signal.SIGKILL, 5))

# A command waits for our "go": if we are killed before its group is recorded, it never starts.
HELD = ("/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sh")
PROGRAMS_BEFORE_PRELOADING = 2  # a run of so few programs does not preload


class Local:
    """Runs stages on this machine, `slots` at a time; `logs` is {name: path of the log file}.

    `imports` is {name: modules to preload}. In a run with many such stages, their Python programs are forked from a
    process that has imported the modules, as soon as it is ready, instead of spawned.
    """

    def __init__(self, slots, logs, imports):
        self.slots, self._logs, self._imports = slots, logs, imports
        self._threads = concurrent.futures.ThreadPoolExecutor(slots)
        self._groups, self._lock, self._ended = set(), threading.Lock(), False
        self._orphans = subprocess.Popen(
            [sys.executable, "-I", "-S", ORPHANS], stdin=subprocess.PIPE, start_new_session=True, text=True
        )
        self._preloaded, self._programs = None, 0

    def start(self, name, commands):
        """Start a stage; return a future for `collect`."""
        return self._threads.submit(self.run, name, commands)

    def collect(self, name, future):
        """The reason why the stage failed, or None."""
        return future.result()

    def run(self, name, commands):
        """Run a stage's commands in order until one fails; return the reason, or None.

        Each is (command as written, arguments of `subprocess.Popen`). After `end()`, no command starts.
        """
        with open(self._logs[name], "wb") as output:
            for command, options in commands:
                output.write(f"> {command}\n".encode())
                output.flush()
                with self._lock:  # so that `end` sees every child
                    if self._ended:
                        return f"`{command}` was ended by SIGINT"
                    words = program(command, options) if name in self._imports else None
                    child = (words and self._fork(words, options, output)) or Spawned(options, output)
                    self._note(child.pid, "+")
                child.go()
                child.join()
                with self._lock:  # before `wait`, so that the pid is not reused yet
                    self._note(child.pid, "-")
                if (status := child.wait()) > 0:
                    return f"`{command}` ended with status {status}"
                if status < 0:
                    return f"`{command}` was ended by {signal.Signals(-status).name}"
        return None

    def end(self):
        """End all process groups, with SIGINT first and SIGKILL last, and wait until they are gone."""
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
        self._threads.shutdown()
        self._orphans.communicate()  # it exits at the end of its input
        if self._preloaded:
            self._preloaded.close()

    def _fork(self, words, options, output):
        """Fork the program; None if no preloaded process is ready."""
        self._programs += 1
        if self._preloaded is None and self._programs > PROGRAMS_BEFORE_PRELOADING:
            self._preloaded = Preloaded(dict.fromkeys(itertools.chain(*self._imports.values())))
        if self._preloaded and self._preloaded.ready():
            with contextlib.suppress(OSError):
                return self._preloaded.start(words, options, output)
        return None

    def _note(self, group, sign):
        self._orphans.stdin.write(f"{sign}{group}\n")
        self._orphans.stdin.flush()
        (self._groups.add if sign == "+" else self._groups.discard)(group)


class Spawned(subprocess.Popen):
    """A command in a new process, which waits for `go`."""

    def __init__(self, options, output):
        super().__init__(
            **options | {"args": [*HELD, *options["args"]]}, stdin=subprocess.PIPE, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def go(self):
        with contextlib.suppress(BrokenPipeError):  # it has already ended
            self.stdin.write(b"go\n")
            self.stdin.close()

    def join(self):
        """Wait until it has ended; its pid is not reused until `wait`, which returns its status."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)


def _send(group, number):
    """Send a signal to a process group; return False if the group no longer exists."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
        return True
    return False
