"""The charts of a report: which ones it has, and which rows each of them shows."""

import operator

import numpy
import pandas
import scipy.special

from zoo import files
from zoo.evaluate.metrics import known_metrics
from zoo.report import drawing, latency_results
from zoo.report.results import picture

ACCURACY = "classify.accuracy"
QUALITIES = {key: metric.timed for key, metric in known_metrics().items() if metric.timed}


def draw(report, folder):
    """Draw every chart of a `results.gather` into `folder`; return {name: what a page needs to show it}.

    If there are data to draw, an experiment has a chart under its own name and one with the suffix "-latency". Rows
    during which the machine's pace changed are left out.
    """
    charts, experiments = {}, report["experiments"]

    def add(name, caption, function, data, **more):
        path = folder / f"{name}.png"
        function(data, path, **more)
        charts[name] = picture(path, folder, caption) | {"path": f"charts/{name}.png"}

    for entry in experiments:
        if len(entry["curve"]):
            logs = {f"{log['source']}, {log['split']}": log["points"] for log in entry["published_curves"]}
            crosses = " Crosses are values of the write-up's log." if logs else ""
            caption = f"Loss by step, on training batches and on validation data.{crosses}"
            add(entry["name"], caption, drawing.curves, entry["curve"], published=logs)
        pictures = [files.report(report["profile"], one["path"]) for one in entry["pictures"]]
        shown = {path.stem: path for path in [*pictures, folder / f"{entry['name']}.png"] if path.exists()}
        verbs = [(entry["headline"] or {}).get("verb"), "generate", "decode", *shown]
        if source := next((shown[verb] for verb in verbs if verb in shown), None):
            add(f"{entry['name']}-thumbnail", "", drawing.thumbnail, source)
        rows = pandas.DataFrame(_against_batch(entry))
        if len(rows) and rows["batch"].nunique() > 2:
            caption = "Median time of a call by batch size, with its 95 % interval: default threads, all optimisations."
            add(f"{entry['name']}-latency", caption, drawing.latency, rows)
    if (best := _best_classifier(experiments)) and best["confusion"]:
        caption = (
            f"Confusion matrices of {best['name']}, the most accurate classifier (first seed): on a tenth of the test "
            "images, on all of them, and of random predictions."
        )
        add("confusion", caption, drawing.three_confusions, best["confusion"])
    if overview := _overview(experiments):
        caption = "Median time of a call of each graph at its smallest batch: default and fastest configuration."
        add("latency-overview", caption, drawing.latency_overview, pandas.DataFrame(overview))
    rows = latency_results.peer_table(experiments)
    rows = rows.assign(runtime=rows["runtime"].map(latency_results.RUNTIMES))[
        rows["runtime"] != latency_results.REFERENCE
    ]
    others = list(latency_results.runtimes(experiments).values())[1:]
    for (device, mode), part in rows.groupby(["device", "mode"], sort=False):
        caption = (
            f"{device}, {mode} mode: time of a call relative to ONNX Runtime with one thread, measured in alternation "
            "in the same blocks, with its 95 % interval. Right of 1 is slower. If the default is the fastest "
            "configuration, its two marks coincide."
        )
        add(f"peers-{device.lower()}-{mode}", caption, drawing.peers, part, runtimes=others)
    return charts


def _against_batch(entry):
    """The times of the rows that differ from the default configuration only in mode."""
    defaults = [(timing, {one["batch"]: one["default"] for one in timing["advice"]}) for timing in entry["latency"]]
    return [
        {"provider": timing["provider"], "verb": timing["verb"], "mode": row.mode, "batch": row.batch}
        | row.times.model_dump(include={"p50_us", "p50_low_us", "p50_high_us"})
        for timing, of_batch in defaults
        for row in timing["rows"]
        if (default := of_batch.get(row.batch)) and _sound(row, timing)
        and (row.threads, row.optimisation) == (default.threads, default.optimisation)
    ]  # fmt: skip


def _sound(row, timing):
    return row.times.p50_us is not None and not latency_results.is_drifted(row, timing)


def _overview(experiments):
    """The medians of each graph at its smallest batch, in the default and the best configuration, if both are known."""
    return [
        {"name": f"{entry['name']} · {timing['verb']}", "provider": timing["provider"]}
        | {f"{which}_us": timing["advice"][0][which].times.p50_us for which in ("default", "best")}
        for entry in experiments
        for timing in entry["latency"]
        if all(_sound(timing["advice"][0][which], timing) for which in ("default", "best"))
    ]


def quality_panels(experiments):
    """Quality against latency on the first provider, one panel per metric that at least two experiments have.

    [{"label", "provider", "x": (least, most) µs, "y": (worst, best) quality, "points": [{"name", "p50_us", "quality",
    "partial", "drifted", "across", "up", "named"}]}]; "across" and "up" are positions in the panel, from 0 to 1; the
    fastest and the best point are "named".
    """
    panels, provider = [], next((timing["provider"] for entry in experiments for timing in entry["latency"]), None)
    for key in QUALITIES:
        points, metric = _quality_points(experiments, key, provider), known_metrics()[key]
        if len(points) > 1:
            x, y = (tuple(points[name].agg(["min", "max"])) for name in ("p50_us", "quality"))
            y = y if metric.better == "higher" else y[::-1]
            points["across"] = _positions(points["p50_us"], *x)
            points["up"] = _positions(points["quality"], *y, metric.share)
            points["named"] = points.index.isin([points["p50_us"].idxmin(), points["up"].idxmax()])
            label, points = metric.name + (f", {metric.unit}" if metric.unit else ""), points.to_dict("records")
            panels.append({"label": label, "provider": provider, "x": x, "y": y, "points": points})
    return panels


def _positions(values, start, end, share=False):
    """Positions of `values` from `start` (0) to `end` (1): by logit for shares, by logarithm if they span a decade."""
    low, high = sorted((start, end))
    if share and low > 0 and high < 1:
        values, start, end = map(scipy.special.logit, (values, start, end))
    elif low > 0 and high > 10 * low:
        values, start, end = map(numpy.log, (values, start, end))
    return (values - start) / ((end - start) or 1)


def _quality_points(experiments, key, provider):
    """One row per experiment that has both: the mean of its metric `key`, and its median latency on the provider."""
    points = []
    for entry in experiments:
        metric = next((row for row in entry["rows"] if row["key"] == key and row["mean"] is not None), None)
        timings = [timing for timing in entry["latency"] if timing["provider"] == provider]
        rows = {timing["verb"]: (timing["advice"][0]["default"], timing) for timing in timings}
        row, timing = next((rows[verb] for verb in QUALITIES[key] if verb in rows), (None, None))
        if metric and row and row.times.p50_us is not None:
            drifted = latency_results.is_drifted(row, timing)
            points.append((entry["name"], row.times.p50_us, metric["mean"], entry["partial"], drifted))
    return pandas.DataFrame(points, columns=["name", "p50_us", "quality", "partial", "drifted"])


def _best_classifier(experiments):
    """The experiment with the highest mean accuracy, or None."""
    accuracies = ((row["mean"], entry) for entry in experiments for row in entry["rows"] if row["key"] == ACCURACY)
    known = [pair for pair in accuracies if pair[0] is not None]
    return max(known, key=operator.itemgetter(0), default=(None, None))[1]
