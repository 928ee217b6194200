"""The `zoo` command: what is done to the project as a whole. DVC runs the stages."""

import argparse
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
    from zoo.report import render

    block = render.readme_block(files.read_json(files.report("full", "summary.json")))
    if not README.exists():
        raise InputError(f"{README} is missing: run this from the project's top folder")
    text = render.rewrite_block(README.read_text(encoding="utf-8"), block)
    with files.replacing(README) as temporary:
        temporary.write_text(text, encoding="utf-8")


def benchmark(profile):
    """Measure the latency of every experiment of a profile again on this machine, and that of its peers."""
    for name in params.load(profile=profile)["models"]:
        _measure("benchmark", profile, name)
    _measure("peers", profile)


def _measure(stage_name, *arguments):
    if subprocess.run([sys.executable, f"stages/{stage_name}.py", *arguments, "--again"]).returncode:
        sys.exit(f"zoo benchmark: {' '.join([stage_name, *arguments])} failed; the reason stands above")


def plots():
    """Let the pages of `dvc plots` open without a network, from now on in this clone."""
    from zoo.runner import plots

    plots.install()
    print(f"{plots.TEMPLATE}: holds the scripts that DVC's pages would load")


def repro(arguments):
    """Bring stages up to date as `dvc repro` would, several at a time."""
    parser = argparse.ArgumentParser(prog="zoo repro", description=repro.__doc__, allow_abbrev=False)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="as for dvc repro; dvc.yaml by default")
    parser.add_argument("-j", "--jobs", type=_count, metavar="N", help="stages at a time; usable cores by default")
    parser.add_argument("-k", "--keep-going", action="store_true", help="go on with what does not need a failed stage")
    parser.add_argument("-f", "--force", action="store_true", help="run stages that have not changed, too")
    parser.add_argument("--dry", action="store_true", help="print what would run")
    parser.add_argument("--pull", action="store_true", help="fetch what is missing from the DVC remote")
    parser.add_argument("--ray", metavar="ADDRESS", help="run stages on a Ray cluster; see README.md")
    values = vars(parser.parse_args(arguments))
    from zoo.runner.repro import reproduce

    return reproduce(**values)


def compare(arguments):
    """Say what a commit changed: quality, latency and graphs of every experiment."""
    parser = argparse.ArgumentParser(prog="zoo compare", description=compare.__doc__, allow_abbrev=False)
    parser.add_argument("base", metavar="REV", help="a commit, as git takes it: HEAD~1, main, d99c86c")
    parser.add_argument("head", metavar="REV", nargs="?", help="what to hold against it; the working tree by default")
    parser.add_argument("--profile", choices=params.PROFILES, help="one of them; by default those that both sides ran")
    parser.add_argument("--all", action="store_true", help="list also what is the same, and each row not comparable")
    parser.add_argument(
        "--fail-on", action="append", default=[], choices=("worse", "not-comparable"), metavar="WHAT",
        help="exit with 1 where a row is worse, or not-comparable; may be given twice",
    )  # fmt: skip
    parser.add_argument("--markdown", metavar="FILE", help="write the tables as Markdown, too")
    parser.add_argument("--html", metavar="FILE", help="write them as a page, too")
    values = parser.parse_args(arguments)
    from zoo.compare.view import run

    revisions = (values.base, values.head)
    return run(revisions, values.profile, values.all, values.fail_on, values.markdown, values.html)


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of stages: give 1 or more")
    return int(text)


COMMANDS = {command.__name__: command for command in (check, readme, benchmark, plots, repro, compare)}


def main():
    """Run the command that the first argument names."""
    name, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name not in COMMANDS:
        lines = [f"  {name:10} {command.__doc__.splitlines()[0]}" for name, command in COMMANDS.items()]
        sys.exit("\n".join(["usage: zoo COMMAND", *lines]))
    if name not in ("repro", "compare"):
        stage.run(COMMANDS[name], arguments)
        return
    try:  # the commands with options of their own
        sys.exit(COMMANDS[name](arguments))
    except InputError as error:
        sys.exit(f"zoo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
