"""The `zoo` command: what is done to the project as a whole. Only a command that needs a large package imports it."""

import argparse
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

from zoo import code, files
from zoo.errors import InputError

ABOUT = "Run, measure and compare the experiments of ReproZoo. `zoo COMMAND --help` describes a command in detail."
PROFILES = ("quick", "full")
README = Path("README.md")
PIPELINE, TWIN = Path("dvc.yaml"), Path("full", "dvc.yaml")
TWIN_HEADER = """\
# dvc.yaml on MNIST and PTB, with the write-ups' budgets. Written by `zoo twin`: edit ../dvc.yaml instead.
# The stage `code` of ../dvc.yaml serves both.
vars: [{profile: full, root: ..}, ../params.yaml]
"""


def check():
    """Check all of params.yaml without running anything.

    The first invalid value is reported in one line, and the exit status is 1.
    """
    from zoo.check import check

    print(f"params.yaml: {len(check())} experiments, nothing wrong")


def readme():
    """Update the results and the picture in README.md from reports/full."""
    from zoo.report import band, render

    block = results()
    band.draw()
    _rewrite(README, README, lambda text: render.rewrite_block(text, block))
    records = files.report("full", "metrics")
    if not records.exists():
        print(f"{records} is missing: the report is from an earlier version; `zoo repro full/dvc.yaml` makes both")


def results():
    """The results for README.md. Raises InputError where reports/full/summary.json is missing."""
    from zoo import params
    from zoo.report import render

    summary = files.report("full", "summary.json")
    if not summary.exists():
        raise InputError(f"{summary} is missing: run `zoo repro full/dvc.yaml`, which makes it")
    entries = params.section(params.read(), "models")
    families = {name: entry.get("family", "") for name, entry in entries.items()}
    return render.readme_block(files.read_json(summary), families)


def benchmark(profile, control):
    """Measure latency again on this machine.

    Times all graphs of a profile, then the same graphs in other runtimes. `zoo repro` then updates the report.
    """
    for stage, option in [("benchmark", "--control")] if control else [("benchmark", "--again"), ("peers", "--again")]:
        if subprocess.run([sys.executable, f"stages/{stage}.py", profile, option]).returncode:
            raise InputError(f"{stage} {profile} failed; the reason is printed above")


def plots():
    """Make the pages of `dvc plots` work without a network.

    Writes .dvc/plots.html, the template of these pages, which `make setup` does once per clone.
    """
    from zoo.runner import plots

    plots.install()
    print(f"{plots.TEMPLATE}: contains the scripts that DVC's pages would load")


def repro(**options):
    """Bring stages up to date as `dvc repro` does, several at a time.

    Uses DVC's graph, change detection, cache and lock: `dvc status` then finds everything up to date. Ctrl-C keeps the
    stages that have finished.
    """
    if Path.cwd().is_relative_to(code.ROOT):  # and not another project
        from zoo.check import check

        check(code.ROOT / "params.yaml")
    from zoo.runner.repro import reproduce

    return reproduce(**options)


def compare(base, head, profile, **options):
    """Show what a commit changed in quality, latency and graphs of every experiment.

    The records of the full profile come from git, those of the quick profile from DVC's cache.
    """
    from zoo.compare.view import run

    return run((base, head), profile, **options)


def clean(profile):
    """Remove saved states of trainings, and outputs of removed experiments.

    With a saved state, an interrupted training resumes, and a finished seed is not trained again.
    """
    from zoo import params

    names = params.section(params.read(), "models")
    kinds = ("checkpoints", "cost", "curves", "figures", "graphs", "judged", "metrics", "parity", "predictions", "runs")
    outputs = [*Path("artifacts", profile).glob("*/*"), *Path("reports", profile).glob("*/*")]
    gone = {path for path in outputs if path.parent.name in kinds and path.stem not in names}
    for path in sorted(gone | {files.unfinished(profile, "", 0).parent}):
        files.remove(path)
        print(f"{path}: removed")


def twin():
    """Write full/dvc.yaml, the pipeline of the full profile, from dvc.yaml.

    Run it after each edit of dvc.yaml; a test compares the two files.
    """
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


def version():
    """The version of the package and, in a git checkout, the commit: `zoo 0.1.0 (f9d688b)`."""
    git = ["git", "-C", code.ROOT, "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() if (code.ROOT / ".git").exists() else ""
    return f"zoo {importlib.metadata.version('repro-zoo')}" + (f" ({commit})" if commit else "")


def parser():
    """The arguments of every command."""
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    top = argparse.ArgumentParser(prog="zoo", description=ABOUT, **layout)
    top.add_argument("--version", action="store_true", help="print the version and the commit, and exit")
    commands = top.add_subparsers(metavar="COMMAND", title="commands")

    def add(function, *examples):
        text = inspect.getdoc(function)
        epilog = "examples:\n" + "\n".join(f"  {example}" for example in examples) if examples else None
        command = commands.add_parser(
            function.__name__, help=text.splitlines()[0], description=text, epilog=epilog, **layout
        )
        command.set_defaults(function=function)
        return command.add_argument

    option = add(
        repro,
        "zoo repro                                 the quick profile: dvc.yaml",
        "zoo repro -j 4 full/dvc.yaml              the full profile, four stages at a time",
        "zoo repro train@resnet evaluate@resnet    some stages, and what they need",
        "zoo repro --dry                           what would run",
    )
    option("targets", nargs="*", metavar="TARGET", help="a dvc.yaml file, a stage or a group; default: dvc.yaml")
    option("-j", "--jobs", type=_count, metavar="N", help="stages at a time; default: the number of usable cores")
    option("-k", "--keep-going", action="store_true", help="after a failure, run what does not need the failed stage")
    option("-f", "--force", action="store_true", help="run all stages, also those that have not changed")
    option("--dry", action="store_true", help="print what would run, and run nothing")
    option("--pull", action="store_true", help="fetch missing outputs from the DVC remote rather than run their stages")
    option("--ray", metavar="ADDRESS", help="run stages on a Ray cluster: see 'Several machines' in README.md")
    option = add(
        compare,
        "zoo compare HEAD~1                                        the working tree against a commit",
        "zoo compare main HEAD --markdown changes.md               two commits",
        "zoo compare main --profile quick --fail-on worse          for CI",
    )
    option("base", metavar="BASE", help="a commit, as git names it: HEAD~1, main, d99c86c")
    option("head", metavar="HEAD", nargs="?", help="the commit to compare with BASE; default: the working tree")
    option("--profile", choices=PROFILES, help="default: the profiles that both sides have run")
    option("--all", dest="every_row", action="store_true", help="also list rows that are the same or not comparable")
    option(
        "--fail-on", action="append", default=[], choices=("worse", "not-comparable"), metavar="WHAT",
        help="exit with 1 if a row is `worse`, or `not-comparable`; with 2 if a side has no records; may be repeated",
    )  # fmt: skip
    option("--markdown", metavar="FILE", help="also write the tables as Markdown")
    option("--html", metavar="FILE", help="also write the tables as an HTML page")
    option = add(benchmark, "zoo benchmark quick && zoo repro    measure again, then update the report")
    option("profile", choices=PROFILES)
    option("--control", action="store_true", help="time graphs of equal structure, and print how far they differ")
    add(check)
    add(clean)("profile", choices=PROFILES)
    add(plots)
    add(readme)
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
        arguments = parser()
        options = vars(arguments.parse_args())
        if options.pop("version"):
            return print(version())
        if "function" not in options:
            arguments.error("name a COMMAND: `zoo --help` lists them")
        return options.pop("function")(**options)
    except InputError as error:
        sys.exit(f"zoo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    sys.exit(main())
