"""Stage commands as child processes: each in a process group of its own, its output in its own log file."""

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ORPHANS = Path(__file__).with_name("orphans.py")
# What a group is asked in turn when it should end, and for how many seconds it may go on: Python's `finally` runs on
# SIGINT, so that a stage takes its half-written files away; a shell started in the background ignores it.
ENDING = ((signal.SIGINT, 5), (signal.SIGTERM, 2), (signal.SIGKILL, 5))

# A command begins when we say so: were we killed before its group is noted, it never would.
HELD = ("/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sh")


class Processes:
    """The running commands of this process. `run` may be called from several threads at once."""

    def __init__(self):
        self._groups, self._lock, self._ended, self._orphans = set(), threading.Lock(), False, None

    def run(self, commands, log):
        """Run `commands` one after another until one fails; return (exit status, that command or None).

        Each is (command as written, what `subprocess.Popen` takes); `log` is a path, begun anew. A status below
        zero is a signal's number. After `end()` nothing starts: the status is that of SIGINT.
        """
        with open(log, "wb") as output:
            for command, options in commands:
                output.write(f"> {command}\n".encode())
                output.flush()
                with self._lock:  # so that `end` sees every child there is
                    if self._ended:
                        return -signal.SIGINT, command
                    child = subprocess.Popen(
                        **options | {"args": [*HELD, *options["args"]]}, stdin=subprocess.PIPE, stdout=output,
                        stderr=subprocess.STDOUT, start_new_session=True,
                    )  # fmt: skip
                    self._note(child.pid, "+")
                with contextlib.suppress(BrokenPipeError):  # it was ended already
                    child.stdin.write(b"go\n")
                    child.stdin.close()
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
                with self._lock:  # while the ended child keeps its number from being given to another process
                    self._note(child.pid, "-")
                if child.wait():
                    return child.returncode, command
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
            self._orphans = None

    def _note(self, group, sign):
        if self._orphans is None:
            self._orphans = subprocess.Popen(
                [sys.executable, "-I", "-S", ORPHANS], stdin=subprocess.PIPE, start_new_session=True, text=True
            )
        self._orphans.stdin.write(f"{sign}{group}\n")
        self._orphans.stdin.flush()
        (self._groups.add if sign == "+" else self._groups.discard)(group)


def _send(group, number):
    """Whether any process of the group was there to get the signal."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


class Local:
    """Runs stages on this machine, each with its log at `log_of(name)`."""

    def __init__(self, places, log_of):
        self.places, self._log_of, self._processes = places, log_of, Processes()
        self._threads = concurrent.futures.ThreadPoolExecutor(places)

    def start(self, name, commands):
        """A future for `collect`."""
        return self._threads.submit(self._processes.run, commands, self._log_of(name))

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
