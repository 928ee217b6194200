"""Export every verb of every seed of one experiment as ONNX, and check each graph against its network."""

import _checkout  # noqa: F401, the stage runs this checkout's code
import _exporter  # noqa: F401, it sets up torch's exporter once

from zoo import files, records
from zoo.errors import InputError
from zoo.graphs import export, identity, verbs
from zoo.params import experiments
from zoo.records import parity
from zoo.stage import run
from zoo.train import checkpoints


def export_graphs(profile, name):
    """Export one experiment: checkpoints -> graphs, their identities, and their parity with torch."""
    exported, seeds = {}, checkpoints.seeds(files.checkpoints(profile, name))
    if not seeds:
        raise InputError(f"{files.checkpoints(profile, name)} has no checkpoints: run `dvc repro`, which trains them")
    with files.replacing(files.graphs(profile, name)) as folder:
        for seed in seeds:
            checkpoint = files.checkpoint(profile, name, seed)
            metadata = checkpoints.load_metadata(checkpoint)
            recipe = metadata["recipe"]
            network = experiments.build(recipe["file"], recipe["net"], metadata["data"], f"models.{name}.net")
            checkpoints.load(checkpoint, network)
            for verb in verbs.of(network):
                model = export.export(network, verb, metadata)
                check = export.parity(network, verb, model, metadata)
                path = folder / str(seed) / f"{verb}.onnx"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(export.content(model))
                graph = identity.describe(export.content(model))
                exported.setdefault(verb, {})[str(seed)] = parity.Export(graph=graph, check=check)
                off = f"differs by {check.largest_difference:.2g}"
                print(f"{name}, seed {seed}, {verb}: {sum(graph.operators.values())} nodes, {off}", flush=True)
        versions = records.versions("numpy", "onnx", "onnxruntime-gpu", "onnxscript", "torch")
        parity.write(parity.Exports(experiment=name, profile=profile, versions=versions, graphs=exported))


if __name__ == "__main__":
    run(export_graphs)
