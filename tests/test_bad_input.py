"""Bad input to the stages: one line that names it and its remedy, and nothing is touched."""

import contextlib
import copy
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys

import numpy
import pytest
import sample_records
from safetensors import safe_open
from safetensors.numpy import save_file
from sample_graphs import FLAT, IMAGE, SQUARE, save, write_parity

from zoo import code, files, params
from zoo.data import archive
from zoo.errors import InputError
from zoo.params import experiments
from zoo.records import cost, curve, judged, latency, metrics, parity, peers, run
from zoo.stage import run as run_stage
from zoo.train import checkpoints

PARAMS, ROOT = params.PATH, code.ROOT
AGAIN = "delete it and run `dvc repro` again"
DATA, TEXT = files.data("quick", "images"), files.data("quick", "text")
CHECKPOINT = files.checkpoint("quick", "cae_strided", 0)
GRAPH = files.graph("quick", "cae_strided", 0, "reconstruct")
CLASSIFIER = files.graph("quick", "resnet", 0, "classify")
PROGRESS = files.progress("quick", "gan", 0)
GENERATOR = files.graph("quick", "gan", 0, "generate")
EXPORTS = parity.path("quick", "cae_strided")
RECORDS = (run, cost, curve, parity, metrics, judged, latency, peers)
# Of params.yaml what these tests need: all of it takes a second to read.
PARAMETERS = params.read(ROOT / PARAMS)
PARAMETERS |= {"models": {name: PARAMETERS["models"][name] for name in ("cae_strided", "gan", "resnet")}, "claims": {}}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with params.yaml, small inputs for every stage, and earlier outputs of all of them."""
    monkeypatch.chdir(tmp_path)
    write(PARAMETERS)
    images = numpy.zeros((20, 28, 28), numpy.uint8)
    labels = (numpy.arange(20) % 10).astype(numpy.uint8)
    splits = ("train", "validation", "test")
    arrays = {f"{split}_{kind}": value for split in splits for kind, value in (("images", images), ("labels", labels))}
    archive.write(DATA, arrays, {"classes": 10, "source": "digits", "sha256": "0"})
    recipe = {"recipe": {"data": "images", "net": {}}}  # evaluate reads no more of it
    save(GRAPH, f"({IMAGE} image) => ({IMAGE} reconstruction)", "reconstruction = Identity(image)", recipe)
    weights = {"weights": numpy.zeros((784, 10), numpy.float32)}
    for verb, name in (("classify", "logits"), ("encode", "code")):
        signature = f"({IMAGE} image) => (float[batch,10] {name})"
        save(CLASSIFIER.with_stem(verb), signature, f"{FLAT} {name} = MatMul(flat, weights)", recipe, **weights)
    weights = {"weights": numpy.zeros((2, 784), numpy.float32)}
    signature = f"(float[batch,2] noise) => ({IMAGE} image)"
    save(GENERATOR, signature, f"pixels = MatMul(noise, weights) {SQUARE}", recipe, **weights)
    for name in ("cae_strided", "gan", "resnet"):
        write_parity("quick", name)
    archive.write(PROGRESS, {"steps": numpy.arange(2), "images": numpy.zeros((2, 10, 28, 28), numpy.uint8)}, {})
    CHECKPOINT.parent.mkdir(parents=True)
    trained = dict.fromkeys(checkpoints.KEYS, 0) | {"data": {"classes": 10}}
    trained["recipe"] = experiments.experiment(PARAMETERS, "quick", "cae_strided").recipe
    save_file({"weight": numpy.zeros(3)}, CHECKPOINT, {"run": json.dumps(trained)})
    earlier = (
        TEXT,
        *(of.path("quick", "cae_strided") for of in (run, cost, curve, metrics)),
        files.predictions("quick", "cae_strided"),
        files.figures("quick", "cae_strided") / "reconstruct.png",
        judged.path("quick", "gan"),
        latency.path("quick", "of_no_graph"),
        peers.path("quick", "of_no_graph"),
    )
    for path in earlier:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return tmp_path


def write(parameters):
    PARAMS.write_text(json.dumps(parameters), encoding="utf-8")  # JSON is YAML


def setting(key, value):
    """Set one key ("a/b/c") of params.yaml."""

    def change():
        parameters = place = copy.deepcopy(PARAMETERS)
        *parents, last = key.split("/")
        for name in parents:
            place = place[name]
        place[last] = value
        write(parameters)

    return change


def cut(path, keep=0.5):
    """The first part of a file, as an interrupted copy leaves it."""
    return lambda: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def flipped(path):
    """A file with one bit wrong, in the middle."""

    def change():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return change


def without(key):
    """A checkpoint whose run metadata lacks `key`, or, of its recipe, recipe.`key`."""

    def change():
        with safe_open(CHECKPOINT, "numpy") as file:
            run = json.loads(file.metadata()["run"])
        *parent, last = key.split(".")
        del (run[parent[0]] if parent else run)[last]
        save_file({"weight": numpy.zeros(3)}, CHECKPOINT, {"run": json.dumps(run)})

    return change


def nothing():
    pass


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ended(command):
    """The exit status of a stage's function: a number, or the text that a program's end prints."""
    stage, *arguments = command.split()
    name = {"export": "export_graphs", "peers": "time_peers"}.get(stage, stage)
    function = getattr(importlib.import_module(stage), name)
    with pytest.raises(SystemExit) as end:
        run_stage(function, arguments)
    return end.value.code


@pytest.mark.parametrize(
    ("command", "change", "words"),
    [
        ("download quick sounds", nothing, ("data.sounds is missing",)),
        ("download quick images", setting("data/images/quick/test", 1797), ("digits", "test: 1797")),
        ("download quick images", setting("data/images/quick/source", "digitz"), ("source = 'digitz'", "digits, ")),
        ("download quick images", setting("data/images/quick/test", -1), ("data.images.quick.test = -1",)),
        ("train quick cae_stridde", nothing, ("no experiment 'cae_stridde'", "fix the name")),
        ("train fast cae_strided", nothing, ("'fast'", "use one of quick, full")),
        ("train quick cae_strided", cut(DATA), (str(DATA), AGAIN)),
        ("export quick cae_strided", cut(CHECKPOINT), (str(CHECKPOINT), AGAIN)),
        ("export quick cae_strided", nothing, (str(CHECKPOINT), "of another network", AGAIN)),
        ("export quick cae_strided", without("recipe"), (str(CHECKPOINT), "lacks recipe", AGAIN)),
        ("export quick cae_strided", without("recipe.net"), (str(CHECKPOINT), "lacks net", AGAIN)),
        ("export quick cae_strided", without("data"), (str(CHECKPOINT), "lacks data", AGAIN)),
        ("export quick cae_strided", CHECKPOINT.unlink, (str(CHECKPOINT.parent), "no checkpoints: run `dvc repro`")),
        ("evaluate quick cae_stridde", nothing, ("cae_stridde.json is missing: run `dvc repro`",)),
        ("evaluate quick cae_strided", cut(EXPORTS), (str(EXPORTS), AGAIN)),
        ("evaluate quick cae_strided", cut(DATA), (str(DATA), AGAIN)),
        ("evaluate quick cae_strided", flipped(DATA), (str(DATA), AGAIN)),
        ("evaluate quick cae_strided", DATA.unlink, (str(DATA), "missing: run `dvc repro`")),
        ("evaluate quick cae_strided", cut(GRAPH), (str(GRAPH), AGAIN)),
        ("evaluate quick cae_strided", flipped(GRAPH), (str(GRAPH), "run `dvc repro`")),
        ("evaluate quick cae_strided", GRAPH.unlink, (str(GRAPH), "missing: run `dvc repro`")),
        ("evaluate quick cae_strided", setting("evaluate/batch", 0), ("evaluate.batch = 0", "equal to 1")),
        ("evaluate quick gan", cut(PROGRESS), (str(PROGRESS), AGAIN)),
        ("evaluate quick gan", flipped(PROGRESS), (str(PROGRESS), AGAIN)),
        ("judge quick gan", CLASSIFIER.unlink, (str(CLASSIFIER), "missing: run `dvc repro`")),
        ("judge quick gan", cut(GENERATOR, 0), (str(GENERATOR), AGAIN)),
        ("judge quick cae_strided", nothing, ("judge.of = cae_strided", "remove it")),
        ("benchmark quick", cut(GRAPH), (str(GRAPH), str(EXPORTS), "run `dvc repro`")),
        ("benchmark quick", GRAPH.unlink, (str(GRAPH), "missing: run `dvc repro`")),
        ("benchmark quick", setting("benchmark/both/providers", ["CUDA"]), ("'CUDA'", "CUDAExecutionProvider")),
        ("benchmark full", nothing, ("reports/full/parity has no records", "run `dvc repro`")),
        ("peers quick", setting("peers/quick/runtimes", ["jax"]), ("'jax'", "openvino")),
        ("peers quick", nothing, ("latency", "missing: run `dvc repro`")),
        ("report fast", nothing, ("'fast'", "use one of quick, full")),
        ("report quick", nothing, ("code/experiments/quick.json is missing", "run `dvc repro`")),
    ],
)  # fmt: skip
def test_one_line_and_nothing_touched(tree, command, change, words):
    change()
    before = content(tree)
    line = ended(command)
    assert len(line.splitlines()) == 1
    assert not [word for word in words if word not in line], line
    assert content(tree) == before


@pytest.mark.parametrize(
    ("command", "named"),
    [("evaluate quick", "required: name"), ("judge quick gan 3", "unrecognized arguments: 3"),
     ("benchmark quick --agian", "unrecognized arguments: --agian")],
)  # fmt: skip
def test_wrong_arguments(command, named, capsys):
    """The usage, and one line that names the argument: argparse's own words."""
    assert ended(command) == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: ")
    assert named in error


# ---- records


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A folder in which every record of a profile was written."""
    folder = tmp_path_factory.mktemp("reports")
    with contextlib.chdir(folder):
        sample_records.write("quick")
    return folder


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_a_record_that_cannot_be_read(reports, record, monkeypatch):
    """Of every kind: missing, damaged, and of another version of this project."""
    monkeypatch.chdir(reports)
    path = min(record.path("quick", "name").parent.iterdir())
    whole, name = path.read_text(), path.stem
    record.read("quick", name)
    cases = [("", "damaged"), ("{}", "damaged")]
    if path.suffix == ".json":
        cases += [(whole[:-10], "damaged"), (whole.replace("{", '{"foreign": 1,', 1), "foreign.*of another version")]
    for text, reason in cases:
        path.write_text(text)
        with pytest.raises(InputError, match=rf"{path}.*{reason}.*run `dvc repro`") as caught:
            record.read("quick", name)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(InputError, match=rf"{path} is missing: run `dvc repro`, which makes it"):
        record.read("quick", name)
    path.write_text(whole)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_curve_that_was_cut(reports, recorded, monkeypatch):
    """At any byte, where the record of the run names the curve; between rows not, where an old record does not."""
    monkeypatch.chdir(reports)
    path, record = curve.path("quick", "autoencoder"), run.read("quick", "autoencoder")
    original = path.read_bytes()
    whole = b"".join(original.splitlines(keepends=True)[:4])
    sha256 = hashlib.sha256(whole).hexdigest() if recorded else None
    run.write(record.model_copy(update={"curve_sha256": sha256}))
    path.write_bytes(whole)
    curve.read("quick", "autoencoder")
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if recorded or not whole[:length].endswith(b"\n"):
            with pytest.raises(InputError, match=rf"{path} is damaged.*run `dvc repro` again"):
                curve.read("quick", "autoencoder")
    path.write_bytes(original)
    run.write(record)


# ---- stages as programs


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The stages of a checkout whose code was hashed."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("constraints.txt", PARAMS):
        shutil.copy(ROOT / name, folder)
    subprocess.run([sys.executable, "stages/digest.py"], cwd=folder, check=True)
    return folder / "stages"


def finished(stages, command):
    """A stage's process, run in the working folder."""
    stage, *arguments = command.split()
    script = [sys.executable, stages / f"{stage}.py"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([*script, *arguments], env=environment, capture_output=True, text=True)


def test_bad_input_ends_a_process_with_one_line(stages, tree):
    cut(GENERATOR)()
    before = content(tree)
    done = finished(stages, "judge quick gan")
    assert done.returncode == 1
    assert done.stderr.startswith(f"judge.py: {GENERATOR} is damaged (")
    assert done.stderr.endswith(f"): {AGAIN}\n")
    assert content(tree) == before


def test_the_same_stages_work_on_good_input(stages, tree):
    """Otherwise whatever is wrong with this tree, rather than the damage, could be what the stages complain of."""
    before = content(tree)
    done = finished(stages, "judge quick gan")
    assert (done.returncode, done.stderr) == (0, "")
    record = judged.read("quick", "gan")
    assert record.metrics["judge_accuracy"].mean == 0.1
    named = {path: identity.graph_sha256 for path, identity in (
        (GENERATOR, record.graphs["0"]["generate"]), (CLASSIFIER, record.judge.graphs["classify"]),
        (CLASSIFIER.with_stem("encode"), record.judge.graphs["encode"]),
    )}  # fmt: skip
    assert named == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in named}
    after = content(tree)
    assert {path for path, old in before.items() if after[path] != old} == {judged.path("quick", "gan")}
    assert after.keys() == before.keys()
