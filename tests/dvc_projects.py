"""Small DVC projects in temporary folders, and `zoo repro` on them as a process."""

import atexit
import contextlib
import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from dvc.cli import main
from dvc.repo import Repo

from zoo.runner.preloaded import Preloaded

SOURCES = Path(__file__).resolve().parents[1] / "src"


def project(folder, stages=None, **files):
    """An empty DVC project in git, with a dvc.yaml of `stages` and other files, commits nothing."""
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    Repo.init(str(folder)).close()
    (folder / ".dvc" / "config").write_text("[core]\n    autostage = false\n    analytics = false\n")
    if stages:
        write_stages(folder, stages)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def keep_experiments(folder, names, judge):
    """Remove the other experiments from a params.yaml, and what names them; `judge` is {"by", "of"}."""
    path = folder / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key in ("models", "published", "published_curves"):
        values[key] = {name: value for name, value in values[key].items() if name in names}
    values["claims"] = {}
    values["judge"] |= judge
    values["benchmark"]["both"]["as_written"] = []  # a verb that none of them has
    for part in values["peers"].values():
        part |= {"verbs": ["classify"]} if "verbs" in part else {}
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def write_stages(folder, stages):
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


@contextlib.contextmanager
def inside(folder):
    """Work in the folder; yields what is printed."""
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as printed:
        yield printed


def dvc(folder, *arguments):
    """What `dvc` prints, called in this process: one of its own takes a second to start."""
    with inside(folder) as printed, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_TEST", "1")  # or it prints JSON past what stands in for standard output
        patch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
        assert main(list(map(str, arguments))) == 0
    return printed.getvalue()


class Started:
    """`zoo` with arguments as a process, as far as `subprocess.Popen` is needed of it."""

    def __init__(self, folder, arguments):
        self.returncode, self._files = None, Path(tempfile.mkdtemp())
        words = [str(Path(__file__).with_name("zoo_process.py")), *map(str, (*self._channels(), *arguments))]
        with open(os.devnull, "w") as output:
            self._forked = preloaded().start(words, {"cwd": folder, "env": os.environ}, output)
        self.pid = self._forked.pid
        self._forked.go()

    def communicate(self, timeout=60):
        """(what it printed, its errors) when it has ended, or TimeoutError."""
        if self.returncode is None:
            self._forked._connection.settimeout(timeout)
            self._forked.join()
            self.returncode = self._forked.wait()
            self._printed = [path.read_text(encoding="utf-8") for path in self._channels()]
            shutil.rmtree(self._files)
        return self._printed

    def send_signal(self, number):
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def _channels(self):
        return self._files / "printed", self._files / "errors"


@functools.cache
def preloaded():
    """Where `zoo` is forked: to start Python and import DVC takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SOURCES))
        process = Preloaded(["zoo.cli", "zoo.compare.view", "zoo.runner.repro"])
    atexit.register(process.close)
    return process


def zoo(folder, *arguments):
    """`zoo` with arguments, started in the folder."""
    return Started(folder, arguments)


def wait_for(path, seconds=30):
    """Wait until a file is there and not empty; its text."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with contextlib.suppress(FileNotFoundError):
            if text := path.read_text():
                return text
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def lock(folder):
    return (folder / "dvc.lock").read_text()
