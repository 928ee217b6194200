"""What was gathered -> one report: pages, summary and charts, written together or not at all."""

import base64
import contextlib
import functools
import math
import re
from pathlib import Path

import jinja2
import pandas
from markupsafe import Markup, escape

from zoo import figures, files
from zoo.errors import InputError
from zoo.results import picture, read_table

TEMPLATES = Path(__file__).parent / "templates"
START, END = "<!-- results -->", "<!-- /results -->"
HEADLINE = ("key", "label", "unit", "mean", "low", "high", "floor", "seeds", "published", "verdict", "why")


def summarise(report: dict) -> dict:
    """The result table as plain data: what summary.json holds and the top README's block is made from."""
    experiments = {
        entry["name"]: {
            "about": entry["about"],
            "headline": {key: entry["headline"][key] for key in HEADLINE} if entry["headline"] else None,
            "budget": entry["budget"],
            "steps": entry["training"]["steps"],
            "diverged_at_step": entry["diverged"],
            "drawn": entry["drawn"],
        }
        for entry in report["experiments"]
    }
    return {
        "profile": report["profile"],
        "order": list(experiments),
        "experiments": experiments,
        "claims": report["claims"],
    }


def table(report: dict) -> pandas.DataFrame:
    """Every metric of every experiment, one a line: what summary.csv holds."""
    rows = [
        {
            "experiment": entry["name"],
            "metric": ".".join(filter(None, (row["key"], row["class"]))),
            "mean": row["mean"],
            "low": row["low"],
            "high": row["high"],
            "seeds": len(row["seeds"]),
            "steps": entry["training"]["steps"],
            "published": row["published"]["value"] if row["published"] else None,
            "verdict": row["verdict"],
        }
        for entry in report["experiments"]
        for row in [*(row for _, rows in entry["groups"] for row in rows), *entry["per_class"]]
    ]
    return pandas.DataFrame(rows)


def write(report: dict) -> None:
    """Write README.md, index.html, summary.csv, summary.json and charts/: all, or on an error none."""
    profile = report["profile"]
    names = ("charts", "README.md", "index.html", "summary.csv", "summary.json")
    with contextlib.ExitStack() as stack:
        charts, readme, page, sheet, summary = (
            stack.enter_context(files.replacing(files.report(profile, name))) for name in names
        )
        charts.mkdir()
        view = report | {
            "charts": _charts(report, charts),
            "rows": _table_rows(summarise(report)),
            "folder": "",
        }
        templates = _templates()
        readme.write_text(templates.get_template("report.md.j2").render(view), encoding="utf-8")
        page.write_text(templates.get_template("report.html.j2").render(view), encoding="utf-8")
        table(report).to_csv(sheet, index=False, float_format="%.6g", lineterminator="\n")
        files.write_json(summary, summarise(report))


def _charts(report, folder):
    charts = {}

    def draw(function, data, name, caption):
        path = folder / f"{name}.png"
        function(data, path)
        charts[name] = picture(path, folder, caption) | {"path": f"charts/{name}.png"}

    everywhere = []
    for entry in report["experiments"]:
        name, curve, rows = entry["name"], entry["curve"], entry["latency"]
        if len(curve):
            caption = "Loss against step, on training batches and on validation data."
            if entry["published_curves"]:
                caption += " Crosses are what the write-up's log prints."
            published = {f"{log['source']}, {log['split']}": log["points"] for log in entry["published_curves"]}
            draw(functools.partial(figures.curves, published=published), curve, name, caption)
        if len({row["batch"] for row in rows if row["p50_us"] is not None}) > 2:
            draw(figures.latency, rows, f"{name}-latency", "Median time of a call against batch size.")
        everywhere += [row | {"name": name} for row in rows]
    best = _best_classifier(report)
    if best:
        items = read_table(files.predictions(report["profile"], best), ["actual", "predicted"])
        actual, predicted = items["actual"].to_numpy(), items["predicted"].to_numpy()
        caption = (
            f"Confusion matrices of {best}, the most accurate classifier (first seed): on a tenth of the test images, "
            "on all of them, and of random answers."
        )
        draw(functools.partial(figures.three_confusions, predicted=predicted), actual, "confusion", caption)
    if any(row["p50_us"] is not None for row in everywhere):
        caption = "Median time of a call, each graph at its smallest batch."
        draw(figures.latency_overview, everywhere, "latency-overview", caption)
    return charts


def _best_classifier(report):
    """The experiment of the highest mean accuracy over images, or None where there is none."""
    accuracy = {
        entry["name"]: row["mean"]
        for entry in report["experiments"]
        for _, rows in entry["groups"]
        for row in rows
        if row["key"] == "classify.accuracy" and row["mean"] is not None
    }
    return max(accuracy, key=accuracy.get, default=None)


def _table_rows(summary):
    return [{"name": name} | summary["experiments"][name] for name in summary["order"]]


def _templates():
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": lambda text: str(text).replace("|", "\\|"),
        "inlined": lambda path: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"),
        "interval": interval,
        "marked": marked,
        "norm": norm,
        "number": number,
        "published": lambda value: f"{value:,.6g}",
        "parity": parity,
        "percentile": lambda value: "n too small" if value is None else duration(value),
        "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
        "share": lambda value: "—" if value is None else f"{value:.3f}",
        "several_seeds": lambda rows: len({row["seed"] for row in rows}) > 1,
        "any_published": lambda groups: any(row["published"] for _, rows in groups for row in rows),
        "duration": lambda value: "—" if value is None else duration(value),
        "because": because,
        "evidence": evidence,
        "tally": tally,
    }
    return environment


def readme_block(summary: dict, folder: str = "reports/full/README.md") -> str:
    """The tables of results and claims in summary.json in Markdown, for the top README; links lead to `folder`.

    Raises InputError for a summary that an earlier version wrote.
    """
    for key in ("claims", "experiments", "order", "profile"):
        if key not in summary:
            raise InputError(f"summary.json lacks {key}: run `dvc repro full/dvc.yaml`, which writes it anew")
    view = {"rows": _table_rows(summary), "folder": folder, "profile": summary["profile"], "claims": summary["claims"]}
    templates = _templates()
    return "\n".join(templates.get_template(name).render(view) for name in ("table.md.j2", "claims.md.j2"))


def rewrite_block(text: str, block: str) -> str:
    """`text` with what stands between the result markers replaced. Raises InputError when one is missing."""
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise InputError(f"README.md: needs the line {START} and, below it, the line {END}, once each: add them")
    return re.sub(f"{START}.*{END}", lambda _: f"{START}\n{block.strip()}\n{END}", text, flags=re.DOTALL)


def number(value) -> str:
    """Four significant digits, thousands separated, a count without a point; a dash for None."""
    if value is None:
        return "—"
    if abs(value) >= 1e9:
        return f"{value:.3e}".replace("e+", "e")
    if isinstance(value, int) or abs(value) >= 1000 or value in range(10):  # a small whole number is a count
        return f"{value:,.0f}"
    return f"{value:#.4g}".replace("e-0", "e-")


def interval(row: dict) -> str:
    """The mean, with its 95 % interval where the row has one: `0.9874 ± 0.0012`."""
    mean, low, high = row["mean"], row["low"], row["high"]
    if mean is None or low is None or high is None:
        return number(mean)
    half = (high - low) / 2
    if half == 0 or 0 < abs(mean) < 1e-4 or max(abs(mean), half) >= 1e9:
        return f"{number(mean)} ± {half:.2g}"
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:,.{decimals}f} ± {half:,.{decimals}f}"


def because(row: dict) -> str:
    """Why a figure was not reproduced, or is undecided; nothing for another."""
    if row["why"] is None:
        return ""
    if row["verdict"] == "undecided":
        return "; ".join(row["why"]) or "the interval reaches beyond the tolerance on both sides"
    return "; ".join(row["why"]) or "no reason established"


def norm(value: float | None) -> str:
    """The norm of a gradient in words, for one that may have overflowed."""
    if value is None:
        return "unknown"
    return number(value) if math.isfinite(value) else "not a number" if math.isnan(value) else "infinite"


def tally(claims: list) -> str:
    """How many claims came to what: `20 hold, 1 does not hold, 3 are undecided`."""
    words = {
        "holds": ("holds", "hold"),
        "does not hold": ("does not hold", "do not hold"),
        "undecided": ("is undecided", "are undecided"),
        "not measured": ("was not measured", "were not measured"),
    }
    verdicts = [claim["verdict"] for claim in claims]
    counts = {verdict: verdicts.count(verdict) for verdict in words if verdict in verdicts}
    return ", ".join(f"{count} {words[verdict][count > 1]}" for verdict, count in counts.items())


def evidence(one: dict) -> str:
    """What was measured for a comparison of a claim: `lstm validation loss 4.61 (claimed < rnn_tanh 5.20)`."""
    left, right = one["left"], one["right"]
    if "metric" in left and left["metric"] == right.get("metric"):
        right = right | {"label": ""}
    of = f" of {one['seeds']} seed" if one["seeds"] else ""
    at = f" at step {one['step']:,}" if one["step"] is not None else ""
    return f"{_side(left, one)}{at} (claimed {one['relation']} {_side(right, one)}{of})"


def _side(side, one):
    if "value" in side:
        return f"{side['value']:,.0f}" if abs(side["value"]) >= 1000 else f"{side['value']:g}"
    values = side["seeds"].values()
    if side["diverged"]:
        value = f"diverged with {side['diverged']} of {len(values)} seeds"
    elif one["seeds"] and side["mean"] is not None:
        value = " to ".join(dict.fromkeys(number(bound) for bound in (min(values), max(values))))
    else:
        value = interval({"low": None, "high": None} | side)
    return " ".join(filter(None, (side["experiment"], side["label"], value)))


def duration(value: float) -> str:
    """Three significant digits, never in powers of ten: a time in the unit that the column names."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def parity(check: dict) -> str:
    """One line on how far an exported graph's outputs lay from the network's."""
    words = f"largest difference from the network {check['largest_difference']:.2g}"
    if check["bound"] is not None:
        words += f", allowed {check['bound']:.2g}"
    finite = "" if check["finite"] else "; not all outputs are finite, and both agree on which"
    return f"{words} ({check['calls']} calls){finite}"


def marked(text: str) -> Markup:
    """Paragraphs of Markdown that use **strong** and *emphasis* alone, as HTML."""
    html = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(str(text).strip())))
    html = re.sub(r"\*(.+?)\*", r"<em>\1</em>", html)
    return Markup("\n".join(f"<p>{paragraph.strip()}</p>" for paragraph in html.split("\n\n")))
