"""Bad input to the stages, run as DVC runs them: one line that names it and its remedy, and nothing is touched."""

import os
import subprocess
import sys

import numpy
import pytest
import yaml
from safetensors.numpy import save_file
from sample_graphs import FLAT, IMAGE, SQUARE, save

from zoo import files, params
from zoo.data import archive

PARAMS = params.PATH
AGAIN = "delete it and run `dvc repro` again"
DATA, TEXT = files.data("quick", "images"), files.data("quick", "text")
CHECKPOINT = files.checkpoint("quick", "cae_strided", 0)
GRAPH = files.graph("quick", "cae_strided", 0, "reconstruct")
CLASSIFIER = files.graph("quick", "resnet", 0, "classify")
PROGRESS = files.progress("quick", "gan", 0)
GENERATOR = files.graph("quick", "gan", 0, "generate")


@pytest.fixture
def tree(root, tmp_path, monkeypatch):
    """A folder with params.yaml, small inputs for every stage, and earlier outputs of all of them."""
    monkeypatch.chdir(tmp_path)
    parameters = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    write(parameters)
    images = numpy.zeros((20, 28, 28), numpy.uint8)
    labels = (numpy.arange(20) % 10).astype(numpy.uint8)
    splits = ("train", "validation", "test")
    arrays = {f"{split}_{kind}": value for split in splits for kind, value in (("images", images), ("labels", labels))}
    archive.write(DATA, arrays, {"classes": 10, "source": "digits"})
    identity = (f"({IMAGE} image) => ({IMAGE} reconstruction)", "reconstruction = Identity(image)")
    save(GRAPH, *identity, {"recipe": {}})
    weights = {"weights": numpy.zeros((784, 10), numpy.float32)}
    for verb, name in (("classify", "logits"), ("encode", "code")):
        signature = f"({IMAGE} image) => (float[batch,10] {name})"
        save(CLASSIFIER.with_stem(verb), signature, f"{FLAT} {name} = MatMul(flat, weights)", **weights)
    weights = {"weights": numpy.zeros((2, 784), numpy.float32)}
    save(
        GENERATOR, f"(float[batch,2] noise) => ({IMAGE} image)", f"pixels = MatMul(noise, weights) {SQUARE}",
        {"recipe": {}}, **weights,
    )  # fmt: skip
    PROGRESS.parent.mkdir(parents=True)
    numpy.savez(PROGRESS, steps=numpy.arange(2), images=numpy.zeros((2, 10, 28, 28), numpy.uint8))
    CHECKPOINT.parent.mkdir(parents=True)
    save_file({"weight": numpy.zeros(3)}, CHECKPOINT, {"run": '{"data": {"classes": 10}}'})
    earlier = (
        TEXT,
        files.curve("quick", "cae_strided"),
        files.parity("quick", "cae_strided"),
        files.metrics("quick", "cae_strided"),
        files.predictions("quick", "cae_strided"),
        files.figures("quick", "cae_strided") / "reconstruct.png",
        files.judged("quick", "gan"),
        files.latency("quick", "cae_strided") / "cpu.json",
    )
    for path in earlier:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return tmp_path


def write(parameters):
    PARAMS.write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")


def setting(key, value):
    """Set one key ("a/b/c") of params.yaml."""

    def change():
        parameters = place = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
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


def nothing():
    pass


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished(root, command):
    stage, *arguments = command.split()
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, root / "stages" / f"{stage}.py", *arguments], env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("command", "change", "words"),
    [
        ("evaluate quick cae_stridde", nothing, ("'cae_stridde'", "use one of ae_dense32,", "cae_strided,")),
        ("evaluate fast cae_strided", nothing, ("'fast'", "use one of quick, full")),
        ("evaluate quick cae_strided", cut(DATA), (str(DATA), AGAIN)),
        ("evaluate quick cae_strided", flipped(DATA), (str(DATA), AGAIN)),
        ("evaluate quick cae_strided", DATA.unlink, (str(DATA), "missing: run `dvc repro`")),
        ("evaluate quick cae_strided", cut(GRAPH), (str(GRAPH), AGAIN)),
        ("evaluate quick cae_strided", GRAPH.unlink, (str(GRAPH.parent), "no graphs: run `dvc repro`")),
        ("evaluate quick cae_strided", setting("evaluate/batch", 0), ("evaluate.batch = 0", "equal to 1")),
        ("evaluate quick gan", cut(PROGRESS), (str(PROGRESS), AGAIN)),
        ("evaluate quick gan", flipped(PROGRESS), (str(PROGRESS), AGAIN)),
        ("judge quick gan", CLASSIFIER.unlink, (str(CLASSIFIER), "missing: run `dvc repro`")),
        ("judge quick gan", cut(GENERATOR, 0), (str(GENERATOR), AGAIN)),
        ("benchmark quick cae_strided", cut(GRAPH), (str(GRAPH), AGAIN)),
        ("benchmark quick cae_strided", setting("benchmark/providers", ["CUDA"]), ("'CUDA'", "CUDAExecutionProvider")),
        ("download quick sounds", nothing, ("data.sounds.quick", "images.quick")),
        ("download quick images", setting("data/images/quick/test", 1797), ("digits", "test: 1797")),
        ("download quick images", setting("data/images/quick/source", "digitz"), ("source = digitz", "data/digitz.py")),
        ("report quick", setting("claims/maps_empty/test", ["cae_strided.encode.dead_share"]),
         ("claims.maps_empty.test.0 = 'cae_strided.encode.dead_share'", "such as `experiment.verb.metric < 0.5`")),
        ("report quick", setting("claims/maps_empty/explains", ["lstm.perplexity"]), ("explains = lstm.perplexity",)),
        ("report quick", setting("published_curves/cae_strided", [{}]), ("cae_strided.0.player", "is missing")),
        ("report quick", nothing, ("reports/quick/metrics/ae_dense32.json is missing", "run `dvc repro`")),
        # Each of these imports torch, which takes seconds.
        ("train quick cae_strided", cut(DATA), (str(DATA), AGAIN)),
        ("export quick cae_strided", cut(CHECKPOINT), (str(CHECKPOINT), AGAIN)),
        ("export quick cae_strided", nothing, (str(CHECKPOINT), "of another network", AGAIN)),
    ],
)  # fmt: skip
def test_one_line_and_nothing_touched(root, tree, command, change, words):
    change()
    before = content(tree)
    done = finished(root, command)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in words:
        assert part in done.stderr
    assert content(tree) == before


@pytest.mark.parametrize(
    ("command", "named"),
    [("evaluate quick", "required: name"), ("judge quick gan 3", "unrecognized arguments: 3"),
     ("benchmark quick gan --agian", "unrecognized arguments: --agian")],
)  # fmt: skip
def test_wrong_arguments(root, tree, command, named):
    """The usage, and one line that names the argument: argparse's own words."""
    before = content(tree)
    done = finished(root, command)
    assert done.returncode == 2
    usage, error = done.stderr.splitlines()
    assert usage.startswith(f"usage: {command.split()[0]}.py")
    assert named in error
    assert content(tree) == before


def test_the_same_stages_work_on_good_input(root, tree):
    """Otherwise whatever is wrong with this tree, rather than the damage, could be what the stages complain of."""
    before = content(tree)
    for command in ("judge quick gan", "benchmark quick cae_strided"):
        assert finished(root, command).returncode == 0
    assert files.read_json(files.judged("quick", "gan"))["judge_accuracy"]["mean"] == 0.1
    assert [row["verb"] for row in files.read_json(files.latency("quick", "cae_strided") / "cpu.json")["rows"]]
    assert {path for path, old in before.items() if content(tree)[path] != old} == {
        files.judged("quick", "gan"), files.latency("quick", "cae_strided") / "cpu.json"
    }  # fmt: skip
