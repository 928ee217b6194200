"""Small DVC projects in temporary folders, and `zoo repro` on them as a process."""

import contextlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from dvc.repo import Repo

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


def write_stages(folder, stages):
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


@contextlib.contextmanager
def inside(folder):
    """Work in the folder; yields what is printed."""
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as printed:
        yield printed


def zoo(folder, *arguments):
    """`zoo` with arguments, started in the folder."""
    path = os.pathsep.join(filter(None, [str(SOURCES), os.environ.get("PYTHONPATH")]))
    code = "import sys; sys.argv[0] = 'zoo'; from zoo.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


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
