"""`zoo compare` on a small project in git and DVC, where all that should be said of two commits is known beforehand."""

import contextlib
import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy
import onnx
import pytest
import yaml
from dvc.repo import Repo
from dvc_projects import inside, project, zoo
from sample_graphs import save

from zoo import files
from zoo.compare import compare, view
from zoo.errors import InputError
from zoo.runner import dvc_graph

RULES = {
    "quality": {"relative": 0.01},
    "latency": {"relative": 0.05, "microseconds": 1.0, "noise_times": 3, "drift": 0.05},
}
MACHINE = {"cpu": "EPYC", "cores": 2, "gpu": None}
SIGNATURE = "(float[batch,2] x) => (float[batch,3] result)"
OPPOSITE = {"better": "worse", "worse": "better"}
STAGES = {
    "download": {
        "foreach": ["images", "text"],
        "do": {
            "cmd": "mkdir -p artifacts/quick/data && cp made/${item} artifacts/quick/data/${item}.npz",
            "deps": ["made/${item}"],
            "outs": ["artifacts/quick/data/${item}.npz"],
        },
    },
    "export": {
        "foreach": ["ae_dense32", "mlp_relu", "cvae"],
        "do": {
            "cmd": "mkdir -p artifacts/quick/graphs && cp -r made/${item} artifacts/quick/graphs/${item}",
            "deps": ["made/${item}"],
            "outs": ["artifacts/quick/graphs/${item}"],
        },
    },
    "evaluate": {
        "foreach": ["ae_dense32", "mlp_relu", "cvae"],
        "do": {"cmd": "true", "deps": ["artifacts/quick/graphs/${item}"], "params": ["evaluate"]},
    },
}


def seeds(*values):
    return {"seeds": {str(seed): value for seed, value in enumerate(values)}, "mean": None}


def metrics(count=1, diverged=(), steps=100, source="digits", **verbs):
    numbers = range(count)
    training = {
        "steps": steps, "seeds": list(numbers), "source": source,
        "diverged_at_step": {str(seed): 7 if seed in diverged else None for seed in numbers},
    }  # fmt: skip
    return verbs | {"training": training}


def row(verb, p50, batch=1, sha="a", mode="host", threads=1, **more):
    return {
        "verb": verb, "seed": 0, "batch": batch, "graph_sha256": sha, "mode": mode, "threads": threads,
        "optimisation": "all", "p50_us": p50, "p50_low_us": p50 * 0.99, "p50_high_us": p50 * 1.01,
        "block_p50_us": [p50 * share for share in (0.995, 1, 1, 1.005, 1.01)],
        "block_reference_us": [10.0] * 5,
    } | more  # fmt: skip


def latency(*rows, machine=MACHINE, time=20):
    return {"provider": "CPUExecutionProvider", "machine": machine, "settings": {"time": time}, "rows": list(rows)}


def report(part, name, value, profile="quick"):
    path = getattr(files, part)(profile, name)
    files.write_json(path / "cpu.json" if part == "latency" else path, value)


def parity(*verbs, count=1):
    return {verb: {str(seed): {"largest_difference": 0.0} for seed in range(count)} for verb in verbs}


def graph(name, verb, body="result = Relu(mixed)", seed=0, signature=SIGNATURE, **weights):
    weights = {"w": numpy.ones((2, 3), numpy.float32)} | weights
    save(Path("made", name, str(seed), f"{verb}.onnx"), signature, f"mixed = MatMul(x, w) {body}", **weights)


def reproduce():
    with contextlib.closing(Repo()) as repo:
        repo.reproduce()


def save_all(message):
    subprocess.run(["git", "add", "--all"], check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, "commit", "--quiet", "--message", message], check=True)


@pytest.fixture(scope="module")
def commits(tmp_path_factory, request):
    """Two commits: v1 and v2. The working tree is as v2."""
    everything = yaml.safe_load((request.path.parents[1] / "params.yaml").read_text())
    everything["models"] = {name: everything["models"][name] for name in ("ae_dense32", "mlp_relu", "cvae", "lstm")}
    for key in ("published", "published_curves", "claims"):
        everything[key] = {}
    everything["judge"] |= {"by": "mlp_relu", "of": ["cvae"]}
    folder = project(tmp_path_factory.mktemp("compare") / "zoo", STAGES)
    with inside(folder):
        first, second = copy.deepcopy(everything), copy.deepcopy(everything)
        del second["models"]["lstm"]
        second["evaluate"]["importance_samples"] = 7
        _first(first)
        reproduce()
        save_all("the first")
        subprocess.run(["git", "tag", "v1"], check=True)
        _second(second)
        reproduce()
        save_all("the second")
        subprocess.run(["git", "tag", "v2"], check=True)
    return folder


def _first(everything):
    Path("params.yaml").write_text(yaml.safe_dump(everything, sort_keys=False))
    Path("made").mkdir()
    Path("made", "images").write_text("digits")
    Path("made", "text").write_text("grammar")
    for seed in range(3):
        graph("ae_dense32", "reconstruct", seed=seed)
    graph("mlp_relu", "classify")
    graph("cvae", "decode")
    graph("cvae", "encode")
    graph("cvae", "reconstruct")
    report("metrics", "ae_dense32", metrics(3, reconstruct={
        "mse": seeds(0.0100, 0.0101, 0.0099), "psnr_db": seeds(20.0, 20.1, 19.9), "bce": seeds(0.5, 0.2, 0.8),
        "floor_mse": seeds(1, 1, 1),
    }))  # fmt: skip
    report("parity", "ae_dense32", parity("reconstruct", count=3))
    report("latency", "ae_dense32", latency(
        row("reconstruct", 100), row("reconstruct", 500, batch=16), row("reconstruct", 90, threads=2),
        row("reconstruct", 80, mode="bound"),
    ))  # fmt: skip
    classes = {str(digit): seeds(0.5) for digit in range(2)}
    report("metrics", "mlp_relu", metrics(classify={"accuracy": seeds(0.99), "nll": seeds(0.1), "precision": classes}))
    report("parity", "mlp_relu", parity("classify"))
    report("latency", "mlp_relu", latency(row("classify", 10, tf32=False)))
    report("metrics", "cvae", metrics(
        decode={"elbo": seeds(-100.0), "kl_nats": seeds(20.0), "importance_bound": seeds(-95.0)},
        reconstruct={"mse": seeds(0.01)}))  # fmt: skip
    report("judged", "cvae", {"judge": "mlp_relu", "samples": 100, "agreement": seeds(0.5)})
    report("parity", "cvae", parity("decode", "encode", "reconstruct"))
    report("latency", "cvae", latency(row("decode", 50), row("encode", 50), row("reconstruct", 50)))
    report("metrics", "lstm", metrics(next_word={"perplexity": seeds(80.0)}))


def _second(everything):
    Path("params.yaml").write_text(yaml.safe_dump(everything, sort_keys=False))
    for seed in range(3):  # other weights, the same graph
        graph("ae_dense32", "reconstruct", seed=seed, w=numpy.full((2, 3), 0.5, numpy.float32))
    graph("cvae", "decode", "half = Relu(mixed) result = Sigmoid(half)", bias=numpy.zeros(4, numpy.float32))
    graph("cvae", "reconstruct", "result = Relu(mixed)", signature="(float[batch,2] x) => (float[n,3] result)")
    Path("made", "cvae", "0", "encode.onnx").unlink()
    graph("cvae", "generate")
    report("metrics", "ae_dense32", metrics(3, steps=200, reconstruct={
        "mse": seeds(0.0120, 0.0121, 0.0119), "psnr_db": seeds(22.0, 22.1, 21.9), "bce": seeds(0.6, 0.3, 0.9),
        "floor_mse": seeds(9, 9, 9),
    }))  # fmt: skip
    report("latency", "ae_dense32", latency(
        row("reconstruct", 120, sha="b"), row("reconstruct", 440, batch=16, sha="b"),
        row("reconstruct", 92, threads=2, sha="b"), row("reconstruct", 80, mode="graph", sha="b"),
    ))  # fmt: skip
    classes = {str(digit): seeds(0.6) for digit in range(2)}
    report("metrics", "mlp_relu", metrics(classify={"accuracy": seeds(0.985), "nll": seeds(0.1), "precision": classes}))
    report("metrics", "cvae", metrics(
        diverged=[0], decode={"elbo": seeds(None), "kl_nats": seeds(2.0), "importance_bound": seeds(-90.0)},
        reconstruct={"mse": seeds(0.01)}))  # fmt: skip
    report("judged", "cvae", {"judge": "mlp_relu", "samples": 200, "agreement": seeds(0.6)})
    report("parity", "cvae", parity("decode", "generate", "reconstruct"))
    report("latency", "cvae", latency(row("decode", 50, sha="b"), row("generate", 9), row("reconstruct", 90, sha="b")))


@pytest.fixture
def there(commits):
    with inside(commits) as printed:
        yield printed


@pytest.fixture
def copied(commits, tmp_path):
    """A copy of the project to spoil, as the working folder."""
    subprocess.run(["cp", "-r", commits, tmp_path / "zoo"], check=True)
    with inside(tmp_path / "zoo"):
        yield tmp_path / "zoo"


def found(base, head, table, rules=RULES):
    """{(experiment, what): Row}"""
    tables = {one["name"]: one["rows"] for one in compare.compare(base, head, None, rules)["tables"]}
    keyed = {(one.experiment, one.what): one for one in tables[table]}
    assert len(keyed) == len(tables[table])
    return keyed


# ---- what is said of two commits


def test_quality(there):
    rows = found("v1", "v2", "Quality")
    verdicts = {key: one.verdict for key, one in rows.items()}
    assert verdicts == {
        ("ae_dense32", "reconstruct.mse"): "worse",
        ("ae_dense32", "reconstruct.psnr_db"): "better",
        ("ae_dense32", "reconstruct.bce"): "same",  # 0.1 apart, the seeds as far from each other
        ("ae_dense32", "training.diverged"): "same",
        ("mlp_relu", "classify.accuracy"): "worse",  # half as many errors again
        ("mlp_relu", "classify.nll"): "same",
        ("mlp_relu", "classify.precision"): "better",
        ("mlp_relu", "training.diverged"): "same",
        ("cvae", "decode.elbo"): "worse",  # diverged
        ("cvae", "decode.importance_bound"): "not comparable",
        ("cvae", "reconstruct.mse"): "same",
        ("cvae", "judge.agreement"): "not comparable",
        ("cvae", "training.diverged"): "worse",
        ("lstm", "all"): "not comparable",
    }
    mse = rows["ae_dense32", "reconstruct.mse"]
    half = 4.3027 * 0.0001 / 3**0.5
    assert (mse.before, mse.change, mse.note) == (f"0.01 ± {half:.2g}", "+20.0 %", "budget: 100 → 200 steps")
    accuracy = rows["mlp_relu", "classify.accuracy"]
    assert (accuracy.change, accuracy.note) == ("-0.50 points", "1 seed: noise unknown")
    assert rows["cvae", "decode.elbo"].after == "diverged (1 of 1 seeds)"
    assert rows["cvae", "decode.importance_bound"].note == "another number of importance samples: 100 → 7"
    assert rows["cvae", "judge.agreement"].note == "another number of judged samples: 100 → 200"
    assert rows["lstm", "all"].note == "no such experiment at v2"


def test_latency(there):
    rows = found("v1", "v2", "Latency")
    said = {key: (one.verdict, one.note) for key, one in rows.items()}
    assert said == {
        ("ae_dense32", "reconstruct, batch 1: cpu host, 1 thread"): ("worse", ""),
        ("ae_dense32", "reconstruct, batch 16: cpu host, 1 thread"): ("better", ""),
        ("ae_dense32", "reconstruct, batch 1: cpu host, 2 threads"): ("same", ""),
        ("ae_dense32", "reconstruct, batch 1: cpu bound, 1 thread"): ("not comparable", "measured at v1 alone"),
        ("ae_dense32", "reconstruct, batch 1: cpu graph, 1 thread"): ("not comparable", "measured at v2 alone"),
        ("mlp_relu", "classify, batch 1: cpu host, 1 thread"): ("same", ""),
        ("cvae", "decode, batch 1: cpu host, 1 thread"): ("same", ""),
        ("cvae", "encode, batch 1: cpu host, 1 thread"): ("not comparable", "measured at v1 alone"),
        ("cvae", "generate, batch 1: cpu host, 1 thread"): ("not comparable", "measured at v2 alone"),
        ("cvae", "reconstruct, batch 1: cpu host, 1 thread"): (
            "not comparable", "the graph's inputs or outputs have changed"),
        ("lstm", "all"): ("not comparable", "no such experiment at v2"),
    }  # fmt: skip
    slower = rows["ae_dense32", "reconstruct, batch 1: cpu host, 1 thread"]
    assert (slower.before, slower.after, slower.change) == ("100 (99–101)", "120 (118.8–121.2)", "+20.0 %")


def test_graphs(there):
    rows = found("v1", "v2", "Graphs")
    assert {key: one.verdict for key, one in rows.items()} == {
        ("ae_dense32", "reconstruct"): "same",
        ("mlp_relu", "classify"): "same",
        ("cvae", "decode"): "different",
        ("cvae", "encode"): "not comparable",
        ("cvae", "generate"): "not comparable",
        ("cvae", "reconstruct"): "different",
        ("lstm", "all"): "not comparable",
    }
    decode = rows["cvae", "decode"].note
    assert re.fullmatch(r"operator Sigmoid 0 → 1; parameters float 6 → 10; bytes \d+ → \d+", decode)
    reconstruct = rows["cvae", "reconstruct"].note
    assert reconstruct.startswith("outputs result float[batch, 3] → result float[n, 3]")
    assert rows["cvae", "encode"].note == "only at v1"
    assert rows["cvae", "generate"].note == "only at v2"


def test_the_other_way_round_better_and_worse_change_places(there):
    for table in ("Quality", "Latency", "Graphs"):
        back = found("v2", "v1", table)
        for key, one in found("v1", "v2", table).items():
            assert back[key].verdict == OPPOSITE.get(one.verdict, one.verdict), key


def test_a_commit_against_itself_is_the_same(there):
    for base, head in (("v1", "v1"), ("v2", None)):
        for table in ("Quality", "Latency", "Graphs"):
            assert {one.verdict for one in found(base, head, table).values()} <= {"same", "not comparable"}
    assert {one.note for one in found("v2", "v2", "Quality").values()} >= {"1 seed: noise unknown"}


def test_equal_locks_are_the_same_without_opening_a_graph(there, monkeypatch):
    monkeypatch.setattr(dvc_graph, "cache_path", None)
    assert {one.verdict for one in found("v2", None, "Graphs").values()} == {"same"}


def test_graphs_that_are_not_in_the_cache(copied):
    subprocess.run(["rm", "-r", ".dvc/cache"], check=True)
    rows = found("v1", "v2", "Graphs")
    gone = "the graphs at v1 are not in DVC's cache: git checkout v1, then dvc fetch"
    assert rows["ae_dense32", "reconstruct"].verdict == "not comparable"
    assert rows["ae_dense32", "reconstruct"].note.startswith(gone)
    assert rows["mlp_relu", "classify"].verdict == "same"
    times = found("v1", "v2", "Latency")
    assert gone in times["ae_dense32", "reconstruct, batch 1: cpu host, 1 thread"].note
    assert times["mlp_relu", "classify, batch 1: cpu host, 1 thread"].verdict == "same"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda whole: whole["machine"].update(gpu="H200"), "another machine: gpu None → H200"),
        (lambda whole: [one.pop("mode") for one in whole["rows"]], "measured by an earlier protocol at working tree"),
        (lambda whole: whole.update(not_measured="no driver"), "not measured at working tree: no driver"),
        (lambda whole: whole["rows"][0].update(not_measured="refused"), "not measured at working tree: refused"),
        (lambda whole: whole["rows"][0].update(p50_low_us=None), "too few calls at working tree"),
        (lambda whole: whole["rows"][0].update(tf32=True), "TF32 on one side alone"),
        (lambda whole: whole["rows"][0].update(drift=0.2), "the machine's pace changed by 20% within a measurement"),
    ],
)
def test_latencies_that_are_not_comparable(copied, change, says):
    path = files.latency("quick", "mlp_relu") / "cpu.json"
    whole = files.read_json(path)
    change(whole)
    files.write_json(path, whole)
    (one,) = (one for (name, _), one in found("v2", None, "Latency").items() if name == "mlp_relu")
    assert (one.verdict, one.note[: len(says)]) == ("not comparable", says)


def test_another_version_is_compared_and_named(copied):
    path = files.latency("quick", "mlp_relu") / "cpu.json"
    whole = files.read_json(path)
    whole["machine"]["onnxruntime"] = "9.9"
    files.write_json(path, whole)
    one = found("v2", None, "Latency")["mlp_relu", "classify, batch 1: cpu host, 1 thread"]
    assert one.verdict == "same"
    assert one.note.startswith("onnxruntime ")
    assert one.note.endswith(" → 9.9")


def test_another_number_of_words_a_call(copied):
    report("latency", "mlp_relu", latency(row("next_word", 50), time=20))
    save_all("words")
    report("latency", "mlp_relu", latency(row("next_word", 50), time=35))
    one = found("HEAD", None, "Latency")["mlp_relu", "next_word, batch 1: cpu host, 1 thread"]
    assert (one.verdict, one.note) == ("not comparable", "another number of words a call: 20 → 35")


def test_what_is_not_measured_on_both_sides_is_said_once(copied):
    for name in ("ae_dense32", "mlp_relu", "cvae"):
        files.write_json(files.latency("quick", name) / "cuda.json", {"not_measured": "no driver"})
    save_all("no driver")
    table = compare.compare("HEAD", None, "quick", RULES)["tables"][1]
    assert table["reasons"] == [("quick", "not measured: no driver", 3, ["ae_dense32", "mlp_relu", "cvae"])]


@pytest.mark.parametrize(
    ("path", "change", "metric", "says"),
    [
        ("metrics", lambda whole: whole["training"].update(source="mnist"), "classify.nll",
         "other data: digits → mnist"),
        ("metrics", lambda whole: whole["classify"]["nll"]["seeds"].update({"0": None}), "classify.nll",
         "without a value at working tree"),
        ("metrics", lambda whole: whole["classify"].pop("nll"), "classify.nll", "measured at v2 alone"),
        ("judged", lambda whole: whole.pop("agreement"), "judge.agreement", "measured at v2 alone"),
        ("judged", lambda whole: whole.update(judge="resnet"), "judge.agreement", "another judge: mlp_relu → resnet"),
    ],
)  # fmt: skip
def test_quality_that_is_not_comparable(copied, path, change, metric, says):
    name = "cvae" if path == "judged" else "mlp_relu"
    path = getattr(files, path)("quick", name)
    whole = files.read_json(path)
    change(whole)
    files.write_json(path, whole)
    one = found("v2", None, "Quality")[name, metric]
    assert (one.verdict, one.note) == ("not comparable", says)


def test_data_that_changed_under_the_same_name(copied):
    Path("made", "images").write_text("other digits")
    reproduce()
    rows = found("v2", None, "Quality").values()
    assert {one.note for one in rows} == {"other data: what was made of digits has changed"}


def test_an_experiment_that_was_not_run(copied):
    files.metrics("quick", "mlp_relu").unlink()
    note = "not run at working tree: there is no reports/quick/metrics/mlp_relu.json"
    assert found("v2", None, "Quality")["mlp_relu", "all"].note == note


# ---- structure


def test_structure_of_a_graph(tmp_path):
    path = save(
        tmp_path / "x.onnx", "(float[batch,2] x, int64[1] k) => (float[batch,3] y)",
        "a = MatMul(x, w) b = Relu(a) y = Relu(b)", w=numpy.ones((2, 3), numpy.float32),
    )  # fmt: skip
    assert compare.structure(path.read_bytes()) == {
        "operator MatMul": 1, "operator Relu": 2, "parameters float": 6, "opset": "20", "bytes": path.stat().st_size,
        "inputs": "x float[batch, 2]; k int64[1]", "outputs": "y float[batch, 3]",
    }  # fmt: skip


def test_the_size_alone_is_no_difference(copied):
    """Metadata tell what a graph was made from: they may change where nothing else does."""
    path = Path("made", "mlp_relu", "0", "classify.onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"run": "another, with more to say"})
    onnx.save(model, path)
    reproduce()
    one = found("v2", None, "Graphs")["mlp_relu", "classify"]
    assert one.verdict == "same"
    assert re.fullmatch(r"bytes \d+ → \d+", one.note)


def test_an_axis_without_a_name_or_size():
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 2])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["x2"])], "g", [value], [])
    assert compare.structure(onnx.helper.make_model(graph).SerializeToString())["inputs"] == "x float[?, 2]"


# ---- the command


def test_the_command(there, commits, tmp_path):
    process = zoo(
        commits, "compare", "v1", "v2", "--markdown", str(tmp_path / "x.md"), "--html", str(tmp_path / "x.html")
    )
    printed, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "before: v1" in printed
    assert "the first" in printed
    assert "Quality: 4 worse, 2 better, 5 same, 3 not comparable" in printed
    assert "Latency: 1 worse, 1 better, 3 same, 6 not comparable" in printed
    assert "Graphs: 2 different, 2 same, 3 not comparable" in printed
    markdown = (tmp_path / "x.md").read_text()
    times = "| 100 (99–101) | 120 (118.8–121.2) | +20.0 % | **worse** |"
    assert f"| quick | ae_dense32 | reconstruct, batch 1: cpu host, 1 thread {times}" in markdown
    assert "| quick | 1 | another number of judged samples: 100 → 200 | cvae |" in markdown
    assert "reconstruct.bce" not in markdown  # the same
    assert "more than 5 % of the smaller one" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    widths = {line.replace("\\|", "").count("|") for line in rows}
    assert widths == {5, 6, 8, 9}
    html = (tmp_path / "x.html").read_text()
    assert "<title>ReproZoo: v1 → v2</title>" in html
    assert html.count('class="chip worse"') == 5
    assert "{{" not in html + markdown


def test_all_lists_what_is_the_same(there):
    compared = compare.compare("v1", "v2", "quick", RULES)
    for table in compared["tables"]:
        assert len(view.shown(table["rows"], True)) == len(table["rows"])
        assert {one.verdict for one in view.shown(table["rows"], False)} <= {"worse", "better", "different"}
    order = [one.verdict for one in view.shown(compared["tables"][0]["rows"], True)]
    assert order == sorted(order, key=compare.VERDICTS.index)


@pytest.mark.parametrize(
    ("revisions", "fail_on", "status", "says"),
    [
        (("v1", "v2"), ["worse"], 1, "zoo compare: failed on rows that are worse: 4 of Quality, 1 of Latency\n"),
        (("v1", "v2"), [], 0, ""),
        (("v2", None), ["worse"], 0, ""),
        (("v2", None), ["worse", "not-comparable"], 0, ""),
        (("v1", "v2"), ["not-comparable"], 1,
         "zoo compare: failed on rows that are not comparable: 3 of Quality, 6 of Latency, 3 of Graphs\n"),
    ],
)  # fmt: skip
def test_exit_status(there, capsys, revisions, fail_on, status, says):
    assert view.run(revisions, None, False, fail_on, None, None) == status
    assert capsys.readouterr().err == says


def test_names_of_commits_are_no_markup(there, capsys):
    subprocess.run(["git", "tag", "--force", "a|b", "v1"], check=True)
    compared = compare.compare("a|b", "v2", None, RULES)
    view = compared | {"tables": [table | {"shown": table["rows"]} for table in compared["tables"]]}
    markdown = view.render(view, "compare.md.j2")
    assert "| a\\|b |" in markdown
    view.show(view)
    assert "before: a|b" in capsys.readouterr().out
    subprocess.run(["git", "tag", "--delete", "a|b"], check=True, capture_output=True)


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing",), ("'nothing' is unknown", "git log")),
        (("v1", "v9"), ("'v9' is unknown", "git log")),
        (("v1", "--profile", "full"), ("reports/full/metrics holds nothing at v1",)),
    ],
)
def test_bad_input(commits, arguments, says):
    process = zoo(commits, "compare", *arguments)
    printed, errors = process.communicate()
    assert (process.returncode, printed, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("zoo: ")
    assert all(words in errors for words in says)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("reports/quick/metrics/mlp_relu.json", "{"),
        ("reports/quick/metrics/mlp_relu.json", "[1]"),
        ("reports/quick/metrics/mlp_relu.json", '{"training": {}}'),
        ("reports/quick/metrics/mlp_relu.json", b"\xff\x00"),
        ("reports/quick/judged/cvae.json", '{"agreement": {"seeds": {}}}'),
        ("reports/quick/parity/cvae.json", "3"),
        ("reports/quick/latency/mlp_relu/cpu.json", '{"rows": [{"mode": "host"}]}'),
        ("params.yaml", "a: ["),
        ("params.yaml", "models: 3"),
        ("dvc.lock", "stages: 3"),
    ],
)
def test_a_damaged_file_is_named_with_its_revision(copied, path, text):
    Path(path).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=f"^{re.escape(path)} at working tree is missing or damaged .*dvc repro"):
        compare.compare("v2", None, None, RULES)
    save_all("damaged")
    with pytest.raises(InputError, match=f"^{re.escape(path)} at HEAD is missing or damaged .*another commit"):
        compare.compare("v2", "HEAD", None, RULES)


def test_a_damaged_graph_in_the_cache(copied):
    for path in Path(".dvc", "cache", "files").rglob("*"):
        if path.is_file() and path.suffix != ".dir":
            path.chmod(0o644)
            path.write_bytes(b"\xff\xff no graph")
    with pytest.raises(InputError, match="damaged in DVC's cache"):
        compare.compare("v1", "v2", None, RULES)


def test_a_profile_that_was_run_on_one_side_alone(copied):
    report("metrics", "mlp_relu", metrics(), profile="full")
    compared = compare.compare("v2", None, None, RULES)
    assert compared["skipped"] == ["The full profile was run at working tree alone: it is not compared."]
    subprocess.run(["rm", "-r", "reports/quick"], check=True)
    with pytest.raises(InputError, match="no profile was run both at v2 and at working tree"):
        compare.compare("v2", None, None, RULES)


def test_a_folder_that_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="in no git repository"):
        compare.compare("HEAD", None, None, RULES)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="git is not installed"):
        compare.compare("HEAD", None, None, RULES)


def test_options_are_checked(commits):
    for wrong in (["--fail-on", "better", "v1"], ["--profile", "slow", "v1"], [], ["a", "b", "c"]):
        process = zoo(commits, "compare", *wrong)
        assert process.communicate()[1].startswith("usage: zoo compare")
        assert process.returncode == 2


# ---- this repository


def test_this_repository_against_its_last_commit(capsys):
    """Whatever stands in the working tree, and however few commits a clone has."""
    assert view.run(("HEAD", None), None, False, [], None, None) == 0
    printed = capsys.readouterr().out
    assert all(f"\n{table}: " in printed for table in ("Quality", "Latency", "Graphs"))


def test_torch_is_not_imported():
    code = "import sys, zoo.compare_view, zoo.dvc_graph; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
