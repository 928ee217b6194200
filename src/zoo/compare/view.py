"""A comparison on the terminal, in Markdown and as an HTML page, and the exit status of `zoo compare`."""

import sys
from pathlib import Path

import jinja2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo import files, params
from zoo.compare.compare import NOT_COMPARABLE, VERDICTS, compare, side
from zoo.params import comparison

TEMPLATES = Path(__file__).with_name("templates")
COLOURS = {
    "worse": "bold red", "better": "green", "changed": "magenta", "different": "cyan", NOT_COMPARABLE: "yellow",
}  # fmt: skip


def run(revisions, profile, every_row, fail_on, markdown, html):
    """Compare, print, write the files that are asked for, and return the exit status.

    `revisions` is (base, head), head None for the working tree; `every_row` also lists rows that are the same. The
    status is 1 where `fail_on` names a verdict of a row, 2 where it is given and a side has no records, else 0.
    Raises InputError for what cannot be read.
    """
    compared = compare(*map(side, revisions), profile, comparison.rules(params.read()))
    view = compared | {"tables": [table | {"shown": shown(table["rows"], every_row)} for table in compared["tables"]]}
    show(view)
    for path, template in ((markdown, "compare.md.j2"), (html, "compare.html.j2")):
        if path:
            with files.replacing(path) as temporary:
                temporary.write_text(render(view, template), encoding="utf-8")
    status = 2 if fail_on and view["missing"] else 0
    for verdict in (word.replace("-", " ") for word in fail_on):
        found = {table["name"]: table["counts"].get(verdict, 0) for table in view["tables"]}
        if any(found.values()):
            status = 1
            where = ", ".join(f"{count:,} of {name}" for name, count in found.items() if count)
            print(f"zoo compare: failed on rows that are {verdict}: {where}", file=sys.stderr)
    return status


def shown(rows, every_row):
    """The rows that a table lists as {column: text}, the worst first; without `every_row`, those that changed."""
    listed = [row for row in rows if every_row or row.verdict not in ("same", NOT_COMPARABLE)]
    listed.sort(key=lambda row: VERDICTS.index(row.verdict))
    return [row._asdict() | {"experiment": abridged(row.experiments)} for row in listed]


def tally(counted):
    """`3 better, 410 same`, or that there is nothing."""
    return ", ".join(f"{count:,} {verdict}" for verdict, count in counted.items()) or "nothing to compare"


def abridged(names, most=3):
    """The first of some names, and how many follow."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def cell(text):
    """A text in a Markdown table, where | separates cells."""
    return str(text).replace("|", "\\|")


def columns(view, table):
    """[(key of a Row, its title)] of the columns in which something stands."""
    before, after = (", ".join(filter(None, (view[side].name, table["unit"]))) for side in ("before", "after"))
    titles = {
        "profile": "profile", "experiment": "experiment", "what": table["what"], "before": before, "after": after,
        "change": "change", "verdict": "verdict", "note": "note",
    }  # fmt: skip
    return [(key, title) for key, title in titles.items() if any(row[key] for row in table["shown"])]


def show(view):
    """Print a comparison as tables on the terminal, its rows 160 columns wide elsewhere."""
    console = Console(highlight=False)
    console.width = console.width if console.is_terminal else 160
    for word in ("before", "after"):
        console.print(f"{word + ':':8}[bold]{escape(view[word].name)}[/]  {escape(view[word].about)}")
    for sentence in view["missing"]:
        console.print(escape(sentence))
    for table in view["tables"]:
        console.print(f"\n[bold]{table['name']}[/]: {tally(table['counts'])}")
        if table["shown"]:
            _print(console, columns(view, table), table["shown"])
        if table["reasons"]:
            titles = ("profile", "rows", "not comparable because", "experiments")
            rows = [
                dict(zip(titles, (profile, f"{count:,}", reason, abridged(names)), strict=True))
                for profile, reason, count, names in table["reasons"]
            ]
            _print(console, [(title, title) for title in titles], rows)


def _print(console, keys, rows):
    table = Table(box=None, pad_edge=False, header_style="dim")
    for key, title in keys:
        number = key in ("before", "after", "change", "rows")
        whole = key not in ("note", "not comparable because", "experiments")
        table.add_column(escape(title), justify="right" if number else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(escape(row[key]) for key, _ in keys), style=COLOURS.get(row.get("verdict")))
    console.print(table)


def render(view, template):
    """A comparison as text, by one of the templates compare.*.j2."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"abridged": abridged, "cell": cell, "tally": tally}
    return environment.get_template(template).render(view, columns=columns, view=view)
