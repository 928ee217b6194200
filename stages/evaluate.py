"""Score every exported graph of one experiment on the test set, without torch."""

import json

import _checkout  # noqa: F401, the stage runs this checkout's code
import numpy
import pandas

from zoo import files, params, records, statistics
from zoo.data import archive
from zoo.evaluate import evaluation, scores
from zoo.graphs import sessions, verbs
from zoo.params.evaluation import Evaluation
from zoo.records import metrics, parity
from zoo.stage import run


def evaluate(profile, name):
    """Evaluate one experiment: graphs and test data -> metrics, predictions and pictures."""
    values, exported = params.read(), parity.read(profile, name)
    settings, threads = params.load(Evaluation, values, "evaluate"), params.section(values, "threads")
    measured, items = {}, {}
    with (
        files.replacing(files.figures(profile, name)) as pictures,
        files.replacing(files.predictions(profile, name)) as predictions,
    ):
        pictures.mkdir()
        for seed in exported.seeds:
            graphs = sessions.open_all(profile, name, seed, exported.identities(seed), threads)
            origin = json.loads(sessions.metadata(next(iter(graphs.values())))["run"])
            arrays, facts = archive.read(files.data(profile, origin["recipe"]["data"]))
            drawing = pictures if seed == exported.seeds[0] else None
            progress = files.progress(profile, name, seed)
            drawn = archive.read(progress)[0] if drawing and progress.exists() else None
            case = evaluation.Case(graphs, arrays, facts, origin["recipe"], settings, drawing, drawn)
            measured[seed] = {}
            for verb in graphs:
                of_verb, of_items = getattr(evaluation, verb)(case)
                measured[seed] |= {verb: of_verb} if of_verb else {}
                if drawing and of_items:
                    items[verb] = pandas.DataFrame(of_items)
        table = next((items[verb] for verb, entry in verbs.VERBS.items() if entry.predicts and verb in items), None)
        table = pandas.DataFrame(columns=["actual", "predicted", "loss"]) if table is None else table
        table.to_csv(predictions, index_label="item", float_format="%.6g")
        metrics.write(metrics.Metrics(
            experiment=name, profile=profile, data_sha256=facts["sha256"], source=facts["source"],
            importance_samples=settings.importance_samples,
            versions=records.versions("numpy", "onnxruntime-gpu", "scipy"),
            graphs={seed: exported.identities(seed) for seed in exported.seeds},
            verbs=statistics.summaries(measured),
            confusion=confusion(items["classify"], facts["classes"]) if "classify" in items else None,
        ))  # fmt: skip


def confusion(items, classes):
    """Return counts by actual and predicted class, for a tenth of the test images and for all of them."""
    actual, predicted = (items[column].to_numpy(numpy.int64) for column in ("actual", "predicted"))
    tenth = slice(0, max(len(actual) // 10, 1))
    parts = {"tenth": tenth, "all": slice(None)}
    return {key: scores.confusion(actual[part], predicted[part], classes).tolist() for key, part in parts.items()}


if __name__ == "__main__":
    run(evaluate)
