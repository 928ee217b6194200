"""Check the clock of `zoo.latency.timing`, and the rule by which `zoo compare` calls a latency better or worse.

    python benchmarks/latency.py [PART...]    # clock, rule; default: both. After `make repro`.
    python benchmarks/latency.py --page       # only rewrite README.md

clock  Time five graphs by `zoo.latency.timing` and by an independent plain loop, in turns, until the reference graph
       has kept its pace in five rounds, for at most 15 rounds.
rule   Time one graph of every structure of the quick profile, in every mode, with the stopping rule of the quick
       profile and the patience of the full one. Each measurement runs in a process of its own: twice unchanged (a
       difference is a false alarm), and with every call prolonged by a known share (no difference is a miss). Results
       are grouped by threads and latency.

Results go to latency.json beside this file.
"""

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime
import page

from zoo import files, params
from zoo.compare.changes import drift_reason, latency_change
from zoo.graphs import sessions
from zoo.latency import measure, structures, timing
from zoo.params import benchmark, comparison
from zoo.records.latency import Times

CLOCKED = {
    "op_upsample_nearest": "apply", "mlp_relu": "classify", "cae_strided": "reconstruct", "vae_bce": "decode",
    "resnet": "classify",
}  # fmt: skip
ROUNDS, MAX_ROUNDS = 5, 15
PLAIN_CALLS = 1000
PLAIN_SECONDS = 0.5
INJECTED = 1.15
OTHERS = (1.05, 1.075, 1.1, 1.2, 1.3, 1.5)  # on every fourth graph
CLASSES = {"under 20 µs": 20, "20 to 200 µs": 200, "200 µs to 2 ms": 2000, "above 2 ms": float("inf")}
ONE_THREAD, ALL_THREADS = "1 thread", "all threads"
KINDS = [f"{threads}, {name}" for threads in (ONE_THREAD, ALL_THREADS) for name in CLASSES]
ENOUGH = 0.95


# ---- the clock


def clock():
    """p50 of five graphs, host and bound, by `zoo.latency.timing` and by a plain loop: medians over steady rounds."""
    values = params.read()
    max_drift = params.load(comparison.Rules, values, "compare").latency.drift
    settings = benchmark.settings(values, "full", sessions.cores())
    graphs = {(graph.experiment, graph.verb): graph for group in structures.graphs("quick").values() for graph in group}
    chosen = {key: settings[key] for key in timing.RULE} | {"seconds": PLAIN_SECONDS, "calls": PLAIN_CALLS}
    reference, found = measure.reference(sessions.CPU, 1), []
    for name, verb in CLOCKED.items():
        session = sessions.open_session(structures.path("quick", graphs[name, verb]))
        feeds = sessions.random_feeds(session, {"batch": 1, "time": settings["time"]})
        ways = {
            "host": (sessions.host(session, feeds), (session.run, None, feeds)),
            "bound": (sessions.bound(session, feeds), (session.run_with_iobinding, binding_of(session, feeds))),
        }
        for mode, (ours, theirs) in ways.items():
            rounds, left_out = [], 0
            while len(rounds) < ROUNDS and len(rounds) + left_out < MAX_ROUNDS:
                row = timing.measure({"it": (ours, reference)}, **chosen)["it"]
                before, of_loop, after = (plain(*one) / 1e3 for one in ((reference.call,), theirs, (reference.call,)))
                pace = [*row["block_reference_us"], before, after]
                if max(pace) / min(pace) - 1 > max_drift:
                    left_out += 1
                else:
                    rounds.append((row["p50_us"], of_loop))
            measured, expected = (
                (statistics.median(column) for column in zip(*rounds, strict=True)) if rounds else (None, None)
            )
            found.append(
                {"graph": f"{name} {verb}", "mode": mode, "ours_us": measured, "plain_us": expected,
                 "rounds": len(rounds), "left_out": left_out}
            )  # fmt: skip
            print(json.dumps(found[-1]), flush=True)
    return {"rows": found}


def plain(call, *arguments):
    """The median time of `call(*arguments)` in a plain loop, in nanoseconds."""
    gc.disable()
    times, end = [], time.perf_counter_ns() + PLAIN_SECONDS * 1e9
    while time.perf_counter_ns() < end or len(times) < PLAIN_CALLS:
        before = time.perf_counter_ns()
        call(*arguments)
        after = time.perf_counter_ns()
        times.append(after - before)
    gc.enable()
    return numpy.median(times)


def binding_of(session, feeds):
    """Bind inputs and outputs as in onnxruntime's documentation, independently of `sessions.bound`."""
    binding = session.io_binding()
    for name, value in feeds.items():
        binding.bind_cpu_input(name, value)
    for output, value in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        binding.bind_ortvalue_output(output.name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
    return binding


# ---- the rule


def rule():
    """The counts of `by_class` for unchanged calls and for calls prolonged by each factor."""
    rules = params.load(comparison.Rules, params.read(), "compare").latency
    before, again, longer = (in_a_process(factor, 1) for factor in (1, 1, INJECTED))
    found = {
        "rule": rules.model_dump(),
        "unchanged": by_class(before, again, rules),
        "injected": {str(INJECTED): by_class(before, longer, rules)},
        "graphs": graphs_by_class(before),
    }
    for factor in OTHERS:
        found["injected"][str(factor)] = by_class(before, in_a_process(factor, 4), rules)
    return found


def in_a_process(factor, each):
    """{call: Times} measured in a fresh process, as those of another commit would be."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        subprocess.run([sys.executable, __file__, "--rows", str(factor), str(each), str(file)], check=True)
        measured = {call: Times(**times) for call, times in files.read_json(file).items()}
    print(f"factor {factor}: {len(measured)} rows", flush=True)
    return measured


def rows(factor, each):
    """{call: Times} of every `each`-th structure of the quick profile, in all modes, calls prolonged by `factor`."""
    values, found = params.read(), {}
    settings = benchmark.settings(values, "quick", sessions.cores())
    patience = benchmark.benchmark(values, "full").patience_seconds
    rule = {key: settings[key] for key in timing.RULE} | {"patience_seconds": patience}
    graphs = [group[0] for group in structures.graphs("quick").values()][::each]
    for graph, batch in ((graph, batch) for graph in graphs for batch in settings["batches"]):
        path, sizes = structures.path("quick", graph), {"batch": batch, "time": settings["time"]}
        calls = {
            configuration: (
                slowed(measure.prepare(path, sessions.CPU, sizes, configuration, tf32=False)[0], factor),
                measure.reference(sessions.CPU, configuration.threads),
            )
            for configuration in measure.grid(sessions.CPU, graph.verb, settings)
        }
        for configuration, row in timing.measure(calls, **rule).items():
            options = f"{configuration.mode}, {configuration.threads} threads, {configuration.optimisation}"
            times = measure.times(row, batch).model_dump()
            found[f"{graph.experiment} {graph.verb}, batch {batch}, {options}"] = times
    return found


def slowed(call, factor):
    """A call that does the same and then spins until it has taken `factor` times as long."""
    if factor == 1:
        return call

    def longer():
        start = time.perf_counter_ns()
        call()
        end = start + (time.perf_counter_ns() - start) * factor
        while time.perf_counter_ns() < end:
            pass

    return longer


def by_class(before, after, rules):
    """{class: {verdict: number of rows}}; classes are by threads and by the latency in `before`."""
    counts = {name: dict.fromkeys(("better", "same", "worse", "not comparable"), 0) for name in KINDS}
    for call, row in after.items():
        verdict, _ = latency_change(before[call], row, rules)
        verdict = "not comparable" if drift_reason(before[call], row, rules) else verdict
        counts[kind_of(call, before[call])][verdict] += 1
    return counts


def compared(counts):
    """The number of rows that could be compared."""
    return sum(counts.values()) - counts["not comparable"]


def graphs_by_class(measured):
    """{class: experiments that have a call in it}."""
    named = {name: {} for name in KINDS}
    for call, row in measured.items():
        named[kind_of(call, row)][call.split()[0]] = None
    return {name: list(found) for name, found in named.items()}


def kind_of(call, row):
    threads = ONE_THREAD if f", {ONE_THREAD}s, " in call else ALL_THREADS
    return f"{threads}, {next(name for name, most in CLASSES.items() if row.p50_us < most)}"


# ---- tables


def clock_table(part):
    lines = [
        "**The clock**: p50 of a call by `zoo.latency.timing` and by a plain Python loop, µs, batch 1, one thread.\n",
        "| graph | mode | `timing` | plain loop | ratio | difference, µs | rounds | left out: pace changed |",
        "|:--|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for row in part["rows"]:
        cells = ["—"] * 4
        if row["rounds"]:
            ours, plain = row["ours_us"], row["plain_us"]
            cells = [f"{ours:.2f}", f"{plain:.2f}", f"{ours / plain:.3f}", f"{ours - plain:+.2f}"]
        lines.append(f"| {row['graph']} | {row['mode']} | {' | '.join(cells)} | {row['rounds']} | {row['left_out']} |")
    measured = [row for row in part["rows"] if row["rounds"]]
    within = [abs(row["ours_us"] / row["plain_us"] - 1) <= 0.03 for row in measured]
    cheap = [row["ours_us"] - row["plain_us"] <= 2 for row in measured if row["mode"] == "bound"]
    bound = [row for row in part["rows"] if row["mode"] == "bound"]
    lines.append(f"\nWithin 3 % of the plain loop: {sum(within)} of {len(part['rows'])}. "
                 f"Bound mode at most 2 µs above it: {sum(cheap)} of {len(bound)}.")  # fmt: skip
    return "\n".join(lines)


def rule_table(part):
    factors = sorted(part["injected"], key=float)
    names = [f"{(float(factor) - 1) * 100:.3g} % longer" for factor in factors]
    rules = part["rule"]
    lines = [
        f"**The rule** (the faster half of the blocks changed by more than {rules['relative']:.0%}, "
        f"{rules['noise_times']} times the noise of both sides and {rules['microseconds']} µs, and intervals of p50 do "
        "not overlap): share of calls that it calls worse (where nothing changed: different), and the number of calls "
        f"that could be compared, for which the reference graph's pace stayed within {rules['drift']:.0%}.\n",
        f"| threads, class of latency | nothing changed | {' | '.join(names)} | smallest that is found |",
        f"|:--|--:|{'--:|' * len(names)}--:|",
    ]
    for name in KINDS:
        same = part["unchanged"][name]
        cells = [share(same["better"] + same["worse"], compared(same))]
        cells += [share(part["injected"][factor][name]["worse"], compared(part["injected"][factor][name]))
                  for factor in factors]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} | {smallest(part, name, factors)} |")
    longer = part["injected"][str(INJECTED)]
    for threads in (ONE_THREAD, ALL_THREADS):
        same, slower = ([counts[name] for name in KINDS if name.startswith(threads)]
                        for counts in (part["unchanged"], longer))  # fmt: skip
        alarms, found = sum(one["better"] + one["worse"] for one in same), sum(one["worse"] for one in slower)
        left = sum(one["not comparable"] for one in same)
        lines.append(
            f"\nWith {threads}: false alarms {share(alarms, sum(map(compared, same)))}, {left} more could not be "
            f"compared; what took {INJECTED - 1:.0%} longer was found in {share(found, sum(map(compared, slower)))}."
        )
    lines += [f"\nCalls of {name}: {', '.join(experiments)}." for name, experiments in part["graphs"].items()]
    return "\n".join(lines)


def smallest(part, name, factors):
    """The smallest injected change that, like all larger ones, was found in at least 95 % of the calls."""
    found = None
    for factor in reversed(factors):
        counts = part["injected"][factor][name]
        if not compared(counts) or counts["worse"] < ENOUGH * compared(counts):
            break
        found = factor
    return f"{(float(found) - 1) * 100:.3g} %" if found else "none of these"


def share(count, total):
    return f"{count / total:.1%} of {total}" if total else "—"


def main():
    if sys.argv[1:2] == ["--rows"]:  # run by `in_a_process`
        factor, each, file = sys.argv[2:]
        files.write_json(file, rows(float(factor), int(each)))
    else:
        parts, tables = {"clock": clock, "rule": rule}, {"clock": clock_table, "rule": rule_table}
        page.run(__file__, __doc__.splitlines()[0], parts, tables)


if __name__ == "__main__":
    main()
