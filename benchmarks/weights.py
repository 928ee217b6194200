"""Measure how far a graph's latency depends on its weights, to justify that graphs of equal structure share one row.

    python benchmarks/weights.py           # after `make repro`; less than a minute
    python benchmarks/weights.py --page    # only rewrite README.md

Graphs of the quick profile are timed in turns with copies that differ only in their matrices and kernels: the exported
values, the same values shuffled, zeros, and denormal numbers, which some processors multiply slowly. Ratios are taken
block by block within one measurement, with one thread. Results go to weights.json beside this file.
"""

import json
import math
import statistics
import tempfile
from pathlib import Path

import numpy
import onnx
import page
from onnx import numpy_helper

from zoo import params
from zoo.graphs import identity, sessions
from zoo.latency import measure, structures, timing
from zoo.params import benchmark
from zoo.records.latency import Configuration
from zoo.statistics import interval

GRAPHS = {
    "cae_strided": "reconstruct", "vae_bce": "decode", "mlp_relu": "classify", "resnet": "classify",
    "lstm": "next_word",
}  # fmt: skip
DENORMAL = 1e-40  # below 1.2e-38, the smallest normal number of float32
KINDS = {
    "exported": lambda values: values,
    "shuffled": lambda values: numpy.random.default_rng(0).permutation(values.ravel()).reshape(values.shape),
    "zero": numpy.zeros_like,
    "denormal": lambda values: numpy.copysign(numpy.full_like(values, DENORMAL), values),
}
PATIENCE_SECONDS = 1.0
CONFIGURATION = Configuration(mode="bound", threads=1, optimisation="all")


def with_weights(model, kind):
    """Copy an onnx.ModelProto, with float initialisers of two or more axes replaced by `kind`, a key of KINDS.

    Vectors and scalars stay: among them are variances and constants, and zeros there would change the work.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            tensor.CopyFrom(numpy_helper.from_array(KINDS[kind](numpy_helper.to_array(tensor)), tensor.name))
    return changed


def weights():
    """Time each graph at each batch size: p50 with exported weights, and the ratio of every other kind to it."""
    values = params.read()
    settings = benchmark.settings(values, "quick", sessions.cores())
    full = benchmark.settings(values, "full", sessions.cores())
    rule = {key: full[key] for key in timing.RULE} | {"patience_seconds": PATIENCE_SECONDS}
    graphs = {(graph.experiment, graph.verb): graph for group in structures.graphs("quick").values() for graph in group}
    rows, reference = [], measure.reference(sessions.CPU, 1)
    with tempfile.TemporaryDirectory() as folder:
        for name, verb in GRAPHS.items():
            model = onnx.load(structures.path("quick", graphs[name, verb]))
            for batch in settings["batches"]:
                sizes, calls = {"batch": batch, "time": settings["time"]}, {}
                for kind in KINDS:
                    path = Path(folder, f"{name}-{kind}.onnx")
                    changed = with_weights(model, kind)
                    assert identity.structure_sha256(changed) == graphs[name, verb].structure_sha256
                    onnx.save(changed, path)
                    call, _ = measure.prepare(path, sessions.CPU, sizes, CONFIGURATION, tf32=False)
                    calls[kind] = call, reference
                measured = timing.measure(calls, **rule)
                rows.append({"graph": f"{name} {verb}", "batch": batch} | ratios(measured))
                print(json.dumps(rows[-1]), flush=True)
    return {"rows": rows}


def ratios(measured):
    """{"p50_us", "drift", "ratios": {kind: {"ratio", "low", "high"}}}; ratios to exported weights, 95 % intervals."""
    exported, result = measured["exported"], {}
    for kind, row in measured.items():
        pairs = zip(row["block_p50_us"], exported["block_p50_us"], strict=True)
        logarithms = [math.log(ours / theirs) for ours, theirs in pairs]
        low, high = map(math.exp, interval(logarithms))
        result[kind] = {"ratio": math.exp(statistics.fmean(logarithms)), "low": low, "high": high}
    del result["exported"]
    return {"p50_us": exported["p50_us"], "drift": max(row["drift"] for row in measured.values()), "ratios": result}


def table(part):
    kinds = list(part["rows"][0]["ratios"])
    lines = [
        "**Weights**: p50 of graphs whose matrices and kernels are replaced, divided by the exported graph's, with "
        "95 % intervals over the blocks; one thread, bound.\n",
        f"| graph | batch | exported, µs | {' | '.join(kinds)} | drift of the reference |",
        f"|:--|--:|--:|{'--:|' * len(kinds)}--:|",
    ]
    for row in part["rows"]:
        cells = [f"{one['ratio']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for one in row["ratios"].values()]
        about = f"| {row['graph']} | {row['batch']} | {row['p50_us']:.2f}"
        lines.append(f"{about} | {' | '.join(cells)} | {row['drift']:.1%} |")
    largest = {kind: max(abs(row["ratios"][kind]["ratio"] - 1) for row in part["rows"]) for kind in kinds}
    lines.append(f"\nLargest difference: {', '.join(f'{kind} {value:.1%}' for kind, value in largest.items())}.")
    return "\n".join(lines)


if __name__ == "__main__":
    page.run(__file__, __doc__.splitlines()[0], {"weights": weights}, {"weights": table})
