"""A made-up profile: a handful of experiments with all their records, written as the stages would."""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from zoo import files, params, statistics
from zoo.params import benchmark
from zoo.records import Identity, cost, curve, judged, latency, metrics, parity, peers, run

MACHINE = {"cpu": "Test CPU 3000", "cores": 2, "gpu": None, "os": "Linux", "onnxruntime": "1.31.1"}
ELSEWHERE = MACHINE | {"cpu": "Other CPU 4000", "gpu": "Test GPU"}
CONDITIONS = {
    "before": {"load_of_one_minute": 0.25, "gpu_watts": None, "gpu_throttled_by": None},
    "after": {"load_of_one_minute": 1.5, "gpu_watts": None, "gpu_throttled_by": None},
}
ON_GPU = {
    "before": {"load_of_one_minute": 0.1, "gpu_watts": 80.0, "gpu_throttled_by": []},
    "after": {"load_of_one_minute": 0.2, "gpu_watts": 300.0, "gpu_throttled_by": ["SwPowerCap"]},
}


def plan(about, family, headline=None, steps=100, seeds=(0, 1, 2), tuned=None):
    return {
        "about": about,
        "headline": headline,
        "family": family,
        "tuned": tuned,
        "data": "images",
        "steps": steps,
        "seeds": list(seeds),
    }


PLANNED = {
    "autoencoder": plan("a narrow waist", "Autoencoders", "reconstruct.mse", 5000),
    "classifier": plan(
        "deep <and> narrow", "Classifiers", "classify.accuracy", 800, tuned="the rate, on validation data"
    ),
    "gan": plan("two players", "GANs"),
    "words": plan("guesses the next word", "Language models", "next_word.perplexity", 2323),
    "exploding": plan("initialised too wide", "Autoencoders", "decode.elbo"),
    "operator": plan("nothing to learn", "Operators", "apply.largest_difference", 0),
}
TAKEN = {name: 1000 if name == "words" else of["steps"] for name, of in PLANNED.items()}
VERBS = {
    "autoencoder": ["reconstruct", "encode"], "classifier": ["classify", "encode"], "gan": ["generate"],
    "words": ["next_word"], "exploding": ["reconstruct", "decode"], "operator": ["apply"],
}  # fmt: skip


def figure(value, better, tolerance):
    return {"value": value, "better": better, "tolerance": tolerance, "source": "write-up | 9"}


def claim(says, *test, explains=()):
    return {"says": says, "source": "write-up | 9", "test": list(test), "explains": list(explains)}


VALUES = params.read(Path(__file__).parents[1] / "params.yaml") | {
    "judge": {"by": "classifier", "of": ["gan"], "samples": {"quick": 200, "full": 200}},
    "published": {
        "autoencoder": {
            "reconstruct": {"mse": figure(0.001, "lower", 0.25), "psnr_db": figure(40.0, "higher", 0.1)},
            "encode": {"dead_share": figure(0.2, "lower", 0.3)},
        },
        "classifier": {
            "classify": {
                "accuracy": figure(0.8, "higher", 0.05),
                "accuracy_one_at_a_time": figure(0.99, "higher", 0.01),
            }
        },
        "words": {
            "next_word": {"perplexity": figure(115.9, "lower", 0.05), "floor_perplexity": figure(40.0, "lower", 0.05)}
        },
        "exploding": {"decode": {"elbo": figure(150.0, "lower", 0.1)}},
    },
    "published_curves": {
        "autoencoder": [
            {"player": "model", "split": "training", "source": "write-up | 9",
             "points": {0: 0.9, 1020: 0.8, 9000: 0.7}},
            {"player": "model", "split": "validation", "source": "write-up | 9", "points": {5000: 0.4321}},
        ],
        "exploding": [{"player": "model", "split": "training", "source": "write-up 8", "points": {10: 0.5, 90: 0.25}}],
    },
    "claims": {
        "sharp": claim("pictures are | sharp", "autoencoder.reconstruct.psnr_db > 29"),
        "single": claim(
            "alone it is <b>lost</b>",
            "classifier.classify.accuracy_one_at_a_time < classifier.classify.accuracy",
            explains=["classifier.classify.accuracy_one_at_a_time"],
        ),
        "contrary": claim("the answers are wrong", "classifier.classify.accuracy < 0.5"),
        "sharper": claim(
            "it is sharper", "autoencoder.reconstruct.psnr_db > 99", explains=["autoencoder.reconstruct.psnr_db"]
        ),
        "wide": claim("half of the units are dead", "autoencoder.encode.dead_share > 0.2"),
        "scattered": claim(
            "some seeds use the whole code and some do not",
            "some autoencoder.encode.dead_share < 0.1",
            "some autoencoder.encode.dead_share > 0.1",
        ),
        "early": claim("words come before pictures", "words.validation_loss < exploding.validation_loss"),
        "unmeasured": claim("the bound is loose", "exploding.decode.elbo < -1200"),
        "short": claim("words are hard", "words.next_word.perplexity > 100", "autoencoder.reconstruct.psnr_db > 29"),
    },
}  # fmt: skip

# {experiment: {verb: {metric: values of the seeds, or {class: values}}}}
MEASURED = {
    "autoencoder": {
        "reconstruct": {"mse": [0.0010, 0.0011, 0.0012], "psnr_db": [30.0, 30.1, 30.2]},
        "encode": {"dead_share": [0.25, 0.0, 0.5]},
    },
    "classifier": {
        "classify": {
            "accuracy": [0.9123], "accuracy_one_at_a_time": [0.5],
            "precision": {str(digit): [0.9] for digit in range(10)},
            "recall": {str(digit): [0.8] for digit in range(10)},
        }
    },
    "gan": {},
    "words": {"next_word": {"perplexity": [None], "floor_perplexity": [42.5], "nats_per_word": [5.193]}},
    "exploding": {"decode": {"elbo": [None]}},
    "operator": {"apply": {"largest_difference": [0.0]}},
}  # fmt: skip
SEEDS = {name: [0, 1, 2] if name == "autoencoder" else [0] for name in PLANNED}
CONFUSION = {
    "tenth": [[2 * (row == column) for column in range(10)] for row in range(10)],
    "all": [[20 * (column == row % 9) for column in range(10)] for row in range(10)],  # 9 is taken for 0
}


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def structure(name, verb):
    """Both networks that reconstruct have one structure."""
    return sha256("reconstruct" if verb == "reconstruct" else f"{name} {verb}")


def identity(name, verb, seed):
    return Identity(graph_sha256=sha256(f"{name} {verb} {seed}"), structure_sha256=structure(name, verb))


def identities(name):
    return {str(seed): {verb: identity(name, verb, seed) for verb in VERBS[name]} for seed in SEEDS[name]}


def summary(values):
    return metrics.Summary(**statistics.summary(dict(enumerate(values))))


def summaries(group):
    return {
        metric: {part: summary(one) for part, one in of.items()} if isinstance(of, dict) else summary(of)
        for metric, of in group.items()
    }


def mixed_graphs(summary):
    """{(experiment, metric): "other weights" or "other structure"} of a report's values that present graphs lack."""
    return {(name, key): mark for name, of in summary["experiments"].items() for key, mark in of["graphs"].items()}


def loss_at(step):
    return np.exp(-step / 5000)


def write(profile):
    """Write all that the report of a profile reads, in the working folder."""
    planned = Path("code", "experiments", f"{profile}.json")
    planned.parent.mkdir(parents=True)
    planned.write_text(json.dumps(PLANNED))
    for name in PLANNED:
        write_training(profile, name)
        write_graphs(profile, name)
        write_pictures(profile, name)
    gan = {"coverage": [0.9], "frechet_distance": [0.9], "frechet_floor": [0.9], "judge_accuracy": [0.9]}
    judged.write(judged.Judged(
        experiment="gan", profile=profile, samples=200, data_sha256="0", versions={}, graphs=identities("gan"),
        judge=judged.Judge(experiment="classifier", seed=0, graphs=identities("classifier")["0"]),
        metrics=summaries(gan | {"agreement_by_class": {"0": [0.9], "1": [0.9]}}),
    ))  # fmt: skip
    for name in ("autoencoder", "classifier", "gan", "words"):
        latency.write(latency_of(profile, name), profile)
    peers.write(peers_of(profile), profile)


def write_training(profile, name):
    seeds, exploded = SEEDS[name], name == "exploding"
    player = {"algorithm": "Adam", "lr": 0.001, "updates": "all"}
    recipe = {
        "file": "conv_autoencoder", "data": "images", "start": "data/images.npz", "net": {"units": [8, 4]},
        "labelled": None, "fit": {"batch": 10}, "steps": TAKEN[name],
        "players": {"model": player} if TAKEN[name] else {},
    }  # fmt: skip
    one = run.Run(
        checkpoint_sha256="0", diverged_at_step=17 if exploded else None, diverged_in="weights" if exploded else None,
        device="cpu", processor="Test CPU 3000", threads=1, tf32=None,
    )  # fmt: skip
    run.write(run.Runs(
        experiment=name, profile=profile, recipe=recipe, data={}, parameters=26448, versions={"torch": "2.13.0"},
        seeds={str(seed): one for seed in seeds},
    ))  # fmt: skip
    took = {"cpu_seconds": 12.0, "processor": "Test CPU", "resumed_at_step": None}
    costs = {str(seed): cost.Training(seconds=12.3 + seed, memory_peak_mib=512 - seed, **took) for seed in seeds}
    cost.write(cost.Cost(experiment=name, profile=profile, training=costs))
    end, count = (16, 2) if exploded else (TAKEN[name], 51)
    rows = [
        (seed, step, split, player, loss_at(step), "nan" if split == "validation" else 3.5 * (step < end / 4))
        for seed in seeds
        for player in (["generator", "discriminator"] if name == "gan" else ["model"])
        for split, every in (("training", count), ("validation", 1 if exploded else 5))
        for step in np.linspace(0, end, every).astype(int)
        if TAKEN[name]
    ]
    if exploded:
        rows[1] = (*rows[1][:-1], "inf")
    with files.replacing(curve.path(profile, name)) as temporary:
        curve.write(temporary, rows)


def write_graphs(profile, name):
    check = parity.Check(largest_difference=2.4e-7, bound=1e-5, calls=3, finite=name != "exploding")
    about = {"bytes": 2048, "opset": "20", "operators": {}, "parameters": {}, "inputs": [], "outputs": []}
    exports = {
        verb: {
            seed: parity.Export(graph=parity.Graph(**of[verb].model_dump(), **about), check=check)
            for seed, of in identities(name).items()
        }
        for verb in VERBS[name]
    }
    parity.write(parity.Exports(experiment=name, profile=profile, versions={}, graphs=exports))
    metrics.write(metrics.Metrics(
        experiment=name, profile=profile, data_sha256="0", source="made up", importance_samples=10, versions={},
        graphs=identities(name), verbs={verb: summaries(group) for verb, group in MEASURED[name].items()},
        confusion=CONFUSION if name == "classifier" else None,
    ))  # fmt: skip


def write_pictures(profile, name):
    """Grey ones, with a text in the file where `zoo.evaluate.pictures` writes one."""
    folder = files.figures(profile, name)
    folder.mkdir(parents=True)
    drawn = {"autoencoder": ["reconstruct", "encode"], "classifier": ["classify"], "gan": ["generate"]}
    for verb in drawn.get(name, []):
        texts = PngInfo()
        texts.add_text("Description", f"Drawn by {verb}.")
        Image.new("L", (400, 300), 200).save(folder / f"{verb}.png", pnginfo=texts)


def timed_graph(name, verb):
    return latency.TimedGraph(experiment=name, seed=0, verb=verb, bytes=2048, **identity(name, verb, 0).model_dump())


def times(p50, blocks=None):
    empty = {f"{of}{end}_us": None for of in ("p90", "p99", "p999") for end in ("", "_low", "_high")}
    return latency.Times(**empty | {
        "p50_us": p50, "p50_low_us": 0.96 * p50, "p50_high_us": 1.04 * p50, "p90_us": 1.2 * p50,
        "outlier_share": 0.0125, "calls": 700, "seconds": 0.2, "warmup_calls": 60, "items_per_second": 1e6 / p50,
        "block_calls": [140] * 5,
        "block_p50_us": blocks or [p50] * 5, "block_reference_us": [10.0] * 5, "noise": 0.0234, "drift": 0.01,
        "attempts": 1,
    })  # fmt: skip


def latency_of(profile, name):
    """At batch 1 bound mode with one thread takes half of the default's time; at batch 64 nothing is faster."""
    verb, graph = VERBS[name][0], timed_graph(name, VERBS[name][0])
    default, best = ({"mode": mode, "threads": of, "optimisation": "all"} for mode, of in (("host", 2), ("bound", 1)))
    rows, advice, cold = [], [], []
    for batch in (1, 16, 64):
        p50s = 40.0 * batch, 40.0 * batch if batch > 1 else 20.0
        rows += [
            latency.Row(**chosen, batch=batch, graph_sha256=graph.graph_sha256, times=times(p50))
            for chosen, p50 in zip((default, best), p50s, strict=True)
        ]
        found = {"best": best, "ratio": 2.0, "verdict": "faster"} if batch == 1 else {
            "best": default, "ratio": 1.0, "verdict": "same"}  # fmt: skip
        advice.append(latency.Advice(batch=batch, default=default, **found))
        cold.append(latency.Cold(batch=batch, load_ms=12.34, first_call_us=456.7, memory_peak_mib=77.7))
    if name == "words":
        lacking = {"graph_sha256": graph.graph_sha256, "not_measured": "the provider lacks LSTM"}
        rows += [latency.Row(**best, batch=batch, **lacking) for batch in (65, 512)]
        cold.append(latency.Cold(batch=512, not_measured="the process was killed"))
    sources = {"CPUExecutionProvider": source(profile, graph, MACHINE, CONDITIONS, rows, advice, cold, [])}
    absent = {"CUDAExecutionProvider": "no NVIDIA driver on this machine"}
    if name == "classifier":
        sources["CUDAExecutionProvider"], absent = cuda_source(profile, graph), {}
    return latency.Latency(structure_sha256=graph.structure_sha256, verb=verb, sources=sources, not_measured=absent)


def cuda_source(profile, graph):
    host, replay = ({"mode": mode, "threads": 1, "optimisation": "all"} for mode in ("host", "graph"))
    rows = [
        latency.Row(**chosen, batch=1, graph_sha256=graph.graph_sha256, tf32=False, times=times(p50))
        for p50, chosen in ((30.0, host), (7.5, replay))
    ]
    advice = [latency.Advice(batch=1, default=host, best=replay, ratio=4.0, verdict="faster")]
    memory = {"memory_peak_mib": 321.0, "device_memory_mib": 654.0}
    cold = [latency.Cold(batch=1, load_ms=345.0, first_call_us=6789.0, **memory)]
    agreement = [latency.Agreement(**replay, batch=1, largest_difference=2.4e-7, scale=13.5)]
    return source(profile, graph, ELSEWHERE, ON_GPU, rows, advice, cold, agreement)


def source(profile, graph, machine, conditions, rows, advice, cold, agreement):
    settings = benchmark.settings(VALUES, profile, machine["cores"])
    del settings["providers"]
    return latency.Source(
        graph=graph, machine=machine, settings=settings, conditions=conditions, commit="abc1234", cold=cold, rows=rows,
        advice=advice, agreement=agreement,
    )  # fmt: skip


# Ratios block by block: 2 throughout, and 1/2, 1/4, 1/2, 1/4, 1/2: the mean of their binary logarithms is -7/5.
BLOCKS = {
    "onnxruntime": [10.0, 20.0, 10.0, 20.0, 10.0],
    "torch": [20.0, 40.0, 20.0, 40.0, 20.0],
    "openvino": [5.0, 5.0, 5.0, 5.0, 5.0],
}


def peers_of(profile):
    graph, settings = timed_graph("classifier", "classify"), benchmark.settings(VALUES, profile, 2, with_peers=True)
    del settings["providers"]
    about = {"device": "cpu", "mode": "host", "threads": 1, "batch": 1, "graph_sha256": graph.graph_sha256}
    agreement = {"build_ms": 123.4, "largest_difference": 3.2e-7, "scale": 13.5}
    rows = [
        peers.Row(**about, runtime=runtime, times=times(blocks[2], blocks), **agreement)
        for runtime, blocks in BLOCKS.items()
    ]
    rows.append(peers.Row(**about, runtime="torch_compile", not_measured="no C++ compiler"))
    return peers.Peers(
        structure_sha256=graph.structure_sha256, graph=graph, machine=MACHINE, openvino="2026.1", settings=settings,
        advice=[], conditions=CONDITIONS, commit="abc1234", rows=rows,
    )  # fmt: skip
