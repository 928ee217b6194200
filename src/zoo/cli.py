"""The `zoo` command: what is done to the project as a whole. DVC runs the stages."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from zoo import code, files, params
from zoo.errors import InputError

README = Path("README.md")
PIPELINE, TWIN = Path("dvc.yaml"), Path("full", "dvc.yaml")
TWIN_HEADER = """\
# dvc.yaml on MNIST and PTB, with the write-ups' budgets. Written by `zoo twin`: edit ../dvc.yaml in place of this file.
# The stage `code` of ../dvc.yaml serves both.
vars: [{profile: full, root: ..}, ../params.yaml]
"""


def check():
    """Check all of params.yaml without running anything."""
    from zoo.check import check

    print(f"{params.PATH}: {len(check())} experiments, nothing wrong")


def readme():
    """Rewrite the result table of README.md from reports/full/summary.json."""
    from zoo.report import render

    summary = files.report("full", "summary.json")
    if not summary.exists():
        raise InputError(f"{summary} is missing: run `zoo repro full/dvc.yaml`, which makes it")
    block = render.readme_block(files.read_json(summary))
    _rewrite(README, README, lambda text: render.rewrite_block(text, block))
    records = files.report("full", "metrics")
    if not records.exists():
        print(f"{records} is missing: {summary} is of an earlier version; `zoo repro full/dvc.yaml` makes both")


def benchmark(profile, control):
    """Measure latency again on this machine: all graphs of a profile, then other runtimes beside them."""
    for stage, option in [("benchmark", "--control")] if control else [("benchmark", "--again"), ("peers", "--again")]:
        if subprocess.run([sys.executable, f"stages/{stage}.py", profile, option]).returncode:
            raise InputError(f"{stage} {profile} failed; the reason stands above")


def plots():
    """Let the pages of `dvc plots` open without a network, from now on in this clone."""
    from zoo.runner import plots

    plots.install()
    print(f"{plots.TEMPLATE}: holds the scripts that DVC's pages would load")


def repro(**options):
    """Bring stages up to date as `dvc repro` would, several at a time."""
    if Path.cwd().is_relative_to(code.ROOT):  # and not another project
        from zoo.check import check

        check(code.ROOT / params.PATH)
    from zoo.runner.repro import reproduce

    return reproduce(**options)


def compare(base, head, profile, **options):
    """Say what a commit changed: quality, latency and graphs of every experiment."""
    from zoo.compare.view import run

    return run((base, head), profile, **options)


def clean(profile):
    """Remove what trainings of a profile have kept, and all outputs of experiments that params.yaml no longer has."""
    names = params.section(params.read(), "models")
    kinds = ("checkpoints", "cost", "curves", "figures", "graphs", "judged", "metrics", "parity", "predictions", "runs")
    outputs = [*Path("artifacts", profile).glob("*/*"), *Path("reports", profile).glob("*/*")]
    gone = {path for path in outputs if path.parent.name in kinds and path.stem not in names}
    for path in sorted(gone | {files.unfinished(profile, "", 0).parent}):
        files.remove(path)
        print(f"{path}: removed")


def twin():
    """Write full/dvc.yaml, the pipeline of the full profile, from dvc.yaml."""
    _rewrite(PIPELINE, TWIN, twin_of)


def twin_of(text):
    """The text of full/dvc.yaml: that of dvc.yaml in the other profile, without `code`, and with git for its cache."""
    stages = text[re.search("^stages:", text, re.MULTILINE).start() :]
    stages = re.sub(r"^  code:\n(    .*\n|\n)*", "", stages, flags=re.MULTILINE)
    return TWIN_HEADER + stages.replace("cache: true", "cache: false").replace("${item.quick.", "${item.full.")


def _rewrite(source, target, change):
    """Write what `change` makes of the text of a file to another one, or to itself."""
    try:
        text = change(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{source} is missing: run this from the project's top folder") from None
    with files.replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def parser():
    """The arguments of every command."""
    top = argparse.ArgumentParser(prog="zoo", description=__doc__, allow_abbrev=False)
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def add(function):
        summary = function.__doc__.splitlines()[0]
        command = commands.add_parser(function.__name__, help=summary, description=summary, allow_abbrev=False)
        command.set_defaults(function=function)
        return command.add_argument

    add(check)
    option = add(repro)
    option("targets", nargs="*", metavar="TARGET", help="as for dvc repro; default: dvc.yaml")
    option("-j", "--jobs", type=_count, metavar="N", help="stages at a time; default: the number of usable cores")
    option("-k", "--keep-going", action="store_true", help="go on with what does not need a failed stage")
    option("-f", "--force", action="store_true", help="run stages that have not changed, too")
    option("--dry", action="store_true", help="print what would run")
    option("--pull", action="store_true", help="fetch what is missing from the DVC remote")
    option("--ray", metavar="ADDRESS", help="run stages on a Ray cluster; see README.md")
    option = add(compare)
    option("base", metavar="REV", help="a commit, as git takes it: HEAD~1, main, d99c86c")
    option("head", metavar="REV", nargs="?", help="the commit to compare with it; default: the working tree")
    option("--profile", choices=params.PROFILES, help="default: the profiles that both sides ran")
    option("--all", dest="every_row", action="store_true", help="list also what is the same or not comparable")
    option(
        "--fail-on", action="append", default=[], choices=("worse", "not-comparable"), metavar="WHAT",
        help="exit with 1 where a row is worse, or not-comparable; 2: a side has no records; may be given twice",
    )  # fmt: skip
    option("--markdown", metavar="FILE", help="write the tables as Markdown, too")
    option("--html", metavar="FILE", help="write them as a page, too")
    option = add(benchmark)
    option("profile", choices=params.PROFILES)
    option("--control", action="store_true", help="time equal structures apart, and print how far they differ")
    add(clean)("profile", choices=params.PROFILES)
    add(readme)
    add(plots)
    add(twin)
    return top


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of stages: give 1 or more")
    return int(text)


def run_own_checkout():
    """Start again with the code of the checkout in whose folder this was called, if zoo came from another one.

    A git worktree, or a copy of a clone, may be used with the environment of the first checkout. Raises InputError
    where that checkout's code cannot be put first.
    """
    folders = (Path.cwd(), *Path.cwd().parents)
    source = next((folder / "src" for folder in folders if (folder / "src" / "zoo" / "cli.py").exists()), None)
    if source is None or source.samefile(code.ROOT / "src"):
        return
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if path[0] == str(source):
        raise InputError(f"zoo comes from {code.ROOT}, not from {source.parent}: run `make setup` there and use that")
    again = "import sys; sys.path.insert(0, sys.argv.pop(1)); from zoo.cli import main; sys.exit(main())"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(source), *path]))}
    os.execve(sys.executable, [sys.executable, "-c", again, str(source), *sys.argv[1:]], environment)


def main():
    """Run the command that the first argument names; its exit status."""
    try:
        run_own_checkout()
        options = vars(parser().parse_args())
        return options.pop("function")(**options)
    except InputError as error:
        sys.exit(f"zoo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    sys.exit(main())
