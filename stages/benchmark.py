"""Time every verb of one experiment: graphs -> latencies, one file a provider."""

from zoo import files, params
from zoo.graphs import sessions
from zoo.latency import measure, timing
from zoo.stage import run


def benchmark(profile, name, again=False):
    """Time every verb of one experiment; what was measured here of equal graphs stands, but with --again."""
    everything, _ = params.experiment(profile, name)
    settings = measure.settings(everything, profile)
    paths = measure.graphs(profile, name, everything["seeds"][profile][0])
    hashes = {verb: measure.sha256(path) for verb, path in paths.items()}
    for provider in settings.pop("providers"):
        path = files.latency(profile, name) / f"{provider.removesuffix('ExecutionProvider').lower()}.json"
        here = {"provider": provider, "machine": timing.machine(), "settings": settings}
        missing = sessions.why_unavailable(provider)
        if measure.stands(files.read_json(path) if path.exists() else {}, hashes, here, missing, again):
            print(f"{path}: equal graphs, the measurement stands")
        elif missing:
            files.write_json(path, {"provider": provider, "not_measured": missing})
        else:
            before = timing.conditions()
            found = measure.measure(paths, provider, settings)
            conditions = {"before": before, "after": timing.conditions()}
            files.write_json(path, here | found | {"conditions": conditions, "commit": timing.commit()})


if __name__ == "__main__":
    run(benchmark)
