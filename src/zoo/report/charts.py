"""The charts of one report: which there are, and which of its rows each one shows."""

import operator

import pandas

from zoo.evaluate.metrics import terms
from zoo.report import drawing, latency_results
from zoo.report.results import picture

ACCURACY = "classify.accuracy"
QUALITIES = {key: term.timed for key, term in terms().items() if term.timed}


def draw(report, folder):
    """Draw every chart of a `results.gather` into `folder`; return {name: what a page needs to show it}.

    An experiment has a chart of its own name and one with "-latency" behind, each where there is something to draw.
    Rows during which the machine's pace changed are left out.
    """
    charts, experiments = {}, report["experiments"]

    def add(name, caption, function, data, **more):
        path = folder / f"{name}.png"
        function(data, path, **more)
        charts[name] = picture(path, folder, caption) | {"path": f"charts/{name}.png"}

    for entry in experiments:
        if len(entry["curve"]):
            logs = {f"{log['source']}, {log['split']}": log["points"] for log in entry["published_curves"]}
            crosses = " Crosses are what the write-up's log prints." if logs else ""
            caption = f"Loss against step, on training batches and on validation data.{crosses}"
            add(entry["name"], caption, drawing.curves, entry["curve"], published=logs)
        rows = pandas.DataFrame(_against_batch(entry))
        if len(rows) and rows["batch"].nunique() > 2:
            caption = (
                "Median time of a call against batch size, with its 95 % interval: the default number of threads, "
                "every optimisation."
            )
            add(f"{entry['name']}-latency", caption, drawing.latency, rows)
    if (best := _best_classifier(experiments)) and best["confusion"]:
        caption = (
            f"Confusion matrices of {best['name']}, the most accurate classifier (first seed): on a tenth of the test "
            "images, on all of them, and of random answers."
        )
        add("confusion", caption, drawing.three_confusions, best["confusion"])
    if overview := _overview(experiments):
        caption = "Median time of a call, each graph at its smallest batch: the default, and the best that was found."
        add("latency-overview", caption, drawing.latency_overview, pandas.DataFrame(overview))
    rows = latency_results.peer_table(experiments)
    rows = rows.assign(runtime=rows["runtime"].map(latency_results.RUNTIMES))[
        rows["runtime"] != latency_results.REFERENCE
    ]
    others = list(latency_results.runtimes(experiments).values())[1:]
    for (device, mode), part in rows.groupby(["device", "mode"], sort=False):
        caption = (
            f"{device}, {mode} mode: time of a call over that of ONNX Runtime with one thread, measured in turns in "
            "the same blocks, with its 95 % interval. Right of 1 is slower. Where the default is the best found, one "
            "mark lies upon the other."
        )
        add(f"peers-{device.lower()}-{mode}", caption, drawing.peers, part, runtimes=others)
    for key in QUALITIES:
        points = quality_points(experiments, key)
        if len(points) > 1:
            quality, provider = points[0]["label"], points[0]["provider"]
            caption = (
                f"{quality[:1].upper()}{quality[1:]} against the median time of a call at the smallest batch "
                f"({provider}, the default configuration), all experiments that were measured for both."
            )
            data, share = pandas.DataFrame(points), key == ACCURACY
            add(f"quality-{key}", caption, drawing.quality_against_latency, data, quality=quality, share=share)
    return charts


def _against_batch(entry):
    """The times of the rows that differ from the default in nothing but the mode."""
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
    """The medians of each graph at its smallest batch, the default's and the best one's, where both are known."""
    return [
        {"name": f"{entry['name']} · {timing['verb']}", "provider": timing["provider"]}
        | {f"{which}_us": timing["advice"][0][which].times.p50_us for which in ("default", "best")}
        for entry in experiments
        for timing in entry["latency"]
        if all(_sound(timing["advice"][0][which], timing) for which in ("default", "best"))
    ]


def quality_points(experiments, key):
    """A point an experiment that has both: its mean of the metric `key`, and its median on the first provider."""
    points, provider = [], next((timing["provider"] for entry in experiments for timing in entry["latency"]), None)
    for entry in experiments:
        metric = next((row for row in entry["rows"] if row["key"] == key and row["mean"] is not None), None)
        timings = [timing for timing in entry["latency"] if timing["provider"] == provider]
        defaults = {timing["verb"]: (timing["advice"][0]["default"], timing) for timing in timings}
        medians = {verb: default[0].times.p50_us for verb, default in defaults.items() if _sound(*default)}
        median = next((medians[verb] for verb in QUALITIES[key] if verb in medians), None)
        if metric and median is not None:
            label = metric["label"] + (f", {metric['unit']}" if metric["unit"] else "")
            about = {"name": entry["name"], "provider": provider, "label": label, "partial": entry["partial"]}
            points.append(about | {"p50_us": median, "quality": metric["mean"]})
    return points


def _best_classifier(experiments):
    """The experiment of the highest mean accuracy over images, or None where there is none."""
    accuracies = ((row["mean"], entry) for entry in experiments for row in entry["rows"] if row["key"] == ACCURACY)
    known = [pair for pair in accuracies if pair[0] is not None]
    return max(known, key=operator.itemgetter(0), default=(None, None))[1]
