"""The charts of one report: which there are, and which of its rows each one shows."""

from zoo import files, reading
from zoo.evaluate import pictures
from zoo.report import latency_results
from zoo.report.results import picture

# Quality metrics that are set against latency, and the verb that answers for each: the first that an experiment has.
QUALITIES = {
    "reconstruct.mse": ("reconstruct",),
    "reconstruct.bce": ("reconstruct",),
    "classify.accuracy": ("classify",),
    "next_word.perplexity": ("next_word",),
    "judge.frechet_distance": ("generate", "decode"),
}


def draw(report: dict, folder) -> dict[str, dict]:
    """Draw every chart of a `results.gather` into `folder`; return {name: what a page needs to show it}.

    An experiment has a chart of its own name and one with "-latency" behind, each where there is something to draw.
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
            published = {f"{log['source']}, {log['split']}": log["points"] for log in entry["published_curves"]}
            add(name, caption, pictures.curves, entry["curve"], published=published)
        if len({row["batch"] for row in rows}) > 2:
            caption = (
                "Median time of a call against batch size, with its 95 % interval: as many threads as the runtime "
                "takes by default, every optimisation."
            )
            add(f"{name}-latency", caption, pictures.latency, rows)
    best = _best_classifier(report)
    if best:
        items = reading.table(files.predictions(report["profile"], best), ["actual", "predicted"])
        caption = (
            f"Confusion matrices of {best}, the most accurate classifier (first seed): on a tenth of the test images, "
            "on all of them, and of random answers."
        )
        actual, predicted = items["actual"].to_numpy(), items["predicted"].to_numpy()
        add("confusion", caption, pictures.three_confusions, actual, predicted=predicted)
    overview = _overview(report)
    if overview:
        caption = "Median time of a call, each graph at its smallest batch: the default, and the best that was found."
        add("latency-overview", caption, pictures.latency_overview, overview)
    with_peers = [row for row in report["peers"] if len(row["ratios"]) > 1]
    for device, mode in dict.fromkeys((row["device"], row["mode"]) for row in with_peers):
        caption = (
            f"{device}, {mode} mode: time of a call over that of ONNX Runtime with one thread, measured in turns in "
            "the same blocks, with its 95 % interval. Right of 1 is slower. Where the default is the best found, one "
            "mark lies upon the other."
        )
        rows = _beside_peers(report, device, mode)
        runtimes = [label for key, label in report["runtimes"].items() if key != latency_results.REFERENCE]
        add(f"peers-{device.lower()}-{mode}", caption, pictures.peers, rows, runtimes=runtimes)
    for key in QUALITIES:
        points = quality_points(report, key)
        if len(points) > 1:
            quality = points[0]["label"]
            caption = (
                f"{quality[:1].upper()}{quality[1:]} against the median time of a call at the smallest batch "
                f"({points[0]['provider']}, the default configuration), all experiments that were measured for both."
            )
            share = key == "classify.accuracy"
            add(f"quality-{key}", caption, pictures.quality_against_latency, points, quality=quality, share=share)
    return charts


def _against_batch(entry):
    """The rows that differ from the default in nothing but the mode, and have a median."""
    chosen = []
    for source in entry["latency"]:
        defaults = {(one["verb"], one["batch"]): one["default"] for one in source["advice"]}
        for row in source["rows"]:
            default = defaults.get((row["verb"], row["batch"]))
            alike = default and all(row[key] == default[key] for key in ("threads", "optimisation"))
            if alike and row["p50_us"] is not None:
                chosen.append(row | {"provider": source["provider"]})
    return chosen


def _overview(report):
    """The medians of each graph at its smallest batch, the default's and the best one's, where both are known."""
    rows = []
    for entry in report["experiments"]:
        for source in entry["latency"]:
            for end in latency_results.ends(source):
                default, best = (end["smallest"][which]["p50_us"] for which in ("default", "best"))
                if default is not None and best is not None:
                    graph = {"name": entry["name"], "provider": source["provider"], "verb": end["verb"]}
                    rows.append(graph | {"default_us": default, "best_us": best})
    return rows


def _beside_peers(report, device, mode):
    return [
        {
            "name": f"{entry['name']} · {row['verb']}",
            "batch": row["batch"],
            "ratios": {
                report["runtimes"][runtime]: (one["ratio"], one["ratio_low"], one["ratio_high"])
                for runtime, one in row["runtimes"].items()
                if runtime != latency_results.REFERENCE
            },
        }
        for entry in report["experiments"]
        for row in entry["peers"]["rows"]
        if (row["device"], row["mode"]) == (device, mode)
    ]


def quality_points(report, key):
    """A point an experiment that has both: its mean of the metric `key`, and its median on the first provider."""
    points, providers = [], [source["provider"] for entry in report["experiments"] for source in entry["latency"]]
    for entry in report["experiments"]:
        metric = next((row for _, rows in entry["groups"] for row in rows if row["key"] == key), None)
        medians = {
            end["verb"]: end["smallest"]["default"]["p50_us"]
            for source in entry["latency"]
            if source["provider"] == providers[0]
            for end in latency_results.ends(source)
        }
        median = next((medians[verb] for verb in QUALITIES[key] if verb in medians), None)
        if metric and metric["mean"] is not None and median is not None:
            points.append(
                {
                    "name": entry["name"],
                    "provider": providers[0],
                    "label": metric["label"] + (f", {metric['unit']}" if metric["unit"] else ""),
                    "p50_us": median,
                    "quality": metric["mean"],
                    "partial": entry["partial"],
                }
            )
    return points


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
