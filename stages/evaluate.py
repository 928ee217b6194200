"""Score every exported graph of one experiment on the test set, without torch."""

import json

import pandas

from zoo import files, params, statistics
from zoo.data import archive
from zoo.errors import InputError
from zoo.evaluate import evaluation
from zoo.graphs import sessions
from zoo.stage import run


def evaluate(profile, name):
    """Evaluate one experiment: graphs and test data -> metrics, predictions and pictures."""
    everything, entry = params.experiment(profile, name)
    arrays, facts = archive.read(files.data(profile, entry["data"]))
    seeds, threads = everything["seeds"][profile], everything["threads"]
    measured, runs, items = {}, {}, {}
    with (
        files.replacing(files.figures(profile, name)) as pictures,
        files.replacing(files.predictions(profile, name)) as predictions,
    ):
        pictures.mkdir()
        for seed in seeds:
            folder = files.graphs(profile, name) / str(seed)
            paths = sorted(folder.glob("*.onnx"))
            if not paths:
                raise InputError(f"{folder} has no graphs: run `dvc repro`, which makes them")
            graphs = {path.stem: sessions.open_session(path, threads=threads) for path in paths}
            runs[seed] = json.loads(sessions.metadata(next(iter(graphs.values())))["run"])
            drawing = pictures if seed == seeds[0] else None
            drawn = evaluation.progress(files.progress(profile, name, seed)) if drawing else None
            case = evaluation.Case(graphs, arrays, facts, runs[seed]["recipe"], everything["evaluate"], drawing, drawn)
            for verb in graphs:
                of_verb, of_items = evaluation.EVALUATORS[verb](case)
                for key, value in statistics.flat(of_verb):
                    measured.setdefault((verb, *key), {})[seed] = value
                if drawing and of_items:
                    items[verb] = pandas.DataFrame(of_items)
        table = next((items[verb] for verb in evaluation.PREDICTING if verb in items), None)
        table = pandas.DataFrame(columns=["actual", "predicted", "loss"]) if table is None else table
        table.to_csv(predictions, index_label="item", float_format="%.6g")
        metrics = statistics.nested(measured) | {"training": evaluation.training(runs)}
        files.write_json(files.metrics(profile, name), metrics)


if __name__ == "__main__":
    run(evaluate)
