"""The report, from a made-up tree of measured files: every experiment in it, each word as the numbers say."""

import contextlib
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import scipy.stats
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zoo import files, statistics
from zoo.errors import InputError
from zoo.evaluate import pictures
from zoo.latency import timing
from zoo.report import charts, latency_results, render, results, wording

ROOT = Path(__file__).parents[2]
OUTPUTS = ("README.md", "index.html", "summary.csv", "summary.json")
MACHINE = {"cpu": "Test CPU 3000", "cores": 2, "gpu": None, "os": "Linux", "onnxruntime": "1.31.1"}
ELSEWHERE = MACHINE | {"cpu": "Other CPU 4000", "gpu": "Test GPU"}
CONDITIONS = {
    "before": {"load_of_one_minute": 0.25, "gpu_watts": None, "gpu_throttled_by": None},
    "after": {"load_of_one_minute": 1.5, "gpu_watts": None, "gpu_throttled_by": None},
}
SETTINGS = {"calls": 700, "cores": 2, "threads": [1, 2]}
ON_GPU = {
    "before": {"load_of_one_minute": 0.1, "gpu_watts": 80.0, "gpu_throttled_by": []},
    "after": {"load_of_one_minute": 0.2, "gpu_watts": 300.0, "gpu_throttled_by": ["SwPowerCap"]},
}


def experiment(about, file, headline=None, steps=100, player="model"):
    players = {player: {"algorithm": "Adam", "lr": 0.001, "moves": "all"}} if steps else {}
    return {
        "about": about,
        "headline": headline,
        "file": file,
        "data": "images",
        "net": {"units": [8, 4]},
        "fit": {"batch": 10},
        "steps": {"quick": steps, "full": steps},
        "players": players,
    }


def figure(value, better, tolerance):
    return {"value": value, "better": better, "tolerance": tolerance, "source": "write-up | 9"}


def claim(says, *test, explains=()):
    return {"says": says, "source": "write-up | 9", "test": list(test), "explains": list(explains)}


EVERYTHING = {
    "seeds": {"quick": [0, 1, 2], "full": [0, 1, 2]},
    "benchmark": {
        "providers": ["CPUExecutionProvider", "CUDAExecutionProvider"],
        "threads": {"quick": [1], "full": [1, "all"]},
        "calls": 700,
    },
    "peers": {"verbs": ["classify"]},
    "judge": {"by": "classifier", "of": ["gan"]},
    "models": {
        "autoencoder": experiment("a narrow waist", "conv_autoencoder", "reconstruct.mse", 5000),
        "classifier": experiment("deep <and> narrow", "deep_conv", "classify.accuracy", 800),
        "gan": experiment("two players", "gan", player="generator"),
        "words": experiment("guesses the next word", "recurrent", "next_word.perplexity", 2323),
        "exploding": experiment("initialised too wide", "variational", "decode.elbo"),
        "operator": experiment("nothing to learn", "operators", "apply.largest_difference", 0),
    },
    "published": {
        "autoencoder": {
            "reconstruct": {"mse": figure(0.001, "lower", 0.25), "psnr_db": figure(40, "higher", 0.1)},
            "encode": {"dead_share": figure(0.2, "lower", 0.1)},
        },
        "classifier": {
            "classify": {
                "accuracy": figure(0.8, "higher", 0.05),
                "accuracy_one_at_a_time": figure(0.99, "higher", 0.01),
            }
        },
        "words": {"next_word": {"perplexity": figure(115.9, "lower", 0.05)}},
        "exploding": {"decode": {"elbo": figure(150, "lower", 0.1)}},
    },
    "published_curves": {
        "autoencoder": [
            {
                "player": "model",
                "split": "training",
                "source": "write-up | 9",
                "points": {0: 0.9, 1020: 0.8, 9000: 0.7},
            },
            {"player": "model", "split": "validation", "source": "write-up | 9", "points": {5000: 0.4321}},
        ],
        "exploding": [{"player": "model", "split": "training", "source": "write-up 8", "points": {10: 0.5, 90: 0.25}}],
    },
    "claims": {
        "plain": claim("the answers are | mostly right", "classifier.classify.accuracy > 0.5"),
        "reason": claim(
            "alone it is <b>lost</b>",
            "classifier.classify.accuracy_one_at_a_time < classifier.classify.accuracy",
            explains=["classifier.classify.accuracy_one_at_a_time"],
        ),
        "no_reason": claim(
            "it is sharp", "autoencoder.reconstruct.psnr_db > 99", explains=["autoencoder.reconstruct.psnr_db"]
        ),
        "wide": claim("half of the units are dead", "autoencoder.encode.dead_share > 0.2"),
        "scattered": claim(
            "some seeds use the whole code and some do not",
            "some autoencoder.encode.dead_share < 0.1",
            "some autoencoder.encode.dead_share > 0.1",
        ),
        "early": claim("words come before pictures", "words.validation_loss < exploding.validation_loss"),
        "overflowing": claim("the loss is past any use", "exploding.training.early_loss > 1e6"),
        "unmeasured": claim("the bound is loose", "exploding.decode.elbo < -1200"),
        "short": claim(
            "words are hard to guess",
            "words.next_word.perplexity > 100",
            "classifier.classify.accuracy > 0.5",
            explains=["autoencoder.reconstruct.psnr_db"],
        ),
    },
}

MEASURED = {
    "autoencoder": {
        "reconstruct": {
            "mse": {
                "mean": 0.0011,
                "seeds": {"0": 0.0010, "1": 0.0011, "2": 0.0012},
                "low": 0.00085,
                "high": 0.00135,
            },
            "psnr_db": {
                "mean": 30.1,
                "seeds": {"0": 30.0, "1": 30.1, "2": 30.2},
                "low": 29.85,
                "high": 30.35,
            },
        },
        "encode": {
            "dead_share": {"mean": 0.25, "seeds": {"0": 0.25, "1": 0.0, "2": 0.5}, "low": -0.371, "high": 0.871}
        },
    },
    "classifier": {
        "classify": {
            "accuracy": {"mean": 0.9123, "seeds": {"0": 0.9123}, "low": 0.1, "high": 0.9},
            "accuracy_one_at_a_time": {"mean": 0.5, "seeds": {"0": 0.5}},
            "precision": {str(digit): {"mean": 0.9, "seeds": {"0": 0.9}} for digit in range(10)},
            "recall": {str(digit): {"mean": 0.8, "seeds": {"0": 0.8}} for digit in range(10)},
        }
    },
    "gan": {},
    "words": {
        "next_word": {
            "perplexity": {"mean": 180.25, "seeds": {"0": 180.25}},
            "floor_perplexity": {"mean": 42.5, "seeds": {"0": 42.5}},
            "nats_per_word": {"mean": 5.193, "seeds": {"0": 5.193}},
        }
    },
    "exploding": {"decode": {"elbo": {"mean": None, "seeds": {"0": None}}}},
    "operator": {"apply": {"largest_difference": {"mean": 0.0, "seeds": {"0": 0.0}}}},
}
TAKEN = {"autoencoder": 5000, "classifier": 800, "gan": 100, "words": 1000, "exploding": 100, "operator": 0}


def loss_at(step):
    return np.exp(-step / 5000)


def latency_row(verb, batch, p50, mode="host", threads=2, optimisation="all", **more):
    times = {f"{name}{bound}_us": None for name in ("p90", "p99", "p999") for bound in ("", "_low", "_high")}
    return times | {
        "verb": verb, "seed": 0, "batch": batch, "graph_sha256": "0" * 64, "graph_bytes": 2048, "mode": mode,
        "threads": threads, "optimisation": optimisation, "calls": 700, "seconds": 0.2, "warmup_calls": 60,
        "p50_us": p50, "p50_low_us": 0.96 * p50, "p50_high_us": 1.04 * p50, "p90_us": 1.2 * p50,
        "outlier_share": 0.0125, "items_per_second": 1e6 * batch / p50, "block_p50_us": [p50] * 5,
        "block_calls": [140] * 5, "block_reference_us": [10.0] * 5, "noise": 0.0234, "drift": 0.0345, "attempts": 1,
        "nodes": {"CPUExecutionProvider": 7},
    } | more  # fmt: skip


def verb_of(name):
    return {"classifier": "classify", "words": "next_word", "gan": "generate"}.get(name, "reconstruct")


DEFAULT = {"mode": "host", "threads": 2, "optimisation": "all"}


def latency_of_cpu(name):
    """At batch 1 bound mode with one thread takes half of the default's time; at batch 64 nothing is faster."""
    verb, best = verb_of(name), {"mode": "bound", "threads": 1, "optimisation": "all"}
    rows, advice, cold = [], [], []
    for batch in (1, 16, 64):
        p50 = 40.0 * batch
        rows += [latency_row(verb, batch, p50), latency_row(verb, batch, p50 if batch > 1 else p50 / 2, **best)]
        chosen = {"best": best, "ratio": 2.0, "verdict": "faster"} if batch == 1 else {
            "best": DEFAULT, "ratio": 1.0, "verdict": "same"}  # fmt: skip
        advice.append({"verb": verb, "batch": batch, "default": DEFAULT} | chosen)
        cold.append({"verb": verb, "batch": batch, "load_ms": 12.34, "first_call_us": 456.7, "memory_peak_mib": 77.7})
    if name == "words":
        absent = {"verb": verb, "mode": "bound", "threads": 1, "not_measured": "the provider lacks LSTM"}
        rows += [absent | {"batch": 64}, absent | {"batch": 512}]
        cold.append({"verb": verb, "batch": 512, "not_measured": "the process was killed"})
    return {
        "provider": "CPUExecutionProvider", "machine": MACHINE, "conditions": CONDITIONS, "commit": "abc1234",
        "settings": SETTINGS, "rows": rows, "advice": advice, "cold": cold, "parity": [],
    }  # fmt: skip


def latency_of_cuda(name):
    """The classifier alone was measured on a GPU, of another machine."""
    if name != "classifier":
        return {"provider": "CUDAExecutionProvider", "not_measured": "no NVIDIA driver on this machine"}
    host, graph = ({"mode": mode, "threads": 1, "optimisation": "all"} for mode in ("host", "graph"))
    cold = {"load_ms": 345.0, "first_call_us": 6789.0, "memory_peak_mib": 321.0, "device_memory_mib": 654.0}
    return {
        "provider": "CUDAExecutionProvider", "machine": ELSEWHERE, "conditions": ON_GPU, "commit": None,
        "settings": SETTINGS | {"cores": 16, "threads": [1, 16]}, "cold": [{"verb": "classify", "batch": 1} | cold],
        "rows": [latency_row("classify", 1, p50, tf32=False, **mode) for p50, mode in ((30.0, host), (7.5, graph))],
        "advice": [
            {"verb": "classify", "batch": 1, "default": host, "best": graph, "ratio": 4.0, "verdict": "faster"}
        ],
        "parity": [{"verb": "classify", "batch": 1, "largest_difference": 2.4e-7, "scale": 13.5}],
    }  # fmt: skip


def peer(runtime, blocks):
    row = latency_row("classify", 1, blocks[2], threads=1) | {
        "runtime": runtime,
        "device": "cpu",
        "block_p50_us": blocks,
    }
    if not runtime.startswith("onnxruntime"):
        del row["optimisation"]
    return row | {"build_ms": 123.4, "largest_difference": 3.2e-7, "scale": 13.5}


# Ratios block by block: 2 throughout, and 1/2, 1/4, 1/2, 1/4, 1/2: the mean of their binary logarithms is -7/5.
BLOCKS = {
    "onnxruntime": [10.0, 20.0, 10.0, 20.0, 10.0],
    "torch": [20.0, 40.0, 20.0, 40.0, 20.0],
    "openvino": [5.0, 5.0, 5.0, 5.0, 5.0],
}


def peers_of(name):
    rows = [peer(runtime, blocks) for runtime, blocks in BLOCKS.items()] if name == "classifier" else []
    if rows:
        refused = {"verb": "classify", "batch": 1, "runtime": "torch_compile", "device": "cpu", "mode": "host"}
        rows.append(refused | {"not_measured": "no C++ compiler"})
    source = {"machine": MACHINE, "conditions": CONDITIONS, "commit": "abc1234", "openvino": "2026.1"}
    return source | {"settings": SETTINGS | {"providers": ["any"], "verbs": ["classify"]}, "rows": rows}


def write_tree(profile):
    random = np.random.default_rng(0)
    for name, verbs in MEASURED.items():
        seeds = sorted({int(s) for g in verbs.values() for m in g.values() for s in m.get("seeds", {})}) or [0]
        training = {
            "steps": TAKEN[name], "seeds": seeds, "batch": 10, "parameters": 26448, "source": "made up",
            "device": "cpu", "torch": "2.13.0", "diverged_at_step": {str(seed): None for seed in seeds},
        }  # fmt: skip
        if name == "exploding":
            training |= {"diverged_at_step": {"0": 17}, "diverged_in": {"0": "weights"}}
        files.write_json(files.metrics(profile, name), verbs | {"training": training})
        parity = {"largest_difference": 2.4e-7, "bound": 1e-5, "calls": 3, "finite": name != "exploding"}
        files.write_json(files.parity(profile, name), {"reconstruct": {str(seed): parity for seed in seeds}})
        players = ["generator", "discriminator"] if name == "gan" else ["model"]
        end, count = (16, 2) if name == "exploding" else (TAKEN[name], 51)
        rows = [
            (seed, step, split, player, loss_at(step), "nan" if split == "validation" else 3.5 * (step < end / 4))
            for seed in seeds
            for player in players
            for split, every in (("training", count), ("validation", 1 if name == "exploding" else 5))
            for step in np.linspace(0, end, every).astype(int)
            if TAKEN[name]
        ]
        if name == "exploding":
            rows[1] = (*rows[1][:-1], "inf")
        curve = files.curve(profile, name)
        curve.parent.mkdir(parents=True, exist_ok=True)
        pandas.DataFrame(rows, columns=results.CURVE_COLUMNS).to_csv(curve, index=False)
        folder = files.figures(profile, name)
        folder.mkdir(parents=True)
        images = random.random((8, 28, 28))
        if name == "autoencoder":
            pictures.image_rows([images, 0.8 * images], ["input", "output"], folder / "reconstruct.png")
            pictures.feature_maps(random.random((2, 16, 7, 7)), folder / "encode.png")
        if name == "classifier":
            actual = np.arange(200) % 10
            table = pandas.DataFrame({"actual": actual, "predicted": np.where(actual < 9, actual, 0), "loss": 0.1})
            files.predictions(profile, name).parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(files.predictions(profile, name), index_label="item")
            counts = random.integers(0, 4, (10, 10)) + 30 * np.eye(10, dtype=int)
            pictures.confusion_matrix(counts, folder / "classify.png")
        if name == "gan":
            pictures.image_rows([images] * 10, range(10), folder / "generate.png")
        files.write_json(files.latency(profile, name) / "cpu.json", latency_of_cpu(name))
        files.write_json(files.latency(profile, name) / "cuda.json", latency_of_cuda(name))
        files.write_json(files.peers(profile, name), peers_of(name))
    one = {"mean": 0.9, "seeds": {"0": 0.9}}
    judged = {"agreement_by_class": {"0": one, "1": one}, "judge": "classifier"} | {
        "coverage": one,
        "frechet_distance": one,
        "frechet_floor": one,
        "judge_accuracy": one,
        "samples": 200,
    }
    files.write_json(files.judged(profile, "gan"), judged)


def write(profile="full", everything=EVERYTHING, machine=MACHINE):
    """Report as if on `machine`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "machine", lambda: machine)
        render.write(results.gather(profile, everything))


def outputs(profile="full"):
    folder = files.report(profile, "")
    chosen = [folder / name for name in OUTPUTS] + sorted((folder / "charts").glob("*"))
    return {path.name: path.read_bytes() for path in chosen}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The folder with the tree and the report of the full profile, which no test changes."""
    folder = tmp_path_factory.mktemp("once")
    with contextlib.chdir(folder):
        write_tree("full")
        write()
    return folder


@pytest.fixture
def written(once, monkeypatch):
    monkeypatch.chdir(once)
    return {name: files.report("full", name).read_text(encoding="utf-8") for name in OUTPUTS}


@pytest.fixture
def tree(once, tmp_path, monkeypatch):
    """A copy of it all, to change."""
    monkeypatch.chdir(shutil.copytree(once, tmp_path / "copy"))


def table_rows(markdown):
    lines = [line for line in markdown.split("## Experiments")[0].splitlines() if line.startswith("| [")]
    return {re.match(r"\| \[(\w+)\]", line)[1]: line for line in lines}


def test_every_experiment_is_in_the_table_and_has_a_section(written):
    assert list(table_rows(written["README.md"])) == list(EVERYTHING["models"])
    for name in EVERYTHING["models"]:
        assert f"\n### {name}\n" in written["README.md"]
        assert written["index.html"].count(f'id="{name}"') == 1
    assert json.loads(written["summary.json"])["order"] == list(EVERYTHING["models"])
    frame = pandas.read_csv(files.report("full", "summary.csv"))
    assert set(frame["experiment"]) == set(EVERYTHING["models"])


def test_verdicts_follow_from_value_tolerance_and_direction(written):
    rows = table_rows(written["README.md"])
    # 0.0011 lies within 25 % of 0.001; 0.9123 beyond 5 % above 0.8; 1,000 of 2,323 steps are no full try.
    assert rows["autoencoder"].endswith("**reproduced** |")
    assert rows["classifier"].endswith("**better** |")
    assert rows["words"].endswith("**partial budget** |")
    assert rows["exploding"].endswith("**diverged** |")
    assert "±" not in rows["exploding"]
    assert rows["gan"].endswith("| pictures only | — |")
    assert rows["operator"].endswith("| — | — |")
    frame = pandas.read_csv(files.report("full", "summary.csv")).set_index(["experiment", "metric"])
    assert frame.loc[("autoencoder", "reconstruct.psnr_db"), "verdict"] == "not reproduced"
    assert frame.loc[("classifier", "classify.accuracy_one_at_a_time"), "verdict"] == "not reproduced"


def test_an_interval_is_printed_only_from_three_seeds_on(written):
    rows = table_rows(written["README.md"])
    assert "| 0.00110 ± 0.00025 |" in rows["autoencoder"]
    assert "| 0.9123 |" in rows["classifier"]
    assert [name for name, row in rows.items() if "±" in row] == ["autoencoder"]


def test_the_budget_says_what_was_cut(written):
    rows = table_rows(written["README.md"])
    assert "| 5,000 steps, seeds 0–2 |" in rows["autoencoder"]
    assert "| 800 steps, seed 0 of 0–2 |" in rows["classifier"]
    assert "| 1,000 of 2,323 steps, seed 0 of 0–2 |" in rows["words"]
    assert "| nothing to train |" in rows["operator"]


def test_a_floor_stands_beside_what_it_bounds(written):
    rows = table_rows(written["README.md"])
    assert "| 180.2<br>floor 42.50 |" in rows["words"]
    assert "| 0.9000<br>floor 0.9000 |" in rows["gan"]
    assert "floor" not in rows["autoencoder"]


def test_every_metric_of_the_glossary_is_explained():
    for key, term in yaml.safe_load(results.TERMS.read_text(encoding="utf-8")).items():
        assert key.split(".")[0] in results.VERBS
        assert term.keys() <= {"name", "unit", "meaning", "floor", "better", "share", "rounding"}
        assert term["meaning"].endswith(".")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"3": 1700}, "seed 3 diverged at step 1,700"),
        ({"0": 12, "2": 12}, "seeds 0, 2 diverged at step 12"),
        ({"0": 100, "1": 97, "2": 1250}, "seeds 0–2 diverged at steps 97 to 1,250"),
    ],
)
def test_diverged_seeds_are_told_together(steps, words):
    assert wording.diverged(steps) == words


def test_divergence_is_told_as_a_result(written):
    assert "seed 0 diverged at step 17" in table_rows(written["README.md"])["exploding"]
    for page in ("README.md", "index.html"):
        assert "stopped being finite at step 17" in written[page]
    assert not re.search(r"\b(nan|inf|None)\b", written["README.md"])


def test_what_diverged_is_told_with_the_last_norm_of_its_gradient(written):
    for page in ("README.md", "index.html"):
        assert "With seed 0 a weight stopped being finite at step 17; the gradient's norm was infinite" in written[page]


def claim_rows(markdown):
    """{what is claimed: the cells after it} of the table of claims."""
    lines = markdown.split("| Claim |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {says.replace("\\|", "|"): rest for says, *rest in cells}


def seen(page):
    """The text of a page of HTML, each cell and block on a line of its own."""
    cells = re.sub(r"</(td|th|tr|p|li|h\d)>|<br>", "\n", page.split("<body>")[1])
    return html.unescape(re.sub(r"<[^>]+>", "", cells))


CLAIMED = {
    "The answers are | mostly right.": ("holds", "classifier accuracy 0.9123 (claimed > 0.5)"),
    "Alone it is <b>lost</b>.": (
        "holds", "classifier accuracy one at a time 0.5000 (claimed < classifier accuracy 0.9123)"),
    "It is sharp.": ("does not hold", "autoencoder PSNR 30.10 ± 0.25 (claimed > 99)"),
    "Half of the units are dead.": ("undecided", "autoencoder dead share 0.25 ± 0.62 (claimed > 0.2)"),
    "Some seeds use the whole code and some do not.": (
        "holds",
        "autoencoder dead share 0 to 0.5000 (claimed < 0.1 of some seed): holds",
        "autoencoder dead share 0 to 0.5000 (claimed > 0.1 of some seed): holds"),
    "Words come before pictures.": (
        "holds",
        "words validation loss 0.8187 at step 1,000 (claimed < exploding diverged with 1 of 1 seeds)"),
    "The loss is past any use.": (
        "holds", "exploding early validation loss diverged with 1 of 1 seeds (claimed > 1,000,000)"),
    "The bound is loose.": ("not measured", "exploding ELBO — (claimed < -1,200)"),
    "Words are hard to guess.": (
        "partial budget",
        "words perplexity 180.2 (claimed > 100): partial budget",
        "classifier accuracy 0.9123 (claimed > 0.5): holds"),
}  # fmt: skip


def test_every_claim_stands_with_its_verdict_and_what_was_measured(written):
    """0.8187 = exp(-1000/5000): words was read up to step 1,000; 0.25 ± 0.62 is t(2, 0.975) x 0.25 / sqrt(3)."""
    rows, lines = claim_rows(written["README.md"]), seen(written["index.html"]).splitlines()
    assert list(rows) == list(CLAIMED)
    for says, (verdict, *measured) in CLAIMED.items():
        assert rows[says][1:] == [f"**{verdict}**", "<br>".join(measured)]
        place = lines.index(says)
        assert lines[place + 1 : place + 3 + len(measured)] == ["write-up | 9", verdict, *measured]


def test_claims_are_counted_and_the_rule_is_told(written):
    for text in (written["README.md"], seen(written["index.html"])):
        assert (
            "Of 9 claims 5 hold, 1 does not hold, 1 is undecided, 1 was not measured, 1 rests on a partial budget."
            in text
        )
        assert "Welch" in text


def test_a_figure_that_was_not_reproduced_has_its_reason_where_a_claim_that_holds_gives_it(written):
    markdown, page = written["README.md"], seen(written["index.html"])
    section = markdown.split("### classifier")[1].split("### gan")[0]
    assert "| 0.99 (write-up \\| 9) | not reproduced: alone it is <b>lost</b> |" in section
    section = markdown.split("### autoencoder")[1].split("### classifier")[0]
    assert "not reproduced: no reason established |" in section
    assert "undecided: the interval reaches beyond the tolerance on both sides |" in section
    assert "not reproduced alone it is <b>lost</b>\n" in page
    assert "not reproduced no reason established\n" in page
    assert "undecided the interval reaches beyond the tolerance on both sides\n" in page


def test_what_the_curve_says_of_the_training_is_among_the_metrics(written):
    """exp(-step/5000) at the second of five readings and at the last; the gradient is 0 from a quarter of them on."""
    frame = pandas.read_csv(files.report("full", "summary.csv")).set_index(["experiment", "metric"])["mean"]
    assert frame["autoencoder", "training.early_loss"] == pytest.approx(np.exp(-0.25), rel=1e-5)
    assert frame["autoencoder", "training.final_loss"] == pytest.approx(np.exp(-1), rel=1e-5)
    assert frame["autoencoder", "training.first_gradient_norm"] == 3.5
    assert frame["autoencoder", "training.last_gradient_norm"] == 0
    assert frame["autoencoder", "training.silent_steps"] == 3700
    assert frame["autoencoder", "training.diverged"] == 0
    assert ("operator", "training.diverged") not in frame.index
    assert "| training | steps without gradient | 3,700 ± 0 | — | — | 3,700 | 3,700 | 3,700 |" in written["README.md"]


def test_a_diverged_seed_has_no_loss_at_the_end_and_none_that_it_did_not_reach(written):
    frame = pandas.read_csv(files.report("full", "summary.csv")).set_index(["experiment", "metric"])["mean"]
    assert frame["exploding", "training.diverged"] == 1
    for metric in ("early_loss", "final_loss", "last_gradient_norm"):
        assert np.isnan(frame["exploding", f"training.{metric}"])


def test_a_published_log_stands_beside_ours_where_we_read_nearby(written):
    """Losses are exp(-step/5000): 1 at 0, 0.8187 at step 1,000; nothing was read near 9,000, or near 90 before 17."""
    markdown, page = written["README.md"], seen(written["index.html"])
    for rows in (["0 | 0.9000 | 1", "1,020 | 0.8000 | 0.8187 (step 1,000)"], ["5,000 | 0.4321 | 0.3679"]):
        assert "|\n" + "\n".join(f"| {row} |" for row in rows) + "\n\n" in markdown
    assert "| Step | Training loss, write-up \\| 9 | Ours |" in markdown
    assert (
        "| Step | Training loss, write-up 8 | Ours |\n|--:|--:|--:|\n| 10 | 0.5000 | 0.9968 (step 16) |\n\n" in markdown
    )
    assert "Training loss in the log of write-up | 9\n" in page
    assert "1,020\n0.8000\n0.8187 at step 1,000\n" in page
    assert "9,000" not in markdown + page


def test_a_published_loss_has_none_of_ours_beside_it_where_a_seed_had_diverged(tree):
    path = files.curve("full", "autoencoder")
    frame = pandas.read_csv(path)
    frame[(frame["seed"] != 2) | (frame["step"] < 1000)].to_csv(path, index=False)
    write()
    assert "| 1,020 | 0.8000 | — (step 1,000) |" in files.report("full", "README.md").read_text(encoding="utf-8")


def test_the_best_classifiers_confusion_is_drawn(tree):
    for page in OUTPUTS[:2]:
        text = files.report("full", page).read_text(encoding="utf-8")
        assert "Confusion matrices of classifier, the most accurate classifier" in text


def test_a_claim_about_a_metric_that_nothing_measured_is_named(tree):
    claims = {"odd": claim("it is odd", "gan.judge.oddness > 0.5")}
    with pytest.raises(InputError, match=r"params\.yaml: claims\.odd: gan has no metric judge\.oddness; it has judge"):
        write(everything=EVERYTHING | {"claims": claims})


def test_what_was_not_measured_is_said_with_its_reason(written):
    for text in (written["README.md"], seen(written["index.html"])):
        assert text.count("CUDA: not measured: no NVIDIA driver on this machine") == len(MEASURED) - 1
        assert "CPU, next_word, bound, batch 64, 512: not measured: the provider lacks LSTM" in text
        assert "CPU, cold start, next_word, batch 512: not measured: the process was killed" in text
        assert "torch.compile, CPU, classify, host, batch 1: not measured: no C++ compiler" in text
        assert "n too small" in text


def section(markdown, name):
    return markdown.split(f"### {name}\n")[1].split("\n### ")[0]


def test_the_default_stands_beside_the_advice(written):
    """40 µs within 4 % on either side; half of it in bound mode; 1e6 / 40 items a second; 64 times that at batch 64."""
    text = section(written["README.md"], "autoencoder")
    default, best, _, last = [
        line for line in text.splitlines() if re.match(r"\| reconstruct \| (1|16|64) \|.*%", line)
    ]
    assert default == (
        "| reconstruct | 1 | default: host, 2 threads, optimisation all | 40 (38.4–41.6) | 48 | n too small | "
        "n too small | 25,000 | 2.3 % | 700 |"
    )
    advice = "bound, 1 thread, optimisation all: 2 times faster than the default"
    assert best.startswith(f"| reconstruct | 1 | {advice} | 20 (19.2–20.8) | 24 |")
    assert "| 64 | default: host, 2 threads, optimisation all; as fast as any | 2,560 (2,458–2,662) |" in last
    page = seen(written["index.html"])
    assert page.count("bound, 1 thread, optimisation all 2 times faster than the default\n") == len(MEASURED)
    assert page.count("host, 2 threads, optimisation all the default, as fast as any\n") == 2 * len(MEASURED)
    assert "All 6 configurations" in page
    assert "Commit abc1234; load_of_one_minute 0.25 before, 1.5 after." in page


def test_cold_start_stands_apart(written):
    assert "| Cold start | Batch | Load, ms | First call, µs | Peak memory, MiB | Graph, KiB |" in written["README.md"]
    assert "| next_word | 1 | 12.3 | 457 | 77.7 | 2 |" in section(written["README.md"], "words")
    assert "next_word\n16\n12.3\n457\n77.7\n2\n" in seen(written["index.html"])
    assert "| classify | 1 | 345 | 6,789 | 321 | 654 | 2 |" in section(written["README.md"], "classifier")
    assert "classify\n1\n345\n6,789\n321\n654\n2\n" in seen(written["index.html"])


def test_every_row_names_its_machine_and_says_whether_it_is_another(written):
    for text in (written["README.md"], seen(written["index.html"])):
        assert text.count("CPU, machine 1") == len(MEASURED)
        assert "CPU, machine 1:" not in text
        assert "CUDA, machine 2, TF32 off: measured on another machine than the one that wrote this report" in text
        assert "Machine 2 is another than the one that wrote this report." in text
        assert "Machine 1 is another" not in text
        assert "Machine 1, the one that wrote this report" in text
        assert "Machine 2, another than the one that wrote this report" in text
        for fact in ("Test CPU 3000", "Other CPU 4000", "Test GPU", "abc1234", "80 before, 300 after"):
            assert fact in text
    assert "| commits | unknown |" in written["README.md"]
    assert "| gpu_throttled_by | none before, SwPowerCap after |" in written["README.md"]
    assert written["README.md"].count("gpu_watts") == 1


def test_the_report_of_another_machine_says_so_of_all_rows(tree):
    write(machine=MACHINE | {"onnxruntime": "1.32.0"})
    for page in OUTPUTS[:2]:
        text = files.report("full", page).read_text(encoding="utf-8")
        assert "machine 1: measured on another machine than the one that wrote this report" in text
        assert "the one that wrote this report" not in text.replace("than the one that wrote this report", "")


def test_what_was_measured_with_other_settings_is_counted_and_marked(tree):
    """One file's number of calls, another's lack of a key and a third's key that is no more, of thirteen."""
    for path, key, value in (
        (files.latency("full", "words") / "cpu.json", "calls", 100),
        (files.latency("full", "classifier") / "cuda.json", "attempts", 2),
        (files.peers("full", "classifier"), "verbs", None),
    ):
        found = files.read_json(path)
        settings = found["settings"] | {key: value}
        files.write_json(path, found | {"settings": {key: of for key, of in settings.items() if of is not None}})
    write()
    overview = section_of_latency(files.report("full", "README.md").read_text(encoding="utf-8"))
    counted = "3 of the 13 files of latencies and peers were measured with other settings than params.yaml has now"
    assert f"{counted} (attempts, calls, verbs); their rows have an asterisk" in overview
    marked = {line.split(" | ")[0] for line in overview.splitlines() if line.endswith(" * |")}
    assert marked == {"| words next_word", "| classifier classify"}
    page = seen(files.report("full", "index.html").read_text(encoding="utf-8"))
    assert counted in page
    other = "measured on another machine than the one that wrote this report and with other settings than params.yaml"
    assert page.count(f"CUDA, machine 2, TF32 off: {other} has now") == 1
    assert page.count("machine 1: measured with other settings than params.yaml has now") == 2
    for told in ("calls 100, now 700.", "attempts 2, now unset.", "verbs unset, now [classify]."):
        assert page.count(told) == 1


def test_nothing_is_said_of_settings_that_are_still_those_of_params(written):
    for text in (written["README.md"], written["index.html"]):
        assert "other settings" not in text


def section_of_latency(text):
    return text.split("## Latency overview")[1].split("\n## ")[0]


def test_the_overview_has_the_smallest_and_the_largest_batch(written):
    overview = section_of_latency(written["README.md"])
    faster = "bound, 1 thread, optimisation all"
    assert f"| words next_word | CPU | 1 | 40 | 20 | {faster} | 64 | 2,560 | 2,560 | the default | 1 |" in overview
    best = "30 | 7.5 | graph, 1 thread, optimisation all"
    assert f"| classifier classify | CUDA | 1 | {best} | 1 | {best} | 2 |" in overview
    assert overview.count("| CPU |") == len(MEASURED)


def test_another_providers_outputs_stand_beside_the_cpus(written):
    words = "largest difference 2.4e-07, where the largest value is 14 (classify, batch 1)."
    assert words in section(written["README.md"], "classifier")
    assert "classify\n1\n2.4e-07\n14\n" in seen(written["index.html"])


def test_the_furthest_check_is_that_against_its_scale():
    small, large, unknown = (
        {"largest_difference": difference, "scale": scale}
        for difference, scale in ((0.1, 0.5), (0.2, 9.0), (None, 1.0))
    )
    assert wording.furthest([small, large]) is small
    assert wording.furthest([small, unknown, large]) is unknown


def test_peers_stand_beside_onnx_runtime(written):
    """2 and 2^(-7/5) = 0.379; the logarithms' t(4, 0.975) x their standard deviation / sqrt(5) by SciPy."""
    logs = np.log(np.array(BLOCKS["openvino"]) / np.array(BLOCKS["onnxruntime"]))
    low, high = np.exp(scipy.stats.t.interval(0.95, 4, logs.mean(), scipy.stats.sem(logs)))
    row = f"| classifier classify | 1 | CPU | host | 10 | 20: 2× (2–2) | 5: {2**-1.4:.3g}× ({low:.3g}–{high:.3g}) | 1 |"
    assert row in written["README.md"]
    page = seen(written["index.html"])
    assert page.count(f"5 {2**-1.4:.3g}× ({low:.3g}–{high:.3g})\n") == 2
    assert "| classify | 1 | CPU | host | 1 | 2 | 0.379 |" in written["README.md"]
    assert "3.2e-07" in page
    assert "Commit abc1234; openvino 2026.1; load_of_one_minute 0.25 before, 1.5 after." in page
    assert (files.report("full", "charts") / "peers-cpu-host.png").is_file()


def test_a_mean_over_graphs_is_geometric_and_says_how_many():
    """2 and 8 give 4; one of the two ran on one graph of the two."""
    group = {"device": "CPU", "verb": "classify", "batch": 1, "mode": "host"}
    experiments = [
        {"peers": {"rows": [group | {"runtimes": {name: {"ratio": of} for name, of in ran}}]}}
        for ran in ((("onnxruntime", 1.0), ("torch", 2.0)), (("onnxruntime", 1.0), ("torch", 8.0), ("openvino", 0.5)))
    ]
    (means,) = latency_results.geometric_means(experiments)
    assert means["ratios"].keys() == {"onnxruntime", "torch", "openvino"}
    for runtime, expected in (("onnxruntime", (1.0, 2)), ("torch", (4.0, 2)), ("openvino", (0.5, 1))):
        assert means["ratios"][runtime] == pytest.approx(expected)
    words = [wording.mean_ratio(means, name) for name in ("torch", "openvino", "torch_compile")]
    assert words == ["4", "0.5 (1)", "—"]


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)), min_size=1, max_size=8))
def test_a_ratio_is_the_geometric_mean_and_its_interval_holds_it(pairs):
    blocks, reference = (list(column) for column in zip(*pairs, strict=True))
    mean, low, high = latency_results.ratio(blocks, reference)
    assert mean == pytest.approx(scipy.stats.gmean(np.divide(blocks, reference)))
    assert (low is None) == (high is None) == (len(pairs) < 3)
    assert low is None or low / mean - 1e-9 <= 1 <= high / mean + 1e-9
    assert latency_results.ratio(reference, blocks)[0] == pytest.approx(1 / mean)


def test_the_page_links_to_what_lies_beside_it_and_to_nothing_else(written):
    page, folder = written["index.html"], files.report("full", "")
    links = re.findall(r"""(?:src|href|url|srcset|action)\s*[=(]\s*["']?([^"'\s>)]+)""", page)
    anchors, beside = ({link for link in links if link.startswith("#") == own} for own in (True, False))
    assert {link[1:] for link in anchors} <= set(re.findall(r'id="([^"]+)"', page))
    assert beside
    for link in beside:
        assert not Path(link).is_absolute(), link
        assert (folder / link).is_file(), link
        assert (folder / link).resolve().is_relative_to(folder.resolve()), link
    assert not re.search(r"https?:|//|<script|<link|@import|data:", page)
    assert "deep &lt;and&gt; narrow" in page


def test_every_picture_of_the_page_has_its_size_its_words_and_waits_to_be_seen(written):
    pictures = re.findall(r"<figure>\s*(<img [^>]*>)\s*<figcaption>([^<]+)</figcaption>", written["index.html"])
    assert len(pictures) == written["index.html"].count("<img ") >= 8
    for tag, caption in pictures:
        values = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        assert values["alt"] == caption
        assert values["loading"] == "lazy"
        width, height = Image.open(files.report("full", values["src"])).size
        assert (int(values["width"]), int(values["height"])) == (round(0.8 * width), round(0.8 * height))


def test_quality_is_set_against_latency_where_two_experiments_have_both(tree):
    name = "quality-classify.accuracy"
    path = files.report("full", "charts") / f"{name}.png"
    assert not path.exists()
    metrics = files.read_json(files.metrics("full", "gan"))
    accuracy = {"accuracy": {"mean": 0.5, "seeds": {"0": 0.5}}}
    files.write_json(files.metrics("full", "gan"), metrics | {"classify": accuracy})
    latency = json.loads(json.dumps(latency_of_cpu("gan")).replace("generate", "classify"))
    files.write_json(files.latency("full", "gan") / "cpu.json", latency)
    write()
    assert path.is_file()
    for page in OUTPUTS[:2]:
        text = files.report("full", page).read_text(encoding="utf-8")
        assert (
            "Accuracy against the median time of a call at the smallest batch (CPU, the default configuration)" in text
        )
    report = results.gather("full", EVERYTHING)
    points = charts.quality_points(report, "classify.accuracy")
    assert [(one["name"], one["p50_us"], one["quality"], one["partial"]) for one in points] == [
        ("classifier", 40.0, 0.9123, False), ("gan", 40.0, 0.5, False)]  # fmt: skip


def test_every_link_of_the_readme_leads_somewhere(written):
    folder = files.report("full", "")
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", written["README.md"])
    assert len(pictures) >= 8
    assert all((folder / picture).is_file() for picture in pictures)


def test_every_table_of_the_readme_is_rectangular(written):
    for block in written["README.md"].split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) <= 1, block
        assert not lines or re.fullmatch(r"(\|:?-+:?)+\|", lines[1]), block


def test_equal_inputs_give_equal_bytes(tree):
    before = outputs()
    write()
    assert outputs() == before


def test_the_quick_report_gives_no_verdict_and_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tree("quick")
    write("quick")
    for page in OUTPUTS[:2]:
        text = files.report("quick", page).read_text(encoding="utf-8")
        assert "not comparable with any published figure" in text
        assert "write-up | 9" not in text
        assert "0.99" not in text.split("Experiments")[0]
        assert not re.search(r"\*\*(reproduced|better|not reproduced)\*\*|class=\"chip (?!diverged)", text)
        assert "mostly right" not in text
        assert "0.4321" not in text
    assert pandas.read_csv(files.report("quick", "summary.csv"))["verdict"].isna().all()


DAMAGE = {
    "metrics/words.json": '{"next_word": {"perplexity": {"mean":',
    "metrics/classifier.json": '{"classify": {}}',
    "metrics/autoencoder.json": '{"training": {"steps": 1}, "reconstruct": {"mse": 3}}',
    "curves/autoencoder.csv": "seed,step\n0,1\n",
    "curves/gan.csv": "",
    "parity/gan.json": "[]",
    "judged/gan.json": "{}",
    "latency/gan/cpu.json": '{"provider": "CPUExecutionProvider", "rows": []}',
    "latency/words/cpu.json": json.dumps(latency_of_cpu("words") | {"rows": []}),
    "peers/words.json": json.dumps(peers_of("words") | {"rows": [{"runtime": "tensorflow", "device": "cpu"}]}),
    "peers/gan.json": '{"rows": []}',
    "peers/classifier.json": json.dumps(peers_of("classifier") | {"rows": [peer("torch", BLOCKS["torch"])]}),
    "figures/classifier/classify.png": "no picture",
    "predictions/classifier.csv": "item,actual\n0,1\n",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named_and_earlier_outputs_stay(name, tree):
    before = outputs()
    path = files.report("full", name)
    path.write_text(DAMAGE[name], encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(str(path))) as caught:
        write()
    assert "\n" not in str(caught.value)
    assert "dvc repro" in str(caught.value)
    assert outputs() == before
    assert not [left for left in files.report("full", "").iterdir() if left.name.startswith(".")]


@pytest.mark.parametrize("name", [name for name in DAMAGE if not name.startswith("figures")])
def test_a_missing_file_is_named(name, tree):
    files.report("full", name).unlink()
    with pytest.raises(InputError, match=re.escape(name)):
        write()


def test_a_published_figure_that_nothing_measured_is_named(tree):
    published = {"words": {"next_word": {"perplexety": figure(1, "lower", 0.1)}}}
    with pytest.raises(InputError, match=r"published\.words\.next_word\.perplexety"):
        write(everything=EVERYTHING | {"published": published})


def test_an_unlisted_experiments_files_are_ignored(tree):
    models = {name: entry for name, entry in EVERYTHING["models"].items() if name != "words"}
    write(everything=EVERYTHING | {"models": models, "claims": {}})
    assert "words" not in json.loads(files.report("full", "summary.json").read_text())["order"]


def test_the_readmes_block_is_the_reports_table_and_its_claims(written):
    """It is made from summary.json alone, in which nothing infinite can stand."""
    summary = json.loads(written["summary.json"])
    assert [one["verdict"] for one in summary["claims"]] == [verdict for verdict, *_ in CLAIMED.values()]
    assert [one["key"] for one in summary["claims"]] == list(EVERYTHING["claims"])
    block = render.readme_block(summary)
    assert claim_rows(block) == claim_rows(written["README.md"])
    assert list(table_rows(block)) == list(EVERYTHING["models"])
    assert "](reports/full/README.md#autoencoder)" in block
    text = f"# Zoo\n{render.START}\nold\n{render.END}\nrest\n"
    rewritten = render.rewrite_block(text, block)
    assert rewritten == f"# Zoo\n{render.START}\n{block.strip()}\n{render.END}\nrest\n"
    assert render.rewrite_block(rewritten, block) == rewritten


def test_the_report_rounds_what_the_readme_rounds(tree):
    """The mean of these, 0.08587046, is 0.085870 at the five digits of its interval; kept as 0.0858705, 0.085871."""
    path = files.metrics("full", "autoencoder")
    metrics = files.read_json(path)
    by_seed = {"0": 0.0858472, "1": 0.0858576, "2": 0.0858651, "3": 0.0859424, "4": 0.08584}
    metrics["reconstruct"]["mse"] = statistics.summary(by_seed)
    files.write_json(path, metrics)
    write(everything=EVERYTHING | {"claims": {"low": claim("it is low", "autoencoder.reconstruct.mse < 0.1")}})
    page = files.report("full", "README.md").read_text(encoding="utf-8")
    assert "0.085871 ± 0.000051" in table_rows(page)["autoencoder"]
    assert "MSE 0.085871 ± 0.000051 (claimed" in claim_rows(page)["It is low."][2]
    assert claim_rows(page) == claim_rows(render.readme_block(files.read_json(files.report("full", "summary.json"))))


@pytest.mark.parametrize("text", ["", "<!-- results -->", "<!-- /results --> <!-- results -->"])
def test_missing_markers_are_named(text):
    with pytest.raises(InputError, match=re.escape(render.START)):
        render.rewrite_block(text, "block")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "—"),
        (0.0, "0"),
        (0.5, "0.5000"),
        (2.4e-7, "2.400e-7"),
        (26448, "26,448"),
        (0.000948159, "0.0009482"),
        (115.912, "115.9"),
        (43000.4, "43,000"),
        (2.0, "2"),
        (1, "1"),
        (3.25e31, "3.250e31"),
    ],
)
def test_numbers_have_four_digits(value, words):
    assert wording.number(value) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(-1.27e-7, 6.332e-7, "2.531e-7 ± 3.8e-7"), (-1.4e28, 6e27, "-4.000e27 ± 1e28"), (0.8, 0.9, "0.850 ± 0.050")],
)
def test_a_half_width_is_written_like_its_mean(low, high, words):
    assert wording.interval({"mean": (low + high) / 2, "low": low, "high": high}) == words


def test_the_stage_names_an_unknown_profile_in_one_line():
    command = [sys.executable, "stages/report.py", "fast"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert "fast" in done.stderr
