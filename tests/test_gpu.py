"""The program for a machine with a GPU, on the CPU; its archive, the page made of it, and the report's words for it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from zoo import params, records
from zoo.errors import InputError
from zoo.records import gpu, peers, run
from zoo.report import gpu as reported
from zoo.report import render

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
VISIT = gpu.Visit(
    commit="abc1234",
    profile="full",
    machine={"gpu": "Test GPU 9000", "cores": 4},
    parts={
        "steps": gpu.Part(outcome="done", seconds=2.0, limit_seconds=9.0),
        "peers": gpu.Part(outcome="stopped at its limit", not_reached=["words"]),
    },
    tests={"marked cuda": gpu.Tests(counts={"passed": 3, "failed": 1}, failures={"tests.one::two": "assert 1 == 2"})},
    steps={
        "float32": [
            gpu.Step(name="small", eager_ms=8.0, graph_ms=2.0, kernels=30),
            gpu.Step(name="large", eager_ms=3.0, graph_ms=2.0, kernels=60),
            gpu.Step(name="words", eager_ms=3.0, error="not captured: RuntimeError: a host read"),
        ],
        "TF32": [gpu.Step(name="small", eager_ms=9.0, graph_ms=1.0)],
    },
    determinism=[
        gpu.Repeat(name="small", steps=40, deterministic=True, resumes=True, captured_equals_eager=True),
        gpu.Repeat(name="large", steps=40, deterministic=True, resumes=False, captured_equals_eager=True),
    ],
    training=[gpu.Trained(name="small", steps=50, budget=200, seconds=3.5, headline="classify.accuracy", value=0.5)],
    graphs=[
        gpu.Graph(of=of, batch=1, host=host, bound=host, graph=graph)
        for of, host, graph in (
            ("small/classify", {"largest_difference": 0.5, "scale": 4.0}, {"largest_difference": 1.0, "scale": 4.0}),
            ("words/next_word", {"largest_difference": 0.0, "scale": 1.0}, {"error": "a node is on the CPU"}),
        )
    ],
    latency=[
        gpu.Timed(experiment="small", verb="classify", batch=1, mode=mode, p50_us=p50, drift=drift)
        for mode, p50, drift in (("host", 90.5, 0.2), ("graph", 30.25, 0.01))
    ],
    peers=[gpu.Timed(experiment="small", verb="classify", batch=1, mode="host", runtime="torch", p50_us=412.0)],
)  # fmt: skip


def program(folder, *arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def modules(monkeypatch):
    """benchmarks/gpu.py and gpu_page.py."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for name in ("gpu", "gpu_page"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import gpu as visiting
    import gpu_page

    return SimpleNamespace(program=visiting, page=gpu_page)


def archive(path, visit):
    records.write(path.with_suffix(".json"), visit)
    with zipfile.ZipFile(path, "w") as file:
        file.write(path.with_suffix(".json"), "results.json")
    return path


# ---- the program


def test_a_visit_without_a_gpu(tmp_path):
    """In processes of its own; what was not reached or not asked for is named; nothing but the archive is left."""
    done = program(
        tmp_path, "--device", "cpu", "--budget", 25, "--only", "steps", "--experiments", "probe_frozen", "op_batchnorm"
    )
    assert (done.returncode, [path.name for path in tmp_path.iterdir()]) == (0, ["results.zip"]), done.stderr
    with zipfile.ZipFile(tmp_path / "results.zip") as file:
        visit = gpu.Visit.model_validate_json(file.read("results.json"))
        assert "logs/machine.txt" in file.namelist()
    assert (visit.device, visit.profile, visit.budget_seconds) == ("cpu", "quick", 25)
    assert visit.machine["cores"] >= 1
    assert visit.settings["benchmark"]["providers"] == ["CPUExecutionProvider"]
    asked = {"facts", "data", "steps"}
    assert {name for name, part in visit.parts.items() if part.outcome != "not asked for"} == asked
    rows, part = next(iter(visit.steps.values()), []), visit.parts["steps"]
    reached = {row.name for row in rows}  # where the machine is slow, none
    assert reached | {*part.not_reached} == {"probe_frozen"} or part.outcome.startswith("not reached")
    assert not [row for row in rows if row.error]


def test_every_kind_of_work(modules, tmp_path, monkeypatch):
    """For two experiments, without a budget: the stages run in the temporary folder, with its params.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))  # of the processes that start cold
    names = ["mlp_sigmoid", "op_batchnorm"]
    visit = SimpleNamespace(device="cpu", profile="quick", commit="abc1234", values=params.read(ROOT / "params.yaml"))
    visit.names, visit.results, visit.side_by_side = names, {}, 1
    settings = modules.program.write_params(visit, {"mlp_sigmoid": 3})
    work = modules.program.WORKERS
    facts = work["machine"](visit, "machine")
    assert (facts["device"], facts["commit"]) == ("cpu", "abc1234")
    work["data"](visit, "images")
    row = work["step"](visit, "mlp_sigmoid")
    assert row["eager_ms"] > 0
    assert row["operators"] > 20
    row = work["determinism"](visit, "mlp_sigmoid")
    assert (row["deterministic"], row["resumes"]) == (True, True)
    for name in names:
        work["training"](visit, name)
    assert run.read("quick", "mlp_sigmoid").recipe["steps"] == 3
    assert [*run.read("quick", "mlp_sigmoid").seeds] == ["0"]
    work["benchmark"](visit, "")
    modules.program.read_latencies(visit)
    rows = visit.results["latency"]
    assert {(row["experiment"], row["verb"]) for row in rows} >= {
        ("mlp_sigmoid", "classify"),
        ("op_batchnorm", "apply"),
    }
    assert {row["batch"] for row in rows} == {*settings["benchmark"]["batches"]} == {1}
    assert all(row["p50_us"] > 0 for row in rows)
    work["peers"](visit, "")
    assert {row.device for path in peers.folder("quick").iterdir() for row in records.read(peers.Peers, path).rows} == {
        "cpu"}  # fmt: skip
    assert work["evaluation"](visit, "mlp_sigmoid")["value"] is not None


def test_no_time_at_all(tmp_path):
    """A budget that even the first part exceeds is an error that says so; the archive lists every part."""
    done = program(tmp_path, "--device", "cpu", "--budget", 4, "--to", tmp_path / "visit.zip")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("gpu.py: ")
    with zipfile.ZipFile(tmp_path / "visit.zip") as file:
        outcomes = {name: part["outcome"] for name, part in json.loads(file.read("results.json"))["parts"].items()}
    assert len(outcomes) == 9
    assert not {outcome for outcome in outcomes.values() if outcome in ("done", "")}


def test_an_unknown_experiment(tmp_path):
    done = program(tmp_path, "--device", "cpu", "--experiments", "nothing")
    assert (done.returncode, done.stderr) == (
        1, "gpu.py: --experiments: nothing: params.yaml has no such experiment\n",
    )  # fmt: skip


def visit_with(paces, captured=(), side_by_side=2):
    """What `shares` looks at: {name: (seconds of a step, steps of the whole budget)}."""
    rows = [
        {"name": name, "eager_ms": pace * 1e3} | ({"graph_ms": pace * 1e3} if name in captured else {})
        for name, (pace, _) in paces.items()
        if pace
    ]
    models = {name: {"steps": {"quick": 7, "full": steps}} for name, (_, steps) in paces.items()}
    return SimpleNamespace(
        results={"steps": {"": rows}}, side_by_side=side_by_side, values={"models": models}, profile="full"
    )


def test_short_trainings_are_whole_and_long_ones_get_equal_times(modules):
    """In 100 s, two at once: 200 s of work. 10 s and 30 s fit whole; the other two get 80 s each."""
    paces = {"a": (0.1, 100), "b": (0.01, 3000), "c": (1.0, 1000), "d": (0.5, 1000)}
    budgets = {name: steps for name, (_, steps) in paces.items()}
    planned = modules.program.shares(visit_with(paces), budgets, 100)
    assert {name: planned[name] for name in "ab"} == {"a": 100, "b": 3000}
    assert planned["c"] == pytest.approx(80, abs=1)
    assert planned["d"] == pytest.approx(160, abs=1)


def test_captured_steps_share_one_gpu(modules):
    """So 100 s are 100 s of work."""
    paces = {"a": (0.1, 100), "b": (0.01, 100000)}
    budgets = {name: steps for name, (_, steps) in paces.items()}
    planned = modules.program.shares(visit_with(paces, captured="ab"), budgets, 100)
    assert planned["a"] == 100
    assert planned["b"] == pytest.approx(9000, abs=1)


def test_without_a_timed_step_the_quick_number_of_steps_is_taken(modules):
    paces = {"timed": (1.0, 50), "not": (None, 50), "operator": (None, 0)}
    budgets = {name: steps for name, (_, steps) in paces.items()}
    planned = modules.program.shares(visit_with(paces), budgets, 0)
    assert planned == {"timed": 1, "not": 7, "operator": 0}


def test_failures_of_a_junit_report_keep_their_last_lines(modules, tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_right(): pass\n"
        "def test_wrong(): assert 2 + 2 == 5\n"
        "@pytest.mark.skip\n"
        "def test_skipped(): pass\n"
        "@pytest.fixture\n"
        "def broken(): raise RuntimeError('no such thing')\n"
        "def test_error(broken): pass\n"
    )
    report = tmp_path / "junit.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "."], cwd=tmp_path, capture_output=True
    )
    found = modules.program.junit(report)
    assert found["counts"] == {"passed": 1, "failed": 1, "error": 1, "skipped": 1}
    assert "assert (2 + 2) == 5" in found["failures"]["test_some::test_wrong"]
    assert "no such thing" in found["failures"]["test_some::test_error"]


# ---- the page


def test_an_archive_becomes_a_page(modules, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    modules.page.write([archive(tmp_path / "second.zip", VISIT)])
    assert records.read(gpu.Visit, gpu.FOLDER / "second.json") == VISIT
    page = (gpu.FOLDER / "README.md").read_text(encoding="utf-8")
    for text in (
        "## Test GPU 9000, commit abc1234",
        "2 of 3 experiments were captured; their steps were 1.5 to 4.0 times faster than eager ones.",
        "1 of 1 experiments were captured; their steps were 9.0 to 9.0 times faster than eager ones.",
        "not captured: RuntimeError: a host read",
        "2 of 2 experiments trained twice from the start had bit-identical weights after 40 steps.",
        "1 of 2 experiments interrupted half-way and resumed had bit-identical weights after 40 steps. Not: large.",
        "1 of 2 graphs ran entirely on CUDA in all three modes. "
        "The largest difference from the CPU was 2.5e-01 of the larger of 1 and the largest output",
        "a node is on the CPU",
        "0 of 1 experiments were trained for their whole budget",
        "For 1 of 3 rows the time of the reference graph changed by more than 5%",
        "`tests.one::two`:\n\n```\nassert 1 == 2\n```",
    ):
        assert text in page
    (line,) = [line for line in page.splitlines() if line.startswith("| small        | classify")]
    assert [float(cell) for cell in line.split("|")[4:-1]] == [90.5, 30.25, 412]
    assert "stopped at its limit" in page


def test_an_archive_made_without_a_gpu_is_refused(modules, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "here.zip", VISIT.model_copy(update={"device": "cpu"}))
    with pytest.raises(InputError, match="made without a GPU"):
        modules.page.write([path])
    assert not (tmp_path / "reports").exists()


def test_a_file_that_is_no_archive_is_refused(modules, tmp_path):
    (tmp_path / "no.zip").write_text("no")
    with pytest.raises(InputError, match="is not an archive"):
        modules.page.write([tmp_path / "no.zip"])


def test_the_committed_page_is_current(modules):
    assert (gpu.FOLDER / "README.md").read_text(encoding="utf-8") == modules.page.page(gpu.visits())


# ---- the report


def words(visits):
    return render.PAGES.get_template("gpu.md.j2").render(gpu=visits)


def test_the_report_without_a_visit_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "No GPU was available" in words(reported.gather())


def test_the_report_of_a_visit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records.write(gpu.FOLDER / "results.json", VISIT)
    text = words(reported.gather())
    assert "**Test GPU 9000**, with the code of commit abc1234" in text
    assert "2 of 3 experiments were captured as a CUDA graph, 1.5 to 4.0 times faster" in text
    assert "1 of 2 exported graphs ran entirely on CUDA in all three modes" in text
    assert "No GPU" not in text


def test_the_latest_visit_is_the_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, date in (("a", None), ("b", "2026-12-01"), ("c", "2026-12-02")):
        records.write(gpu.FOLDER / f"{name}.json", VISIT.model_copy(update={"date": date, "commit": name}))
    assert [visit["commit"] for visit in reported.gather()] == ["c", "b", "a"]
