"""Time every verb of one experiment: graphs -> latencies, one file a provider."""

import functools
import hashlib

from zoo import files, params, sessions, timing
from zoo.errors import InputError
from zoo.stage import run

RULE = ("calls", "seconds", "most_seconds", "warmup_calls", "warmup_seconds", "warmup_most_seconds")


def benchmark(profile, name, again=False):
    """Time every verb of one experiment; what was measured here of equal graphs stands, but with --again."""
    everything, _ = params.experiment(profile, name)
    settings = {key: value[profile] if isinstance(value, dict) else value
                for key, value in everything["benchmark"].items()}  # fmt: skip
    folder = files.graphs(profile, name) / str(everything["seeds"][profile][0])
    graphs = sorted(folder.glob("*.onnx"))
    if not graphs:
        raise InputError(f"{folder} has no graphs: run `dvc repro`, which makes them")
    hashes = {graph.stem: hashlib.sha256(graph.read_bytes()).hexdigest() for graph in graphs}
    for provider in settings.pop("providers"):
        path = files.latency(profile, name) / f"{provider.removesuffix('ExecutionProvider').lower()}.json"
        kept = files.read_json(path) if path.exists() else {}
        equal = {row["verb"]: row["graph_sha256"] for row in kept.get("rows", [])} == hashes
        missing = sessions.why_unavailable(provider)
        here = {"provider": provider, "machine": timing.machine(), "settings": settings}
        if equal and (missing or (not again and here.items() <= kept.items())):
            print(f"{path}: equal graphs, the measurement stands")
        elif missing:
            files.write_json(path, {"provider": provider, "not_measured": missing})
        else:
            rows = [measure(graph, hashes[graph.stem], provider, batch, optimised, settings) for graph in graphs
                    for batch in settings["batches"]
                    for optimised in ((True, False) if graph.stem in settings["as_written"] else (True,))]  # fmt: skip
            files.write_json(path, here | {"rows": rows})


def measure(graph, sha256, provider, batch, optimised, settings):
    """One row: load, first call and steady state of one graph at one batch, in a session of its own."""
    row = {"verb": graph.stem, "seed": int(graph.parent.name), "batch": batch, "graph_sha256": sha256}
    row["optimised"] = optimised
    try:
        opening = functools.partial(sessions.open_session, graph, provider, settings["threads"], optimised=optimised)
        session, load_seconds = timing.once(opening)
    except sessions.Refused as refusal:
        return row | {"not_measured": str(refusal)}
    feeds = sessions.random_feeds(session, {"batch": batch, "time": settings["time"]})
    call = functools.partial(session.run, None, feeds)
    _, first_seconds = timing.once(call)
    return row | timing.measure(call, **{key: settings[key] for key in RULE}) | {
        "graph_bytes": graph.stat().st_size,
        "load_ms": load_seconds * 1e3,
        "first_call_us": first_seconds * 1e6,
        "nodes": sessions.nodes_per_provider(session),
    }  # fmt: skip


if __name__ == "__main__":
    run(benchmark)
