"""The charts of one report: which there are, and which of its rows each one shows."""

from zoo.evaluate.metrics import terms
from zoo.report import drawing, latency_results
from zoo.report.results import picture

QUALITIES = {key: term.timed for key, term in terms().items() if term.timed}


def draw(report, folder):
    """Draw every chart of a `results.gather` into `folder`; return {name: what a page needs to show it}.

    An experiment has a chart of its own name and one with "-latency" behind, each where there is something to draw.
    Rows during which the machine's pace changed are left out.
    """
    charts = {}

    def add(name, caption, function, data, **more):
        path = folder / f"{name}.png"
        function(data, path, **more)
        charts[name] = picture(path, folder, caption) | {"path": f"charts/{name}.png"}

    for entry in report["experiments"]:
        name, rows = entry["name"], _against_batch(entry)
        if len(entry["curve"]):
            caption = "Loss against step, on training batches and on validation data."
            if entry["published_curves"]:
                caption += " Crosses are what the write-up's log prints."
            logs = {f"{log['source']}, {log['split']}": log["points"] for log in entry["published_curves"]}
            add(name, caption, drawing.curves, entry["curve"], published=logs)
        if len({row["batch"] for row in rows}) > 2:
            caption = (
                "Median time of a call against batch size, with its 95 % interval: the default number of threads, "
                "every optimisation."
            )
            add(f"{name}-latency", caption, drawing.latency, rows)
    best = _best_classifier(report)
    if best and best["confusion"]:
        caption = (
            f"Confusion matrices of {best['name']}, the most accurate classifier (first seed): on a tenth of the test "
            "images, on all of them, and of random answers."
        )
        add("confusion", caption, drawing.three_confusions, best["confusion"])
    if overview := _overview(report):
        caption = "Median time of a call, each graph at its smallest batch: the default, and the best that was found."
        add("latency-overview", caption, drawing.latency_overview, overview)
    labels = latency_results.runtimes(report["experiments"])
    others = [label for runtime, label in labels.items() if runtime != latency_results.REFERENCE]
    rows = [row for row in latency_results.peer_rows(report["experiments"]) if len(row["runtimes"]) > 1]
    for device, mode in sorted({(row["device"], row["mode"]) for row in rows}, key=lambda of: (of[0], of[1] != "host")):
        caption = (
            f"{device}, {mode} mode: time of a call over that of ONNX Runtime with one thread, measured in turns in "
            "the same blocks, with its 95 % interval. Right of 1 is slower. Where the default is the best found, one "
            "mark lies upon the other."
        )
        beside = _beside_peers(report, device, mode, labels)
        add(f"peers-{device.lower()}-{mode}", caption, drawing.peers, beside, runtimes=others)
    for key in QUALITIES:
        points = quality_points(report, key)
        if len(points) > 1:
            quality = points[0]["label"]
            caption = (
                f"{quality[:1].upper()}{quality[1:]} against the median time of a call at the smallest batch "
                f"({points[0]['provider']}, the default configuration), all experiments that were measured for both."
            )
            share = key == "classify.accuracy"
            add(f"quality-{key}", caption, drawing.quality_against_latency, points, quality=quality, share=share)
    return charts


def _against_batch(entry):
    """The rows that differ from the default in nothing but the mode."""
    chosen = []
    for timing in entry["latency"]:
        defaults = {one["batch"]: one["default"] for one in timing["advice"]}
        about = {"provider": timing["provider"], "verb": timing["verb"]}
        for row in timing["rows"]:
            default = defaults.get(row.batch)
            alike = default and (row.threads, row.optimisation) == (default.threads, default.optimisation)
            if alike and _sound(row, timing):
                times = {key: getattr(row.times, key) for key in ("p50_us", "p50_low_us", "p50_high_us")}
                chosen.append(about | {"mode": row.mode, "batch": row.batch} | times)
    return chosen


def _sound(row, timing):
    return row.times.p50_us is not None and not latency_results.is_drifted(row, timing["source"])


def _overview(report):
    """The medians of each graph at its smallest batch, the default's and the best one's, where both are known."""
    rows = []
    for entry in report["experiments"]:
        for timing in entry["latency"]:
            smallest, _ = latency_results.ends(timing)
            if all(_sound(smallest[which], timing) for which in ("default", "best")):
                times = {f"{which}_us": smallest[which].times.p50_us for which in ("default", "best")}
                rows.append({"name": entry["name"], "provider": timing["provider"], "verb": timing["verb"]} | times)
    return rows


def _beside_peers(report, device, mode, labels):
    return [
        {
            "name": f"{entry['name']} · {row['verb']}",
            "batch": row["batch"],
            "ratios": {
                labels[runtime]: (one["ratio"], one["low"], one["high"])
                for runtime, one in row["runtimes"].items()
                if runtime != latency_results.REFERENCE
            },
        }
        for entry in report["experiments"]
        for row in latency_results.peer_rows([entry])
        if (row["device"], row["mode"]) == (device, mode)
    ]


def quality_points(report, key):
    """A point an experiment that has both: its mean of the metric `key`, and its median on the first provider."""
    points, provider = [], next((one["provider"] for entry in report["experiments"] for one in entry["latency"]), None)
    for entry in report["experiments"]:
        metric = next((row for row in entry["rows"] if row["key"] == key), None)
        medians = {
            timing["verb"]: latency_results.ends(timing)[0]["default"].times.p50_us
            for timing in entry["latency"]
            if timing["provider"] == provider and _sound(latency_results.ends(timing)[0]["default"], timing)
        }
        median = next((medians[verb] for verb in QUALITIES[key] if verb in medians), None)
        if metric and metric["mean"] is not None and median is not None:
            label = metric["label"] + (f", {metric['unit']}" if metric["unit"] else "")
            about = {"name": entry["name"], "provider": provider, "label": label, "partial": entry["partial"]}
            points.append(about | {"p50_us": median, "quality": metric["mean"]})
    return points


def _best_classifier(report):
    """The experiment of the highest mean accuracy over images, or None where there is none."""
    accuracy = {
        row["mean"]: entry
        for entry in reversed(report["experiments"])
        for row in entry["rows"]
        if row["key"] == "classify.accuracy" and row["mean"] is not None
    }
    return accuracy[max(accuracy)] if accuracy else None
