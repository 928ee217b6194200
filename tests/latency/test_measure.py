"""What is measured of a graph, which measurement stands, and what is advised; the stage that writes it down."""

import importlib.util
import itertools
import json
import math
import os

import numpy
import pytest
import sample_graphs
import yaml

from zoo import files, params, statistics
from zoo.errors import InputError
from zoo.graphs import sessions
from zoo.graphs.sessions import CPU, CUDA
from zoo.latency import measure, timing
from zoo.latency.measure import Configuration

without_cuda = pytest.mark.skipif(sessions.why_unavailable(CUDA) is None, reason="has CUDA")
TENSORRT = "TensorrtExecutionProvider"
BENCHMARK = {
    "batches": [1, 2], "time": 5, "threads": [1, 2], "optimisations": ["none", "all"], "tf32": False, "as_written": [],
    "blocks": 3, "calls": 12, "seconds": 0.001, "most_seconds": 1, "reference_seconds": 0.0005, "most_drift": 9,
    "patience_seconds": 0.0, "warmup_calls": 1, "warmup_seconds": 0.001, "warmup_most_seconds": 0.01,
}  # fmt: skip
SETTINGS = BENCHMARK | {"cores": 2}


@pytest.fixture
def graph(tmp_path):
    return sample_graphs.save_scale(tmp_path / "0" / "scale.onnx")


def test_rows_of_a_graph(graph):
    found = measure.measure({"scale": graph}, CPU, SETTINGS)
    for batch in (1, 2):
        rows = [row for row in found["rows"] if row["batch"] == batch]
        configurations = {(row["mode"], row["threads"], row["optimisation"]) for row in rows}
        assert set(itertools.product(["host", "bound"], [1, 2], ["all"])) <= configurations
        assert len(configurations) == len(rows) <= 5  # a fifth only where another level of optimisation was found
        for row in rows:
            assert row["graph_sha256"] == measure.sha256(graph)
            assert row["nodes"] == {CPU: 3}
            assert row["calls"] == sum(row["block_calls"]) >= 12
            assert row["items_per_second"] == pytest.approx(batch * row["calls"] / row["seconds"])
            assert row["p99_us"] is None
    assert [(cold["verb"], cold["batch"]) for cold in found["cold"]] == [("scale", 1), ("scale", 2)]
    assert [advice["batch"] for advice in found["advice"]] == [1, 2]
    assert found["parity"] == []  # of other providers than the CPU


def test_all_threads_are_the_cores_that_may_be_used(monkeypatch):
    everything = params.load()
    monkeypatch.setattr(sessions.os, "sched_getaffinity", lambda process: {0, 3, 5})
    monkeypatch.setattr(sessions.psutil, "cpu_count", lambda logical: 8)
    chosen = measure.settings(everything, "full")
    assert chosen["threads"] == [1, 3]
    assert chosen["batches"] == everything["benchmark"]["batches"]["full"]
    monkeypatch.setattr(sessions.os, "sched_getaffinity", lambda process: {3})
    assert measure.settings(everything, "full")["threads"] == [1]
    monkeypatch.setattr(sessions.os, "sched_getaffinity", lambda process: set(range(16)))
    assert measure.settings(everything, "full")["threads"] == [1, 8]  # two hardware threads a core are one


def test_graphs_as_written_are_timed_too():
    assert Configuration("host", 1, "none") in measure.grid(CPU, "apply", SETTINGS | {"as_written": ["apply"]})
    assert {one.optimisation for one in measure.grid(CPU, "encode", SETTINGS | {"as_written": ["apply"]})} == {"all"}


def test_a_gpu_has_three_modes_and_no_threads():
    host, bound, graph = (Configuration(mode, 1, "all") for mode in ("host", "bound", "graph"))
    assert measure.grid(CUDA, "encode", SETTINGS) == [host, bound, graph]
    assert measure.grid(TENSORRT, "encode", SETTINGS) == [host, bound]
    assert measure.default(CUDA, SETTINGS) == Configuration("host", 1, "all")
    assert measure.default(CPU, SETTINGS) == Configuration("host", 2, "all")


def test_the_default_is_measured_whichever_threads_are_asked_for():
    alone = measure.grid(CPU, "encode", SETTINGS | {"threads": [1], "cores": 4})
    assert alone == [Configuration(*one, "all") for one in (("host", 1), ("bound", 1), ("host", 4))]


# ---- a cold start


def test_memory_of_a_graph_that_holds_a_known_amount(tmp_path):
    """The same graph with 64 MiB of weights and with few: what is resident differs by those weights, once or twice."""
    peaks = {}
    for name, rows in (("small", 1), ("large", 2**24 // 64)):
        weights = numpy.ones((64, rows), numpy.float32)
        body = "z = MatMul(x, w) total = ReduceSum <keepdims = 0> (z)"
        path = sample_graphs.save(
            tmp_path / "0" / f"{name}.onnx", "(float[batch,64] x) => (float total)", body, w=weights
        )
        cold = measure.cold_start(path, CPU, {"batch": 1})
        assert min(cold["load_ms"], cold["first_call_us"], cold["second_call_us"]) > 0
        peaks[name] = cold["memory_peak_mib"]
    assert 64 <= peaks["large"] - peaks["small"] < 64 * 3.5  # the file's bytes, the tensor, a packed copy


def die(path, provider, sizes):
    os._exit(9)


def test_a_process_that_dies_is_a_reason(graph, monkeypatch):
    monkeypatch.setattr(measure, "_cold", die)
    assert measure.cold_start(graph, CPU, {"batch": 1}) == {
        "not_measured": "the process died: too little memory, or a fault of the runtime"
    }


@without_cuda
def test_what_is_refused_is_a_reason_in_every_row(graph):
    cold = measure.cold_start(graph, CUDA, {"batch": 1})
    assert "cannot run on CUDAExecutionProvider alone" in cold["not_measured"]
    found = measure.measure({"scale": graph}, CUDA, SETTINGS | {"batches": [1]})
    assert [row["mode"] for row in found["rows"]] == ["host", "bound", "graph"]
    assert {row["not_measured"] for row in [*found["rows"], *found["cold"], *found["parity"]]} == {cold["not_measured"]}
    assert found["advice"] == []


def test_what_takes_too_long_in_both_of_its_first_calls_is_not_measured(graph, monkeypatch):
    cold = {"first_call_us": 1.34e6, "second_call_us": 1.52e6}
    monkeypatch.setattr(measure, "cold_start", lambda *_: cold)
    found = measure.measure({"scale": graph}, CPU, SETTINGS | {"batches": [1]})
    assert found["advice"] == []
    assert {row["not_measured"] for row in found["rows"]} == {"a call takes 1.3 s, more than most_seconds (1 s)"}
    cold["first_call_us"] = 0.9e6
    found = measure.measure({"scale": graph}, CPU, SETTINGS | {"batches": [1]})
    assert all(row["p50_us"] for row in found["rows"])


# ---- advice


def measured(**blocks):
    """A measurement of {configuration: block medians}."""
    return {Configuration(*key.split("_")): {"block_p50_us": values} for key, values in blocks.items()}


USUAL = Configuration("host", "2", "all")


def test_the_fastest_is_advised_with_its_ratio():
    rows = measured(host_2_all=[20, 21, 22, 20, 21], bound_1_all=[10, 10.5, 11, 10, 10.5], host_1_all=[15] * 5)
    advice = measure.advise(rows, USUAL)
    assert advice["verdict"] == "faster"
    assert advice["best"] == {"mode": "bound", "threads": "1", "optimisation": "all"}
    assert advice["default"] == USUAL._asdict()
    assert advice["ratio"] == pytest.approx(2)


def test_where_blocks_disagree_the_default_is_advised():
    usual, other = [20, 21, 19, 20, 21], [18, 23, 18.5, 22, 19]
    low, _ = statistics.interval([math.log(slow / fast) for slow, fast in zip(usual, other, strict=True)])
    assert low < 0
    advice = measure.advise(measured(host_2_all=usual, bound_1_all=other), USUAL)
    assert (advice["verdict"], advice["best"], advice["ratio"]) == ("same", USUAL._asdict(), 1.0)


def test_without_a_default_there_is_no_advice():
    assert measure.advise(measured(bound_1_all=[1] * 5), USUAL) is None


# ---- parity


def another_provider(monkeypatch, path):
    """Let sessions on anything but the CPU run the graph at `path` there instead."""
    opened = sessions.open_session

    def open_session(asked, provider=CPU, *arguments, **options):
        return opened(asked if provider == CPU else path, CPU, *arguments, **options)

    monkeypatch.setattr(sessions, "open_session", open_session)
    monkeypatch.setattr(measure, "reference", lambda *_: timing.Reference(lambda: None))


def test_a_provider_that_computes_something_else_is_not_timed(graph, monkeypatch):
    """As if CUDA ran the same graph with weights a quarter larger: the largest output, near 18, is off by a quarter."""
    another_provider(monkeypatch, sample_graphs.save_scale(graph.with_name("wrong.onnx"), weight=2.5))
    monkeypatch.setattr(measure, "cold_start", lambda *_: {"first_call_us": 1, "second_call_us": 1})
    found = measure.measure({"scale": graph}, CUDA, SETTINGS | {"batches": [500]})
    (check,) = found["parity"]
    assert check["not_measured"].startswith("it computes something else")
    assert "by 4.5 at a scale of 18" in check["not_measured"]
    assert {row["not_measured"] for row in found["rows"]} == {check["not_measured"]}
    assert found["advice"] == []


def test_a_provider_that_agrees_is_timed(graph, monkeypatch):
    """Weights off by a ten-thousandth, as another order of additions might make them."""
    another_provider(monkeypatch, sample_graphs.save_scale(graph.with_name("near.onnx"), weight=2.0002))
    monkeypatch.setattr(measure, "cold_start", lambda *_: {"first_call_us": 1, "second_call_us": 1})
    found = measure.measure({"scale": graph}, CUDA, SETTINGS | {"batches": [500]})
    (check,) = found["parity"]
    assert check["largest_difference"] == pytest.approx(1e-4 * check["scale"], rel=0.01)
    assert {row["mode"] for row in found["rows"] if "p50_us" in row} == {"host", "bound", "graph"}


def test_where_every_configuration_is_refused_each_row_says_why(graph, monkeypatch):
    def refuse(*_):
        raise sessions.Refused("not so")

    monkeypatch.setattr(measure, "prepare", refuse)
    rows, advice = measure.steady(graph, CPU, {"batch": 1}, SETTINGS)
    assert advice is None
    assert {row["not_measured"] for row in rows} == {"not so"}
    assert len(rows) == len(measure.grid(CPU, "scale", SETTINGS))


@without_cuda
def test_parity_without_the_provider_is_a_reason(graph):
    assert "cannot run on CUDAExecutionProvider" in measure.parity(graph, CUDA, {"batch": 1})["not_measured"]


@pytest.mark.parametrize(
    ("given", "difference", "scale"),
    [
        ([[1.0, -4.0], [0.5]], 0.0, 4.0),
        ([[1.0, -4.003], [0.5]], 0.003, 4.0),
        ([[1.0, -4.0], [0.5004]], 0.0004, 4.0),
    ],
)
def test_agreement(given, difference, scale):
    found = measure.agreement([numpy.array([1.0, -4.0]), numpy.array([0.5])], [numpy.array(one) for one in given])
    assert found == {"largest_difference": pytest.approx(difference), "scale": scale}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([[1.0, -4.005], [0.5]], "by 0.005 at a scale of 4"),
        ([[1.0, -4.0], [0.503]], "by 0.003 at a scale of 0.5"),  # small beside the other output, not beside its own
        ([[1.0, numpy.nan], [0.5]], "finite in other places"),
        ([[1.0, -4.0], [0.5, 0.5]], "other shapes"),
        ([[1.0, -4.0]], "other shapes"),
    ],
)
def test_disagreement(given, reason):
    with pytest.raises(measure.Unequal, match=reason):
        measure.agreement([numpy.array([1.0, -4.0]), numpy.array([0.5])], [numpy.array(one) for one in given])


def test_agreement_of_a_network_that_diverged():
    ours, theirs = numpy.array([numpy.nan, numpy.inf, 2.0]), numpy.array([numpy.nan, numpy.inf, 2.001])
    found = measure.agreement([ours], [theirs])
    assert found == {"largest_difference": pytest.approx(0.001), "scale": 2.0}
    assert measure.agreement([ours[:2]], [theirs[:2]]) == {"largest_difference": 0.0, "scale": 0.0}
    assert measure.agreement([numpy.zeros((0, 3))], [numpy.zeros((0, 3))])["scale"] == 0.0


# ---- the stage


@pytest.fixture
def bench(root, tmp_path, monkeypatch):
    """The stage's function, in a folder with one graph of cae_strided and settings that take milliseconds."""
    parameters = yaml.safe_load((root / "params.yaml").read_text())
    chosen = BENCHMARK | {"optimisations": ["all"]}
    by_profile = [key for key, value in parameters["benchmark"].items() if isinstance(value, dict)]
    parameters["benchmark"] |= chosen | {key: dict.fromkeys(("quick", "full"), chosen[key]) for key in by_profile}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    monkeypatch.chdir(tmp_path)
    sample_graphs.save_scale(files.graphs("quick", "cae_strided") / "0" / "reconstruct.onnx")
    spec = importlib.util.spec_from_file_location("benchmark", root / "stages" / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.benchmark


def read(provider):
    return files.read_json(files.latency("quick", "cae_strided") / f"{provider}.json")


def graph_sha256():
    return measure.sha256(files.graphs("quick", "cae_strided") / "0" / "reconstruct.onnx")


def test_what_the_benchmark_writes_down(bench):
    bench("quick", "cae_strided")
    found = read("cpu")
    assert {(row["verb"], row["batch"], row["mode"]) for row in found["rows"]} == set(
        itertools.product(["reconstruct"], [1, 2], ["host", "bound"])
    )
    assert found["machine"] == json.loads(json.dumps(timing.machine()))
    assert set(found["conditions"]) == {"before", "after"}
    assert found["settings"]["tf32"] is False


def test_equal_graphs_are_measured_once(bench):
    bench("quick", "cae_strided")
    first = read("cpu")
    bench("quick", "cae_strided")
    assert read("cpu") == first
    bench("quick", "cae_strided", again=True)
    assert read("cpu")["rows"] != first["rows"]


def test_a_changed_graph_is_measured_again(bench):
    bench("quick", "cae_strided")
    sample_graphs.save_scale(files.graphs("quick", "cae_strided") / "0" / "reconstruct.onnx", weight=3.0)
    bench("quick", "cae_strided")
    assert {row["graph_sha256"] for row in read("cpu")["rows"]} == {graph_sha256()}


@without_cuda
@pytest.mark.parametrize(("file", "provider"), [("cuda", CUDA), ("tensorrt", TENSORRT)])
def test_a_missing_provider_is_written_down(bench, file, provider):
    bench("quick", "cae_strided")
    assert set(read(file)) == {"provider", "not_measured"}
    assert read(file)["provider"] == provider
    assert len(read(file)["not_measured"].splitlines()) == 1


@without_cuda
@pytest.mark.parametrize("again", [False, True])
def test_a_missing_provider_replaces_no_measurement_of_the_same_graph(bench, again):
    kept = {"provider": CUDA, "rows": [{"verb": "reconstruct", "batch": 64, "graph_sha256": graph_sha256()}]}
    files.write_json(files.latency("quick", "cae_strided") / "cuda.json", kept)
    bench("quick", "cae_strided", again=again)
    assert read("cuda") == kept


@without_cuda
def test_a_measurement_of_another_graph_is_not_kept(bench):
    kept = {"provider": CUDA, "rows": [{"verb": "reconstruct", "batch": 64, "graph_sha256": "0" * 64}]}
    files.write_json(files.latency("quick", "cae_strided") / "cuda.json", kept)
    bench("quick", "cae_strided")
    assert "not_measured" in read("cuda")


def test_no_graphs(bench):
    with pytest.raises(InputError, match=r"gan/0 has no graphs: run `dvc repro`"):
        bench("quick", "gan")
