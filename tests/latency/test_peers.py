"""A peer is timed beside ONNX Runtime where it builds and computes the same; where not, its rows say why."""

import copy
import functools
import importlib.metadata
import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import tempfile

import numpy
import pytest
import sample_graphs
import torch
import yaml
from networks import EVERYTHING, FACTS, build
from scipy.special import expit
from torch import nn

from zoo import files
from zoo.errors import InputError
from zoo.graphs import export, identity, sessions
from zoo.latency import measure as latencies
from zoo.latency import peers, timing
from zoo.params import benchmark, experiments
from zoo.records import latency
from zoo.records import peers as records
from zoo.train import checkpoints

OPENVINO = ["openvino"] * (importlib.util.find_spec("openvino") is not None)
with_openvino = pytest.mark.skipif(not OPENVINO, reason="needs OpenVINO")
with_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
with_cuda = pytest.mark.skipif(
    not torch.cuda.is_available() or sessions.why_unavailable(sessions.CUDA) is not None, reason="needs CUDA"
)
# A classifier, a verb with two inputs, and one with three inputs and three outputs.
CASES = {
    "mlp_sigmoid": ("classify", {"hidden": [20, 16]}),
    "cvae": ("decode", {"hidden": [16]}),
    "lstm": ("next_word", {"units": 16, "initial_range": 0.4}),
}
SETTINGS = {
    "batches": [1, 3], "runtimes": ["torch", *OPENVINO], "blocks": 3, "calls": 12, "seconds": 0.001,
    "reference_seconds": 0.0001, "warmup_calls": 1, "warmup_seconds": 0.0001, "patience_seconds": 0.0,
}  # fmt: skip
BEST = {"mode": "bound", "threads": 2, "optimisation": "basic"}


def settings(**changes):
    return benchmark.settings(EVERYTHING, "quick", sessions.cores(), with_peers=True) | SETTINGS | changes


def run_of(name):
    """What a checkpoint and a graph of the small network say of their run."""
    experiment = experiments.experiment(EVERYTHING, "quick", name)
    facts = FACTS[experiment.data] | {"source": "digits", "sha256": "1" * 64, "licence": "CC BY 4.0"}
    recipe = experiment.recipe | {"net": experiment.net | CASES[name][1]}
    return {
        "experiment": name, "profile": "quick", "seed": 0, "recipe": recipe, "data": facts, "diverged_at_step": None,
        "params_sha256": "2" * 64,
    }  # fmt: skip


@functools.cache
def network(name):
    """A small network of an experiment, with biases other than 0."""
    built = build(name, **CASES[name][1]).eval()
    with torch.no_grad():
        for key, weight in built.named_parameters():
            if "bias" in key and "bias_hh" not in key:
                weight.normal_(0, 0.1)
    return built


@pytest.fixture(scope="session")
def graph(tmp_path_factory, exporter):
    """{experiment: its graph}, each exported once."""
    folder = tmp_path_factory.mktemp("graphs")

    @functools.cache
    def path(name):
        verb, _ = CASES[name]
        at = folder / name / "0" / f"{verb}.onnx"
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(export.content(export.export(network(name), verb, run_of(name))))
        return at

    return path


def load(name, **changes):
    """What `peers.network` would load: a copy, since `.to` would move the cached one."""
    return lambda: build(name, **CASES[name][1] | changes).eval() if changes else copy.deepcopy(network(name))


def measure(path, load, batch, device, best, chosen):
    exported = identity.of_file(path)
    graph = latency.TimedGraph(
        experiment="it", seed=0, verb=path.stem, graph_sha256=exported.graph_sha256,
        structure_sha256=exported.structure_sha256, bytes=exported.bytes,
    )  # fmt: skip
    return peers.measure(graph, path, load, batch, device, best, chosen)


def feeds_of(path, batch):
    return sessions.random_feeds(sessions.open_session(path), {"batch": batch, "time": 5})


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_every_runtime_computes_what_the_network_does(name, batch, graph):
    feeds = feeds_of(graph(name), batch)
    verb = getattr(network(name), CASES[name][0])
    with torch.no_grad():
        result = verb(**{key: torch.from_numpy(value) for key, value in feeds.items()})
    expected = [value.numpy() for value in (result.values() if isinstance(result, dict) else [result])]
    runtimes = peers.runtimes(graph(name), load(name), "cpu", BEST, settings())
    ours = ["onnxruntime", "onnxruntime_default", "onnxruntime_best"]
    assert [runtime for runtime, *_ in runtimes] == [*ours, "torch", *OPENVINO]
    one_mode = {"onnxruntime_default": ["host"], "onnxruntime_best": ["bound"]}
    for runtime, make, configurations in runtimes:
        calls, modes = make(feeds), one_mode.get(runtime, ["host", "bound"])
        assert list(calls) == [one["mode"] for one in configurations] == modes
        for mode, call in calls.items():
            for _ in range(2):  # the same again: no call leaves anything behind
                with torch.inference_mode():
                    given = peers.outputs(call)
                assert len(given) == len(expected)
                for theirs, ours in zip(given, expected, strict=True):
                    assert theirs.dtype == ours.dtype, (runtime, mode)
                    numpy.testing.assert_allclose(theirs, ours, atol=1e-5, err_msg=f"{runtime}, {mode}")


def test_the_classifier_by_numpy(graph):
    """The same against the network written out: sigmoid(x W + b), layer by layer."""
    feeds = feeds_of(graph("mlp_sigmoid"), 3)
    weights = [value.detach().numpy() for value in network("mlp_sigmoid").parameters()]
    values = feeds["image"].reshape(3, 784)
    for kernel, bias in zip(weights[0:-2:2], weights[1:-2:2], strict=True):
        values = expit(values @ kernel.T + bias)
    expected = values @ weights[-2].T + weights[-1]
    for _, make, _ in peers.runtimes(graph("mlp_sigmoid"), load("mlp_sigmoid"), "cpu", None, settings()):
        for call in make(feeds).values():
            with torch.inference_mode():
                numpy.testing.assert_allclose(peers.outputs(call)[0], expected, atol=1e-5)


def test_what_is_written_takes_the_place_of_the_inputs(graph):
    """In every runtime and mode, and of that call alone: the arrays of the first inputs stay as they were."""
    feeds, others = feeds_of(graph("lstm"), 2), latencies.zeros(feeds_of(graph("lstm"), 2))
    before = {name: array.copy() for name, array in feeds.items()}
    expected = sessions.open_session(graph("lstm")).run(None, others)
    for _, make, _ in peers.runtimes(graph("lstm"), load("lstm"), "cpu", BEST, settings()):
        with torch.inference_mode():
            for call in make(feeds).values():
                unlike = [value.copy() for value in peers.outputs(call)]
                call.write(others)
                for ours, theirs, other in zip(peers.outputs(call), expected, unlike, strict=True):
                    numpy.testing.assert_allclose(ours, theirs, atol=1e-5)
                    assert numpy.abs(other - theirs).max() > 1e-3
    assert all(numpy.array_equal(feeds[name], array) for name, array in before.items())


def test_host_arrays_are_the_callers_own(graph):
    """What a call returned is not written over by the next: else a runtime would be timed without its last copy."""
    feeds = feeds_of(graph("mlp_sigmoid"), 1)
    for _, make, _ in peers.runtimes(graph("mlp_sigmoid"), load("mlp_sigmoid"), "cpu", None, settings()):
        call = make(feeds)["host"]
        with torch.inference_mode():
            first = peers.outputs(call)[0]
            kept = first.copy()
            feeds["image"][:] += 0.5
            second = peers.outputs(call)[0]
        assert numpy.array_equal(first, kept)
        assert numpy.abs(second - kept).max() > 1e-3  # and the arrays that go in are read anew


@with_openvino
def test_openvino_computes_in_float32_with_one_thread(graph):
    import openvino

    feeds = feeds_of(graph("mlp_sigmoid"), 1)
    cores = os.sched_getaffinity(0)
    runtime, make, _ = peers.runtimes(graph("mlp_sigmoid"), None, "cpu", None, settings())[-1]
    assert runtime == "openvino"
    host = make(feeds)["host"]
    host()
    assert os.sched_getaffinity(0) == cores  # else what is timed next would run on one of them
    compiled = host.func.__self__.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_a_row_has_the_calls_that_its_median_needs(graph):
    slow = settings(calls=3, seconds=1e-9, runtimes=["torch"])
    for row in measure(graph("cvae"), load("cvae"), 1, "cpu", None, slow):
        assert row.times.calls >= timing.min_calls(0.5)
        assert row.times.p50_us > 0
        assert row.times.items_per_second > 0


def test_rows(graph):
    rows = measure(graph("cvae"), load("cvae"), 3, "cpu", BEST, settings())
    assert {(row.runtime, row.mode, row.threads, row.optimisation) for row in rows} == {
        ("onnxruntime", "host", 1, "all"), ("onnxruntime", "bound", 1, "all"),
        ("onnxruntime_default", "host", sessions.cores(), "all"), ("onnxruntime_best", "bound", 2, "basic"),
        *itertools.product(("torch", *OPENVINO), ("host", "bound"), (1,), (None,)),
    }  # fmt: skip
    assert len(rows) == 6 + 2 * len(OPENVINO)
    for row in rows:
        assert (row.batch, row.device, row.tf32) == (3, "cpu", None)
        assert row.graph_sha256 == identity.of_file(graph("cvae")).graph_sha256
        assert row.times.calls >= 12
        assert len(row.times.block_p50_us) == 3
        assert row.times.items_per_second == pytest.approx(3 * row.times.calls / row.times.seconds)
        assert row.build_ms > 0
        assert row.largest_difference <= 1e-5 * row.scale
        assert 0 < row.scale <= 1  # pixels
    assert torch.get_num_threads() == 1


def test_the_default_that_is_advised_is_measured_once(graph):
    default = {"mode": "host", "threads": sessions.cores(), "optimisation": "all"}
    rows = measure(graph("cvae"), load("cvae"), 1, "cpu", default, settings(runtimes=[]))
    by_runtime = {row.runtime: row for row in rows if row.runtime != "onnxruntime"}
    assert by_runtime.keys() == {"onnxruntime_default", "onnxruntime_best"}
    best = by_runtime["onnxruntime_default"].model_copy(update={"runtime": "onnxruntime_best"})
    assert by_runtime["onnxruntime_best"] == best


def test_a_peer_that_computes_something_else_is_not_timed(graph):
    other = load("mlp_sigmoid", hidden=[20, 16])  # its biases are 0
    rows = measure(graph("mlp_sigmoid"), other, 1, "cpu", None, settings())
    refused = [row for row in rows if row.not_measured]
    assert {(row.runtime, row.mode) for row in refused} == {("torch", "host"), ("torch", "bound")}
    for row in refused:
        assert row.not_measured.startswith("its outputs differ from those of ")
        assert row.times is row.build_ms is row.largest_difference is None
    assert {row.runtime for row in rows if row.times} == {"onnxruntime", "onnxruntime_default", *OPENVINO}


def test_every_row_has_a_figure_of_parity_or_a_reason(graph):
    rows = measure(graph("lstm"), load("lstm", units=17), 1, "cpu", None, settings())
    assert {row.runtime for row in rows if row.not_measured} == {"torch"}  # its states have another size
    for row in rows:
        figures = (row.largest_difference, row.scale, row.times, row.build_ms)
        assert [figure is None for figure in figures] == [bool(row.not_measured)] * 4


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("none in /usr/lib/x/g++\n  or about\n\nSet THIS"), "RuntimeError: none in g++ or about"),
        (ValueError("Exception from src/a/b.cpp:93:\nCheck 'x' failed"), "ValueError: Check 'x' failed"),
        (OSError(2, "No such file", "/home/x/y.onnx"), "FileNotFoundError: [Errno 2] No such file: 'y.onnx'"),
    ],
)  # fmt: skip
def test_what_does_not_compile_says_why(error, reason, graph, monkeypatch):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(torch, "compile", refuse)
    rows = measure(graph("mlp_sigmoid"), load("mlp_sigmoid"), 1, "cpu", None, settings(runtimes=["torch_compile"]))
    assert {row.runtime for row in rows if row.times} == {"onnxruntime", "onnxruntime_default"}
    refused = [row for row in rows if row.runtime == "torch_compile"]
    assert [(row.mode, row.not_measured) for row in refused] == [("host", reason), ("bound", reason)]


def test_a_long_reason_is_cut(graph, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *arguments, **options: 1 / len(()))
    monkeypatch.setattr(peers, "REASON_CHARACTERS", 30)
    rows = measure(graph("mlp_sigmoid"), load("mlp_sigmoid"), 1, "cpu", None, settings(runtimes=["torch_compile"]))
    assert {row.not_measured for row in rows if row.not_measured} == {"ZeroDivisionError: ..."}


def test_a_runtime_that_is_not_installed_says_so(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    rows = measure(graph("mlp_sigmoid"), load("mlp_sigmoid"), 1, "cpu", None, settings(runtimes=["torch", "openvino"]))
    reasons = {(row.runtime, row.mode): row.not_measured for row in rows if row.not_measured}
    assert reasons == dict.fromkeys([("openvino", "host"), ("openvino", "bound")], "openvino is not installed")
    assert {row.runtime for row in rows if row.times} == {"onnxruntime", "onnxruntime_default", "torch"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
def test_without_cuda_nothing_stands_in_for_it(graph, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *arguments, **options: 1 / len(()))  # is not reached
    monkeypatch.setattr(latencies, "call_in_worker", lambda function, *arguments: function(*arguments))
    assert peers.devices(settings()) == ["cpu"]
    both = settings(runtimes=["torch", "torch_compile"])
    rows = measure(graph("mlp_sigmoid"), load("mlp_sigmoid"), 1, "cuda", None, both)
    assert {(row.runtime, row.mode) for row in rows} == {
        ("onnxruntime_default", "host"),
        *itertools.product(("onnxruntime", "torch", "torch_compile"), ("host", "bound", "graph")),
    }
    assert all(row.not_measured and row.device == "cuda" and not row.times for row in rows)
    assert not any("ZeroDivisionError" in row.not_measured for row in rows)


@pytest.mark.parametrize("tf32", [True, False])
def test_all_products_have_the_precision_that_is_asked_for(tf32):
    with peers._prepared([], tf32):
        products = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
        assert {one.fp32_precision for one in products} == {"tf32" if tf32 else "ieee"}
        assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is tf32
        torch.export.export(nn.Conv2d(1, 1, 1), (torch.zeros(1, 1, 2, 2),))
        a = torch.full((1, 1), 1 + 2.0**-12)  # more than ten bits of mantissa: a CPU keeps them either way
        assert (a @ torch.ones(1, 1)).item() == 1 + 2.0**-12


# ---- CUDA graphs


class Recorded:
    """As `peers.captured`, on a CPU: replays write to the tensors of the first call, from the tensors it was given.

    With `deaf` they compute from what those held at the capture.
    """

    def __init__(self, deaf=False):
        self.deaf = deaf

    def __call__(self, run, values, device):
        values = {name: value.clone() for name, value in values.items()} if self.deaf else values
        result = run(**values)

        def replay():
            result.copy_(run(**values))
            return result

        return replay


def measure_on_cuda(graph, monkeypatch, capture, chosen, **answers):
    """The rows of a measurement on "cuda" that runs on the CPU: torch captures by `capture`, in this process."""
    known, opened = peers.runtimes, sessions.open_session

    def runtimes(path, load, device, best, settings):
        found = known(path, load, device, best, settings)
        return [(runtime, on_cpu(build), configurations) for runtime, build, configurations in found]

    def on_cpu(build):
        return functools.partial(build.func, *("cpu" if one == "cuda" else one for one in build.args), **build.keywords)

    def open_session(path, provider=sessions.CPU, threads=1, **options):
        return opened(path, threads=threads)

    monkeypatch.setattr(peers, "runtimes", runtimes)
    monkeypatch.setattr(peers, "captured", capture)
    monkeypatch.setattr(sessions, "open_session", open_session)
    monkeypatch.setattr(latencies, "reference", lambda *_: timing.Reference(lambda: None))
    tried = answers.get("tried", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(latencies, "call_in_worker", tried)
    return measure(graph("mlp_sigmoid"), load("mlp_sigmoid"), 2, "cuda", None, chosen)


def test_graphs_are_timed_beside_each_other(graph, monkeypatch):
    rows = measure_on_cuda(graph, monkeypatch, Recorded(), settings(runtimes=["torch"]))
    assert {(row.runtime, row.mode) for row in rows if row.times} == {
        ("onnxruntime_default", "host"), *itertools.product(("onnxruntime", "torch"), ("host", "bound", "graph")),
    }  # fmt: skip
    assert {row.tf32 for row in rows} == {False}


def test_a_graph_that_computes_from_its_first_inputs_is_not_timed(graph, monkeypatch):
    rows = measure_on_cuda(graph, monkeypatch, Recorded(deaf=True), settings(runtimes=["torch"]))
    (refused,) = [row for row in rows if row.not_measured]
    assert (refused.runtime, refused.mode) == ("torch", "graph")
    assert refused.not_measured.startswith("its outputs differ from")


def test_a_capture_that_breaks_off_is_not_tried_again(graph, monkeypatch):
    """It would spoil the process: the other one says why, here nothing is captured, and all else is timed."""

    def break_off(run, values, device):
        raise RuntimeError("operation not permitted when stream is capturing\n\nCompile with ...")

    captures = []

    def tried(function, runtime, build, *arguments):
        if runtime == "torch":
            monkeypatch.setattr(peers, "captured", break_off)
            try:
                function(runtime, build, *arguments)
            finally:
                monkeypatch.setattr(peers, "captured", captures.append)

    rows = measure_on_cuda(graph, monkeypatch, None, settings(runtimes=["torch"]), tried=tried)
    (refused,) = [row for row in rows if row.not_measured]
    assert (refused.runtime, refused.mode) == ("torch", "graph")
    assert refused.not_measured == "RuntimeError: operation not permitted when stream is capturing"
    assert captures == []


def test_a_trial_in_another_process(graph, tmp_path):
    """All of it but CUDA: what it is given is sent there, the reason comes back; ONNX Runtime runs, and agrees."""
    checkpoint = tmp_path / "0.safetensors"
    checkpoints.save(checkpoint, network("mlp_sigmoid"), run_of("mlp_sigmoid"))
    path, feeds = graph("mlp_sigmoid"), feeds_of(graph("mlp_sigmoid"), 2)
    inputs = latencies.zeros(feeds), feeds, sessions.open_session(path).run(None, feeds)
    loading = functools.partial(peers.network, checkpoint)
    (ours, build, _), *_ = peers.runtimes(path, loading, "cpu", None, settings())
    assert latencies.call_in_worker(peers.try_out, ours, build, *inputs, False) is None
    wrong = functools.partial(peers._torch, loading, "classified", "cpu")
    with pytest.raises(sessions.UnsupportedGraphError, match="no attribute 'classified'"):
        latencies.call_in_worker(peers.try_out, "torch", wrong, *inputs, False)


@pytest.mark.cuda
@with_cuda
@pytest.mark.parametrize("name", CASES)
def test_cuda_graphs_of_torch(graph, tmp_path, name):
    checkpoint = tmp_path / "0.safetensors"
    checkpoints.save(checkpoint, network(name), run_of(name))
    loading = functools.partial(peers.network, checkpoint)
    chosen = settings(runtimes=["torch", "torch_compile"] if name == "mlp_sigmoid" else ["torch"])
    rows = measure(graph(name), loading, 3, "cuda", None, chosen)
    assert {row.runtime: row.not_measured for row in rows if row.not_measured} == {}
    modes = itertools.product(("onnxruntime", *chosen["runtimes"]), ("host", "bound", "graph"))
    assert {(row.runtime, row.mode) for row in rows} == {("onnxruntime_default", "host"), *modes}
    assert {row.tf32 for row in rows} == {False}


def test_cuda_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sessions, "why_unavailable", lambda provider: None)
    assert peers.devices(settings()) == ["cpu", "cuda"]
    assert peers.devices(settings(providers=[sessions.CPU])) == ["cpu"]
    assert peers.devices(settings(providers=[sessions.CUDA])) == ["cuda"]


@with_openvino
def test_importing_says_nothing_to_anybody(tmp_path):
    """OpenVINO's own telemetry keeps an identity in ~/intel and reports every import. Ours happens where it is used."""
    script = (
        "import sys; from zoo.latency import peers; assert 'openvino' not in sys.modules; "
        "peers._import_openvino(); sys.exit('openvino_telemetry.main' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "intel").exists()


# ---- the stage


@pytest.fixture
def stage(root, tmp_path, monkeypatch, graph):
    """The stage's function, in a folder with one experiment and settings that take milliseconds."""
    changes = {key: value for key, value in SETTINGS.items() if key not in ("batches", "runtimes")}
    sections = {
        "benchmark": benchmark.benchmark(EVERYTHING, "quick").model_dump() | changes,
        "peers": {"verbs": ["classify"], "batches": [1], "runtimes": ["torch", *OPENVINO]},
    }
    visit = {"benchmark": {"calls": 13}, "peers": {"batches": [2], "runtimes": []}}
    sections = {key: {"both": value, "quick": {}, "full": {}, "visit": visit[key]} for key, value in sections.items()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections | {"tf32": False}))
    monkeypatch.setattr(peers, "devices", lambda settings: ["cpu"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(root / "stages")
    place(graph("mlp_sigmoid"), "classify")
    checkpoint = files.checkpoint("quick", "mlp_sigmoid", 0)
    checkpoint.parent.mkdir(parents=True)
    checkpoints.save(checkpoint, network("mlp_sigmoid"), run_of("mlp_sigmoid"))
    spec = importlib.util.spec_from_file_location("stage_of_peers", root / "stages" / "peers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.time_peers


def place(path, verb, name="mlp_sigmoid"):
    """Put a graph where the stage `export` would, with records of it and of its latency."""
    at = files.graph("quick", name, 0, verb)
    at.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, at)
    sample_graphs.write_parity("quick", name)
    structure = identity.of_file(at).structure_sha256
    latency.write(latency.Latency(structure_sha256=structure, verb=verb), "quick")


def structure(graph):
    return identity.of_file(graph("mlp_sigmoid")).structure_sha256


def written():
    return [path.name for path in records.folder("quick").iterdir()]


def advise(graph, provider=sessions.CPU, **best):
    """Write a latency record whose advice is BEST, for two batches of which one is measured."""
    default = latency.Configuration(mode="host", threads=1, optimisation="all")
    advice = [
        latency.Advice(batch=batch, default=default, best=BEST | best, ratio=1.2, verdict="faster") for batch in (1, 16)
    ]
    timed = latency.TimedGraph(
        experiment="it", seed=0, verb="classify", graph_sha256="0", structure_sha256=structure(graph), bytes=1
    )
    source = latency.Source(
        graph=timed, machine={}, settings={}, conditions={}, commit=None, cold=[], rows=[], advice=advice, agreement=[]
    )
    record = latency.Latency(structure_sha256=structure(graph), verb="classify", sources={provider: source})
    latency.write(record, "quick")


def test_the_record(stage, graph):
    stage("quick")
    record = records.read("quick", structure(graph))
    assert (record.graph.experiment, record.graph.verb, record.graph.seed) == ("mlp_sigmoid", "classify", 0)
    assert record.graph.graph_sha256 == identity.of_file(graph("mlp_sigmoid")).graph_sha256
    assert record.openvino == (importlib.metadata.version("openvino") if OPENVINO else None)
    assert {row.runtime for row in record.rows} == {"onnxruntime", "onnxruntime_default", "torch", *OPENVINO}
    assert set(record.conditions) == {"before", "after"}
    assert all(row.times.p50_us > 0 for row in record.rows)


def test_a_short_visit_has_its_own_settings(stage, graph):
    stage("quick", visit=True)
    record = records.read("quick", structure(graph))
    assert {(row.runtime, row.batch) for row in record.rows} == {("onnxruntime", 2), ("onnxruntime_default", 2)}
    assert record.settings["calls"] == 13


def test_equal_structures_are_measured_once(stage, graph, capsys):
    place(graph("mlp_sigmoid"), "classify", name="a")
    shutil.copytree(files.checkpoints("quick", "mlp_sigmoid"), files.checkpoints("quick", "a"))
    stage("quick")
    first = records.read("quick", structure(graph))
    assert first.graph.experiment == "a"
    assert len(written()) == 1
    stage("quick")
    assert capsys.readouterr().out.endswith("a classify: nothing measured\n")
    assert records.read("quick", structure(graph)) == first
    stage("quick", again=True)
    assert records.read("quick", structure(graph)).rows != first.rows


def test_the_advice_of_the_latencies_is_taken(stage, graph):
    """Of this batch alone; other advice is a reason to measure again."""
    advise(graph)
    stage("quick")
    rows = records.read("quick", structure(graph)).rows
    best = [row for row in rows if row.runtime == "onnxruntime_best"]
    assert [{key: getattr(row, key) for key in (*BEST, "batch")} for row in best] == [BEST | {"batch": 1}]
    advise(graph, threads=1)
    stage("quick")
    rows = records.read("quick", structure(graph)).rows
    assert [row.threads for row in rows if row.runtime == "onnxruntime_best"] == [1]


def test_rows_of_a_gpu_are_kept_without_one(stage, graph):
    stage("quick")
    record = records.read("quick", structure(graph))
    rows = [*record.rows, records.Row(**record.rows[0].model_dump() | {"device": "cuda"})]
    records.write(record.model_copy(update={"rows": rows, "machine": {"gpu": "H100"}}), "quick")
    kept = records.read("quick", structure(graph))
    stage("quick", again=True)
    assert records.read("quick", structure(graph)) == kept


def test_a_killed_run_leaves_what_was_there(stage, graph, monkeypatch):
    stage("quick")
    first = records.read("quick", structure(graph))

    def die(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(peers.timing, "measure", die)
    with pytest.raises(KeyboardInterrupt):
        stage("quick", again=True)
    assert records.read("quick", structure(graph)) == first
    assert len(written()) == 1


def test_only_the_verbs_of_the_parameters_are_measured(stage, graph):
    stage("quick")
    assert len(written()) == 1
    files.graph("quick", "mlp_sigmoid", 0, "classify").unlink()
    place(graph("mlp_sigmoid"), "generate")
    stage("quick")
    assert written() == []  # nor is a record kept


def test_missing_and_damaged_inputs(stage, graph):
    checkpoint = files.checkpoint("quick", "mlp_sigmoid", 0)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(InputError, match=r"0\.safetensors is damaged"):
        stage("quick")
    checkpoint.unlink()
    with pytest.raises(InputError, match=r"0\.safetensors is missing: run `dvc repro`"):
        stage("quick")
    latency.path("quick", structure(graph)).unlink()
    with pytest.raises(InputError, match=r"latency/\w+\.json is missing: run `dvc repro`"):
        stage("quick")
    assert not records.folder("quick").exists()


# ---- torch.compile: last, since the compiler's modules stay


@pytest.fixture
def compiler():
    """torch.compile without the vector instructions that it else tries out on the compiler, for seconds."""
    from torch._inductor import config

    with config.patch("cpp.vec_isa_ok", False):
        yield


@with_compiler
@pytest.mark.usefixtures("compiler")
def test_compiled_and_nothing_left(graph, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "of_the_user"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    both = settings(runtimes=["torch", "torch_compile"])
    rows = measure(graph("mlp_sigmoid"), load("mlp_sigmoid"), 1, "cpu", None, both)
    assert not [row for row in rows if row.not_measured]
    build = {row.runtime: row.build_ms for row in rows}
    assert build["torch_compile"] > build["torch"]
    assert not list(tmp_path.rglob("*"))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "of_the_user")


@with_compiler
@pytest.mark.usefixtures("compiler")
def test_what_torch_compile_would_run_otherwise_than_asked_is_refused(graph):
    """It compiles no recurrent layer, and would run it as it is; on a CPU it would leave out the CUDA graph."""
    compiled = functools.partial(peers._torch, load("lstm"), "next_word", "cpu", compiled=True)
    captured = functools.partial(peers._torch_graph, load("mlp_sigmoid"), "classify", "cpu", compiled=True)
    with peers._prepared(["torch_compile"], False):
        with pytest.raises(torch._dynamo.exc.Unsupported, match="LSTM"):
            compiled(feeds_of(graph("lstm"), 1))["host"]()
        with pytest.raises(sessions.UnsupportedGraphError, match="no CUDA gra"):
            captured(feeds_of(graph("mlp_sigmoid"), 1))
