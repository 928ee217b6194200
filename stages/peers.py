"""Time ONNX Runtime beside its peers: graphs and checkpoints -> latencies, one file an experiment, in one process."""

import functools

from zoo import files, params
from zoo.latency import measure, peers, timing
from zoo.stage import run


def time_peers(profile, again=False):
    """Time every experiment on every runtime; what was measured here of equal graphs stands, but with --again."""
    everything = params.load(profile=profile)
    for name, entry in everything["models"].items():
        time_one(profile, name, entry | {"name": name}, everything, again)
    for path in files.peers(profile, "").parent.glob("*.json"):
        if path.stem not in everything["models"]:  # an experiment that is no more
            path.unlink()


def time_one(profile, name, entry, everything, again):
    settings, seed = peers.settings(everything, profile), everything["seeds"][profile][0]
    paths = {verb: at for verb, at in measure.graphs(profile, name, seed).items() if verb in settings["verbs"]}
    load = functools.partial(peers.network, entry, files.checkpoint(profile, name, seed))
    devices = peers.devices(settings)
    advice = {device: peers.advice(profile, name, device, settings) for device in devices}
    here = {"machine": timing.machine(), "openvino": peers.VERSION, "settings": settings, "advice": advice}
    path = files.peers(profile, name)
    kept = files.read_json(path) if path.exists() else {}
    hashes = {verb: measure.sha256(at) for verb, at in paths.items()}
    if measure.stands(kept, hashes, here, missing=None, again=again):
        print(f"{path}: equal graphs, the measurement stands")
        return
    before, rows = timing.conditions(), []
    for device in devices:
        best = {(one["verb"], one["batch"]): one["best"] for one in advice[device]}
        for verb, at in paths.items():
            for batch in settings["batches"]:
                rows += peers.measure(at, load, batch, device, best.get((verb, batch)), settings)
    conditions = {"before": before, "after": timing.conditions()}
    files.write_json(path, here | {"conditions": conditions, "commit": timing.commit(), "rows": rows})
    print(f"{path}: {len(rows)} rows", flush=True)


if __name__ == "__main__":
    run(time_peers)
