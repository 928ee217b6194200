"""Run the code of this checkout, whatever is installed, and only as DVC hashed it. Every stage imports it first."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPT = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()

try:
    from importlib.metadata import version  # missing in Python 3.7

    if SCRIPT.parent == HERE:  # not where another program, or a test, imports a stage
        version("repro-zoo")
except ImportError:
    remedy = "run `. .venv/bin/activate` first, or `make setup` where there is no .venv"
    sys.exit(f"{SCRIPT.name}: {sys.executable} has none of this project's packages: {remedy}")

SOURCE = str(HERE.parent / "src")
sys.path.insert(0, SOURCE)
if SCRIPT.parent == HERE:  # what it starts finds the same: fork servers of Python 3.11 do not take over sys.path
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))

from zoo import code  # noqa: E402, the path comes first
from zoo.errors import InputError  # noqa: E402

if SCRIPT.parent == HERE:
    if HERE.parent != code.ROOT:
        remedy = "remove what imports it at Python's start, sitecustomize or a .pth file"
        sys.exit(f"{SCRIPT.name}: zoo was imported from {code.ROOT}, not from {HERE.parent}: {remedy}")
    try:
        if SCRIPT.stem != "digest":  # which writes the records
            code.hold(SCRIPT.stem)
    except InputError as error:
        sys.exit(f"{SCRIPT.name}: {error}")
