"""What is measured of a graph, which configuration is advised, and how outputs are compared."""

import itertools
import math
import os

import numpy
import pytest
import sample_graphs

from zoo import statistics
from zoo.errors import InputError
from zoo.graphs import identity, sessions
from zoo.graphs.sessions import CPU, CUDA
from zoo.latency import measure, timing
from zoo.records.latency import Configuration, TimedGraph

HAS_CUDA = sessions.why_unavailable(CUDA) is None
without_cuda = pytest.mark.skipif(HAS_CUDA, reason="has CUDA")
TENSORRT = "TensorrtExecutionProvider"
SETTINGS = {
    "batches": [1, 2], "time": 5, "threads": [1, 2], "optimisations": ["none", "all"], "tf32": False, "as_written": [],
    "blocks": 3, "calls": 12, "seconds": 0.001, "max_seconds": 1, "reference_seconds": 0.0005, "max_drift": 9,
    "patience_seconds": 0.0, "warmup_calls": 1, "warmup_seconds": 0.001, "warmup_max_seconds": 0.01, "cores": 2,
    "cold_start": True,
}  # fmt: skip


def configuration(mode, threads, optimisation="all"):
    return Configuration(mode=mode, threads=threads, optimisation=optimisation)


def timed(path):
    """The `TimedGraph` of a file."""
    graph = {key: getattr(identity.of_file(path), key) for key in ("graph_sha256", "structure_sha256", "bytes")}
    return TimedGraph(experiment="it", seed=0, verb=path.stem, **graph)


def measured_by(provider, path, **changes):
    return measure.measure(timed(path), path, provider, SETTINGS | changes)


@pytest.fixture
def graph(tmp_path):
    return sample_graphs.save_scale(tmp_path / "0" / "scale.onnx")


def test_rows_of_a_graph(graph):
    source = measured_by(CPU, graph)
    assert source.graph == timed(graph)
    for batch in (1, 2):
        rows = [row for row in source.rows if row.batch == batch]
        configurations = {(row.mode, row.threads, row.optimisation) for row in rows}
        assert set(itertools.product(["host", "bound"], [1, 2], ["all"])) <= configurations
        assert len(configurations) == len(rows) <= 5  # a fifth only where another level of optimisation was found
        for row in rows:
            assert row.graph_sha256 == source.graph.graph_sha256
            assert row.nodes == {CPU: 3}
            assert row.times.calls == sum(row.times.block_calls) >= 12
            assert row.times.items_per_second == pytest.approx(batch * row.times.calls / row.times.seconds)
            assert row.times.p99_us is None
    assert [cold.batch for cold in source.cold] == [1, 2]
    assert [advice.batch for advice in source.advice] == [1, 2]
    assert source.agreement == []  # only of other providers than the CPU


def test_graphs_as_written_are_timed_too():
    settings = SETTINGS | {"as_written": ["apply"]}
    assert configuration("host", 1, "none") in measure.grid(CPU, "apply", settings)
    assert {one.optimisation for one in measure.grid(CPU, "encode", settings)} == {"all"}


def test_a_gpu_has_three_modes_and_no_threads():
    host, bound, graph = (configuration(mode, 1) for mode in ("host", "bound", "graph"))
    assert measure.grid(CUDA, "encode", SETTINGS) == [host, bound, graph]
    assert measure.grid(TENSORRT, "encode", SETTINGS) == [host, bound]
    assert measure.default_configuration(CUDA, SETTINGS) == host
    assert measure.default_configuration(CPU, SETTINGS) == configuration("host", 2)


def test_the_default_is_measured_whichever_threads_are_asked_for():
    alone = measure.grid(CPU, "encode", SETTINGS | {"threads": [1], "cores": 4})
    assert alone == [configuration(*one) for one in (("host", 1), ("bound", 1), ("host", 4))]


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


def test_without_a_cold_start_all_else_is_measured(graph):
    source = measured_by(CPU, graph, batches=[1], cold_start=False)
    assert source.cold == []
    assert all(row.times for row in source.rows)


def test_a_process_that_dies_is_a_reason(graph, monkeypatch):
    monkeypatch.setattr(measure, "_cold", die)
    assert measure.cold_start(graph, CPU, {"batch": 1}) == {
        "not_measured": "the process died: too little memory, or a fault of the runtime"
    }


@without_cuda
def test_an_unsupported_graph_is_a_reason_in_every_row(graph):
    cold = measure.cold_start(graph, CUDA, {"batch": 1})
    assert "cannot run on CUDAExecutionProvider alone" in cold["not_measured"]
    source = measured_by(CUDA, graph, batches=[1])
    assert [row.mode for row in source.rows] == ["host", "bound", "graph"]
    assert {row.not_measured for row in [*source.rows, *source.cold]} == {cold["not_measured"]}
    assert source.advice == source.agreement == []
    source = measured_by(CUDA, graph, batches=[1], cold_start=False)
    assert [one.mode for one in source.agreement] == ["host", "bound", "graph", "graph"]  # without optimisation, too
    assert {row.not_measured for row in [*source.rows, *source.agreement]} == {cold["not_measured"]}


def test_a_graph_whose_first_two_calls_take_too_long_is_not_timed(graph, monkeypatch):
    cold = {"first_call_us": 1.34e6, "second_call_us": 1.52e6}
    monkeypatch.setattr(measure, "cold_start", lambda *_: cold)
    source = measured_by(CPU, graph, batches=[1])
    assert source.advice == []
    assert {row.not_measured for row in source.rows} == {"a call takes 1.3 s, more than max_seconds (1 s)"}
    cold["first_call_us"] = 0.9e6
    assert all(row.times for row in measured_by(CPU, graph, batches=[1]).rows)


# ---- advice


def rows(**blocks):
    """Rows of {configuration: block medians}."""
    configurations = {key: key.split("_") for key in blocks}
    return {
        configuration(mode, int(threads)): {"block_p50_us": blocks[key]}
        for key, (mode, threads) in configurations.items()
    }


USUAL = configuration("host", 2)


def test_the_fastest_is_advised_with_its_ratio():
    measured = rows(host_2=[20, 21, 22, 20, 21], bound_1=[10, 10.5, 11, 10, 10.5], host_1=[15] * 5)
    advice = measure.advise(measured, USUAL, batch=3)
    assert (advice.verdict, advice.batch) == ("faster", 3)
    assert (advice.best, advice.default) == (configuration("bound", 1), USUAL)
    assert advice.ratio == pytest.approx(2)


def test_where_blocks_disagree_the_default_is_advised():
    usual, other = [20, 21, 19, 20, 21], [18, 23, 18.5, 22, 19]
    low, _ = statistics.interval([math.log(slow / fast) for slow, fast in zip(usual, other, strict=True)])
    assert low < 0
    advice = measure.advise(rows(host_2=usual, bound_1=other), USUAL, batch=1)
    assert (advice.verdict, advice.best, advice.ratio) == ("same", USUAL, 1.0)


def test_without_a_default_there_is_no_advice():
    assert measure.advise(rows(bound_1=[1] * 5), USUAL, batch=1) is None


# ---- outputs beside those of the CPU


def another_provider(monkeypatch, path):
    """Let sessions on anything but the CPU run the graph at `path` there instead, all of them in this process."""
    opened = sessions.open_session
    monkeypatch.setattr(measure, "call_in_worker", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(measure, "cold_start", lambda *_: {"first_call_us": 1, "second_call_us": 1})

    def open_session(asked, provider=CPU, *arguments, **options):
        return opened(asked if provider == CPU else path, CPU, *arguments, **options)

    monkeypatch.setattr(sessions, "open_session", open_session)
    monkeypatch.setattr(measure, "reference", lambda *_: timing.Reference(lambda: None))


def test_a_provider_that_computes_something_else_is_not_timed(graph, monkeypatch):
    """As if CUDA ran the same graph with weights a quarter larger: the largest output, near 18, is off by a quarter."""
    another_provider(monkeypatch, sample_graphs.save_scale(graph.with_name("wrong.onnx"), weight=2.5))
    source = measured_by(CUDA, graph, batches=[500])
    check = source.agreement[0]
    assert check.not_measured.startswith("its outputs differ from")
    assert "by 4.5 at a scale of 18" in check.not_measured
    assert {row.not_measured for row in source.rows} == {check.not_measured}
    assert source.advice == []


def test_a_provider_that_agrees_is_timed(graph, monkeypatch):
    """Weights off by a ten-thousandth, as another order of additions might make them."""
    another_provider(monkeypatch, sample_graphs.save_scale(graph.with_name("near.onnx"), weight=2.0002))
    source = measured_by(CUDA, graph, batches=[500])
    assert {(check.mode, check.optimisation) for check in source.agreement} == {
        ("host", "all"), ("bound", "all"), ("graph", "all"), ("graph", "none"),
    }  # fmt: skip
    for check in source.agreement:
        assert check.largest_difference == pytest.approx(1e-4 * check.scale, rel=0.01)
    assert {row.mode for row in source.rows if row.times} == {"host", "bound", "graph"}


def test_a_graph_that_goes_on_with_the_inputs_of_its_capture_is_not_timed(graph, monkeypatch):
    """As a CUDA graph would whose inputs were copied elsewhere: the outputs of its first call are right."""
    another_provider(monkeypatch, graph)
    bound = sessions.bound

    def deaf(session, feeds):
        call = bound(session, feeds)
        call.write = lambda arrays: None
        return call

    monkeypatch.setattr(sessions, "bound", deaf)
    source = measured_by(CUDA, graph, batches=[8])
    assert {row.mode for row in source.rows if row.times} == {"host"}
    refused = [one for one in [*source.rows, *source.agreement] if one.not_measured]
    assert {one.mode for one in refused} == {"bound", "graph"}
    assert all(one.not_measured.startswith("its outputs differ from") for one in refused)


def test_what_fails_in_the_other_process_is_not_tried_in_this_one(graph, monkeypatch):
    another_provider(monkeypatch, graph)
    prepare, prepared = measure.prepare, []

    def call_in_worker(function, path, provider, sizes, configuration):
        if configuration.mode == "graph":
            raise sessions.UnsupportedGraphError("the capture broke off")
        return {"largest_difference": 0.0, "scale": 1.0}

    def recorded(path, provider, sizes, configuration, tf32):
        prepared.append(configuration.mode)
        return prepare(path, provider, sizes, configuration, tf32)

    monkeypatch.setattr(measure, "call_in_worker", call_in_worker)
    monkeypatch.setattr(measure, "prepare", recorded)
    source = measured_by(CUDA, graph, batches=[1])
    assert prepared == ["host", "bound"]
    assert {row.mode: row.not_measured for row in source.rows} == {
        "host": None, "bound": None, "graph": "the capture broke off",
    }  # fmt: skip


def identity_of_process(fail=None):
    if fail is not None:
        raise fail
    return os.getpid()


def test_the_other_process_is_kept_until_something_fails_in_it():
    first = measure.call_in_worker(identity_of_process)
    assert os.getpid() != first == measure.call_in_worker(identity_of_process)
    with pytest.raises(measure.OutputMismatchError, match="off"):
        measure.call_in_worker(identity_of_process, measure.OutputMismatchError("off"))
    second = measure.call_in_worker(identity_of_process)
    assert second != first
    with pytest.raises(sessions.UnsupportedGraphError, match="the process died"):
        measure.call_in_worker(os._exit, 9)
    assert measure.call_in_worker(identity_of_process) not in (first, second)


def test_another_process_compares_a_later_call_on_other_inputs(graph):
    """The largest difference of a session on the CPU from another is 0; the scale is not that of zeros."""
    for mode in ("host", "bound"):
        found = measure.call_in_worker(measure.agreement_with_cpu, graph, CPU, {"batch": 4}, configuration(mode, 1))
        session = sessions.open_session(graph)
        outputs = session.run(None, sessions.random_feeds(session, {"batch": 4}))
        assert found == {"largest_difference": 0.0, "scale": max(float(numpy.abs(one).max()) for one in outputs)}
    graph.unlink()
    with pytest.raises(InputError, match=r"scale\.onnx is missing"):
        measure.call_in_worker(measure.agreement_with_cpu, graph, CPU, {"batch": 4}, configuration("host", 1))


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_CUDA, reason="needs CUDA")
@pytest.mark.parametrize("cold_start", [True, False])
def test_cuda_in_three_modes(tmp_path, cold_start):
    path = sample_graphs.save(
        tmp_path / "0" / "dense.onnx", "(float[batch,6] x) => (float[batch,5] y)", "a = MatMul(x, w) y = Relu(a)",
        w=numpy.random.default_rng(0).standard_normal((6, 5), dtype=numpy.float32),
    )  # fmt: skip
    source = measured_by(CUDA, path, cold_start=cold_start)
    for batch in (1, 2):
        rows = [row for row in source.rows if row.batch == batch]
        assert {row.mode for row in rows} == {"host", "bound", "graph"}
        assert all(row.times and row.nodes.keys() == {CUDA} and row.tf32 is False for row in rows)
        checks = [check for check in source.agreement if check.batch == batch]
        assert {check.mode for check in checks} == {"host", "bound", "graph"}
        assert all(check.largest_difference <= 1e-5 * check.scale for check in checks)
    assert len(source.cold) == 2 * cold_start


def test_where_every_configuration_is_unsupported_each_row_says_why(graph, monkeypatch):
    def refuse(*_):
        raise sessions.UnsupportedGraphError("not so")

    monkeypatch.setattr(measure, "prepare", refuse)
    rows, advice = measure.time_configurations(timed(graph), graph, CPU, {"batch": 1}, SETTINGS)
    assert advice is None
    assert {row.not_measured for row in rows} == {"not so"}
    assert len(rows) == len(measure.grid(CPU, "scale", SETTINGS))


@without_cuda
def test_a_comparison_without_the_provider_is_a_reason(graph):
    configurations = [configuration("host", 1), configuration("graph", 1)]
    found = measure.compare_with_cpu(graph, CUDA, {"batch": 1}, configurations)
    assert list(found) == configurations
    for one in found.values():
        assert "cannot run on CUDAExecutionProvider" in one["not_measured"]


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
        ([[1.0, numpy.nan], [0.5]], "finite at other positions"),
        ([[1.0, -4.0], [0.5, 0.5]], "differ in shape"),
        ([[1.0, -4.0]], "differ in shape"),
    ],
)
def test_disagreement(given, reason):
    with pytest.raises(measure.OutputMismatchError, match=reason):
        measure.agreement([numpy.array([1.0, -4.0]), numpy.array([0.5])], [numpy.array(one) for one in given])


def test_agreement_of_a_network_that_diverged():
    ours, theirs = numpy.array([numpy.nan, numpy.inf, 2.0]), numpy.array([numpy.nan, numpy.inf, 2.001])
    found = measure.agreement([ours], [theirs])
    assert found == {"largest_difference": pytest.approx(0.001), "scale": 2.0}
    assert measure.agreement([ours[:2]], [theirs[:2]]) == {"largest_difference": 0.0, "scale": 0.0}
    assert measure.agreement([numpy.zeros((0, 3))], [numpy.zeros((0, 3))])["scale"] == 0.0
