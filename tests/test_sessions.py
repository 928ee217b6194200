"""A session runs where it was asked to; a missing provider is written down, and replaces no measurement."""

import hashlib
import importlib.util
import json

import numpy
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from zoo import files, sessions
from zoo.errors import InputError

CUDA = "CUDAExecutionProvider"
without_cuda = pytest.mark.skipif(sessions.why_unavailable(CUDA) is None, reason="has CUDA")


def save_graph(path, weight=2.0):
    """image[batch,1,2,2], label[batch], state[1,batch,4] -> scaled = image * weight * label, carried."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [10, 1, 1, 1], numpy.arange(10) * weight)
    nodes = [
        helper.make_node("Gather", ["table", "label"], ["factor"]),
        helper.make_node("Mul", ["image", "factor"], ["scaled"]),
        helper.make_node("Relu", ["state"], ["carried"]),
    ]
    image, state = ["batch", 1, 2, 2], [1, "batch", 4]
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, image),
        helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, state),
    ]
    outputs = [
        helper.make_tensor_value_info("scaled", TensorProto.FLOAT, image),
        helper.make_tensor_value_info("carried", TensorProto.FLOAT, state),
    ]
    graph = helper.make_graph(nodes, "test", inputs, outputs, [table])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    helper.set_model_props(model, {"facts": json.dumps({"classes": 10}), "verb": "scale"})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def graph(tmp_path):
    return save_graph(tmp_path / "scale.onnx")


def test_nodes_agree_with_the_profile(graph, tmp_path):
    session = sessions.open_session(graph, profile_to=tmp_path / "profile")
    session.run(None, sessions.random_feeds(session, {"batch": 2}))
    with open(session.end_profiling()) as stream:
        events = json.load(stream)
    executed = [event["args"]["provider"] for event in events if "provider" in event.get("args", {})]
    assert set(executed) == set(sessions.nodes_per_provider(session)) == {sessions.CPU}
    assert sessions.nodes_per_provider(session) == {sessions.CPU: 3}


def test_metadata(graph):
    assert sessions.metadata(sessions.open_session(graph))["verb"] == "scale"


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
    with pytest.raises(ValueError, match=r"\[6, 7\]"):
        sessions.run_batched(session, feeds, 2)


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


def test_unknown_provider():
    with pytest.raises(InputError, match="'CUDA' is unknown to onnxruntime: use one of"):
        sessions.why_unavailable("CUDA")


@without_cuda
def test_no_cpu_stands_in_for_cuda(graph):
    with pytest.raises(sessions.Refused, match="cannot run on CUDAExecutionProvider alone"):
        sessions.open_session(graph, CUDA)
    reason = sessions.why_unavailable(CUDA)
    assert len(reason.splitlines()) == 1


@pytest.mark.skipif(sessions.why_unavailable(CUDA) is not None, reason="needs CUDA")
def test_cuda_is_asserted_per_node(graph):
    session = sessions.open_session(graph, CUDA)
    assert set(sessions.nodes_per_provider(session)) == {CUDA}


# ---- the stage


@pytest.fixture
def bench(root, tmp_path, monkeypatch):
    """The stage's function, in a folder with one graph of cae_strided and settings that take milliseconds."""
    parameters = yaml.safe_load((root / "params.yaml").read_text())
    parameters["benchmark"] |= {
        "batches": {"quick": [1, 2], "full": [1]}, "calls": {"quick": 12, "full": 12},
        "seconds": {"quick": 0.001, "full": 0.001}, "warmup_calls": 1, "warmup_seconds": 0.001,
    }  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    monkeypatch.chdir(tmp_path)
    save_graph(files.graphs("quick", "cae_strided") / "0" / "reconstruct.onnx")
    spec = importlib.util.spec_from_file_location("benchmark", root / "stages" / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.benchmark


def read(provider):
    return files.read_json(files.latency("quick", "cae_strided") / f"{provider}.json")


def graph_sha256():
    graph = files.graphs("quick", "cae_strided") / "0" / "reconstruct.onnx"
    return hashlib.sha256(graph.read_bytes()).hexdigest()


def test_rows_of_the_benchmark(bench):
    bench("quick", "cae_strided")
    measured = read("cpu")
    assert [row["verb"] for row in measured["rows"]] == ["reconstruct"] * 2
    assert [row["batch"] for row in measured["rows"]] == [1, 2]
    for row in measured["rows"]:
        assert row["graph_sha256"] == graph_sha256()
        assert row["nodes"] == {sessions.CPU: 3}
        assert row["calls"] >= 12
        assert min(row["load_ms"], row["first_call_us"], row["p50_us"]) > 0
        assert row["p99_us"] is None or row["calls"] >= 662


def test_equal_graphs_are_measured_once(bench):
    bench("quick", "cae_strided")
    first = read("cpu")
    bench("quick", "cae_strided")
    assert read("cpu") == first
    bench("quick", "cae_strided", again=True)
    assert read("cpu")["rows"] != first["rows"]


def test_a_changed_graph_is_measured_again(bench):
    bench("quick", "cae_strided")
    save_graph(files.graphs("quick", "cae_strided") / "0" / "reconstruct.onnx", weight=3.0)
    bench("quick", "cae_strided")
    assert {row["graph_sha256"] for row in read("cpu")["rows"]} == {graph_sha256()}


@without_cuda
def test_a_missing_provider_is_written_down(bench):
    bench("quick", "cae_strided")
    assert set(read("cuda")) == {"provider", "not_measured"}
    assert read("cuda")["provider"] == CUDA
    assert len(read("cuda")["not_measured"].splitlines()) == 1


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
