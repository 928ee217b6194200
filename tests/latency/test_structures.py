"""Equal structures are measured once: what the stage `benchmark` measures, keeps, reuses and drops."""

import importlib.util
import itertools
import shutil
from pathlib import Path

import numpy
import pytest
import sample_graphs
import yaml

from zoo import files
from zoo.errors import InputError
from zoo.graphs import identity, sessions
from zoo.graphs.sessions import CPU, CUDA
from zoo.latency import machine, measure, structures
from zoo.records import latency

without_cuda = pytest.mark.skipif(sessions.why_unavailable(CUDA) is None, reason="has CUDA")
PROVIDERS = [CPU, CUDA, "TensorrtExecutionProvider"]
BENCHMARK = {
    "batches": [1], "time": 5, "threads": [1], "optimisations": ["all"], "as_written": [], "cold_start": True,
    "blocks": 3, "calls": 12, "seconds": 0.001, "max_seconds": 1, "reference_seconds": 0.0005, "max_drift": 9,
    "patience_seconds": 0.0, "warmup_calls": 1, "warmup_seconds": 0.001, "warmup_max_seconds": 0.01,
    "providers": [CPU],
}  # fmt: skip


def write_parameters(**changes):
    """params.yaml with what the stage reads of it."""
    section = {"both": BENCHMARK | changes, "quick": {}, "full": {}, "visit": {"cold_start": False, "batches": [3]}}
    Path("params.yaml").write_text(yaml.safe_dump({"benchmark": section, "tf32": False}))


def save_scale(name, weight=2.0, seed=0):
    path = sample_graphs.save_scale(files.graph("quick", name, seed, "apply"), weight)
    sample_graphs.write_parity("quick", name)
    return path


def save_chain(name, *operators, verb="apply"):
    """A graph of operators with one input and one output, one after another."""
    names = ["x", *(f"x{number}" for number in range(1, len(operators))), "y"]
    steps = zip(operators, itertools.pairwise(names), strict=True)
    body = " ".join(f"{after} = {operator}({before})" for operator, (before, after) in steps)
    path = files.graph("quick", name, 0, verb)
    sample_graphs.save(path, "(float[batch,3] x) => (float[batch,3] y)", body)
    sample_graphs.write_parity("quick", name)
    return path


@pytest.fixture
def stage(root, tmp_path, monkeypatch):
    """The stage's function, in a folder with settings that take milliseconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(root / "stages")
    write_parameters()
    spec = importlib.util.spec_from_file_location("benchmark", root / "stages" / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.benchmark


def read(path):
    return latency.read("quick", identity.of_file(path).structure_sha256)


def written():
    return sorted(path.name for path in latency.folder("quick").iterdir())


def test_graphs_that_differ_only_in_weights_are_measured_once(stage, capsys):
    first, second = save_scale("a", weight=2.0), save_scale("b", weight=3.0)
    assert first.read_bytes() != second.read_bytes()
    stage("quick")
    assert read(first) == read(second)
    assert len(written()) == len(capsys.readouterr().out.splitlines()) == 1
    assert read(first).sources[CPU].graph.experiment == "a"
    assert {row.graph_sha256 for row in read(first).sources[CPU].rows} == {identity.of_file(first).graph_sha256}


def test_another_operator_is_another_measurement(stage):
    graphs = [save_chain("a", "Sin", "Relu"), save_chain("b", "Sin", "Sigmoid"), save_chain("c", "Sin")]
    stage("quick")
    assert len(written()) == 3
    assert [read(path).sources[CPU].graph.experiment for path in graphs] == ["a", "b", "c"]


def test_only_the_first_seed_is_measured(stage):
    save_scale("a", seed=10)
    path = save_scale("a", weight=5.0, seed=9)
    stage("quick")
    graph = read(path).sources[CPU].graph
    assert (graph.seed, graph.graph_sha256) == (9, identity.of_file(path).graph_sha256)


def test_every_graph_names_its_structure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {"b": save_scale("b"), "a": save_scale("a", weight=3.0), "c": save_chain("c", "Relu")}
    groups = structures.graphs("quick")
    assert [[graph.experiment for graph in group] for group in groups.values()] == [["a", "b"], ["c"]]
    for structure, graph in ((structure, graph) for structure, group in groups.items() for graph in group):
        assert structure == graph.structure_sha256
        assert structures.path("quick", graph) == paths[graph.experiment]
        assert graph.bytes == paths[graph.experiment].stat().st_size


def test_the_record(stage):
    path = save_scale("a")
    stage("quick")
    source = read(path).sources[CPU]
    configurations = {(row.mode, row.threads) for row in source.rows}
    assert {("host", 1), ("bound", 1), ("host", sessions.cores())} <= configurations
    assert source.machine == machine.describe()
    assert set(source.conditions) == {"before", "after"}
    assert source.settings["tf32"] is False


def test_a_measurement_is_reused_until_it_is_asked_for_again(stage):
    path = save_scale("a")
    stage("quick")
    first = read(path)
    stage("quick")
    assert read(path) == first
    stage("quick", again=True)
    assert read(path).sources[CPU].rows != first.sources[CPU].rows


def test_other_weights_keep_the_measurement_and_its_graph(stage):
    path = save_scale("a")
    stage("quick")
    first = read(path)
    save_scale("a", weight=3.0)
    stage("quick")
    assert read(path) == first
    assert first.sources[CPU].graph.graph_sha256 != identity.of_file(path).graph_sha256


@pytest.mark.parametrize("change", ["settings", "machine"])
def test_other_settings_and_another_machine_are_measured_again(stage, change, monkeypatch):
    path = save_scale("a")
    stage("quick")
    first = read(path).sources[CPU]
    if change == "settings":
        write_parameters(calls=13)
    else:
        described = machine.describe()
        monkeypatch.setattr(machine, "describe", lambda: described | {"cpu": "another"})
    stage("quick")
    source = read(path).sources[CPU]
    assert source.rows != first.rows
    assert getattr(source, change) != getattr(first, change)


def test_a_short_visit_has_its_own_settings(stage):
    path = save_scale("a")
    stage("quick", visit=True)
    source = read(path).sources[CPU]
    assert source.cold == []
    assert {row.batch for row in source.rows} == {3}
    assert (source.settings["batches"], source.settings["calls"]) == ([3], BENCHMARK["calls"])
    stage("quick")
    assert [cold.batch for cold in read(path).sources[CPU].cold] == [1]


def test_a_structure_that_no_longer_exists_leaves_no_file(stage):
    path, other = save_scale("a"), save_chain("b", "Relu")
    stage("quick")
    assert len(written()) == 2
    Path(files.graphs("quick", "b") / "0" / "apply.onnx").unlink()
    Path("reports/quick/parity/b.json").unlink()
    Path("reports/quick/latency/.left.json.partial").touch()
    stage("quick")
    assert written() == [latency.path("quick", identity.of_file(path).structure_sha256).name]
    assert not other.exists()


def test_an_interrupted_run_keeps_the_structures_that_it_measured(stage, monkeypatch):
    paths = [save_chain(name, operator) for name, operator in (("a", "Relu"), ("b", "Sin"), ("c", "Cos"))]
    measured, original, due = [], measure.measure, ["a"]

    def interrupted(graph, *arguments):
        if graph.experiment not in due:
            raise KeyboardInterrupt
        measured.append(graph.experiment)
        return original(graph, *arguments)

    monkeypatch.setattr(measure, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage("quick")
    kept = read(paths[0])
    assert len(written()) == 1
    due += ["b", "c"]
    stage("quick")
    assert measured == ["a", "b", "c"]
    assert read(paths[0]) == kept
    assert len(written()) == 3


@without_cuda
@pytest.mark.parametrize("provider", PROVIDERS[1:])
def test_a_missing_provider_is_recorded(stage, provider):
    write_parameters(providers=PROVIDERS)
    path = save_scale("a")
    stage("quick")
    assert len(read(path).not_measured[provider].splitlines()) == 1
    assert list(read(path).sources) == [CPU]


@without_cuda
@pytest.mark.parametrize("again", [False, True])
def test_a_measurement_on_a_gpu_is_kept_without_one(stage, again):
    """Made on another machine, with other settings, of a graph with other weights."""
    write_parameters(providers=PROVIDERS)
    path = save_scale("a")
    stage("quick")
    record = read(path)
    there = {"machine": {"gpu": "H100"}, "settings": {"calls": 7}}
    source = record.sources[CPU].model_copy(update=there)
    latency.write(record.model_copy(update={"sources": record.sources | {CUDA: source}}), "quick")
    kept = read(path).sources[CUDA]
    save_scale("a", weight=3.0)
    stage("quick", again=again)
    assert read(path).sources[CUDA] == kept
    assert CUDA not in read(path).not_measured
    write_parameters(providers=[CPU])
    stage("quick")
    assert list(read(path).sources) == [CPU]


def test_a_graph_that_its_record_does_not_name(stage):
    path = save_scale("a")
    stage("quick")
    before = written()
    sample_graphs.save_scale(path, weight=9.0)
    with pytest.raises(InputError, match=r"a/0/apply\.onnx is not the graph that .*a\.json names: run `dvc repro`"):
        stage("quick")
    path.unlink()
    with pytest.raises(InputError, match=r"a/0/apply\.onnx is missing: run `dvc repro`"):
        stage("quick")
    assert written() == before


def test_no_graphs_and_no_such_profile(stage):
    with pytest.raises(InputError, match=r"reports/quick/parity has no records of graphs: run `dvc repro`"):
        stage("quick")
    with pytest.raises(InputError, match="profile 'slow' is unknown"):
        stage("slow")
    assert not Path("reports").exists()


def test_the_control_compares_equal_structures_and_writes_nothing(stage, capsys, monkeypatch):
    """Of three graphs of one structure, timed as 100, 104 and 110 µs, two of three pairs are within 6 %."""
    for name, weight in (("a", 2.0), ("b", 3.0), ("c", 4.0)):
        save_scale(name, weight)
    save_chain("d", "Relu")
    medians = {"a": 100.0, "b": 104.0, "c": 110.0}

    def time_configurations(graph, path, provider, sizes, settings):
        times = latency.Times.model_construct(p50_us=medians[graph.experiment])
        options = {"mode": "host", "batch": 1, "graph_sha256": "0", "optimisation": "all"}
        slow = latency.Row(threads=2, not_measured="not so", **options)
        return [latency.Row.model_construct(threads=1, times=times, **options), slow], None

    monkeypatch.setattr(measure, "time_configurations", time_configurations)
    groups = [group for group in structures.graphs("quick").values() if len(group) > 1]
    differences = measure.control("quick", groups, {"batches": [1], "time": 5})
    assert list(differences) == [1]
    numpy.testing.assert_allclose(differences[1], [0.04, 0.1, 110 / 104 - 1])
    stage("quick", control=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("3 graphs in 1 structure")
    assert printed[1].startswith("threads 1: 33% of 3 pairs of rows within 5 %")
    assert not latency.folder("quick").exists()


def test_the_control_times_each_graph(stage, capsys):
    save_scale("a")
    shutil.copytree(files.graphs("quick", "a"), files.graphs("quick", "b"))
    sample_graphs.write_parity("quick", "b")
    stage("quick", control=True)
    assert "threads 1: " in capsys.readouterr().out
