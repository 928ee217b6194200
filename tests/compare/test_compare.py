"""`zoo compare` on constructed records, where the right answer is known beforehand."""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc_projects import inside, project, write_stages, zoo

from zoo import statistics
from zoo.compare import compare, view
from zoo.errors import InputError
from zoo.params.comparison import Rules
from zoo.records import judged, latency, metrics, parity, run
from zoo.records.metrics import Summary
from zoo.records.parity import Check, Export, Graph

RULES = Rules.model_validate(
    {"quality": {"relative": 0.01}, "latency": {"relative": 0.05, "microseconds": 1.0, "noise_times": 3, "drift": 0.05}}
)
SECTION = f"compare: {RULES.model_dump()}\n"
MACHINE = {"cpu": "EPYC", "cores": 2, "gpu": None, "onnxruntime": "1.31.1"}
OPPOSITE = {"better": "worse", "worse": "better"}


# ---- records


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def seeds(*values):
    return Summary(**statistics.summary(dict(enumerate(values))))


def graph(structure, weights="", **changes):
    fields = {
        "graph_sha256": sha256(structure + weights), "structure_sha256": sha256(structure), "bytes": 1000,
        "opset": "20", "operators": {"MatMul": 1, "Relu": 1}, "parameters": {"float": 6},
        "inputs": ["x float[batch, 2]"], "outputs": ["y float[batch, 3]"],
    }  # fmt: skip
    return Graph(**fields | changes)


def write(
    name, verbs, graphs, *, count=1, profile="quick", processor="EPYC", steps=100, diverged=(), source="digits",
    data="data", samples=50, judge=None,
):  # fmt: skip
    """The records of an experiment: `verbs` is {verb: {metric: Summary}}, `graphs` {verb: Graph of every seed}."""
    numbers = [str(seed) for seed in range(count)]
    identities = {seed: {verb: {"graph_sha256": one.graph_sha256, "structure_sha256": one.structure_sha256}
                         for verb, one in graphs.items()} for seed in numbers}  # fmt: skip
    common = {"experiment": name, "profile": profile, "versions": {}}
    trained = {
        seed: {
            "checkpoint_sha256": sha256(seed), "diverged_at_step": 7 if int(seed) in diverged else None,
            "diverged_in": "loss" if int(seed) in diverged else None, "device": "cpu", "processor": processor,
            "threads": 1, "tf32": None,
        } for seed in numbers
    }  # fmt: skip
    run.write(run.Runs(**common, recipe={"steps": steps}, data={}, parameters=6, seeds=trained))
    check = Check(largest_difference=0.0, bound=1e-5, calls=1, finite=True)
    exports = {verb: {seed: Export(graph=one, check=check) for seed in numbers} for verb, one in graphs.items()}
    parity.write(parity.Exports(**common, graphs=exports))
    metrics.write(
        metrics.Metrics(
            **common, data_sha256=sha256(data), source=source, importance_samples=samples, graphs=identities,
            verbs=verbs, confusion=None,
        )
    )  # fmt: skip
    if judge:
        by, number, value = judge
        by = {"experiment": by, "seed": 0, "graphs": {"classify": graph(by).model_dump(include=IDENTITY)}}
        judged.write(
            judged.Judged(
                **common, judge=by, samples=number, data_sha256=sha256(data), graphs=identities,
                metrics={"agreement": value},
            )
        )  # fmt: skip


IDENTITY = {"graph_sha256", "structure_sha256"}


def row(p50, batch=1, mode="host", threads=1, drift=0.0, reference=10.0, **changes):
    times = {
        f"p{name}{end}_us": p50 * (1 + part)
        for name in ("50", "90", "99", "999")
        for end, part in (("", 0), ("_low", -0.01), ("_high", 0.01))
    }
    times |= {
        "outlier_share": 0.0, "calls": 700, "seconds": 0.2, "warmup_calls": 50, "items_per_second": 1e6 * batch / p50,
        "block_calls": [140] * 5, "block_p50_us": [p50 * share for share in (0.995, 1, 1, 1.005, 1.01)],
        "block_reference_us": [reference] * 5, "noise": 0.005, "drift": drift, "attempts": 5,
    }  # fmt: skip
    found = {"mode": mode, "threads": threads, "optimisation": "all", "batch": batch, "graph_sha256": sha256("g"),
             "times": times}  # fmt: skip
    return found | changes


def time(structure, *rows, machine=MACHINE, words=20, profile="quick", not_measured=None):
    timed = {"experiment": "x", "seed": 0, "verb": "v", "graph_sha256": sha256("g"),
             "structure_sha256": sha256(structure), "bytes": 1}  # fmt: skip
    source = {"graph": timed, "machine": machine, "settings": {"time": words}, "conditions": {}, "commit": None,
              "cold": [], "rows": rows, "advice": [], "agreement": []}  # fmt: skip
    record = latency.Latency(
        structure_sha256=sha256(structure), verb="v", sources={"cpu": source} if rows else {},
        not_measured=not_measured or {},
    )  # fmt: skip
    latency.write(record, profile)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def snapshot(name):
    """What was written, as a commit of that name; the next one begins with nothing."""
    one = compare.side(None)._replace(name=name)
    shutil.rmtree("reports")
    return one


def rows_of(before, after, table, profile=None):
    """{(experiments, what): Row}"""
    rows = compare.compare(before, after, profile, RULES)["tables"][table]
    keyed = {(", ".join(one.experiments), one.what): one for one in rows}
    assert len(keyed) == len(rows)
    return keyed


def write_first():
    write("ae", {"reconstruct": {
        "mse": seeds(0.0100, 0.0101, 0.0099), "psnr_db": seeds(20.0, 20.1, 19.9), "bce": seeds(0.5, 0.2, 0.8),
        "floor_mse": seeds(1, 1, 1),
    }}, {"reconstruct": graph("ae")}, count=3)  # fmt: skip
    classes = {str(digit): seeds(0.5) for digit in range(2)}
    write(
        "mlp",
        {"classify": {"accuracy": seeds(0.99), "nll": seeds(0.1), "precision": classes}},
        {"classify": graph("mlp")},
    )
    write("mlp_twin", {"classify": {"nll": seeds(0.1)}}, {"classify": graph("mlp", "other")})
    write("cvae", {"decode": {"elbo": seeds(-100.0), "kl_nats": seeds(20.0), "importance_bound": seeds(-95.0)},
                   "reconstruct": {"mse": seeds(0.01)}},
          {verb: graph(verb) for verb in ("decode", "encode", "reconstruct")},
          judge=("mlp", 100, seeds(0.5)))  # fmt: skip
    write("lstm", {"next_word": {"perplexity": seeds(80.0)}}, {})
    time("ae", row(100), row(500, batch=16), row(90, threads=2), row(80, mode="bound"))
    time("mlp", row(10))
    for verb in ("decode", "encode", "reconstruct"):
        time(verb, row(50))


def write_second():
    write("ae", {"reconstruct": {
        "mse": seeds(0.0120, 0.0121, 0.0119), "psnr_db": seeds(22.0, 22.1, 21.9), "bce": seeds(0.6, 0.3, 0.9),
        "floor_mse": seeds(9, 9, 9),
    }}, {"reconstruct": graph("ae", "trained longer", bytes=1010)}, count=3, steps=200)  # fmt: skip
    classes = {str(digit): seeds(0.6) for digit in range(2)}
    write(
        "mlp",
        {"classify": {"accuracy": seeds(0.985), "nll": seeds(0.1), "precision": classes}},
        {"classify": graph("mlp")},
    )
    write("mlp_twin", {"classify": {"nll": seeds(0.1)}}, {"classify": graph("mlp", "other")})
    write("cvae", {"decode": {"elbo": seeds(None), "kl_nats": seeds(2.0), "importance_bound": seeds(-90.0)},
                   "reconstruct": {"mse": seeds(0.01)}},
          {"decode": graph("deeper", operators={"MatMul": 1, "Relu": 1, "Sigmoid": 1}, parameters={"float": 10}),
           "generate": graph("generate"), "reconstruct": graph("renamed", outputs=["y float[n, 3]"])},
          judge=("mlp", 200, seeds(0.6)), samples=100, diverged=[0])  # fmt: skip
    time("ae", row(120), row(440, batch=16), row(92, threads=2), row(80, mode="graph"))
    time("mlp", row(10))
    time("deeper", row(60))
    time("generate", row(9))
    time("renamed", row(90))


@pytest.fixture
def sides(empty):
    """Two commits: v1 and v2."""
    write_first()
    before = snapshot("v1")
    write_second()
    return before, snapshot("v2")


# ---- what is said of two commits


def test_quality(sides):
    rows = rows_of(*sides, "Quality")
    assert {key: one.verdict for key, one in rows.items()} == {
        ("ae", "reconstruct.mse"): "worse",
        ("ae", "reconstruct.psnr_db"): "better",
        ("ae", "reconstruct.bce"): "same",  # 0.1 apart, the seeds as far from each other
        ("ae", "training.diverged"): "same",
        ("mlp", "classify.accuracy"): "changed",  # half as many errors again, of one seed
        ("mlp", "classify.nll"): "same",
        ("mlp", "classify.precision"): "changed",
        ("mlp", "training.diverged"): "same",
        ("mlp_twin", "classify.nll"): "same",
        ("mlp_twin", "training.diverged"): "same",
        ("cvae", "decode.elbo"): "changed",  # diverged
        ("cvae", "decode.importance_bound"): "not comparable",
        ("cvae", "reconstruct.mse"): "same",
        ("cvae", "judge.agreement"): "not comparable",
        ("cvae", "training.diverged"): "changed",
        ("lstm", "all"): "not comparable",
    }
    mse, half = rows["ae", "reconstruct.mse"], 4.3027 * 0.0001 / 3**0.5
    assert (mse.before, mse.change, mse.note) == (f"0.01 ± {half:.2g}", "+20.0 %", "steps: 100 → 200")
    accuracy = rows["mlp", "classify.accuracy"]
    assert (accuracy.change, accuracy.note) == ("-0.50 points", "1 seed: noise unknown")
    assert rows["cvae", "decode.elbo"].after == "diverged (1 of 1 seeds)"
    assert rows["cvae", "decode.importance_bound"].note == "different number of importance samples: 50 → 100"
    assert rows["cvae", "judge.agreement"].note == "different number of judged samples: 100 → 200"
    assert rows["lstm", "all"].note == "no record in reports/quick/metrics at v2"


def test_latency(sides):
    rows = rows_of(*sides, "Latency")
    assert {key: (one.verdict, one.note) for key, one in rows.items()} == {
        ("ae", "reconstruct, batch 1: cpu host, 1 thread"): ("worse", ""),
        ("ae", "reconstruct, batch 16: cpu host, 1 thread"): ("better", ""),
        ("ae", "reconstruct, batch 1: cpu host, 2 threads"): ("same", ""),
        ("ae", "reconstruct, batch 1: cpu bound, 1 thread"): ("not comparable", "not measured (no such row) at v2"),
        ("ae", "reconstruct, batch 1: cpu graph, 1 thread"): ("not comparable", "not measured (no such row) at v1"),
        ("mlp, mlp_twin", "classify, batch 1: cpu host, 1 thread"): ("same", ""),  # one structure, timed once
        ("cvae", "decode, batch 1: cpu host, 1 thread"): ("worse", "different structure"),
        ("cvae", "encode"): ("not comparable", "no such graph at v2"),
        ("cvae", "generate"): ("not comparable", "no such graph at v1"),
        ("cvae", "reconstruct"): ("not comparable", "the graph's inputs or outputs have changed"),
        ("lstm", "all"): ("not comparable", "no record in reports/quick/metrics at v2"),
    }
    slower = rows["ae", "reconstruct, batch 1: cpu host, 1 thread"]
    assert (slower.before, slower.after, slower.change) == ("100 (99–101)", "120 (118.8–121.2)", "+20.0 %")


def test_graphs(sides):
    rows = rows_of(*sides, "Graphs")
    assert {key: (one.verdict, one.note) for key, one in rows.items()} == {
        ("ae", "reconstruct"): ("same", "different weights or metadata; bytes 1,000 → 1,010"),
        ("mlp", "classify"): ("same", ""),
        ("mlp_twin", "classify"): ("same", ""),
        ("cvae", "decode"): ("different", "parameters float 6 → 10; operators Sigmoid 0 → 1"),
        ("cvae", "encode"): ("not comparable", "no such graph at v2"),
        ("cvae", "generate"): ("not comparable", "no such graph at v1"),
        ("cvae", "reconstruct"): ("different", "outputs y float[batch, 3] → y float[n, 3]"),
        ("lstm", "all"): ("not comparable", "no record in reports/quick/metrics at v2"),
    }


def test_a_stride_is_no_operator_and_makes_a_graph_different(empty):
    write("conv", {}, {"encode": graph("stride 1")})
    before = snapshot("v1")
    write("conv", {}, {"encode": graph("stride 2")})
    one = rows_of(before, compare.side(None), "Graphs")["conv", "encode"]
    assert (one.verdict, one.note) == ("different", "different attributes, connections or constants")


@pytest.mark.parametrize("table", ["Quality", "Latency", "Graphs"])
def test_the_other_way_round_better_and_worse_change_places(sides, table):
    back = rows_of(*sides[::-1], table)
    for key, one in rows_of(*sides, table).items():
        assert back[key].verdict == OPPOSITE.get(one.verdict, one.verdict), key


@pytest.mark.parametrize("table", ["Quality", "Latency", "Graphs"])
def test_a_commit_against_itself_is_the_same(sides, table):
    for one in sides:
        assert {row.verdict for row in rows_of(one, one, table).values()} == {"same"}


@pytest.mark.parametrize(
    ("before", "after", "weights", "processor", "verdict", "note"),
    [
        ([0.1], [0.2], "other", "EPYC", "changed", "1 seed: noise unknown"),
        ([0.2], [0.1], "other", "EPYC", "changed", "1 seed: noise unknown"),
        ([0.1], [0.1005], "other", "EPYC", "same", "1 seed: noise unknown"),
        ([0.1] * 2, [0.2] * 3, "other", "EPYC", "changed", "seeds: 0, 1 → 0, 1, 2; 2 seeds: noise unknown"),
        ([0.1], [0.2], "other", "Xeon", "not comparable", "trained on a different processor, 1 seed"),
        ([0.1], [0.1005], "other", "Xeon", "not comparable", "trained on a different processor, 1 seed"),
        ([0.1], [0.1], "", "Xeon", "same", "1 seed: noise unknown"),  # the same graph
        ([0.1] * 3, [0.2] * 3, "other", "Xeon", "worse", ""),
        ([0.2] * 3, [0.1] * 3, "other", "Xeon", "better", ""),
    ],
)
def test_few_seeds_and_processors(empty, before, after, weights, processor, verdict, note):
    write("mlp", {"classify": {"nll": seeds(*before)}}, {"classify": graph("mlp")}, count=len(before))
    first = snapshot("v1")
    write("mlp", {"classify": {"nll": seeds(*after)}}, {"classify": graph("mlp", weights)}, count=len(after),
          processor=processor)  # fmt: skip
    one = rows_of(first, compare.side(None), "Quality")["mlp", "classify.nll"]
    assert (one.verdict, one.note) == (verdict, note)


@pytest.mark.parametrize(
    ("changes", "metric", "note"),
    [
        ({"source": "mnist"}, "classify.nll", "different data set: digits → mnist"),
        ({"data": "x"}, "classify.nll",
         f"different version of the data: {sha256('data')[:8]} → {sha256('x')[:8]}"),
        ({"verbs": {"classify": {"nll": seeds(None)}}}, "classify.nll", "no value at working tree"),
        ({"verbs": {}}, "classify.nll", "not measured at working tree"),
        ({"judge": None}, "judge.agreement", "not measured at working tree"),
        ({"judge": ("resnet", 100, seeds(0.5))}, "judge.agreement", "different judge: mlp, seed 0 → resnet, seed 0"),
    ],
)  # fmt: skip
def test_quality_that_is_not_comparable(empty, changes, metric, note):
    usual = {"verbs": {"classify": {"nll": seeds(0.1)}}, "graphs": {"classify": graph("mlp")}}
    usual["judge"] = ("mlp", 100, seeds(0.5))
    write("mlp", **usual)
    before = snapshot("v1")
    write("mlp", **usual | changes)
    one = rows_of(before, compare.side(None), "Quality")["mlp", metric]
    assert (one.verdict, one.note) == ("not comparable", note)


@pytest.mark.parametrize(
    ("changed", "options", "verdict", "note"),
    [
        (row(10), {"machine": MACHINE | {"gpu": "H200"}}, "not comparable", "different machine, gpu: None → H200"),
        (row(10), {"machine": MACHINE | {"onnxruntime": "9.9"}}, "same", "onnxruntime 1.31.1 → 9.9"),
        (row(10), {"words": 35}, "not comparable", "different number of words per call: 20 → 35"),
        (row(10, times=None, not_measured="refused"), {}, "not comparable", "not measured (refused) at working tree"),
        (row(10, tf32=True), {}, "not comparable", "different TF32 setting: None → True"),
        (row(10, drift=0.2), {}, "not comparable", "the machine's pace changed by 20% within a measurement"),
        (row(10, reference=12), {}, "not comparable", "the machine's pace changed by 20% between the measurements"),
        (row(10, times=row(10)["times"] | {"p50_low_us": None}), {}, "not comparable",
         "too few calls for a median with an interval at working tree"),
    ],
)  # fmt: skip
def test_one_row_of_latency(empty, changed, options, verdict, note):
    write("lstm", {}, {"next_word": graph("lstm")})
    time("lstm", row(10))
    before = snapshot("v1")
    write("lstm", {}, {"next_word": graph("lstm")})
    time("lstm", changed, **options)
    (one,) = rows_of(before, compare.side(None), "Latency").values()
    assert (one.verdict, one.note) == (verdict, note)


def test_a_structure_or_provider_that_was_not_timed(empty):
    write("mlp", {}, {"classify": graph("mlp")})
    time("mlp", row(10), not_measured={"cuda": "no driver"})
    before = snapshot("v1")
    write("mlp", {}, {"classify": graph("mlp")})
    time("mlp", not_measured={"cuda": "no driver", "cpu": "too slow"})
    (one,) = rows_of(before, compare.side(None), "Latency").values()  # cuda was measured on neither side
    assert one.note == "not measured (too slow) at working tree"
    shutil.rmtree("reports/quick/latency")
    (one,) = rows_of(before, compare.side(None), "Latency").values()
    assert one.note == "its structure was not timed at working tree"


def test_reasons_are_counted(sides):
    tables = view.prepare(compare.compare(*sides, None, RULES), False)["tables"]
    assert tables["Latency"]["counts"] == {"worse": 2, "better": 1, "same": 2, "not comparable": 6}
    reason = {"not comparable because": "no such graph at v2", "experiments": "cvae"}
    assert reason | {"profile": "quick", "rows": 1} in tables["Graphs"]["parts"][1]
    first, *_ = tables["Latency"]["parts"][1]
    assert first["rows"] == max(row["rows"] for row in tables["Latency"]["parts"][1])


# ---- reading commits


def commit(message):
    """Commit the records of quick to DVC's cache, all else to git."""
    outs = [path.as_posix() for path in Path("reports/quick").glob("*/*.json") if path.parent.name != "latency"]
    write_stages(Path(), {"made": {"cmd": "true", "outs": [*sorted(outs), "reports/quick/latency"]}})
    with contextlib.closing(Repo()) as repo:
        repo.commit("made", force=True)
    save_all(message)


def save_all(message):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", "add", "--all"], check=True)
    subprocess.run(["git", *identity, "commit", "--quiet", "--message", message], check=True)
    subprocess.run(["git", "tag", message], check=True)


@pytest.fixture(scope="module")
def commits(tmp_path_factory):
    """Two commits with quick in DVC's cache, v1 with full in git. The working tree is as v2."""
    folder = project(tmp_path_factory.mktemp("compare") / "zoo")
    with inside(folder):
        Path("params.yaml").write_text(SECTION)
        Path(".gitignore").write_text("/reports/quick/\n")
        write_first()
        write("mlp", {"classify": {"nll": seeds(0.1)}}, {"classify": graph("mlp")}, profile="full")
        commit("v1")
        shutil.rmtree("reports")
        write_second()
        commit("v2")
    return folder


@pytest.fixture
def copied(commits, tmp_path):
    """A copy of the project to spoil, as the working folder."""
    shutil.copytree(commits, tmp_path / "zoo")
    with inside(tmp_path / "zoo"):
        yield tmp_path / "zoo"


def test_a_commit_has_the_records_that_were_there(copied, tmp_path):
    v1, v2, now = map(compare.side, ("v1", "v2", None))
    assert v2.texts == now.texts
    assert v1.about.endswith(" v1")
    assert {path.split("/")[1] for path in v1.texts} == {"quick", "full"}
    assert set(rows_of(v1, v2, "Quality")) > {("ae", "reconstruct.mse"), ("lstm", "all")}


def test_the_command(commits, tmp_path):
    files = {"--markdown": tmp_path / "x.md", "--html": tmp_path / "x.html"}
    options = [str(part) for option in files.items() for part in option]
    process = zoo(commits, "compare", "v1", "v2", "--profile", "quick", *options)
    printed, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "before: v1" in printed
    assert "Quality: 1 worse, 1 better, 4 changed, 7 same, 3 not comparable" in printed
    assert "Latency: 2 worse, 1 better, 2 same, 6 not comparable" in printed
    assert "Graphs: 2 different, 3 same, 3 not comparable" in printed
    markdown = files["--markdown"].read_text()
    times = "| 100 (99–101) | 120 (118.8–121.2) | +20.0 % | **worse** |"
    assert f"| quick | ae | reconstruct, batch 1: cpu host, 1 thread {times}" in markdown
    assert "| quick | different number of judged samples: 100 → 200 | 1 | cvae |" in markdown
    assert "reconstruct.bce" not in markdown  # the same
    assert "the change exceeds 5 % of the smaller one" in markdown
    html = files["--html"].read_text()
    assert "<title>ReproZoo: v1 → v2</title>" in html
    assert html.count('class="chip worse"') == 3
    assert "{{" not in html + markdown


@pytest.mark.parametrize(
    ("revisions", "profile", "fail_on", "status", "says"),
    [
        (("v1", "v2"), "quick", ["worse"], 1,
         "zoo compare: failed on rows that are worse: 1 of Quality, 2 of Latency\n"),
        (("v1", "v2"), "quick", [], 0, ""),
        (("v2", None), None, ["worse", "not-comparable"], 0, ""),
        (("v1", "v2"), "quick", ["not-comparable"], 1,
         "zoo compare: failed on rows that are not comparable: 3 of Quality, 6 of Latency, 3 of Graphs\n"),
        (("v1", "v2"), "full", [], 0, ""),
        (("v1", "v2"), "full", ["worse"], 2, ""),
        (("v2", "v2"), "full", ["not-comparable"], 2, ""),
    ],
)  # fmt: skip
def test_exit_status(copied, capsys, revisions, profile, fail_on, status, says):
    assert view.run(revisions, profile, False, fail_on, None, None) == status
    assert capsys.readouterr().err == says


def test_a_side_without_records_is_told_what_to_run(copied):
    def missing(base, head, profile):
        compared = compare.compare(compare.side(base), compare.side(head), profile, RULES)
        return bool(compared["tables"]), compared["missing"]

    full = "There are no records of the full profile at"
    run_full = "run `dvc repro full/dvc.yaml`"
    assert missing("v1", "v2", None) == (True, [f"{full} v2: {run_full} there, and commit reports/full."])
    assert missing("v1", None, "full") == (False, [f"{full} working tree: {run_full}."])
    shutil.rmtree(".dvc/cache")
    quick = "There are no records of the quick profile at"
    assert missing("v2", None, None) == (False, [f"{quick} v2: run `dvc repro` there, and commit dvc.lock."])
    assert missing("v2", "v2", None) == (False, [f"{quick} v2: run `dvc repro` there, and commit dvc.lock."])
    assert missing("v2", None, "full") == (
        False, [f"{full} v2: {run_full} there, and commit reports/full.", f"{full} working tree: {run_full}."]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("reports/full/metrics/mlp.json", "{"),
        ("reports/full/parity/mlp.json", "[1]"),
        ("reports/full/runs/mlp.json", b"\xff\x00"),
        ("reports/quick/judged/cvae.json", '{"agreement": {"seeds": {}}}'),
        (f"reports/quick/latency/{sha256('ae')[:16]}.json", "3"),
    ],
)
def test_a_damaged_record_is_named_with_its_revision(copied, path, text):
    write("mlp", {"classify": {"nll": seeds(0.1)}}, {"classify": graph("mlp")}, profile="full")
    Path(path).write_bytes(text if isinstance(text, bytes) else text.encode())
    first, now = compare.side("v1"), compare.side(None)
    with pytest.raises(InputError, match=f"^{re.escape(path)}.*delete it and run `dvc repro`"):
        compare.compare(first, now, None, RULES)
    commit("damaged")
    with pytest.raises(InputError, match=f"^at damaged, {re.escape(path)}.*; compare with another commit"):
        compare.compare(first, compare.side("damaged"), None, RULES)


def test_a_damaged_lock(copied):
    Path("dvc.lock").write_text("stages: 3")
    save_all("damaged")
    with pytest.raises(InputError, match=r"^dvc\.lock at damaged is damaged .*another commit"):
        compare.side("damaged")


def test_names_of_commits_are_no_markup(sides, capsys):
    shown = view.prepare(compare.compare(sides[0]._replace(about="a|b[red]"), sides[1], None, RULES), True)
    assert "*Before:* a\\|b[red]." in view.render(shown, "compare.md.j2")
    view.show(shown)
    assert "a|b[red]" in capsys.readouterr().out


def test_all_lists_what_is_the_same_and_the_worst_comes_first(sides):
    compared = compare.compare(*sides, "quick", RULES)
    tables = [view.prepare(compared, every_row)["tables"] for every_row in (True, False)]
    for name, rows in compared["tables"].items():
        every, changed = ([row["verdict"] for row in table[name]["parts"][0]] for table in tables)
        assert len(every) == len(rows)
        assert every == sorted(every, key=compare.VERDICTS.index)
        assert changed == [verdict for verdict in every if verdict not in ("same", "not comparable")]


# ---- bad input


def test_an_unknown_revision(commits):
    process = zoo(commits, "compare", "v1", "v9")
    printed, errors = process.communicate()
    assert (process.returncode, printed, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("zoo: revision 'v9' is unknown here: `git log --oneline`")


def test_a_folder_that_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="not in a git repository"):
        compare.side("HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="git is not installed"):
        compare.side("HEAD")


def test_options_are_checked(commits):
    for wrong in (["--fail-on", "better", "v1"], ["--profile", "slow", "v1"], [], ["a", "b", "c"]):
        process = zoo(commits, "compare", *wrong)
        assert process.communicate()[1].startswith("usage: zoo")
        assert process.returncode == 2


# ---- this repository


@pytest.mark.skipif(not os.access(".dvc", os.W_OK), reason="another user's checkout: DVC cannot write to it")
def test_this_repository_against_its_last_commit():
    """Whatever is in the working tree, and however few commits a clone has."""
    assert view.run(("HEAD", None), None, False, [], None, None) == 0


def test_neither_torch_nor_dvc_is_imported():
    code = "import sys, zoo.compare.view; sys.exit('torch' in sys.modules or 'dvc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
