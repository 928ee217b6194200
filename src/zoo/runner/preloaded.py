"""Start Python programs in milliseconds instead of seconds, by forking a process that has imported their modules.

`Preloaded` runs this program, with a socket: it imports modules and runs scripts, then forks for each message. Modules
of this project are never imported before the fork, so that a program always runs the current code. Modules that start
threads (onnxruntime) must not be imported either, because a fork would lose the threads.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path

MAX_BYTES = 2**18  # of a message, which contains the environment
LOOKING = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # otherwise asking for a GPU makes CUDA unusable after a fork
SHELL_CHARACTERS = set("|&;<>()$`\\\"'*?[]#~=%{}!\n")


class Preloaded:
    """A process that imports `modules`, which are names, or paths of scripts to run. It is `ready` seconds later."""

    def __init__(self, modules):
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno()), *modules],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True, env=os.environ | LOOKING,
            )  # fmt: skip

    def ready(self):
        """True if it can fork, False if an import has failed, None before."""
        try:
            return bool(self._control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))  # several threads may ask
        except BlockingIOError:
            return None

    def start(self, words, options, output):
        """A `Forked` that runs `words` (script and arguments) with cwd and env of `options`, printing to `output`.

        Raises OSError if the process is gone or the message is too long.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        message = json.dumps({"words": words, "folder": str(options["cwd"]), "environment": dict(options["env"])})
        try:
            with theirs:
                socket.send_fds(self._control, [message.encode()], [theirs.fileno(), output.fileno()])
            number = ours.recv(MAX_BYTES)
            if not number:
                raise ConnectionError("the process that forks is gone")
        except OSError:
            ours.close()
            raise
        return Forked(int(number), ours)

    def close(self):
        """End the process, which may still be importing; programs that it has forked go on."""
        self._control.close()
        self._process.kill()
        self._process.wait()


class Forked:
    """A forked program, which waits for `go`; it has the methods of `zoo.runner.processes.Spawned`."""

    def __init__(self, pid, connection):
        self.pid, self._connection = pid, connection

    def go(self):
        with contextlib.suppress(OSError):  # it has already ended
            self._connection.send(b"go")

    def join(self):
        """Wait until it has ended; its pid is not reused until `wait`."""
        self._connection.recv(MAX_BYTES)

    def wait(self):
        """Its exit status, or minus the number of the signal that ended it."""
        with contextlib.suppress(OSError):
            self._connection.send(b"seen")
        with self._connection:
            return int(self._connection.recv(MAX_BYTES) or -signal.SIGKILL)


def program(command, options):
    """[SCRIPT, ARGUMENTS...] of `python SCRIPT ARGUMENTS...`; None for other commands or another Python."""
    if SHELL_CHARACTERS & set(command):
        return None
    name, *words = shlex.split(command) or [""]
    if name != "python" or not words or words[0].startswith("-"):
        return None
    found = shutil.which(name, path=options["env"].get("PATH"))
    return words if found and Path(found).parent == Path(sys.executable).parent else None


# ---- the process


def serve(control):
    """Fork for every message; return only in a child, with the script and the arguments that it must run."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
    gc.collect()
    gc.freeze()  # otherwise the first collection in each child would copy all objects
    control.send(b"r")
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MAX_BYTES, 2)
        if not message:
            os._exit(0)
        if not os.fork():
            control.close()
            return watch(socket.socket(fileno=descriptors[0]), descriptors[1], json.loads(message))
        for descriptor in descriptors:
            os.close(descriptor)


def watch(connection, output, message):
    """Fork once more and report how the child ends; return only in the child."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if not child:
        return prepare(connection, output, message)
    with contextlib.suppress(OSError):  # the run is gone, and its groups with it
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        connection.send(b"ended")
        connection.recv(MAX_BYTES)
        connection.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
    os._exit(0)


def prepare(connection, output, message):
    """Set up this process like a new one: session, output, folder and environment; return the script and arguments.

    Standard input is already /dev/null.
    """
    os.setsid()
    connection.send(str(os.getpid()).encode())
    if not connection.recv(MAX_BYTES):
        os._exit(1)
    connection.close()
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.chdir(message["folder"])
    os.environ.clear()
    os.environ.update(message["environment"])
    return message["words"]


if __name__ == "__main__":
    asking = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        if module.endswith(".py"):
            runpy.run_path(module, run_name="__main__")
        else:
            importlib.import_module(module)
    if threading.active_count() > 1:
        sys.exit("a thread is running, which a fork would lose")
    sys.argv = serve(asking)
    del asking
    script = os.path.abspath(sys.argv[0])
    sys.path.insert(0, os.path.dirname(script))
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    main.__file__ = script
    exec(compile(Path(script).read_bytes(), script, "exec"), vars(main))
