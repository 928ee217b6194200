"""Group the exported graphs by structure: equal structures do equal work, so only one graph of each is timed."""

from zoo import files
from zoo.errors import InputError
from zoo.graphs import identity
from zoo.records import parity
from zoo.records.latency import TimedGraph


def graphs(profile):
    """{structure_sha256: [TimedGraph, ...]} of the first seed of every experiment, sorted by experiment and verb.

    Raises InputError if no graph was exported, or if a file differs from the one that its parity record names.
    """
    groups = {}
    for record in sorted(parity.folder(profile).glob("*.json")):
        for verb, by_seed in sorted(parity.read(profile, record.stem).graphs.items()):
            seed = min(map(int, by_seed))
            facts = by_seed[str(seed)].graph.model_dump(include={*parity.IDENTITY, "bytes"})
            graph = TimedGraph(experiment=record.stem, seed=seed, verb=verb, **facts)
            identity.check(path(profile, graph), graph.graph_sha256, record)
            groups.setdefault(graph.structure_sha256, []).append(graph)
    if not groups:
        raise InputError(f"{parity.folder(profile)} has no records of graphs: run `dvc repro`, which exports them")
    return groups


def path(profile, graph):
    """The file of a `TimedGraph`."""
    return files.graph(profile, graph.experiment, graph.seed, graph.verb)


def is_current(saved, here, again=False):
    """True if the saved measurement can be reused: it equals `here` (machine, settings, ...), and not `again`.

    `saved` is a record with an attribute for each key of `here`, or None.
    """
    return saved is not None and not again and all(getattr(saved, key) == value for key, value in here.items())


def drop_others(folder, kept):
    """Delete the files in `folder` whose paths are not in `kept`: records of structures that no longer exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.is_file() and file not in kept:
            file.unlink()
