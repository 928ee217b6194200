"""Render a report from the gathered results: pages, summary and charts, written together or not at all."""

import collections
import contextlib
import inspect
import re
from pathlib import Path

import pandas

from zoo import files, pages
from zoo.errors import InputError
from zoo.report import charts, gpu, latency_results, wording

TEMPLATES = Path(__file__).with_name("templates")
PAGES = pages.environment(TEMPLATES, dict(inspect.getmembers(wording, inspect.isfunction)) | wording.FORMATS)
START, END = "<!-- results -->", "<!-- /results -->"
OTHERS = {"verb", "class"}  # not needed in summary.json
ROWS = 13  # of the top README's table
VERDICTS = ("reproduced", "better", "not reproduced", "undecided", "partial budget", "diverged", "not finite")
COLUMNS = ["experiment", "metric", "mean", "low", "high", "seeds", "steps", "published", "verdict", "graph"]


def summarise(report):
    """The result table as plain data: the content of summary.json, and the source of the block in the top README."""
    experiments = {
        entry["name"]: {
            "about": entry["about"],
            "family": entry["family"],
            "headline": entry["headline"]
            and {key: entry["headline"][key] for key in entry["headline"].keys() - OTHERS},
            "budget": entry["budget"],
            "steps": entry["run"].recipe["steps"],
            "diverged_at_step": entry["diverged"],
            "drawn": entry["drawn"],
            "graphs": {row["key"]: row["graph"] for row in entry["rows"] if row["graph"]},
        }
        for entry in report["experiments"]
    }
    about = {"profile": report["profile"], "claims": report["claims"]}
    return about | {"order": list(experiments), "experiments": experiments}


def table(report):
    """Every metric of every experiment, one per line: the content of summary.csv."""
    rows = [
        row
        | {
            "experiment": entry["name"],
            "metric": ".".join(filter(None, (row["key"], row["class"]))),
            "seeds": len(row["seeds"]),
            "steps": entry["run"].recipe["steps"],
            "published": row["published"]["value"] if row["published"] else None,
        }
        for entry in report["experiments"]
        for row in [*entry["overall"], *entry["per_class"]]
    ]
    return pandas.DataFrame(rows, columns=COLUMNS)


def write(report):
    """Write README.md, index.html, summary.csv, summary.json and charts/; if an error occurs, none of them."""
    profile = report["profile"]
    names = ("charts", "README.md", "index.html", "summary.csv", "summary.json")
    with contextlib.ExitStack() as stack:
        folder, readme, page, sheet, summary = (
            stack.enter_context(files.replacing(files.report(profile, name))) for name in names
        )
        folder.mkdir()
        drawn = charts.draw(report, folder)
        files.write_json(summary, summarise(report))
        kept = files.read_json(summary)  # rounded as in the top README
        experiments, families = report["experiments"], {}
        for entry in experiments:
            families.setdefault(entry["family"], []).append(entry)
        view = report | {
            "charts": drawn,
            "families": families,
            "panels": charts.quality_panels(experiments),
            "peers": [row for row in latency_results.geometric_means(experiments) if len(row["ratios"]) > 1],
            "runtimes": latency_results.runtimes(experiments),
            "soundness": latency_results.soundness(experiments),
            "rows": [row | {"entry": of} for row, of in zip(_table_rows(kept), experiments, strict=True)],
            "claims": kept["claims"],
            "gpu": gpu.gather(),
        }
        readme.write_text(PAGES.get_template("report.md.j2").render(view), encoding="utf-8")
        page.write_text(PAGES.get_template("report.html.j2").render(view), encoding="utf-8")
        table(report).to_csv(sheet, index=False, float_format="%.6g", lineterminator="\n")


def _table_rows(summary):
    return [{"name": name} | summary["experiments"][name] for name in summary["order"]]


def readme_block(summary, families, folder="reports/full/"):
    """The results for the top README, at most 20 lines of Markdown: counts of verdicts and rows of each family.

    `families`, {experiment: family}, is used for a summary without families. Each family shows its experiments with a
    published figure, or its first one. `folder` has the report; if it says that its figures are those of an earlier
    commit, so does the block. Raises InputError for a summary from an incompatible version.
    """
    for key in ("claims", "experiments", "order", "profile"):
        if key not in summary:
            raise InputError(f"summary.json lacks {key}: run `dvc repro full/dvc.yaml`, which writes it again")
    groups = {}
    for row in _table_rows(summary):
        if row["headline"]:
            family = row.get("family") or families.get(row["name"], "")
            groups.setdefault(family, []).append(row | {"family": family})
    groups = [[row for row in group if row["headline"]["published"]] or group[:1] for group in groups.values()]
    each = next(n for n in range(ROWS, 0, -1) if n == 1 or sum(len(group[:n]) for group in groups) <= ROWS)
    counts = collections.Counter(row["headline"]["verdict"] for group in groups for row in group)
    report = Path(folder, "README.md")
    earlier = re.search(r"those of commit (\w+)", report.read_text(encoding="utf-8")) if report.exists() else None
    view = {
        "claims": summary["claims"],
        "commit": earlier and earlier[1],
        "count": len(summary["order"]),
        "folder": folder,
        "rows": [row for group in groups for row in group[:each]],
        "verdicts": ", ".join(f"{verdict} {counts[verdict]}" for verdict in VERDICTS if counts[verdict]),
    }
    return PAGES.get_template("readme.md.j2").render(view)


def rewrite_block(text, block):
    """`text` with everything between the result markers replaced. Raises InputError if one is missing."""
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise InputError(f"README.md: needs the line {START} and, below it, the line {END}, once each: add them")
    return re.sub(f"{START}.*{END}", lambda _: f"{START}\n{block.strip()}\n{END}", text, flags=re.DOTALL)
