"""Run stage commands as child processes, each in its own process group, with a log file for each stage."""

import concurrent.futures
import contextlib
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
FEW_STAGES = 2  # once more than these have started, the modules of all stages are imported ahead
IMPORT_SECONDS = 60  # a program waits so long for the process that imports its modules, then imports them itself


class Local:
    """Runs stages on this machine, `slots` at a time; `logs` is {name: path of the log file}.

    `imports` is {name: modules to preload}. The Python programs of such stages are forked from a process that has
    imported the modules, one for each list of modules, instead of spawned.
    """

    def __init__(self, slots, logs, imports):
        self.slots, self._logs, self._imports = slots, logs, imports
        self._threads = concurrent.futures.ThreadPoolExecutor(slots)
        self._groups, self._lock, self._ended = set(), threading.Lock(), False
        self._orphans = subprocess.Popen(
            [sys.executable, "-I", "-S", ORPHANS], stdin=subprocess.PIPE, start_new_session=True, text=True
        )
        self._preloaded, self._started = {}, 0

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
        self._preload(name)
        with open(self._logs[name], "wb") as output:
            for command, options in commands:
                output.write(f"> {command}\n".encode())
                output.flush()
                words = program(command, options) if name in self._imports else None
                preloaded = self._preloaded.get(self._imports.get(name))
                forks = words and preloaded and self._is_ready(preloaded)
                with self._lock:  # so that `end` sees every child
                    if self._ended:
                        return f"`{command}` was ended by SIGINT"
                    child = (forks and _forked(preloaded, words, options, output)) or Spawned(options, output)
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
        for preloaded in self._preloaded.values():
            preloaded.close()

    def _preload(self, name):
        """Begin to import the modules of a stage that starts, and in a run of more than a few those of all stages.

        A stage without such modules may measure the time: it waits until nothing is imported.
        """
        with self._lock:
            self._started += 1
            for modules in self._imports.values() if self._started > FEW_STAGES else [self._imports.get(name)]:
                if name in self._imports and modules not in self._preloaded and not self._ended:
                    self._preloaded[modules] = Preloaded(modules)
        if name not in self._imports:
            for preloaded in [*self._preloaded.values()]:
                self._is_ready(preloaded)

    def _is_ready(self, preloaded):
        """Wait until the process has imported its modules; False if it cannot or takes too long."""
        give_up = time.monotonic() + IMPORT_SECONDS
        while preloaded.ready() is None and not self._ended and time.monotonic() < give_up:
            time.sleep(0.02)
        return bool(preloaded.ready())

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


def _forked(preloaded, words, options, output):
    """The program as a fork of a preloaded process; None if that is gone or the message too long."""
    with contextlib.suppress(OSError):
        return preloaded.start(words, options, output)


def _send(group, number):
    """Send a signal to a process group; return False if the group no longer exists."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
        return True
    return False
