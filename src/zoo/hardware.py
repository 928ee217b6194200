"""The hardware of this machine."""

import platform
from pathlib import Path


def cpu():
    """Return the model name of the CPU, or its architecture if the system gives no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, models), platform.machine())
