"""Time ONNX Runtime and other runtimes: graphs, checkpoints and advice -> latencies, one file per structure."""

import _checkout  # noqa: F401, the stage runs this checkout's code

from zoo import files, params
from zoo.graphs import sessions
from zoo.latency import machine, peers, structures
from zoo.params import benchmark as section
from zoo.records import latency
from zoo.records import peers as record
from zoo.stage import run


def time_peers(profile, again=False, visit=False):
    """Time one graph of every structure not yet measured on this machine; with --again, of every structure.

    A machine without a GPU keeps saved GPU measurements. --visit uses the settings for a short visit to one with a GPU.
    """
    settings = section.settings(params.read(), profile, sessions.cores(), with_peers=True, visit=visit)
    devices, kept = peers.devices(settings), []
    for structure, (graph, *_) in structures.graphs(profile).items():
        if graph.verb not in settings["verbs"]:
            continue
        path = record.path(profile, structure)
        kept.append(path)
        saved = record.read(profile, structure) if path.exists() else None
        advice = peers.advice(latency.read(profile, structure), devices, settings)
        here = {
            "machine": machine.describe(),
            "openvino": machine.version("openvino"),
            "settings": settings,
            "advice": advice,
        }
        with_gpu = saved is not None and "cuda" not in devices and any(row.device == "cuda" for row in saved.rows)
        if with_gpu or structures.is_current(saved, here, again):
            print(f"{path}: {graph.experiment} {graph.verb}: nothing measured", flush=True)
            continue
        checkpoint = files.checkpoint(profile, graph.experiment, graph.seed)
        measured = peers.compare(graph, structures.path(profile, graph), checkpoint, devices, here)
        record.write(measured, profile)
        print(f"{path}: {graph.experiment} {graph.verb}: {len(measured.rows)} rows measured", flush=True)
    structures.drop_others(record.folder(profile), kept)


if __name__ == "__main__":
    run(time_peers)
