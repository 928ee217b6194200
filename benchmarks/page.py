"""Shared by the scripts of this folder: run parts, save their results as JSON, and show them in README.md."""

import argparse
import re
from pathlib import Path

from zoo import files
from zoo.errors import InputError
from zoo.latency import machine

README = Path(__file__).with_name("README.md")


def run(script, summary, parts, tables):
    """Run the `parts` {name: function} that the command line names (default: all), and rewrite README.md.

    A part returns a dictionary, which is saved in the JSON file beside `script`; `tables` {name: function} turn it into
    Markdown. With --page no part runs.
    """
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--page", action="store_true", help="only rewrite README.md from the results")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    path = Path(script).resolve().with_suffix(".json")
    results = files.read_json(path) if path.exists() else {}
    for name in [] if arguments.page else arguments.parts or list(parts):
        print(f"---- {name}", flush=True)
        results[name] = {"commit": machine.commit(), "machine": machine.describe(), **parts[name]()}
        files.write_json(path, results)
    shown = [f"{table(results[name])}\n\n{origin(results[name])}" for name, table in tables.items() if name in results]
    write(path.stem, "\n\n".join(shown))


def write(name, text):
    """Replace the text between <!-- name --> and <!-- /name --> in README.md. Raises InputError if they are missing."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    page, block = README.read_text(encoding="utf-8"), f"{start}\n{text}\n{end}"
    page, count = re.subn(f"{start}.*{end}", lambda _: block, page, flags=re.DOTALL)
    if count != 1:
        raise InputError(f"{README.name}: needs the line {start} and, below it, the line {end}: add them")
    with files.replacing(README) as temporary:
        temporary.write_text(page, encoding="utf-8")


def origin(part):
    """The commit and machine of a part's results, as HTML."""
    where = part["machine"]
    return f"<sub>commit {part['commit']}, {where['cores']} cores of {where['cpu']}, {where['os']}</sub>"
