"""What is committed is current: the README's table; and no report mixes graphs."""

from pathlib import Path

import onnx
import pytest
import sample_graphs
import sample_records as sample

from zoo import cli, files, params
from zoo.graphs import identity
from zoo.records import Identity, metrics, parity
from zoo.report import charts, render, results

FULL = files.report("full", "")
has_records = pytest.mark.skipif(
    not any(FULL.glob("*/*.json")), reason="reports/full has no records: the full profile has not been run again"
)


def assert_one_graph(profile, values):
    """No value of a report comes from another graph than the present one, and summary.json says the same."""
    assert sample.mixed_graphs(render.summarise(results.gather(profile, values))) == {}
    assert sample.mixed_graphs(files.read_json(files.report(profile, "summary.json"))) == {}


def test_readme_table_is_current():
    """`zoo readme` would change nothing."""
    text = Path("README.md").read_text()
    assert render.rewrite_block(text, cli.results()) == text


@has_records
def test_the_committed_report_does_not_mix_graphs():
    assert_one_graph("full", params.read())


@has_records
def test_every_experiment_is_reported_and_every_claim_weighed():
    values, summary = params.read(), files.read_json(FULL / "summary.json")
    assert summary["order"] == list(values["models"])
    assert [claim["key"] for claim in summary["claims"]] == list(values["claims"])


@has_records
@pytest.mark.parametrize(("name", "floor"), [("cae_zero_unpool", 0.08550), ("cae_nearest_unpool", 0.01636)])
def test_no_seed_is_below_the_floor_of_its_network(name, floor):
    """The floors of MNIST's test set, computed once before the project began."""
    scored = metrics.read("full", name).verbs["reconstruct"]
    assert scored["floor_mse"].mean == pytest.approx(floor, rel=1e-3)
    assert min(scored["mse"].seeds.values()) >= scored["floor_mse"].mean


@has_records
def test_accuracy_is_that_of_the_confusion_counts():
    record = metrics.read("full", "resnet")
    counts = record.confusion["all"]
    assert sum(map(sum, counts)) == 10_000
    accuracy = sum(counts[digit][digit] for digit in range(10)) / 10_000
    assert record.verbs["classify"]["accuracy"].seeds["0"] == pytest.approx(accuracy, rel=1e-5)


# ---- that the refusal refuses


def export(graph):
    """Record the file `graph` as the autoencoder's first one; what was scored stays as it was."""
    record = parity.read("full", "autoencoder")
    exported = record.graphs["reconstruct"]
    exported["0"] = exported["0"].model_copy(update={"graph": identity.of_file(graph)})
    parity.write(record)


@pytest.fixture
def report(tmp_path, monkeypatch):
    """A made-up report whose autoencoder scored the file scale.onnx."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(charts, "draw", lambda *_: {})
    sample.write("full")
    graph = sample_graphs.save_scale(tmp_path / "scale.onnx")
    export(graph)
    record, of = metrics.read("full", "autoencoder"), identity.of_file(graph)
    record.graphs["0"]["reconstruct"] = Identity(graph_sha256=of.graph_sha256, structure_sha256=of.structure_sha256)
    metrics.write(record)
    render.write(results.gather("full", sample.VALUES))
    return graph


def change_weight(model):
    table = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    table.flat[3] += 1e-6
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(table, model.graph.initializer[0].name))


def change_operator(model):
    (relu,) = [node for node in model.graph.node if node.op_type == "Relu"]
    relu.op_type = "Tanh"


def test_a_report_of_the_exported_graphs_is_accepted(report):
    assert_one_graph("full", sample.VALUES)


@pytest.mark.parametrize(("change", "mark"), [(change_weight, "other weights"), (change_operator, "other structure")])
def test_a_report_of_other_graphs_is_refused(report, change, mark):
    model = onnx.load(report)
    change(model)
    onnx.save(model, report)
    export(report)
    found = sample.mixed_graphs(render.summarise(results.gather("full", sample.VALUES)))
    assert found == {("autoencoder", f"reconstruct.{metric}"): mark for metric in ("mse", "psnr_db")}
    with pytest.raises(AssertionError):
        assert_one_graph("full", sample.VALUES)
    render.write(results.gather("full", sample.VALUES))
    assert sample.mixed_graphs(files.read_json(files.report("full", "summary.json"))) == found
