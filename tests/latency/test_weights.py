"""The copies of a graph that benchmarks/weights.py times: equal structure and outputs of equal shape, other weights."""

import numpy
import onnx
import pytest
import sample_graphs
from onnx import numpy_helper

from zoo.graphs import identity, sessions

RANDOM = numpy.random.default_rng(0)
CONSTANTS = {
    "first": RANDOM.standard_normal((6, 5), dtype=numpy.float32),
    "shift": RANDOM.standard_normal(5, dtype=numpy.float32),
    "second": RANDOM.standard_normal((5, 4), dtype=numpy.float32),
    "places": numpy.array([[0, 2]]),
}
BODY = "a = MatMul(x, first) b = Add(a, shift) c = Relu(b) d = MatMul(c, second) y = Gather <axis = 1> (d, places)"


@pytest.fixture
def weights(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "benchmarks")
    import weights

    return weights


@pytest.fixture
def exported(tmp_path):
    path = tmp_path / "dense.onnx"
    return onnx.load(sample_graphs.save(path, "(float[batch,6] x) => (float[batch,1,2] y)", BODY, **CONSTANTS))


def result(model, path, x):
    onnx.save(model, path)
    (y,) = sessions.open_session(path).run(None, {"x": x})
    return y


@pytest.mark.parametrize(
    ("kind", "matrix"),
    [
        ("exported", lambda values: values),
        ("zero", lambda values: 0 * values),
        ("denormal", lambda values: numpy.sign(values) * 1e-40),
    ],
)
def test_outputs_by_numpy(weights, exported, tmp_path, kind, matrix):
    changed = weights.with_weights(exported, kind)
    assert identity.structure_sha256(changed) == identity.structure_sha256(exported)
    x = RANDOM.standard_normal((3, 6), dtype=numpy.float32)
    hidden = numpy.maximum(x @ matrix(CONSTANTS["first"]).astype(float) + CONSTANTS["shift"], 0)
    expected = (hidden @ matrix(CONSTANTS["second"]).astype(float))[:, [[0, 2]]]
    numpy.testing.assert_allclose(result(changed, tmp_path / "changed.onnx", x), expected, rtol=1e-4, atol=1e-6)


def test_shuffled_weights_are_the_same_values_in_other_places(weights, exported, tmp_path):
    changed = weights.with_weights(exported, "shuffled")
    assert identity.structure_sha256(changed) == identity.structure_sha256(exported)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in changed.graph.initializer}
    for name in ("first", "second"):
        assert not numpy.array_equal(tensors[name], CONSTANTS[name])
        assert numpy.array_equal(numpy.sort(tensors[name], axis=None), numpy.sort(CONSTANTS[name], axis=None))
    assert all(numpy.array_equal(tensors[name], CONSTANTS[name]) for name in ("shift", "places"))
    assert result(changed, tmp_path / "changed.onnx", numpy.ones((3, 6), numpy.float32)).shape == (3, 1, 2)


def test_denormal_weights_are_not_zero(weights, exported):
    tensors = {tensor.name: tensor for tensor in weights.with_weights(exported, "denormal").graph.initializer}
    values = numpy.abs(numpy_helper.to_array(tensors["first"]))
    assert (values > 0).all()
    assert (values < numpy.finfo(numpy.float32).smallest_normal).all()


def test_ratios_are_taken_block_by_block(weights):
    """Twice as slow in every block, while the machine itself became three times slower."""
    blocks = {"exported": [10.0, 20.0, 30.0], "zero": [20.0, 40.0, 60.0]}
    measured = {kind: {"block_p50_us": values, "p50_us": values[1], "drift": 0.1} for kind, values in blocks.items()}
    found = weights.ratios(measured)
    assert (found["p50_us"], found["drift"]) == (20, 0.1)
    assert found["ratios"] == {"zero": {key: pytest.approx(2) for key in ("ratio", "low", "high")}}
    assert "zero 100.0%" in weights.table({"rows": [found | {"graph": "a apply", "batch": 1}]})
