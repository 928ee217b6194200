"""Judge the samples of one generator by our own classifier, without torch."""

import _checkout  # noqa: F401, the stage runs this checkout's code
import numpy

from zoo import files, params, records, statistics
from zoo.data import archive
from zoo.errors import InputError
from zoo.evaluate import judging
from zoo.graphs import sessions
from zoo.params import evaluation
from zoo.records import judged, parity
from zoo.stage import run


def judge(profile, name):
    """Judge one generator: its graphs and the classifier's -> agreement, coverage, Frechet distance."""
    values = params.read()
    settings, threads = params.load(evaluation.Judge, values, "judge"), values["threads"]
    batch = params.load(evaluation.Evaluation, values, "evaluate").batch
    arrays, facts = archive.read(files.data(profile, "images"))
    images = arrays["test_images"][:, None].astype(numpy.float32) / 255
    labels = arrays["test_labels"].astype(numpy.int64)
    judges = parity.read(profile, settings.by)
    first, identities = judges.seeds[0], judges.identities(judges.seeds[0])
    if not {"classify", "encode"} <= identities.keys():
        raise InputError(f"params.yaml: judge.by = {settings.by}: a judge needs classify and encode; name another")
    judging_graphs = {verb: identities[verb] for verb in ("classify", "encode")}
    classifier = sessions.open_all(profile, settings.by, first, judging_graphs, threads)
    exported, graphs, measured = parity.read(profile, name), {}, {}
    verb = next((verb for verb in ("generate", "decode") if verb in exported.graphs), None)
    if verb is None:
        raise InputError(f"params.yaml: judge.of = {name}: it has neither generate nor decode; remove it there")
    samples = getattr(settings.samples, profile)
    for seed in exported.graphs[verb]:
        graphs[seed] = {verb: exported.identities(seed)[verb]}
        generator = sessions.open_all(profile, name, seed, graphs[seed], threads)[verb]
        measured[seed] = judging.judge(generator, classifier, images, labels, samples, batch)
    summary = statistics.summaries(measured)
    judged.write(judged.Judged(
        experiment=name, profile=profile, samples=samples, data_sha256=facts["sha256"],
        judge=judged.Judge(experiment=settings.by, seed=int(first), graphs=judging_graphs),
        graphs=graphs, metrics=summary,
        versions=records.versions("numpy", "onnxruntime-gpu", "scipy"),
    ))  # fmt: skip
    print({metric: value["mean"] for metric, value in summary.items() if "mean" in value})


if __name__ == "__main__":
    run(judge)
