"""Measure everything on a machine with a GPU in a few minutes, without DVC, and write one archive of results.

    python benchmarks/gpu.py --budget 460 --to visit.zip    # on that machine
    python benchmarks/gpu.py --device cpu --budget 120      # the same program without a GPU
    python benchmarks/gpu.py --render visit.zip             # here: write reports/gpu/visit.json and the page

The parts run in this order, each for its share of the remaining time; what a part does not reach is listed:

    facts         the machine and its versions
    data          MNIST and PTB if ZOO_MIRROR names a folder with them, otherwise the data of the quick profile
    tests         tests marked `cuda`, then all tests of training and latency
    determinism   (in parallel with the tests) are weights equal when training is repeated, resumed, captured?
    steps         a training step of every experiment, eager and captured: milliseconds, operators, kernels
    training      every experiment, export included, for as much of its budget as fits; short budgets completely
    latency       one graph of every structure in every mode, by the stage `benchmark`
    peers         the same graphs in other runtimes, by the stage `peers`
    evaluation    the quality of the trained experiments, by the stage `evaluate`

Worker processes do the work in a temporary folder: a CUDA error ends one experiment only, and the artifacts of the
checkout do not change. The stage functions read that folder's params.yaml, which has one seed, the steps that fit, and
latency settings for a short visit.
"""

import argparse
import contextlib
import copy
import datetime
import functools
import importlib.metadata
import importlib.util
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [str(ROOT / "src"), str(ROOT / "stages")]
sys.path[:0] = SOURCES

from ruamel.yaml import YAML  # noqa: E402, the path comes first

from zoo import code, files, params, records  # noqa: E402
from zoo.errors import InputError  # noqa: E402
from zoo.records import cost, gpu, latency, metrics, parity, run  # noqa: E402
from zoo.records import peers as peers_record  # noqa: E402

SETTING = "float32, deterministic"
SUITES = ("tests/train", "tests/latency")
MODES = ("host", "bound", "graph")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# The settings that a visit overrides. On a CPU, they only show that the program works.
BENCHMARK = {
    "cuda": {"batches": [1, 64]},
    "cpu": {
        "batches": [1], "calls": 1, "seconds": 1e-3, "max_seconds": 1e-2, "reference_seconds": 1e-3,
        "warmup_calls": 1, "warmup_seconds": 1e-3, "warmup_max_seconds": 1e-2,
    },
}  # fmt: skip
PEERS = {"cuda": {"batches": [1, 64]}, "cpu": {"batches": [1]}}
STEP_SECONDS = {"cuda": 0.25, "cpu": 0.02}  # for which a step is repeated to time it
REPEATED_STEPS = {"cuda": 40, "cpu": 4}
USED, EXPORT_SECONDS = 0.7, 4  # the share of the time to train in; validation and export of an experiment
SIDE_BY_SIDE = 8  # maximum number of processes on one GPU
EXPORTING = ("onnxscript.function_libs.torch_lib.ops", "torch.export._trace")  # modules that take seconds to import
SAVING_SECONDS = 3
OPEN = "not reached: the time was up"
INTERRUPTED_SECONDS = 25  # in which an interrupted pytest writes its report


# ---- functions that a worker calls with a name


def machine(visit, _):
    """The machine, the versions of packages that affect results, the commit, and the device that `auto` selects."""
    import torch

    from zoo.latency import machine

    versions = {}
    for distribution in sorted(code.DISTRIBUTIONS.values()):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[distribution] = importlib.metadata.version(distribution)
    found = torch.cuda.is_available()
    if visit.device == "cuda" and not found:
        raise InputError("--device cuda, but torch finds no CUDA device here: leave it out")
    device = visit.device if visit.device != "auto" else "cuda" if found else "cpu"
    torch.zeros(1, device=device)  # raises if this process cannot use CUDA
    with contextlib.chdir(ROOT):
        commit = visit.commit or machine.commit()
    return {"machine": machine.describe(), "versions": versions, "commit": commit, "device": device}


def data(visit, key):
    """Download a data set, as the stage `download` does."""
    import download

    download.download(visit.profile, key)
    return {}


def step(visit, name):
    """Time a training step of an experiment; return the fields of `zoo.records.gpu.Step`."""
    experiment, arrays, facts, device = _prepared(visit, name)
    eager = step_of(experiment, arrays, facts, device)
    row = {"eager_ms": milliseconds(eager, device)} | counted(eager, device)
    if device.type == "cuda":
        try:
            captured = step_of(experiment, arrays, facts, device, captured=True)
            row["graph_ms"] = milliseconds(captured, device)
        except Exception as error:  # capturing a forbidden operation raises errors of any type
            row["error"] = f"not captured: {one_line(error)}"
            traceback.print_exc()
    return row


def determinism(visit, name):
    """Repeat and resume a short training; return the fields of `zoo.records.gpu.Repeat`."""
    experiment, arrays, facts, device = _prepared(visit, name)
    steps = REPEATED_STEPS[device.type]
    fit = functools.partial(fitted, experiment, arrays, facts, steps, device)
    weights, loss, halfway = fit()
    began = time.monotonic()
    row = {"steps": steps, "loss": loss, "deterministic": fit()[0] == weights}
    row |= {"seconds_again": time.monotonic() - began, "resumes": fit(state=halfway)[0] == weights}
    if device.type == "cuda":
        try:
            row["captured_equals_eager"] = fit(capture=False)[0] == weights
        except Exception as error:  # the rest of the row is valid
            row["error"] = f"eager: {one_line(error)}"
            traceback.print_exc()
    return row


def training(visit, name):
    """Train and export an experiment, as the stages do."""
    import export
    import train

    train.train(visit.profile, name)
    export.export_graphs(visit.profile, name)
    return {}


def benchmark(visit, _):
    """Time every structure, as the stage `benchmark` does."""
    import benchmark as stage

    stage.benchmark(visit.profile)
    return {}


def peers(visit, _):
    """Time the peers, as the stage `peers` does, including structures that `benchmark` did not reach."""
    import peers as stage

    from zoo.latency import structures

    for structure, (graph, *_) in structures.graphs(visit.profile).items():
        if not latency.path(visit.profile, structure).exists():
            reasons = {PROVIDERS[visit.device]: "the time was up"}
            absent = latency.Latency(structure_sha256=structure, verb=graph.verb, not_measured=reasons)
            latency.write(absent, visit.profile)
    stage.time_peers(visit.profile)
    return {}


def evaluation(visit, name):
    """Evaluate an experiment, as the stage `evaluate` does; return its headline metric."""
    import evaluate

    evaluate.evaluate(visit.profile, name)
    headline = params.read()["models"][name].get("headline")
    verb, metric = (headline or "judge.").split(".")
    if verb == "judge":  # measured by another stage
        return {}
    return {"headline": headline, "value": metrics.read(visit.profile, name).verbs[verb][metric].mean}


WORKERS = {
    "machine": machine, "data": data, "step": step, "determinism": determinism, "training": training,
    "benchmark": benchmark, "peers": peers, "evaluation": evaluation,
}  # fmt: skip


def _prepared(visit, name):
    from zoo.params import experiments
    from zoo.train import seeding

    experiment = experiments.experiment(params.read(), visit.profile, name)
    return experiment, *_data(visit.profile, experiment.data), seeding.prepare(0, 1, visit.device)


@functools.cache
def _data(profile, key):
    from zoo.data import archive

    return archive.read(files.data(profile, key))


def built(experiment, arrays, facts, device):
    """(network, `batches.Stream`) of an experiment with seed 0, as at the start of training."""
    from zoo.params import experiments
    from zoo.train import runs, seeding

    seeding.prepare(0, 1, device.type)
    network = experiments.build(experiment.file, experiment.net, facts)
    network = network.to(device, memory_format=runs.MEMORY_FORMATS[device.type]).train()
    order = seeding.generator(0)
    return network, runs.BATCHES[experiment.data](arrays, experiment.fit, experiment.labelled, 1000, device, order)


def step_of(experiment, arrays, facts, device, captured=False):
    """A function without arguments that draws the next batch and runs one training step."""
    from zoo.train import loop

    network, stream = built(experiment, arrays, facts, device)
    optimizers = loop.optimizers_of(network, experiment.recipe["players"])

    def compute(draw, norms):
        return loop.step_of(network, optimizers, stream.batch_of(draw), experiment.fit.clip, norms)

    if captured:
        with loop.on_a_stream(device):
            for _ in range(loop.EAGER_STEPS):
                compute(next(stream.draws), True)
            compute = loop.captured(compute, next(stream.draws), optimizers)
    return lambda: compute(next(stream.draws), False)


def fitted(experiment, arrays, facts, steps, device, state=None, **options):
    """Train from the start or from `state`; return (sha256 of the weights, last loss, state half-way or None)."""
    import hashlib

    from zoo.train import loop

    network, stream = built(experiment, arrays, facts, device)
    losses, kept = [], []

    def keep(snapshot):
        taken = snapshot()
        if taken["step"] == steps // 2:
            kept.append(copy.deepcopy(taken))

    loop.fit(
        network, stream.draws, experiment.recipe["players"], steps, batch_of=stream.batch_of, clip=experiment.fit.clip,
        state=state, on_checkpoint=keep, on_log=lambda _, now: losses.append(sum(now.values())), **options,
    )  # fmt: skip
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest(), losses[-1], kept[0] if kept else None


def milliseconds(call, device):
    """The mean time of a call in milliseconds, over STEP_SECONDS, after three warm-up calls."""
    import torch

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(3):
        call()
    count, spent = 1, 0.0
    while spent < STEP_SECONDS[device.type]:
        count *= 2
        wait()
        start = time.perf_counter()
        for _ in range(count):
            call()
        wait()
        spent = time.perf_counter() - start
    return spent / count * 1e3


def counted(call, device):
    """Count the operators (torch's innermost), kernels and fills (kernels that fill memory) of a call."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as seen:
        call()
        if on_gpu:
            torch.cuda.synchronize()
    events = seen.events()
    row = {"operators": sum(event.name.startswith("aten::") and not event.cpu_children for event in events)}
    if on_gpu:
        kernels = [event.name for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
        row |= {"kernels": len(kernels), "fills": sum("FillFunctor" in name for name in kernels)}
    return row


def one_line(error):
    """The type and message of an error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


# ---- processes


def serve(function, visit, connection):
    """Run in a worker process: for each name received, call a function of WORKERS and send back its row."""
    os.setsid()  # so that it can be killed with its children
    with open(Path("logs", f"{function}.txt"), "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    with contextlib.suppress(EOFError):  # the other end was closed
        while True:
            name = connection.recv()
            try:
                row = WORKERS[function](visit, name)
            except Exception as error:
                traceback.print_exc()
                row = {"failed": str(error) if isinstance(error, InputError) else one_line(error)}
            connection.send(row)


def work(visit, function, names, seconds, side_by_side=1):
    """Call a function of WORKERS for each name, for at most `seconds`; return ({name: row}, names not reached).

    A process is reused until a name fails, which may leave CUDA unusable in it. The row of a failed name has only
    "error".
    """
    todo, rows, processes, stopped = iter(names), {}, [], threading.Event()
    about = SimpleNamespace(profile=visit.profile, device=visit.device, commit=visit.commit)

    def start():
        ours, theirs = visit.processes.Pipe()
        process = visit.processes.Process(target=serve, args=(function, about, theirs))
        process.start()
        theirs.close()
        processes.append(process)
        if stopped.is_set():  # while the process started
            end(process)
        return process, ours

    def feed(_):
        process = connection = None
        while not stopped.is_set() and (name := next(todo, None)) is not None:
            process, connection = (process, connection) if process else start()
            try:
                connection.send(name)
                row = connection.recv()
            except (EOFError, OSError):
                process.join()
                row = {"failed": f"the process ended with status {process.exitcode}"}
            if stopped.is_set():
                return
            rows[name] = {"error": row["failed"]} if "failed" in row else row
            process = end(process) if {"failed", "error"} & row.keys() else process

    def stop():
        stopped.set()
        for process in processes:
            end(process)

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        count = max(1, min(side_by_side, len(names)))
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(feed, range(count)))
    finally:
        timer.cancel()
        stop()
    return rows, [name for name in names if name not in rows]


def end(process):
    """Kill a process, and its process group if it leads one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


# ---- parts: (visit, seconds) -> names not reached; results go to visit.results


def facts(visit, seconds):
    for method in ("forkserver", "spawn"):
        visit.processes = multiprocessing.get_context(method)
        rows, missed = work(visit, "machine", ["machine"], seconds)
        found = rows.get("machine", {"error": "no answer in time"})
        if "error" not in found or visit.device == "cpu":
            break
    if "error" in found:
        raise InputError(found["error"])
    visit.device = found["device"]
    visit.results |= found
    visit.results["settings"] = write_params(visit, {})
    return missed


def fetch(visit, seconds):
    rows, missed = work(visit, "data", ["images", "text"], seconds, 2)
    refuse(rows)
    return missed


def tests(visit, seconds):
    """Run pytest on the files with a test marked `cuda`, then on the suites; each gets the remaining time."""
    began, missed = time.monotonic(), []
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.cuda" in path.read_text(encoding="utf-8")]
    runs = {"training, latency": [*SUITES, "-m", "not cuda"]}
    if visit.device == "cuda":  # without CUDA, all of these are skipped
        runs = {"marked cuda": [*marked, "-m", "cuda"]} | runs
    for name, arguments in runs.items():
        left = seconds - (time.monotonic() - began)
        found = pytest(visit, arguments, left) if left > 1 else {"error": OPEN}
        visit.results.setdefault("tests", {})[name] = found
        missed += [name] if "error" in found else []
    return missed


def pytest(visit, arguments, seconds):
    """Run pytest, interrupting it after `seconds`; return the fields of `zoo.records.gpu.Tests`."""
    report = Path(tempfile.mkdtemp(dir="."), "junit.xml").resolve()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "--tb=short"]
    if importlib.util.find_spec("xdist"):
        command += ["-n", str(visit.side_by_side)]
    with open(Path("logs", "tests.txt"), "a") as log:
        process = subprocess.Popen(
            [*command, *map(str, arguments)], cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
        stopped = None
        try:
            process.wait(max(1, seconds - INTERRUPTED_SECONDS))
        except subprocess.TimeoutExpired:
            stopped = "stopped: the time was up"
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(INTERRUPTED_SECONDS)
        finally:
            end(process)
            process.wait()
    found = junit(report) if report.exists() else {}
    return found | ({"error": stopped} if stopped else {})


def junit(path):
    """{"counts": {outcome: number}, "failures": {test: its last lines}} of a JUnit report."""
    counts, failures = dict.fromkeys(("passed", "failed", "error", "skipped"), 0), {}
    for case in ElementTree.parse(path).iter("testcase"):
        tags = {child.tag: child for child in case}
        outcome = next((tag for tag in ("failure", "error", "skipped") if tag in tags), "passed")
        counts["failed" if outcome == "failure" else outcome] += 1
        if outcome in ("failure", "error"):
            name = f"{case.get('classname')}::{case.get('name')}"
            failures[name] = "\n".join((tags[outcome].text or "").strip().splitlines()[-6:])
    return {"counts": counts, "failures": failures}


def repeat(visit, seconds):
    rows, missed = work(visit, "determinism", visit.trainable, seconds, visit.side_by_side)
    visit.results["determinism"] = listed(rows, visit.names)
    return missed


def steps(visit, seconds):
    rows, missed = work(visit, "step", visit.trainable, seconds)
    visit.results["steps"] = {SETTING: listed(rows, visit.names)}
    return missed


def train(visit, seconds):
    """Train for the steps that `shares` gives, shortest first, but probes after the experiments they start from."""
    budgets = {name: visit.values["models"][name]["steps"][visit.profile] for name in visit.names}
    planned = shares(visit, budgets, USED * seconds - EXPORT_SECONDS * len(budgets) / visit.side_by_side)
    write_params(visit, planned)
    starts = {name: visit.values["models"][name]["start"].partition("checkpoints/")[2] for name in visit.names}
    first, seconds_each = {*starts.values()}, {name: step_seconds(visit, name) * planned[name] for name in visit.names}
    order = sorted(visit.names, key=lambda name: (starts[name] != "", name not in first, seconds_each[name]))
    rows, missed = work(visit, "training", order, seconds, visit.side_by_side)
    for name in visit.names:
        if run.path(visit.profile, name).exists():
            trained, costs = run.read(visit.profile, name), cost.read(visit.profile, name).training
            rows[name] = rows.get(name, {}) | {
                "steps": trained.recipe["steps"], "budget": budgets[name],
                "seconds": costs["0"].seconds if costs else 0.0,
                "diverged_at_step": trained.seeds["0"].diverged_at_step,
            }  # fmt: skip
    visit.exported = [name for name in visit.names if parity.path(visit.profile, name).exists()]
    visit.results["training"] = listed({name: row for name, row in rows.items() if budgets[name] or row}, visit.names)
    return missed


def shares(visit, budgets, seconds):
    """{name: steps}: the budgets, cut so that none takes longer than T, with T as large as `seconds` allow.

    A captured step keeps the GPU busy, so no two run at once; eager steps and steps on a CPU run in parallel. If no
    step was timed, the quick profile's number of steps is used, which takes seconds.
    """
    paces = {name: step_seconds(visit, name) for name in budgets}
    quick = {name: visit.values["models"][name]["steps"]["quick"] for name in budgets}
    timed = {name: steps * paces[name] for name, steps in budgets.items() if paces[name]}
    captured = {row["name"] for row in step_rows(visit) if row.get("graph_ms")}
    at_once = {name: 1 if name in captured else visit.side_by_side for name in timed}
    low, high = 0.0, max(0.0, seconds)
    for _ in range(50):
        middle = (low + high) / 2
        fits = sum(min(whole, middle) / at_once[name] for name, whole in timed.items()) <= seconds
        low, high = (middle, high) if fits else (low, middle)
    least = {name: min(1, steps) for name, steps in budgets.items()}
    cut = {name: min(budgets[name], int(low / paces[name])) for name in timed}
    return {name: max(least[name], cut.get(name, min(budgets[name], quick[name]))) for name in budgets}


def step_rows(visit):
    """The rows of all timed steps."""
    return [row for rows in visit.results.get("steps", {}).values() for row in rows if row.get("eager_ms")]


def step_seconds(visit, name):
    """Seconds per training step of an experiment, captured if possible; 0 if it was not timed."""
    return next((row.get("graph_ms", row["eager_ms"]) / 1e3 for row in step_rows(visit) if row["name"] == name), 0.0)


def time_graphs(visit, seconds):
    """Run the stage `benchmark` on a graph of every structure."""
    began = time.monotonic()
    without = export_rest(visit, seconds / 2)
    rows, missed = work(visit, "benchmark", ["benchmark"], seconds - (time.monotonic() - began))
    read_latencies(visit)
    refuse(rows)
    return [*without, *(["the remaining structures"] if missed else [])]


def export_rest(visit, seconds):
    """Train experiments without graphs for one step and export them; return the names not reached."""
    absent = [name for name in visit.order if not parity.path(visit.profile, name).exists()]
    write_params(visit, {name: min(1, visit.values["models"][name]["steps"][visit.profile]) for name in absent})
    return work(visit, "training", absent, seconds, visit.side_by_side)[1]


def read_latencies(visit):
    """Read the results of all structures timed so far: latencies, and agreement of outputs with the CPU's."""
    timed, graphs = [], []
    for path in sorted(latency.folder(visit.profile).glob("*.json")):
        record = records.read(latency.Latency, path)
        for source in record.sources.values():
            agreement = {(row.batch, getattr(row, "mode", mode)): row for row in source.agreement for mode in MODES}
            beside, of = {}, source.graph
            for row in source.rows:
                timed.append(shown(row, of.experiment, of.verb))
                found = agreement.get((row.batch, row.mode))
                why = row.not_measured or (found.not_measured if found else None)
                number = found.model_dump(include={"largest_difference", "scale"}) if found else {}
                beside.setdefault(row.batch, {})[row.mode] = {"error": why} if why else number
            graphs += [
                {"of": f"{of.experiment}/{of.verb}", "batch": batch} | modes
                for batch, modes in beside.items()
                if modes.keys() == set(MODES)
            ]
    visit.results |= {"latency": timed, "graphs": graphs}


def shown(row, experiment, verb, **more):
    """The fields of `zoo.records.gpu.Timed` for a row of a latency or peers record."""
    about = {"experiment": experiment, "verb": verb, "batch": row.batch, "mode": row.mode, **more}
    if row.times is None:
        return about | {"not_measured": row.not_measured}
    return about | row.times.model_dump(include={"p50_us", "p50_low_us", "p50_high_us", "calls", "drift"})


def time_peers(visit, seconds):
    """Run the stage `peers` on a graph of every structure."""
    began = time.monotonic()
    without = export_rest(visit, seconds / 2)
    rows, missed = work(visit, "peers", ["peers"], seconds - (time.monotonic() - began))
    timed = []
    for path in sorted(peers_record.folder(visit.profile).glob("*.json")):
        record = records.read(peers_record.Peers, path)
        of = record.graph
        timed += [shown(row, of.experiment, of.verb, runtime=row.runtime) for row in record.rows]
    visit.results["peers"] = timed
    refuse(rows)
    return [*without, *(["the remaining structures"] if missed else [])]


def evaluate(visit, seconds):
    trained = {row["name"]: row for row in visit.results.get("training", []) if row["name"] in visit.exported}
    rows, missed = work(visit, "evaluation", list(trained), seconds, visit.side_by_side)
    for name, row in rows.items():
        trained[name] |= row
    return missed


# In order, with their shares of the time; parts on one line run in parallel. The first two get what they need.
PARTS = [
    {"facts": (facts, None)},
    {"data": (fetch, None)},
    {"tests": (tests, 12), "determinism": (repeat, 12)},
    {"steps": (steps, 18)},
    {"training": (train, 22)},
    {"latency": (time_graphs, 32)},
    {"peers": (time_peers, 12)},
    {"evaluation": (evaluate, 4)},
]
ALWAYS = {"facts", "data"}
ALWAYS_SECONDS = 60


def refuse(rows):
    """Raise InputError if a row has an error."""
    if failures := [row["error"] for row in rows.values() if "error" in row]:
        raise InputError("; ".join(failures))


def listed(rows, names):
    """Rows as a list, in the order of the names."""
    return [{"name": name} | rows[name] for name in names if name in rows]


def write_params(visit, steps):
    """Write params.yaml of the temporary folder; return the settings of latency and peers.

    `steps` is {name: steps} for the experiments whose number of steps is replaced.
    """
    values, profile, device = copy.deepcopy(visit.values), visit.profile, visit.device
    values["device"] = device
    for name, entry in values["models"].items():
        entry["seeds"][profile] = [0]
        entry["steps"][profile] = steps.get(name, entry["steps"][profile])
    values["benchmark"]["both"]["providers"] = [PROVIDERS[device]]
    settings = {}
    for section, changes in (("benchmark", BENCHMARK), ("peers", PEERS)):
        own = values[section][profile] | values[section].get("visit", {}) | changes[device]
        shared = {key: value for key, value in values[section].get("both", {}).items() if key not in own}
        values[section] |= {"both": shared, profile: own}
        settings[section] = shared | own
    text = io.StringIO()
    YAML(typ="safe").dump(values, text)
    with files.replacing(params.PATH) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    return settings


# ---- the program


def run_part(visit, name, function, seconds):
    """Run a part and record its outcome."""
    began, missed = time.monotonic(), []
    print(f"{name}: for {seconds:.0f} s at most", flush=True)
    try:
        missed = function(visit, seconds)
        outcome = "stopped at its limit" if missed else "done"
    except InputError as error:
        outcome = f"failed: {error}"
    except Exception as error:
        traceback.print_exc()
        outcome = f"failed: {one_line(error)}"
    spent = time.monotonic() - began
    part = {"outcome": outcome, "seconds": spent, "limit_seconds": seconds, "not_reached": missed}
    visit.results["parts"][name] = part
    rest = (
        f"; not reached: {', '.join(missed[:5])}{f' and {len(missed) - 5} more' * (len(missed) > 5)}" if missed else ""
    )
    print(f"{name}: {outcome}, {spent:.0f} s{rest}", flush=True)


def run_all(options):
    """Run the parts within the budget; write the archive after each line, so that an interrupted run leaves one."""
    until = time.monotonic() + options.budget - SAVING_SECONDS
    target = options.to.resolve()
    target = target if target.suffix == ".zip" else target / "results.zip"
    mirror = os.environ.get("ZOO_MIRROR")
    if mirror and "://" not in mirror:
        os.environ["ZOO_MIRROR"] = str(Path(mirror).resolve())
    values = params.read(ROOT / params.PATH)
    models = params.section(values, "models")
    if unknown := set(options.experiments or []) - models.keys():
        raise InputError(f"--experiments: {', '.join(sorted(unknown))}: params.yaml has no such experiment")
    profile = options.profile or ("full" if mirror else "quick")
    names = [name for name in models if name in (options.experiments or models)]
    files_before = [models[name]["file"] for name in names]
    ranks = {name: files_before[:place].count(models[name]["file"]) for place, name in enumerate(names)}
    order = sorted(names, key=ranks.get)  # one of each model file, then the next of each
    chosen = [name for line in PARTS for name in line if name in ALWAYS or name in (options.only or line)]
    outcomes = {name: {"outcome": OPEN if name in chosen else "not asked for"} for line in PARTS for name in line}
    visit = SimpleNamespace(
        device=options.device, profile=profile, commit=options.commit, values=values, names=names,
        order=order, exported=[], trainable=[name for name in order if models[name]["steps"][profile]],
        side_by_side=min(len(os.sched_getaffinity(0)), SIDE_BY_SIDE),
        results={
            "date": datetime.date.today().isoformat(), "profile": profile, "budget_seconds": options.budget,
            "device": options.device, "parts": outcomes,
        },
    )  # fmt: skip
    lines = [{name: part for name, part in line.items() if name in chosen} for line in PARTS]
    # A process forked from one that has done the imports starts at once. If an import has used CUDA, each process must
    # import by itself. All of them read the path from here.
    os.environ["PYTHONPATH"] = os.pathsep.join([*SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])])
    preloaded = ["torch", *(EXPORTING if {"training", "latency", "peers"} & {*chosen} else ())]
    multiprocessing.set_forkserver_preload(preloaded)
    with tempfile.TemporaryDirectory(prefix="gpu-visit-") as scratch, contextlib.chdir(scratch):
        Path("logs").mkdir()
        for number, line in enumerate(lines):
            left = until - time.monotonic()
            shares = [max((share or 0 for _, share in of.values()), default=0) for of in lines[number:]]
            seconds = left * shares[0] / sum(shares) if shares[0] else min(left, ALWAYS_SECONDS)
            with ThreadPoolExecutor(2) as pool:
                for name, (function, _) in line.items() if seconds > 1 else ():
                    pool.submit(run_part, visit, name, function, seconds)
            save(visit, target)
            if "machine" not in visit.results:
                raise InputError(outcomes["facts"]["outcome"])
    for name in (name for name in chosen if outcomes[name]["outcome"] == OPEN):
        print(f"{name}: {OPEN}")
    print(f"{target}: written")


def save(visit, target):
    """Write the archive: results.json, the records of the stages, and the logs of the parts."""
    records.write(Path("results.json"), gpu.Visit.model_validate(visit.results))
    kept = [Path("results.json"), *Path("logs").glob("*")]
    kept += [path for path in Path("reports").glob("*/*/*") if path.suffix in (".json", ".csv")]
    with files.replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for path in kept:
            file.write(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parts = [name for line in PARTS for name in line]
    add = parser.add_argument
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: cuda if available")
    add("--budget", type=float, default=460, metavar="SECONDS", help="default: %(default)s")
    add("--to", type=Path, default=Path("results.zip"), metavar="FILE.zip|FOLDER", help="default: %(default)s")
    add("--only", nargs="+", choices=parts, metavar="PART", help=f"of {', '.join(parts)}; default: all")
    add("--experiments", nargs="+", metavar="NAME", help="default: all of params.yaml")
    add("--profile", choices=params.PROFILES, help="default: full if ZOO_MIRROR is set, else quick")
    add("--commit", help="the commit of this code, if git cannot tell")
    add("--render", nargs="*", type=Path, metavar="FILE.zip", help="write reports/gpu from archives, and nothing else")
    options = parser.parse_args()
    try:
        if options.render is not None:
            import gpu_page

            gpu_page.write(options.render)
        else:
            run_all(options)
    except InputError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
