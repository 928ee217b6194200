"""The `zoo` command: what is done to the project as a whole. DVC runs the stages."""

import subprocess
import sys
from pathlib import Path

from zoo import files, params, stage
from zoo.errors import InputError

README = Path("README.md")


def check():
    """Check all of params.yaml without running anything."""
    models = params.load()["models"]
    print(f"{params.PATH}: {len(models)} experiments, nothing wrong")


def readme():
    """Rewrite the result table of README.md from reports/full/summary.json."""
    from zoo import reporting  # draws with matplotlib, which `check` need not wait for

    block = reporting.readme_block(files.read_json(files.report("full", "summary.json")))
    if not README.exists():
        raise InputError(f"{README} is missing: run this from the project's top folder")
    text = reporting.rewrite_block(README.read_text(encoding="utf-8"), block)
    with files.replacing(README) as temporary:
        temporary.write_text(text, encoding="utf-8")


def benchmark(profile):
    """Measure the latency of every experiment of a profile again on this machine."""
    for name in params.load()["models"]:
        command = [sys.executable, "stages/benchmark.py", profile, name, "--again"]
        if subprocess.run(command).returncode:
            sys.exit(f"zoo benchmark: {name} was not measured; the reason stands above")


COMMANDS = {command.__name__: command for command in (check, readme, benchmark)}


def main():
    """Run the command that the first argument names."""
    name, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name not in COMMANDS:
        lines = [f"  {name:10} {command.__doc__.splitlines()[0]}" for name, command in COMMANDS.items()]
        sys.exit("\n".join(["usage: zoo COMMAND", *lines]))
    stage.run(COMMANDS[name], arguments)
