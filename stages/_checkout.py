"""Run the code of this checkout, not an installed copy, and only as DVC hashed it. Every stage imports this first."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPT = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()

try:
    from importlib.metadata import version  # missing in Python 3.7

    if SCRIPT.parent == HERE:  # not if a test or another program imports a stage
        version("repro-zoo")
except ImportError:
    remedy = "run `. .venv/bin/activate` first, or `make setup` if there is no .venv"
    sys.exit(f"{SCRIPT.name}: {sys.executable} does not have this project's packages: {remedy}")

SOURCE = str(HERE.parent / "src")
sys.path.insert(0, SOURCE)
if SCRIPT.parent == HERE:  # for child processes: Python 3.11's fork servers do not inherit sys.path
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))

from zoo import code  # noqa: E402, the path comes first
from zoo.errors import InputError  # noqa: E402

if SCRIPT.parent == HERE:
    if HERE.parent != code.ROOT:
        remedy = "remove the sitecustomize or .pth file that imports it when Python starts"
        sys.exit(f"{SCRIPT.name}: zoo was imported from {code.ROOT}, not from {HERE.parent}: {remedy}")
    try:
        if SCRIPT.stem != "digest":  # it writes the records
            code.check_unit(SCRIPT.stem)
    except InputError as error:
        sys.exit(f"{SCRIPT.name}: {error}")
