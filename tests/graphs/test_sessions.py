"""A session runs where it was asked to, or not at all; calls with arrays and bound ones give the same."""

import json

import numpy
import onnx
import pytest
import sample_graphs

from zoo.errors import InputError
from zoo.graphs import sessions
from zoo.graphs.sessions import CUDA

without_cuda = pytest.mark.skipif(sessions.why_unavailable(CUDA) is None, reason="has CUDA")


@pytest.fixture
def graph(tmp_path):
    return sample_graphs.save_scale(tmp_path / "scale.onnx")


def test_nodes_agree_with_the_profile(graph, tmp_path):
    session = sessions.open_session(graph, profile_to=tmp_path / "profile")
    session.run(None, sessions.random_feeds(session, {"batch": 2}))
    with open(session.end_profiling()) as stream:
        events = json.load(stream)
    executed = [event["args"]["provider"] for event in events if "provider" in event.get("args", {})]
    assert set(executed) == set(sessions.nodes_per_provider(session)) == {sessions.CPU}
    assert sessions.nodes_per_provider(session) == {sessions.CPU: 3}


def test_metadata(graph):
    assert json.loads(sessions.metadata(sessions.open_session(graph))["facts"]) == {"classes": 10}


def test_feeds_respect_the_graph(graph):
    session = sessions.open_session(graph)
    feeds = sessions.random_feeds(session, {"batch": 500, "time": 20}, seed=1)
    assert {name: value.shape for name, value in feeds.items()} == {
        "image": (500, 1, 2, 2), "label": (500,), "state": (1, 500, 4),
    }  # fmt: skip
    assert 0 <= feeds["image"].min() < feeds["image"].max() <= 1
    assert set(feeds["label"]) == set(range(10))
    assert feeds["state"].min() < 0
    again = sessions.random_feeds(session, {"batch": 500}, seed=1)
    assert all(numpy.array_equal(feeds[name], again[name]) for name in feeds)
    with pytest.raises(ValueError, match="batch"):
        sessions.random_feeds(session, {"time": 20})


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_batches_change_nothing(graph, batch):
    session = sessions.open_session(graph)
    feeds = sessions.random_feeds(session, {"batch": 7})
    out = sessions.run_batched(session, feeds, batch)
    factor = 2 * feeds["label"].reshape(7, 1, 1, 1).astype(numpy.float32)
    assert numpy.array_equal(out["scaled"], feeds["image"] * factor)
    assert numpy.array_equal(out["carried"], numpy.maximum(feeds["state"], 0))


def test_inputs_of_unequal_length(graph):
    session = sessions.open_session(graph)
    feeds = sessions.random_feeds(session, {"batch": 7})
    feeds["label"] = feeds["label"][:6]
    with pytest.raises(InputError, match=r"scale: input label is int64\[6\]: it takes int64\[batch\], batch 1 or more"):
        sessions.run_batched(session, feeds, 2)


def test_a_graph_that_does_not_say_what_it_takes(graph):
    model = onnx.load(graph)
    onnx.helper.set_model_props(model, {"experiment": "gan", "verb": "generate"})
    onnx.save(model, graph)
    session = sessions.open_session(graph)
    for call in (sessions.check, sessions.host, sessions.bound, sessions.random_feeds):
        with pytest.raises(InputError, match=r"gan/\?/generate does not describe its inputs: run `dvc repro`"):
            call(session, {})


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_damaged_graph(graph, keep):
    graph.write_bytes(graph.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"scale\.onnx is damaged.*delete it and run `dvc repro` again"):
        sessions.open_session(graph)


def test_missing_graph(tmp_path):
    with pytest.raises(InputError, match=r"none\.onnx is missing: run `dvc repro`"):
        sessions.open_session(tmp_path / "none.onnx")


def test_the_cpu_is_always_there():
    assert sessions.why_unavailable(sessions.CPU) is None


@pytest.mark.parametrize(("usable", "physical", "threads"), [({0, 3, 5}, 8, 3), ({3}, 8, 1), (set(range(16)), 8, 8)])
def test_the_default_number_of_threads(usable, physical, threads, monkeypatch):
    """Two hardware threads of a core count as one; None where the system does not tell the number of cores."""
    monkeypatch.setattr(sessions.os, "sched_getaffinity", lambda process: usable)
    monkeypatch.setattr(sessions.psutil, "cpu_count", lambda logical: physical)
    assert sessions.cores() == threads
    monkeypatch.setattr(sessions.psutil, "cpu_count", lambda logical: None)
    assert sessions.cores() == len(usable)


def test_unknown_provider():
    with pytest.raises(InputError, match="'CUDA' is unknown to onnxruntime: use one of"):
        sessions.why_unavailable("CUDA")


@without_cuda
def test_no_cpu_stands_in_for_cuda(graph):
    with pytest.raises(sessions.UnsupportedGraphError, match="cannot run on CUDAExecutionProvider alone"):
        sessions.open_session(graph, CUDA)
    reason = sessions.why_unavailable(CUDA)
    assert len(reason.splitlines()) == 1


@pytest.mark.skipif(sessions.why_unavailable(CUDA) is not None, reason="needs CUDA")
def test_cuda_is_asserted_per_node(graph):
    session = sessions.open_session(graph, CUDA)
    assert set(sessions.nodes_per_provider(session)) == {CUDA}


def test_bound_outputs_are_those_of_arrays(graph):
    session = sessions.open_session(graph)
    feeds = sessions.random_feeds(session, {"batch": 3})
    call = sessions.bound(session, feeds)
    call()
    binding = call.args[0]
    expected = feeds["image"] * 2 * feeds["label"].reshape(3, 1, 1, 1).astype(numpy.float32)
    scaled, carried = binding.copy_outputs_to_cpu()
    assert numpy.array_equal(scaled, expected)
    assert numpy.array_equal(carried, numpy.maximum(feeds["state"], 0))
    call.write(feeds | {"image": numpy.zeros_like(feeds["image"])})
    call()
    assert not binding.copy_outputs_to_cpu()[0].any()
    assert feeds["image"].all()  # the caller's own


@pytest.mark.parametrize("mode", [sessions.host, sessions.bound])
def test_what_is_written_takes_the_place_of_the_inputs(graph, mode):
    session = sessions.open_session(graph)
    feeds, others = (sessions.random_feeds(session, {"batch": 3}, seed) for seed in (0, 1))
    call = mode(session, feeds)
    for given in (feeds, others):
        call.write(given)
        for ours, theirs in zip(sessions.outputs(call), session.run(None, given), strict=True):
            assert numpy.array_equal(ours, theirs)
    assert numpy.array_equal(sessions.host(session, feeds)()[1], numpy.maximum(feeds["state"], 0))


def test_the_reference_is_two_layers():
    call = sessions.reference()
    call()
    random = numpy.random.default_rng(0)
    first, second = (random.standard_normal((256, 256), dtype=numpy.float32) / 16 for _ in range(2))
    x = random.standard_normal((16, 256), dtype=numpy.float32)
    (result,) = call.args[0].copy_outputs_to_cpu()
    numpy.testing.assert_allclose(result, numpy.maximum(x @ first, 0) @ second, atol=1e-4)


@pytest.mark.parametrize(("level", "nodes"), [("none", 3), ("all", 2)])
def test_levels_of_optimisation(tmp_path, level, nodes):
    """A chain whose first node has constants alone is folded, but as written all of it runs."""
    body = "less = Neg(ones) z = Sin(x) y = Mul(z, less)"
    ones = numpy.ones(2, numpy.float32)
    path = sample_graphs.save(tmp_path / "chain.onnx", "(float[batch,2] x) => (float[batch,2] y)", body, ones=ones)
    session = sessions.open_session(path, optimisation=level)
    assert sessions.nodes_per_provider(session) == {sessions.CPU: nodes}


@without_cuda
@pytest.mark.parametrize("options", [{"cuda_graph": True}, {"tf32": True}])
def test_options_of_cuda_change_nothing_about_a_refusal(graph, options):
    with pytest.raises(sessions.UnsupportedGraphError, match="cannot run on CUDAExecutionProvider alone"):
        sessions.open_session(graph, CUDA, **options)


def test_a_loop_in_a_cuda_graph_is_refused_in_plain_words(graph, monkeypatch):
    """As onnxruntime 1.31 says it, at the end of a long line."""
    says = "FAIL : This session cannot use the graph capture feature as the model has control flow nodes"

    def refuse(*arguments, **options):
        raise RuntimeError(says)

    monkeypatch.setattr(sessions, "_open", refuse)
    with pytest.raises(
        sessions.UnsupportedGraphError, match=r"\.onnx has a loop, which cannot be part of a CUDA graph"
    ):
        sessions.open_session(graph, CUDA, cuda_graph=True)
    with pytest.raises(sessions.UnsupportedGraphError, match="cannot run on CUDAExecutionProvider alone: FAIL"):
        sessions.open_session(graph, CUDA)
