"""Write reports/gpu: the results of each visit to a machine with a GPU as JSON, and README.md, rendered from these."""

import math
import textwrap
import zipfile
from collections import Counter

import pandas

from zoo import files, records
from zoo.errors import InputError
from zoo.records import gpu

README = gpu.FOLDER / "README.md"


def write(archives):
    """Copy the results of each archive to reports/gpu, under its own name, and render the page of all results there.

    Raises InputError for a file that is not such an archive, or was made without a GPU.
    """
    for path in archives:
        try:
            with zipfile.ZipFile(path) as file:
                text = file.read("results.json")
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not an archive of benchmarks/gpu.py: {error}") from None
        visit = records.read(gpu.Visit, path, text)
        if visit.device != "cuda":
            raise InputError(f"{path} was made without a GPU: reports/gpu is for visits to a machine that has one")
        records.write(gpu.FOLDER / f"{path.stem}.json", visit)
    with files.replacing(README) as temporary:
        temporary.write_text(page(gpu.visits()), encoding="utf-8")


def page(visits):
    """The page as Markdown; `visits` is [(name, `gpu.Visit`)]."""
    blocks = ["# On a GPU", "Rendered by `python benchmarks/gpu.py --render` from the JSON files beside this page."]
    for name, visit in visits:
        blocks += of_visit(name, visit)
    return "\n\n".join(blocks if visits else [*blocks, "No GPU was available."]) + "\n"


def of_visit(name, visit):
    """The Markdown blocks of one visit; parts without results are left out."""
    machine = ", ".join(f"{key} {value}" for key, value in visit.machine.items() if value is not None)
    where = visit.machine.get("gpu") or "a machine without a GPU"
    yield f"## {where}, commit {visit.commit}"
    data = f"with the data and budgets of the {visit.profile} profile" if visit.profile else "on untrained networks"
    dated = f"on {visit.date} " if visit.date else ""
    yield f"Measured {dated}outside of the pipeline, {data} ({name}.json), not with the pinned versions: {machine}."
    if visit.parts:
        rows = [{"part": part, **dict(how)} for part, how in visit.parts.items()]
        for row in rows:
            row["not_reached"] = ", ".join(row["not_reached"])
        yield table(rows, {
            "part": "part", "outcome": "outcome", "seconds": "seconds", "limit_seconds": "limit, seconds",
            "not_reached": "not reached",
        })  # fmt: skip
    for title, blocks in (
        ("Tests", of_tests), ("A training step", of_steps), ("Training repeated and resumed", of_determinism),
        ("Training", of_training), ("Graphs", of_graphs), ("Latency", of_latency),
    ):  # fmt: skip
        if found := list(blocks(visit)):
            yield from (f"### {title}", *found)


def of_tests(visit):
    """Counts by outcome, and the last lines of every failure."""
    if not visit.tests:
        return
    yield table([{"tests": name, **run.counts, "note": run.error} for name, run in visit.tests.items()])
    for run in visit.tests.values():
        for name, lines in run.failures.items():
            yield f"`{name}`:\n\n```\n{lines.replace('```', '')}\n```"


def of_steps(visit):
    """A table for each setting: milliseconds of a training step, eager and captured as a CUDA graph."""
    columns = {
        "name": "experiment", "eager_ms": "eager, ms", "operators": "operators", "kernels": "kernels",
        "graph_ms": "CUDA graph, ms", "five_ms": "five seeds in one graph, ms", "error": "note",
    }  # fmt: skip
    for setting, rows in sorted(visit.steps.items(), key=lambda item: -len(item[1])):
        ratios = [ratio for _, ratio in visit.captured[setting]]
        yield f"#### {setting}"
        yield f"{len(ratios)} of {len(rows)} experiments were captured" + (
            f"; their steps were {min(ratios):.1f} to {max(ratios):.1f} times faster than eager ones."
            if ratios
            else "."
        )
        yield table(rows, columns)


def of_determinism(visit):
    """How many trainings have bit-identical weights when repeated or resumed, and which have not."""
    rows = visit.determinism
    for key, says in (
        ("deterministic", "trained twice from the start"),
        ("resumes", "interrupted half-way and resumed"),
        ("captured_equals_eager", "trained without a captured step"),
    ):
        answers = {row.name: getattr(row, key) for row in rows if getattr(row, key) is not None}
        if answers:
            no = ", ".join(name for name, equal in answers.items() if not equal)
            steps = " or ".join(sorted({str(row.steps) for row in rows if row.steps}))
            counts = f"{sum(answers.values())} of {len(answers)} experiments {says}"
            yield f"{counts} had bit-identical weights after {steps} steps." + (f" Not: {no}." if no else "")
    if failed := [row for row in rows if row.error]:
        yield table(failed, {"name": "experiment", "error": "why it was not tried"})


def of_training(visit):
    """Steps, seconds and headline metric of each experiment, and the time of its whole budget in captured steps."""
    step_ms = {row.name: row.graph_ms for rows in visit.steps.values() for row in rows if row.graph_ms}
    rows = [
        dict(row) | {"share": row.steps / row.budget, "whole": row.budget * step_ms.get(row.name, math.nan) / 1e3}
        for row in visit.training
        if row.steps and row.budget
    ]
    if rows:
        whole, timed = sum(row["share"] == 1 for row in rows), [row["whole"] for row in rows if row["name"] in step_ms]
        yield f"{whole} of {len(rows)} experiments were trained for their whole budget, one seed each, side by side."
        yield (
            f"In captured steps, one experiment after another, the whole budgets of {len(timed)} of them would take "
            f"{sum(timed):.0f} s, without logging and validation."
        )
        yield table(rows, {
            "name": "experiment", "steps": "steps", "share": "share of the budget", "seconds": "seconds",
            "whole": "whole budget in captured steps, seconds", "diverged_at_step": "diverged at step",
            "headline": "metric", "value": "value", "error": "note",
        })  # fmt: skip


def of_graphs(visit):
    """Which graphs did not run on CUDA, and how much the outputs of the others differ from the CPU's."""
    if not visit.graphs:
        return
    refused = visit.refused
    relative = {
        f"{row.of}, batch {row.batch}": max(
            one.largest_difference / max(1, one.scale) for one in (row.host, row.bound, row.graph)
        )
        for row in visit.graphs
        if row not in refused and row.host.scale is not None
    }
    text = "{} of {} graphs ran entirely on CUDA in all three modes.".format(*visit.whole)
    if relative:
        worst = max(relative, key=relative.get)
        text += (
            f" The largest difference from the CPU was {relative[worst]:.1e} of the larger of 1 and the largest output "
            f"({worst})."
        )
    yield text
    if refused:
        yield table([
            {"exported graph": row.of, "batch": row.batch}
            | {mode: shortened(getattr(row, mode).error or "runs") for mode in ("host", "bound", "graph")}
            for row in refused
        ])  # fmt: skip


def of_latency(visit):
    """The median of each mode and runtime, one line for each graph and batch size."""
    rows = [row for row in (*visit.latency, *visit.peers) if row.p50_us is not None]
    if not rows:
        return
    frame = pandas.DataFrame([dict(row) | {"column": f"{row.runtime} {row.mode}"} for row in rows])
    frame = frame.pivot_table("p50_us", ["experiment", "verb", "batch"], "column", sort=False).reset_index()
    limit = visit.settings.get("benchmark", {}).get("max_drift", 0.05)
    drifted = sum((row.drift or 0) > limit for row in rows)
    yield (
        f"Medians of a call in µs. For {drifted} of {len(rows)} rows the time of the reference graph changed by more "
        f"than {limit:.0%}: the machine's speed varied, so these medians are rough."
    )
    yield frame.to_markdown(index=False, floatfmt=".4g", missingval="")
    reasons = Counter(shortened(row.not_measured) for row in (*visit.latency, *visit.peers) if row.not_measured)
    if reasons:
        yield table([{"rows": count, "not measured": reason} for reason, count in reasons.most_common()])


def shortened(reason):
    """Shorten the reason why something did not run to fit a table cell."""
    return textwrap.shorten(reason, 200, placeholder=" ...").replace("|", "\\|")


def table(rows, columns=None):
    """A Markdown table of rows, with the `columns` {field: title} that have a value in at least one row."""
    frame = pandas.DataFrame([row if isinstance(row, dict) else dict(row) for row in rows])
    if columns:
        frame = frame.reindex(columns=list(columns)).rename(columns=columns)
    frame = frame.replace("", None).dropna(axis="columns", how="all").convert_dtypes()
    frame = frame.astype(object).where(frame.notna(), None)
    return frame.to_markdown(index=False, floatfmt=".3g", missingval="")
