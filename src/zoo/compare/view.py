"""Show a comparison on the terminal, in Markdown and as an HTML page; decide the exit status of `zoo compare`."""

import itertools
import sys
from collections import Counter
from pathlib import Path

import pandas
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo import files, pages, params
from zoo.compare.compare import NOT_COMPARABLE, VERDICTS, Row, compare, side
from zoo.params import comparison

TEMPLATES = Path(__file__).with_name("templates")
COLOURS = dict(zip(VERDICTS, ("bold red", "green", "magenta", "cyan", None, "yellow"), strict=True))
WHAT = {"Quality": "metric", "Latency": "call (times in µs)", "Graphs": "graph"}
LONG = ("note", "not comparable because", "experiments")  # columns whose text is wrapped
NUMBERS = ("before", "after", "change", "rows")  # right-aligned columns


def run(revisions, profile, every_row, fail_on, markdown, html):
    """Compare, print, write the requested files, and return the exit status.

    `revisions` is (base, head); a head of None means the working tree. `every_row` also lists rows that are the same.
    The status is 1 if `fail_on` names a verdict of a row, 2 if it is given and a side has no records, else 0.
    Raises InputError for an unknown revision or a damaged record.
    """
    view = prepare(
        compare(*map(side, revisions), profile, params.load(comparison.Rules, params.read(), "compare")), every_row
    )
    show(view)
    for path, template in ((markdown, "compare.md.j2"), (html, "compare.html.j2")):
        if path:
            with files.replacing(path) as temporary:
                temporary.write_text(render(view, template), encoding="utf-8")
    status = 2 if fail_on and view["missing"] else 0
    for verdict in (word.replace("-", " ") for word in fail_on):
        counts = [(table["counts"][verdict], name) for name, table in view["tables"].items()]
        if where := ", ".join(f"{count:,} of {name}" for count, name in counts if count):
            status = 1
            print(f"zoo compare: failed on rows that are {verdict}: {where}", file=sys.stderr)
    return status


def prepare(compared, every_row):
    """Convert the tables that `compare` returned to text: {name: {"counts": Counter of verdicts, "tally", "parts"}}.

    A part is a list of rows {column title: text}. The first part has the changed rows, or all with `every_row`, worst
    first; the second the reasons why rows are not comparable, most frequent first. Empty parts are left out.
    """
    tables = {}
    for name, rows in compared["tables"].items():
        rows = sorted(rows, key=lambda row: VERDICTS.index(row.verdict))
        table = pandas.DataFrame(rows, columns=Row._fields)
        counts = Counter(table.verdict)
        tally = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items()) or "nothing to compare"
        changed = table if every_row else table[~table.verdict.isin(["same", NOT_COMPARABLE])]
        changed = changed.loc[:, (changed != "").any()].rename(columns={"what": WHAT[name]})
        reasons = table[table.verdict == NOT_COMPARABLE].rename(columns={"note": "not comparable because"})
        groups = reasons.groupby(["profile", "not comparable because"], sort=False).experiments
        reasons = groups.agg(rows="size", experiments="sum").sort_values("rows", ascending=False, kind="stable")
        parts = [part.to_dict("records") for part in (changed, reasons.reset_index()) if len(part)]
        for row in itertools.chain(*parts):
            row["experiments"] = _abridged(list(dict.fromkeys(row["experiments"])))
        tables[name] = {"counts": counts, "tally": tally, "parts": parts}
    return compared | {"tables": tables}


def _abridged(names, most=3):
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def show(view):
    """Print a comparison as tables: as wide as the terminal, or 160 columns if the output is not a terminal."""
    console = Console(highlight=False)
    console.width = console.width if console.is_terminal else 160
    for word in ("before", "after"):
        console.print(f"{word + ':':8}[bold]{escape(view[word].name)}[/]  {escape(view[word].about)}")
    for sentence in view["missing"]:
        console.print(escape(sentence))
    for name, compared in view["tables"].items():
        console.print(f"\n[bold]{name}[/]: {compared['tally']}")
        for rows in compared["parts"]:
            table = Table(box=None, pad_edge=False, header_style="dim")
            for title in rows[0]:
                side = "right" if title in NUMBERS else "left"
                table.add_column(escape(title), justify=side, overflow="fold", no_wrap=title not in LONG)
            for row in rows:
                table.add_row(*map(escape, map(str, row.values())), style=COLOURS.get(row.get("verdict")))
            console.print(table)


def render(view, template):
    """Render a comparison with one of the templates compare.*.j2."""
    return pages.environment(TEMPLATES).get_template(template).render(view, numbers=NUMBERS)
