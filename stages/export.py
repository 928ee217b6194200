"""Export every verb of every seed of one experiment as ONNX, and prove each graph equal to the network."""

from zoo import files, params
from zoo.graphs import export as onnx_export
from zoo.graphs import verbs
from zoo.stage import run
from zoo.train import checkpoints


def export(profile, name):
    """Export one experiment: checkpoints -> graphs and their parity with torch."""
    everything, entry = params.experiment(profile, name)
    parity = {}
    with files.replacing(files.graphs(profile, name)) as folder:
        for seed in everything["seeds"][profile]:
            checkpoint = files.checkpoint(profile, name, seed)
            record = checkpoints.run_of(checkpoint)
            network = params.build(entry, record["data"])
            checkpoints.load(checkpoint, network)
            for verb in verbs.of(network):
                model = onnx_export.export(network, verb, record)
                outcome = onnx_export.parity(network, verb, model, record)
                onnx_export.save(model, folder / str(seed) / f"{verb}.onnx")
                parity.setdefault(verb, {})[seed] = outcome
                off = outcome["largest_difference"]
                print(f"{name}, seed {seed}, {verb}: {len(model.graph.node)} nodes, off by {off:.2g}")
        files.write_json(files.parity(profile, name), parity)


if __name__ == "__main__":
    run(export)
