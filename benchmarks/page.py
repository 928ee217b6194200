"""README.md: what repro.py and latency.py last wrote down, as tables."""

from pathlib import Path

import latency
import repro

from zoo import files
from zoo.report import render

HERE = Path(__file__).resolve().parent


def write():
    """Rewrite the results of README.md from the JSON files beside it."""
    parts = []
    for name, script in (("repro", repro), ("latency", latency)):
        if (HERE / f"{name}.json").exists():
            parts.append(script.render(files.read_json(HERE / f"{name}.json")))
    with files.replacing(HERE / "README.md") as temporary:
        text = (HERE / "README.md").read_text(encoding="utf-8")
        temporary.write_text(render.rewrite_block(text, "\n\n".join(parts)), encoding="utf-8")


def place(part):
    """Where and at which commit a part was measured."""
    machine = part["machine"]
    return f"<sub>commit {part['commit']}, {machine['cores']} cores of {machine['cpu']}, {machine['os']}</sub>"


if __name__ == "__main__":
    write()
