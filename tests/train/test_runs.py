"""One run: equal seeds give equal weights, a record says what was done, and an interruption changes nothing."""

import functools
import hashlib
import itertools
import json
import pickle
import platform
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy
import pytest
import torch
from networks import ENTRIES, EVERYTHING, MODELS, small_net
from safetensors.torch import save_file
from torch import nn

from zoo import code, files
from zoo.errors import InputError
from zoo.params import experiments
from zoo.params.training import Training, training
from zoo.train import checkpoints, runs, seeding

torch.set_num_threads(1)
ONE_OF_EACH = {entry["file"]: name for name, entry in reversed(MODELS.items())}


unit = functools.cache(code.unit)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """And with the code digested once: no test here changes it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(code, "unit", unit)


def small_data(kind):
    """Random images or words, just enough for the batches of params.yaml."""
    source = numpy.random.default_rng(0)
    if kind == "text":
        splits = {split: source.integers(0, 30, 2000, dtype=numpy.int32) for split in ("train", "validation")}
        return splits, {"vocabulary": 30}
    arrays = {}
    for split, count in (("train", 200), ("validation", 20)):
        arrays[f"{split}_images"] = source.integers(0, 256, (count, 28, 28), dtype=numpy.uint8)
        arrays[f"{split}_labels"] = (numpy.arange(count) % 10).astype(numpy.uint8)
    return arrays, {"classes": 10}


def run(name, seed=0, steps=3, settings=None, facts=None, on_log=lambda step, losses: None, **changes):
    """One short run on the CPU of an experiment of params.yaml in a small size, with `changes` to it."""
    experiment = experiments.in_profile(name, ENTRIES[name], "quick")
    values = experiment.model_dump(exclude_unset=True) | {"steps": min(steps, ENTRIES[name].steps.full)}
    values |= {"net": small_net(name)} | changes
    experiment = experiments.Experiment.model_validate(values)
    arrays, own_facts = small_data(experiment.data)
    chosen = training(EVERYTHING | {"device": "cpu"}, "quick").model_dump()
    curve = chosen["curve"] | (settings or {}).get("curve", {})
    chosen = Training.model_validate(chosen | (settings or {}) | {"curve": curve})
    return runs.train(experiment, chosen, seed, arrays, own_facts | (facts or {}), on_log)


def forget():
    """Remove what unfinished and finished runs have kept."""
    for path in Path().rglob("unfinished/*/*.npz"):
        path.unlink()


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH.values() if MODELS[name]["players"]])
def test_equal_seeds_give_equal_weights(name):
    outcomes, fit = [], MODELS[name]["fit"] | {"batch": 20}
    for seed in (0, 0, 1):
        outcomes.append(run(name, seed, start="data/images.npz", fit=fit))
        forget()
    states = [outcome.network.state_dict() for outcome in outcomes]
    first, second, _ = outcomes
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert first.rows == second.rows
    assert {row[1] for row in first.rows} == {"training", "validation"}
    assert [first.metadata[key] for key in ("seed", "diverged_at_step", "diverged_in")] == [0, None, None]
    assert numpy.array_equal((first.progress or {}).get("images"), (second.progress or {}).get("images"))


def test_metadata():
    """The digest is of the recipe alone."""
    outcome = run("ae_dense32", 0, steps=0)
    entry = MODELS["ae_dense32"]
    recipe = {
        "file": "dense_autoencoder", "data": "images", "start": "data/images.npz", "steps": 0, "labelled": None,
        "net": small_net("ae_dense32"), **{key: entry[key] for key in ("fit", "players")},
    }  # fmt: skip
    assert outcome.metadata["recipe"] == recipe
    sha256 = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    assert outcome.metadata["params_sha256"] == sha256
    assert outcome.metadata["parameters"] == sum(weight.numel() for weight in outcome.network.parameters())
    assert run("ae_dense32", 0, steps=0, fit={"batch": 100}).metadata["params_sha256"] != sha256


def test_equal_weights_on_two_processors_give_equal_checkpoints(monkeypatch, tmp_path):
    """Where it was computed is in the outcome, and not in what is saved beside the weights."""
    checkpoint = []
    for processor in ("one", "other"):
        monkeypatch.setattr(runs.hardware, "cpu", lambda processor=processor: processor)
        outcome = run("ae_dense32")
        assert outcome.processor == outcome.cost.processor == processor
        assert "resumed" not in str(outcome.metadata)
        checkpoints.save(tmp_path / processor, outcome.network, outcome.metadata)
        checkpoint.append((tmp_path / processor).read_bytes())
    assert checkpoint[0] == checkpoint[1]


def test_a_share_of_labels_is_part_of_the_recipe():
    """It is the profile's own."""
    recipe = run("aae_semi", 0, steps=0).metadata["recipe"]
    assert recipe["labelled"] == MODELS["aae_semi"]["size"]["quick"]["labelled"]
    assert "labelled" not in recipe["net"]


def test_start_from_a_checkpoint(tmp_path):
    """The encoder of another experiment's checkpoint of the same seed is where a network begins."""
    source = run("ae_dense32", 0, steps=0).network
    other = run("ae_dense32", 1, steps=0).network
    folder = tmp_path / "artifacts" / "quick" / "checkpoints" / "elsewhere"
    folder.mkdir(parents=True)
    save_file(
        {name: value for name, value in source.state_dict().items() if "encoder" in name}, folder / "1.safetensors"
    )
    network = run("ae_dense32", 1, steps=0, start="checkpoints/elsewhere").network
    for name, value in network.state_dict().items():
        assert torch.equal(value, (source if "encoder" in name else other).state_dict()[name])
    with pytest.raises(InputError, match=r"artifacts/quick/checkpoints/elsewhere/0\.safetensors is missing"):
        run("ae_dense32", 0, steps=0, start="checkpoints/elsewhere")


def test_start_that_shares_nothing(tmp_path):
    path = tmp_path / "0.safetensors"
    save_file({"weight": torch.zeros(5, 5), "other": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"0\.safetensors shares no weights"):
        checkpoints.load_matching(path, nn.Linear(3, 2))


def test_cuda_asked_for_and_absent():
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    with pytest.raises(InputError, match=r"params\.yaml: device = cuda.*set it to auto or cpu"):
        seeding.prepare(0, 1, "cuda")
    assert seeding.prepare(0, 1, "auto") == torch.device("cpu")


def test_the_order_of_the_data_has_a_generator_of_its_own():
    """Equal seeds give equal orders, whatever a network has drawn in between."""
    seeding.prepare(3, 1, "cpu")
    first = torch.randperm(50, generator=seeding.generator(3))
    torch.randn(7)
    assert torch.equal(first, torch.randperm(50, generator=seeding.generator(3)))
    assert not torch.equal(first, torch.randperm(50, generator=seeding.generator(4)))


FAULTS = """
import resource, sys

sys.modules["torch"] = sys  # whose import takes seconds, and which has no part in this
from zoo.train import seeding

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        b"1" * 40_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

alone = pages()
seeding.keep_freed_memory()
pages()
print(alone, pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_freed_memory_is_kept(monkeypatch):
    """Of five blocks of 40 MB, one after another, the system hands out every page anew, and then none."""
    command = [sys.executable, "-c", FAULTS]
    alone, kept = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert alone > 5 * 40_000_000 / resource.getpagesize() * 0.9
    assert kept < alone / 50
    told = []
    monkeypatch.setattr(seeding, "keep_freed_memory", lambda: told.append(True))
    seeding.prepare(0, 1, "cpu")
    assert told == [True]


def test_a_mean_of_gradients_that_are_gone_comes_to_zero():
    """0.9 times the smallest float32 rounds to itself: unflushed, Adam's mean would stay there, slow to work with."""
    seeding.prepare(0, 1, "cpu")
    weight = nn.Parameter(torch.ones(100))
    adam = torch.optim.Adam([weight], fused=True)
    weight.grad = torch.ones(100)
    adam.step()
    weight.grad = torch.zeros(100)
    for _ in range(1_000):  # 0.9 ** 1000 is 1.7e-46
        adam.step()
    assert not adam.state[weight]["exp_avg"].any()


@pytest.mark.parametrize(
    ("schedule", "expected"), [({}, [1, 1, 1]), ({"decay": {"after_epochs": 1, "factor": 0.5}}, [1, 0.5, 0.25])]
)
def test_runs_choose_the_rate(schedule, expected):
    """With 10 steps an epoch."""
    fit = experiments.Fit(batch=1, **schedule)
    assert [runs._rate(fit, 30, 10)(step) for step in (0, 10, 29)] == expected


# ---- what a network draws while it learns


@pytest.mark.parametrize("name", ["cgan", "infogan", "aae_gaussian"])
def test_progress_is_ten_pictures_beside_every_validation(name):
    """From one noise; a network that is told the digit draws 0 to 9; no evaluation of theirs disturbs the training."""
    outcome = run(name, steps=4, settings={"curve": {"validation_rows": 2}})
    network, rows, progress = outcome.network, outcome.rows, outcome.progress
    assert progress["steps"] == sorted({row[0] for row in rows if row[1] == "validation"}) == [0, 2, 4]
    assert [(images.shape, images.dtype) for images in progress["images"]] == [((10, 28, 28), numpy.uint8)] * 3
    assert not numpy.array_equal(progress["images"][0], progress["images"][2])
    source = torch.Generator().manual_seed(0)
    sizes = {"cgan": [100], "infogan": [62, 2], "aae_gaussian": [2]}[name]
    noise, *code = (torch.randn(10, size, generator=source) for size in sizes)
    told = {"cgan": [torch.arange(10)], "infogan": [torch.arange(10)], "aae_gaussian": []}[name]
    with torch.no_grad():
        drawn = network.eval().generate(noise, *told, *code)[:, 0].numpy()
    assert numpy.abs(progress["images"][-1] / 255 - drawn).max() <= 0.5 / 255 + 1e-6


def test_a_network_that_does_not_generate_has_no_progress():
    assert run("vae_bce", steps=1).progress is None


# ---- interruptions


class Stopped(Exception):
    """The process was killed."""


def stopping(batches_of, at, drawn):
    """`batches_of`, whose training batch number `at` never comes; `drawn` counts those that did."""

    def batches(*arguments):
        stream = batches_of(*arguments)

        def until():
            for number, draw in enumerate(stream.draws):
                if number == at:
                    raise Stopped
                drawn.append(number)
                yield draw

        return stream._replace(draws=until())

    return batches


@pytest.fixture
def interrupt(monkeypatch):
    """A function that runs an experiment until its training batch `at` is asked for, and returns how many it drew."""

    def interrupted(at, name, **options):
        with monkeypatch.context() as patch:
            drawn = []
            for kind, batches_of in runs.BATCHES.items():
                patch.setitem(runs.BATCHES, kind, stopping(batches_of, at, drawn))
            with pytest.raises(Stopped):
                run(name, **options)
        return len(drawn)

    monkeypatch.setattr(runs, "SECONDS_BETWEEN_STATES", 0)
    return interrupted


def steps_of(name, **options):
    """(the steps at which losses were read, the outcome) of a run."""
    seen = []
    outcome = run(name, on_log=lambda step, losses: seen.append(step), **options)
    return seen, outcome


def assert_equal(outcome, expected):
    """To the bit: weights, statistics, rows (where NaN equals NaN), metadata and pictures."""
    states = outcome.network.state_dict(), expected.network.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert repr(outcome.rows) == repr(expected.rows)
    assert outcome.metadata == expected.metadata
    assert (outcome.progress is None) == (expected.progress is None)
    if outcome.progress is not None:
        assert outcome.progress["steps"] == expected.progress["steps"]
        assert numpy.array_equal(outcome.progress["images"], expected.progress["images"])


# Losses are read after the steps 0, 1, 2, 4, 5, 10 and 11; validation and pictures come before 0, 5, 10 and at the end.
LONG = {
    "steps": 12,
    "settings": {"curve": {"training_rows": 2, "validation_rows": 2, "validation_items": 20}},
}
TEXT = {"curve": {"training_rows": 2, "validation_rows": 2, "validation_items": 500}}
READ = [0, 1, 2, 4, 5, 10, 11]
HALVED = {"after_epochs": 1, "factor": 0.5}
INTERRUPTED = {
    "gan": LONG | {"fit": {"batch": 16}},  # noise and dropout
    "vae_bce": LONG | {"fit": {"batch": 16}, "net": small_net("vae_bce") | {"dropout": 0.3}},
    # two streams, a falling rate
    "aae_semi": LONG | {"labelled": 50, "fit": {"batch": 10, "cooldown": 0.5}},
    "deep_conv_bn": LONG
    | {"fit": {"batch": 8}, "net": small_net("deep_conv_bn") | {"layers": 3}},  # running statistics
    "deep_conv_bn_manual": LONG | {"fit": {"batch": 8}, "net": small_net("deep_conv_bn_manual") | {"layers": 3}},
    "cae_denoise": LONG | {"fit": {"batch": 8}},  # channels_last
    # a state carried on, a rate that is halved twice
    "lstm": LONG | {"settings": TEXT, "fit": {"sequence_length": 5, "batch": 80, "clip": 5.0, "decay": HALVED}},
    "rnn_tanh": LONG | {"settings": TEXT, "fit": MODELS["lstm"]["fit"] | {"sequence_length": 5}},
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_run_ends_as_if_nothing_had_been(name, interrupt):
    """Before the first kept state, just after one, between two, twice, and at the last step."""
    options = INTERRUPTED[name]
    seen, expected = steps_of(name, **options)
    assert seen == READ
    for places in ([0], [3], [8], [2, 7, 11]):
        forget()
        begin = 0
        for at in places:
            assert interrupt(at, name, **options) == at
            begin = max([step + 1 for step in READ if step < at], default=0)
        seen, outcome = steps_of(name, **options)
        assert seen == [step for step in READ if step >= begin]
        assert_equal(outcome, expected)


def test_a_diverging_run_diverges_at_the_same_step(interrupt):
    """And goes back to the same weights; its record says where and in what."""
    players = {"classifier": {"algorithm": "SGD", "lr": 3.0, "updates": "all"}}
    options = LONG | {"players": players, "fit": {"batch": 16}, "net": MODELS["mlp_relu"]["net"]}
    seen, expected = steps_of("mlp_relu", **options)
    record = expected.metadata
    assert record["diverged_in"] == "loss"
    assert 2 <= record["diverged_at_step"] <= seen[-1]
    for at in range(1, record["diverged_at_step"] + 1):
        forget()
        interrupt(at, "mlp_relu", **options)
        assert_equal(steps_of("mlp_relu", **options)[1], expected)
    assert_equal(steps_of("mlp_relu", **options)[1], expected)  # finished: from what was kept


def test_a_finished_run_is_not_run_again(interrupt):
    """An interruption while the next seed trains: no batch is drawn for the one that was ready."""
    options = INTERRUPTED["gan"]
    expected = run("gan", **options)
    seen, outcome = steps_of("gan", **options)
    assert seen == []
    assert_equal(outcome, expected)


def test_a_state_is_kept_every_half_a_minute(monkeypatch):
    """Not at every reading: writing a large network costs more than a step of it."""
    now = itertools.count(step=20.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    kept, save = [], checkpoints.save_state
    monkeypatch.setattr(
        checkpoints, "save_state", lambda path, state: (kept.append(state.get("step")), save(path, state))
    )
    run("ae_dense32", steps=8)
    assert len(kept) < 8
    assert kept[-1] is None  # the finished run


def test_a_run_of_no_steps_keeps_nothing():
    run("op_upsample_nearest", steps=0)
    assert not list(Path().rglob("unfinished/*/*.npz"))


SHORT = LONG | {"fit": {"batch": 8}}
OTHERS = {
    "net": {"net": small_net("vae_bce") | {"dropout": 0.2}},
    "fit": {"fit": {"batch": 9}},
    "players": {"players": {"autoencoder": {"algorithm": "Adam", "lr": 2.0e-4, "updates": "all"}}},
    "data": {"facts": {"sha256": "other"}},
    "curve": {"settings": {"curve": LONG["settings"]["curve"] | {"training_rows": 3}}},
    "threads": {"settings": LONG["settings"] | {"threads": 2}},
    "steps": {"steps": 11},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_state_of_another_run_is_left_alone(other, interrupt, monkeypatch):
    """Another recipe, other data, another way to draw the curve, other threads: it begins at the beginning."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    expected = run("vae_bce", **SHORT | other)
    for stop in (lambda: interrupt(8, "vae_bce", **SHORT), lambda: run("vae_bce", **SHORT)):
        forget()
        stop()
        seen, outcome = steps_of("vae_bce", **SHORT | other)
        assert seen[0] == 0
        assert_equal(outcome, expected)


def test_a_state_of_another_seed_is_left_alone(interrupt):
    interrupt(8, "vae_bce", **SHORT)
    files.unfinished("quick", "vae_bce", 0).rename(files.unfinished("quick", "vae_bce", 1))
    assert steps_of("vae_bce", seed=1, **SHORT)[0] == READ


@pytest.mark.parametrize("unit", ["train", "models/variational"])
def test_a_state_of_other_code_is_left_alone(unit, interrupt, monkeypatch):
    interrupt(8, "vae_bce", **SHORT)
    record = code.unit
    monkeypatch.setattr(code, "unit", lambda name: record(name) | ({"modules": {}} if name == unit else {}))
    assert steps_of("vae_bce", **SHORT)[0] == READ


def test_a_state_of_another_processor_is_left_alone(interrupt, monkeypatch):
    interrupt(8, "vae_bce", **SHORT)
    monkeypatch.setattr(runs.hardware, "cpu", lambda: "another")
    assert steps_of("vae_bce", **SHORT)[0] == READ


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:100],
        lambda content: content[: len(content) // 2],
        lambda content: b"not a state at all",
        lambda content: content.replace("identity".encode("utf-32-le"), "identify".encode("utf-32-le")),
        lambda content: pickle.dumps({"identity": "another"}),  # is not executed: reading it raises
    ],
    ids=["empty", "begun", "half", "words", "renamed", "foreign"],
)
def test_a_damaged_state_is_left_alone(damage, interrupt):
    expected = run("vae_bce", **SHORT)
    forget()
    interrupt(8, "vae_bce", **SHORT)
    path = files.unfinished("quick", "vae_bce", 0)
    path.write_bytes(damage(path.read_bytes()))
    seen, outcome = steps_of("vae_bce", **SHORT)
    assert seen == READ
    assert_equal(outcome, expected)


def test_a_state_with_one_wrong_byte_is_left_alone(interrupt):
    """Wherever the byte is that tensors, rows or their description are made of: no run goes on from other weights."""
    interrupt(8, "vae_bce", **SHORT)
    path = files.unfinished("quick", "vae_bce", 0)
    content, identity = path.read_bytes(), checkpoints.load_state(path, "cpu")["identity"]
    assert runs._state(path, identity, torch.device("cpu"))["step"] == 6
    source = numpy.random.default_rng(0)
    with zipfile.ZipFile(path) as file:
        large = [(entry.header_offset + 200, entry.file_size) for entry in file.infolist() if entry.file_size > 1000]
    for start, size in large:
        place = int(source.integers(start, start + size - 200))
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        assert runs._state(path, identity, torch.device("cpu")) is None


def test_a_state_begun_from_another_checkpoint_is_left_alone(interrupt):
    """A probe whose autoencoder was trained again begins again with it."""
    checkpoint, options = files.checkpoint("quick", "ae_dense32", 0), LONG | {"fit": {"batch": 8}}
    checkpoint.parent.mkdir(parents=True)
    for trained, expected in ((0, [4, 5, 10, 11]), (1, READ)):
        save_file(run("ae_dense32", 0, steps=0).network.state_dict(), checkpoint)
        interrupt(4, "probe_frozen", **options)
        save_file(run("ae_dense32", trained, steps=0).network.state_dict(), checkpoint)
        assert steps_of("probe_frozen", **options)[0] == expected
        forget()


def test_a_state_half_written_leaves_the_one_before(interrupt, monkeypatch):
    """Killed while it writes: the state of the reading before is whole."""
    options, write = INTERRUPTED["gan"], numpy.savez
    expected = run("gan", **options)
    forget()

    def killed(stream, **content):
        if json.loads(str(content["facts"]))["step"] > 3:
            stream.write(b"half")
            raise Stopped
        write(stream, **content)

    with monkeypatch.context() as patch:
        patch.setattr(numpy, "savez", killed)
        with pytest.raises(Stopped):
            run("gan", **options)
    seen, outcome = steps_of("gan", **options)
    assert seen == [4, 5, 10, 11]
    assert_equal(outcome, expected)
