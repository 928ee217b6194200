"""Let our own classifier judge the samples of one generator, without torch."""

import numpy

from zoo import files, params, statistics
from zoo.data import archive
from zoo.errors import InputError
from zoo.evaluate import judging
from zoo.graphs import sessions
from zoo.stage import run


def judge(profile, name):
    """Judge one generator: its graphs and the classifier's -> agreement, coverage, Frechet distance."""
    everything, entry = params.experiment(profile, name)
    arrays, _ = archive.read(files.data(profile, entry["data"]))
    images = arrays["test_images"][:, None].astype(numpy.float32) / 255
    seeds, by = everything["seeds"][profile], everything["judge"]["by"]
    samples, batch = everything["judge"]["samples"][profile], everything["evaluate"]["batch"]
    classifier = {verb: _open(files.graph(profile, by, seeds[0], verb), everything) for verb in ("classify", "encode")}
    judged = {}
    for seed in seeds:
        paths = [files.graph(profile, name, seed, verb) for verb in ("generate", "decode")]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            remedy = f"run `dvc repro`, or take {name} out of judge.of in params.yaml"
            raise InputError(f"{paths[0].parent} has neither generate.onnx nor decode.onnx: {remedy}")
        generator = _open(path, everything)
        outcome = judging.judge(
            generator, classifier, images, arrays["test_labels"].astype(numpy.int64), samples, batch
        )
        for key, value in statistics.flat(outcome):
            judged.setdefault(key, {})[seed] = value
    summary = statistics.nested(judged)
    files.write_json(files.judged(profile, name), summary | {"samples": samples, "judge": by})
    print({metric: value.get("mean") for metric, value in summary.items() if "mean" in value})


def _open(path, everything):
    return sessions.open_session(path, threads=everything["threads"])


if __name__ == "__main__":
    run(judge)
