"""Time one graph of every structure with every provider: graphs -> latencies, one file per structure."""

import _checkout  # noqa: F401, the stage runs this checkout's code
import numpy

from zoo import params
from zoo.graphs import sessions
from zoo.latency import machine, measure, structures
from zoo.params import benchmark as section
from zoo.records import latency
from zoo.stage import run


def benchmark(profile, again=False, control=False, visit=False):
    """Time one graph of every structure not yet measured on this machine; with --again, of every structure.

    --control writes nothing: it times graphs of equal structure separately and prints how much they differ. --visit
    uses the settings for a short visit to a machine with a GPU.
    """
    settings = section.settings(params.read(), profile, sessions.cores(), visit=visit)
    groups = structures.graphs(profile)
    if control:
        return print_control(profile, [graphs for graphs in groups.values() if len(graphs) > 1], settings)
    missing = {provider: sessions.why_unavailable(provider) for provider in settings.pop("providers")}
    here = {"machine": machine.describe(), "settings": settings}
    for structure, (graph, *_) in groups.items():
        path = latency.path(profile, structure)
        saved = latency.read(profile, structure).sources if path.exists() else {}
        sources = {provider: saved[provider] for provider in missing if provider in saved}
        due = [key for key in missing if not missing[key] and not structures.is_current(saved.get(key), here, again)]
        for provider in due:
            sources[provider] = measure.measure(graph, structures.path(profile, graph), provider, settings)
        reasons = {provider: reason for provider, reason in missing.items() if provider not in sources}
        found = latency.Latency(structure_sha256=structure, verb=graph.verb, sources=sources, not_measured=reasons)
        latency.write(found, profile)
        print(f"{path}: {graph.experiment} {graph.verb}: {', '.join(due) or 'nothing'} measured", flush=True)
    structures.drop_others(latency.folder(profile), [latency.path(profile, structure) for structure in groups])


def print_control(profile, groups, settings):
    """Print how much the times of graphs of equal structure differ, by number of threads."""
    print(f"{sum(map(len, groups))} graphs in {len(groups)} structures with several graphs", flush=True)
    for threads, differences in sorted(measure.control(profile, groups, settings).items()):
        within, p90 = numpy.mean(numpy.array(differences) <= 0.05), numpy.quantile(differences, 0.9)
        print(f"threads {threads}: {within:.0%} of {len(differences)} pairs of rows within 5 %, p90 {p90:.1%}")


if __name__ == "__main__":
    run(benchmark)
