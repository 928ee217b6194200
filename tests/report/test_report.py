"""The report, from made-up records: every experiment in it, each word as the numbers say."""

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
import sample_records as sample
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zoo import files
from zoo.errors import InputError
from zoo.evaluate.metrics import terms
from zoo.graphs.verbs import VERBS
from zoo.records import Identity, curve, judged, latency, metrics, parity, peers, run
from zoo.report import charts, latency_results, render, results, wording

ROOT = Path(__file__).parents[2]
OUTPUTS = ("README.md", "index.html", "summary.csv", "summary.json")


def write(profile="full", draw=False, **changes):
    with pytest.MonkeyPatch.context() as patch:
        if not draw:
            patch.setattr(charts, "draw", lambda *_: {})
        render.write(results.gather(profile, sample.VALUES | changes))


def outputs(profile="full"):
    folder = files.report(profile, "")
    chosen = [folder / name for name in OUTPUTS] + sorted((folder / "charts").glob("*"))
    return {path.name: path.read_bytes() for path in chosen}


def texts():
    return {name: files.report("full", name).read_text(encoding="utf-8") for name in OUTPUTS}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The folder with the records and the report of the full profile, which no test changes."""
    folder = tmp_path_factory.mktemp("once")
    with contextlib.chdir(folder):
        sample.write("full")
        write(draw=True)
    return folder


@pytest.fixture
def written(once, monkeypatch):
    monkeypatch.chdir(once)
    return texts()


@pytest.fixture
def tree(once, tmp_path, monkeypatch):
    """A copy of it all, to change."""
    monkeypatch.chdir(shutil.copytree(once, tmp_path / "copy"))


def table_rows(markdown):
    lines = [line for line in markdown.split("## Experiments")[0].splitlines() if line.startswith("| [")]
    return {re.match(r"\| \[(\w+)\]", line)[1]: line for line in lines}


def section(markdown, name):
    return markdown.split(f"### {name}\n")[1].split("\n### ")[0].split("\n## ")[0]


def seen(page):
    """The text of a page of HTML, each cell and block on a line of its own."""
    cells = re.sub(r"</(td|th|tr|p|li|h\d)>|<br>", "\n", page.split("<body>")[1])
    return html.unescape(re.sub(r"\s*\n\s*", "\n", re.sub(r"<[^>]+>", "", cells)))


# ---- results


def test_every_experiment_is_in_the_table_and_has_a_section(written):
    assert list(table_rows(written["README.md"])) == list(sample.PLANNED)
    for name in sample.PLANNED:
        assert f"\n### {name}\n" in written["README.md"]
        assert written["index.html"].count(f'id="{name}"') == 1
    assert json.loads(written["summary.json"])["order"] == list(sample.PLANNED)
    assert set(pandas.read_csv(files.report("full", "summary.csv"))["experiment"]) == set(sample.PLANNED)


def test_verdicts_follow_from_value_tolerance_and_direction(written):
    rows = table_rows(written["README.md"])
    # 0.0011 lies within 25 % of 0.001; 0.9123 beyond 5 % above 0.8; a perplexity overflowed, and one run diverged.
    assert rows["autoencoder"].endswith("**reproduced** |")
    assert rows["classifier"].endswith("**better** |")
    assert rows["words"].endswith("**not finite** |")
    assert rows["exploding"].endswith("**diverged** |")
    assert rows["gan"].endswith("| pictures only | — |")
    assert rows["operator"].endswith("| — | — |")
    verdicts = pandas.read_csv(files.report("full", "summary.csv")).set_index(["experiment", "metric"])["verdict"]
    assert verdicts["autoencoder", "reconstruct.psnr_db"] == "not reproduced"
    assert verdicts["autoencoder", "encode.dead_share"] == "undecided"
    assert verdicts["words", "next_word.floor_perplexity"] == "partial budget"
    tiles = re.findall(r"<li><b>(\d)</b><span>([\w ]+)</span>", written["index.html"])
    assert tiles == [("6", "experiments"), *(("1", of) for of in ("reproduced", "better", "not finite", "diverged"))]


def test_an_interval_is_printed_only_from_three_seeds_on(written):
    rows = table_rows(written["README.md"])
    assert "| 0.00110 ± 0.00025 |" in rows["autoencoder"]
    assert "| 0.9123 |" in rows["classifier"]
    assert [name for name, row in rows.items() if "±" in row] == ["autoencoder"]


def test_the_interval_of_a_share_of_seeds_is_wilsons(written):
    high = scipy.stats.binomtest(0, 3).proportion_ci(method="wilson").high
    assert f"| training | diverged | 0.00 (0.00–{high:.2f}) |" in section(written["README.md"], "autoencoder")


def test_the_budget_says_what_was_cut(written):
    rows = table_rows(written["README.md"])
    assert "| 5,000 steps, seeds 0–2 |" in rows["autoencoder"]
    assert "| 1,000 of 2,323 steps, seed 0 of 0–2 |" in rows["words"]
    assert "| nothing to train |" in rows["operator"]


def test_a_floor_stands_beside_what_it_bounds(written):
    rows = table_rows(written["README.md"])
    assert "| —<br>floor 42.50 |" in rows["words"]
    assert "| 0.9000<br>floor 0.9000 |" in rows["gan"]
    assert "floor" not in rows["autoencoder"]


def test_the_set_up_is_the_recipe_that_was_trained(written):
    text = seen(written["index.html"]).split("\nDeep <and> narrow.\n")[1]
    for row in (
        "training\n12.3 s a seed, 512 MiB at most\n",
        "tuned\nthe rate, on validation data\n",
        "weights\n26,448\n",
        "network\nconv_autoencoder.py units: [8, 4]\n",
        "player model\nAdam lr: 0.001 moves: all\n",
        "exported classify\nlargest difference from the network 2.4e-07, allowed 1e-05 (3 calls)\n",
    ):
        assert row in text
    assert "cpu\nTest CPU 3000\n2.13.0\nmade up\nautoencoder, classifier," in text


def test_every_metric_of_the_glossary_is_explained():
    for key, term in terms().items():
        assert key.split(".")[0] in results.ORDER
        assert term.meaning.endswith(".")


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
    for text in (written["README.md"], seen(written["index.html"])):
        assert "With seed 0 a weight stopped being finite at step 17; the gradient's norm was infinite" in text
        assert "diverged" not in table_rows(written["README.md"])["words"]
    assert not re.search(r"\b(nan|inf|None)\b", written["README.md"])


def test_what_the_curve_says_of_the_training_is_among_the_metrics(written):
    """exp(-step/5000) at the second of five readings and at the last; the gradient is 0 from a quarter of them on."""
    means = pandas.read_csv(files.report("full", "summary.csv")).set_index(["experiment", "metric"])["mean"]
    assert means["autoencoder", "training.early_loss"] == pytest.approx(np.exp(-0.25), rel=1e-5)
    assert means["autoencoder", "training.final_loss"] == pytest.approx(np.exp(-1), rel=1e-5)
    assert means["autoencoder", "training.first_gradient_norm"] == 3.5
    assert means["autoencoder", "training.last_gradient_norm"] == 0
    assert means["autoencoder", "training.silent_steps"] == 3700
    assert (means["autoencoder", "training.diverged"], means["exploding", "training.diverged"]) == (0, 1)
    assert ("operator", "training.diverged") not in means.index
    for metric in ("early_loss", "final_loss", "last_gradient_norm"):
        assert np.isnan(means["exploding", f"training.{metric}"])


def test_a_published_log_stands_beside_ours_where_we_read_nearby(written):
    """Losses are exp(-step/5000): 1 at 0, 0.8187 at step 1,000; nothing was read near 9,000, or near 90 before 17."""
    page = seen(written["index.html"])
    for rows in ("0\n0.9000\n1\n1,020\n0.8000\n0.8187 at step 1,000\n", "5,000\n0.4321\n0.3679\n"):
        assert f"Step\nPublished\nOurs\n{rows}" in page
    assert "Training loss in the log of write-up 8\nStep\nPublished\nOurs\n10\n0.5000\n0.9968 at step 16\n" in page
    assert "Training loss in the log of write-up | 9\n" in page
    assert "9,000" not in page


def test_a_published_loss_has_none_of_ours_beside_it_where_a_seed_had_diverged(tree):
    path = curve.path("full", "autoencoder")
    frame = pandas.read_csv(path)
    frame[(frame["seed"] != 2) | (frame["step"] < 1000)].to_csv(path, index=False)
    write()
    assert "\n1,020\n0.8000\n— at step 1,000\n" in seen(texts()["index.html"])


def test_a_figure_that_was_not_reproduced_has_its_reason_where_a_claim_that_holds_gives_it(tree):
    markdown = texts()["README.md"]
    assert markdown.count("not reproduced: no reason established |") == 2
    assert "undecided: the interval reaches beyond the tolerance on both sides |" in section(markdown, "autoencoder")
    reason = sample.claim(
        "it is <b>small</b>", "autoencoder.reconstruct.mse < 1", explains=["autoencoder.reconstruct.psnr_db"]
    )
    write(claims={"reason": reason})
    assert "| not reproduced: it is <b>small</b> |" in section(texts()["README.md"], "autoencoder")
    assert "not reproduced it is <b>small</b>\n" in seen(texts()["index.html"])


# ---- claims


def claim_rows(markdown):
    """{what is claimed: the cells after it} of the table of claims."""
    lines = markdown.split("| Claim |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {says.replace("\\|", "|"): rest for says, *rest in cells}


CLAIMED = {
    "Pictures are | sharp.": ("holds", "autoencoder PSNR 30.10 ± 0.25 (claimed > 29)"),
    "Alone it is <b>lost</b>.": (
        "indicated, 1 seed", "classifier accuracy one at a time 0.5000 (claimed < classifier accuracy 0.9123)"),
    "The answers are wrong.": ("not indicated, 1 seed", "classifier accuracy 0.9123 (claimed < 0.5)"),
    "It is sharper.": ("does not hold", "autoencoder PSNR 30.10 ± 0.25 (claimed > 99)"),
    "Half of the units are dead.": ("undecided", "autoencoder dead share 0.25 ± 0.62 (claimed > 0.2)"),
    "Some seeds use the whole code and some do not.": (
        "holds",
        "autoencoder dead share 0 to 0.5000 (claimed < 0.1 of some seed); "
        "1 of 3 seeds, 95 % interval of the share 0.06–0.79: holds",
        "autoencoder dead share 0 to 0.5000 (claimed > 0.1 of some seed); "
        "2 of 3 seeds, 95 % interval of the share 0.21–0.94: holds"),
    "Words come before pictures.": (
        "indicated, 1 seed",
        "words validation loss 0.8187 at step 1,000 (claimed < exploding diverged with 1 of 1 seeds)"),
    "The bound is loose.": ("not measured", "exploding ELBO — (claimed < -1,200)"),
    "Words are hard.": (
        "partial budget",
        "words perplexity — (claimed > 100): partial budget",
        "autoencoder PSNR 30.10 ± 0.25 (claimed > 29): holds"),
}  # fmt: skip


def test_every_claim_stands_with_its_verdict_and_what_was_measured(written):
    """0.8187 = exp(-1000/5000): words was read up to step 1,000; 0.25 ± 0.62 is t(2, 0.975) x 0.25 / sqrt(3)."""
    rows, lines = claim_rows(written["README.md"]), seen(written["index.html"]).splitlines()
    assert list(rows) == list(CLAIMED)
    for says, (verdict, *measured) in CLAIMED.items():
        assert rows[says][1:] == [f"**{verdict}**", "<br>".join(measured)]
        place = lines.index(says)
        assert lines[place + 1 : place + 3 + len(measured)] == ["write-up | 9", verdict, *measured]


def test_claims_are_counted_on_the_first_screen(written):
    counted = (
        "Verdicts on the 9 claims: holds 2, indicated 2, undecided 1, not indicated 1, not measured 1, "
        "does not hold 1, partial budget 1."
    )
    for text in (written["README.md"], seen(written["index.html"])):
        assert text.index(counted) < text.index("write-up | 9".replace("|", "\\|" if text.startswith("#") else "|"))
        assert text.count(counted) == 2


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("gan.judge.oddness > 0.5", r"params\.yaml: claims\.odd: judge\.oddness was not measured of gan; use one of"),
        ("gone.judge.coverage > 0.5", r"params\.yaml: claims\.odd: there is no experiment gone"),
        ("gan.validation_loss < gone.validation_loss", r"params\.yaml: claims\.odd: there is no experiment gone"),
    ],
)
def test_a_claim_about_what_nothing_measured_is_named(tree, test, message):
    with pytest.raises(InputError, match=message):
        write(claims={"odd": sample.claim("it is odd", test)})


def test_a_published_figure_that_nothing_measured_is_named(tree):
    published = {"words": {"next_word": {"perplexety": sample.figure(1.0, "lower", 0.1)}}}
    with pytest.raises(InputError, match=r"published\.words\.next_word\.perplexety"):
        write(published=published)


# ---- graphs


def export_again(name, verb, seed, **changes):
    """As if the graph had been exported anew with another `graph_sha256`, or `structure_sha256` too."""
    record = parity.read("full", name)
    one = record.graphs[verb][seed]
    record.graphs[verb][seed] = one.model_copy(update={"graph": one.graph.model_copy(update=changes)})
    parity.write(record)


WEIGHT, OPERATOR = {"graph_sha256": "1" * 64}, {"graph_sha256": "1" * 64, "structure_sha256": "2" * 64}


@pytest.mark.parametrize(("changes", "mark", "sign"), [(WEIGHT, "weights", "†"), (OPERATOR, "structure", "‡")])
def test_a_value_of_another_graph_is_marked_everywhere(tree, changes, mark, sign):
    export_again("autoencoder", "reconstruct", "1", **changes)
    write()
    pages, summary = texts(), json.loads(files.report("full", "summary.json").read_text())
    for text in (pages["README.md"], seen(pages["index.html"])):
        assert f"0.00110 ± 0.00025 {sign}" in text
        assert f"PSNR 30.10 ± 0.25 {sign} (claimed > 29)" in text
        assert f"2 values, marked {sign}, were computed with graphs" in text
        assert f"0.25 ± 0.62 {sign}" not in text  # encode has its own graph
    marked = dict.fromkeys(["reconstruct.mse", "reconstruct.psnr_db"], f"other {mark}")
    assert {name: of["graphs"] for name, of in summary["experiments"].items() if of["graphs"]} == {
        "autoencoder": marked
    }
    assert summary["experiments"]["autoencoder"]["headline"]["graph"] == f"other {mark}"
    assert claim_rows(render.readme_block(summary)) == claim_rows(pages["README.md"])


def test_a_judged_value_names_the_judges_graphs_too(tree):
    export_again("classifier", "encode", "0", **WEIGHT)
    found = sample.mixed_graphs(render.summarise(results.gather("full", sample.VALUES)))
    assert {(name, key.split(".")[0]) for name, key in found} == {("gan", "judge")}
    assert set(found.values()) == {"other weights"}


def test_a_score_of_decode_was_computed_with_the_graph_of_encode_too():
    def graphs(weights):
        return {verb: Identity(graph_sha256=of, structure_sha256="s") for verb, of in weights.items()}

    exports = parity.read("full", "autoencoder", json.dumps({
        "experiment": "a", "profile": "full", "versions": {}, "graphs": {
            verb: {"0": {
                "graph": {"graph_sha256": "1", "structure_sha256": "s", "bytes": 1, "opset": "", "operators": {},
                          "parameters": {}, "inputs": [], "outputs": []},
                "check": {"largest_difference": 0.0, "bound": 1.0, "calls": 1, "finite": True},
            }} for verb in ("encode", "decode")},
    }))  # fmt: skip
    used = {"0": graphs({"encode": "2", "decode": "1"})}
    assert results._marks(used, exports, results.READ["decode"]) == {"other weights"}
    assert results._marks(used, exports, ["decode"]) == set()
    assert results._marks({"7": graphs({"decode": "1"})}, exports) == {"other structure"}


def test_nothing_is_marked_where_every_value_is_of_the_present_graphs(written):
    assert sample.mixed_graphs(json.loads(written["summary.json"])) == {}
    for page in OUTPUTS[:2]:
        assert "‡" not in written[page]
        assert "Not of the exported graphs" not in written[page]


def test_a_time_of_other_weights_says_so_once_and_none_of_another_structure_is_shown(tree):
    """Both networks that reconstruct have one structure; the autoencoder's graph was timed."""
    told = "timed on autoencoder reconstruct, seed 0: a graph of equal structure and other weights"
    pages = texts()
    page = pages["index.html"].split('id="exploding"')[1]
    assert pages["index.html"].count(told) == page.count(told) == 1
    assert re.findall(r"\n(\w+) \w+\nCPU(?:\n.*){6}\n1 †", overview(pages["index.html"])) == ["exploding"]
    export_again("exploding", "reconstruct", "0", **OPERATOR)
    write()
    pages = texts()
    page = seen(pages["index.html"]).split("Initialised too wide.")[1].split("\nLatency overview\n")[0]
    assert "reconstruct: not measured: its structure has not been timed" in page
    assert "machine 1" not in page
    assert "\nexploding reconstruct\n" not in overview(pages["index.html"])


def test_a_record_under_the_name_of_another_structure_is_not_shown(tree):
    """The file's name has the first characters of the structure alone."""
    structure = sample.structure("gan", "generate")
    record = latency.read("full", structure).model_copy(update={"structure_sha256": structure[:-1] + "x"})
    latency.write(record, "full")
    entry = latency_results.gather("full", parity.read("full", "gan"), sample.VALUES)
    assert (entry["latency"], entry["not_measured"][0]["what"]) == ([], "generate")


# ---- latency


def test_what_was_not_measured_is_said_with_its_reason(written):
    page = seen(written["index.html"])
    assert page.count("CUDA, generate: not measured: no NVIDIA driver on this machine") == 1
    assert "CPU, next_word, bound, batch 65, 512: not measured: the provider lacks LSTM" in page
    assert "CPU, cold start, next_word, batch 512: not measured: the process was killed" in page
    assert "torch.compile, CPU, classify, host, batch 1: not measured: no C++ compiler" in page
    assert "apply: not measured: its structure has not been timed" in page


def test_the_default_stands_beside_the_advice(written):
    """40 µs within 4 % on either side; half of it in bound mode; 1e6 / 40 items a second; 64 times that at batch 64."""
    page = seen(written["index.html"])
    row = "\n".join([
        "reconstruct", "host, 2 threads, optimisation all the default", "1", "40 (38.4–41.6)", "48", "n too small",
        "n too small", "25,000", "2.3 %", "700",
    ])  # fmt: skip
    assert page.count(f"{row}\n") == 2  # of the autoencoder, and of the network of equal structure
    assert page.count("bound, 1 thread, optimisation all 2 times faster than the default\n1\n20 (19.2–20.8)\n24\n") == 5
    assert page.count("host, 2 threads, optimisation all the default, as fast as any\n64\n2,560 (2,458–2,662)\n") == 5
    assert "generate: commit abc1234." in page


def test_cold_start_and_agreement_stand_apart(written):
    page = seen(written["index.html"])
    assert "next_word\n1\n12.3\n457\n77.7\n—\n2\n" in page
    assert "classify\n1\n345\n6,789\n321\n654\n2\n" in page
    assert "classify\ngraph, 1 thread, optimisation all\n1\n2.4e-07\n14\n" in page


def test_every_row_names_its_machine(written):
    page = seen(written["index.html"])
    for text in (written["README.md"], page):
        assert "Times of different machines cannot be compared." in text
    for fact in ("Test CPU 3000", "Other CPU 4000", "Test GPU", "commits\nabc1234", "gpu_watts\n80 to 300"):
        assert f"\n{fact}\n" in page
    for place in ("CPU, machine 1\n", "CUDA, machine 2, TF32 off\n"):
        assert place in page
    assert "\ngpu_throttled_by\nnone; SwPowerCap\n" in page
    assert page.count("gpu_watts") == 1


def overview(page):
    return seen(page).split("\nThe default and the best found, at")[1].split("\nONNX Runtime beside its peers\n")[0]


def test_the_overview_has_the_smallest_and_the_largest_batch(written):
    text = overview(written["index.html"])
    faster = "bound, 1 thread, optimisation all"
    assert f"\nwords next_word\nCPU\n1\n40\n20 {faster}\n64\n2,560\n2,560 the default\n1\n" in text
    best = "30\n7.5 graph, 1 thread, optimisation all"
    assert f"\nclassifier classify\nCUDA\n1\n{best}\n1\n{best}\n2\n" in text
    assert text.count("\nCPU\n") == 5


def change_source(name, provider="CPUExecutionProvider", **changes):
    record = latency.read("full", sample.structure(name, sample.VERBS[name][0]))
    record.sources[provider] = record.sources[provider].model_copy(update=changes)
    latency.write(record, "full")


def test_what_was_measured_with_other_settings_is_counted_and_marked(tree):
    settings = latency.read("full", sample.structure("words", "next_word")).sources["CPUExecutionProvider"].settings
    change_source("words", settings=settings | {"calls": 1})
    change_source("gan", settings={key: value for key, value in settings.items() if key != "seconds"})
    assert not latency_results.soundness(results.gather("full", sample.VALUES)["experiments"])["drifted"]
    write()
    pages = texts()
    counted = "2 of 7 measurements, with an asterisk beside the machine, were made with other settings"
    for text in (pages["README.md"], seen(pages["index.html"])):
        assert counted in text
        assert "(calls, seconds)" in text
    assert f"next_word: commit abc1234; calls 1, now {settings['calls']} *." in text
    assert f"generate: commit abc1234; seconds unset, now {settings['seconds']} *." in text
    marked = re.findall(r"\n([a-z]+ [a-z_]+)\nCPU(?:\n.*){6}\n1 \*", overview(pages["index.html"]))
    assert set(marked) == {"words next_word", "gan generate"}


def test_a_row_that_drifted_is_marked_and_left_out_of_the_charts(tree):
    before = outputs()
    source = latency.read("full", sample.structure("gan", "generate")).sources["CPUExecutionProvider"]
    drift = 1.01 * source.settings["most_drift"]
    rows = [row.model_copy(update={"times": row.times.model_copy(update={"drift": drift})}) for row in source.rows]
    change_source("gan", rows=rows)
    write(draw=True)
    pages = texts()
    assert "\ngan generate\nCPU\n1\n40 ~\n20 ~ " in overview(pages["index.html"])
    assert seen(pages["index.html"]).count("40 ~ (38.4–41.6)\n") == 2
    assert "In 6 of 32 rows, marked ~, the time of the reference graph changed" in pages["README.md"]
    assert pages["index.html"].count('<tr class="drifted">') == 4 + 6  # the advice, and all configurations
    after = outputs()
    assert "gan-latency.png" in before
    assert "gan-latency.png" not in after
    assert after["latency-overview.png"] != before["latency-overview.png"]


def test_peers_stand_beside_onnx_runtime(written):
    """2 and 2^(-7/5) = 0.379; the logarithms' t(4, 0.975) x their standard deviation / sqrt(5) by SciPy."""
    logs = np.log(np.array(sample.BLOCKS["openvino"]) / np.array(sample.BLOCKS["onnxruntime"]))
    low, high = np.exp(scipy.stats.t.interval(0.95, 4, logs.mean(), scipy.stats.sem(logs)))
    row = f"classify\nCPU\nhost\n1\n10\n20 2× (2–2)\n5 {2**-1.4:.3g}× ({low:.3g}–{high:.3g})\n"
    page = seen(written["index.html"])
    assert page.count(row) == 1
    assert "\nclassify\nCPU\nhost\n1\n1\n1\n2\n0.379\n" in page
    assert "3.2e-07" in page
    assert (files.report("full", "charts") / "peers-cpu-host.png").is_file()


def test_cuda_graphs_are_compared_with_each_other(tree):
    """Not with a bound call, which launches every kernel by itself."""
    structure, twice = sample.structure("classifier", "classify"), sample.BLOCKS["torch"]
    record = peers.read("full", structure)
    first, second = (row for row in record.rows if row.runtime in ("onnxruntime", "torch"))
    rows = [row.model_copy(update={"device": "cuda", "tf32": False, "mode": mode}) for row in (first, second)
            for mode in ("bound", "graph")]  # fmt: skip
    rows[2] = rows[2].model_copy(update={"times": sample.times(20.0, [4 * block for block in twice])})
    peers.write(record.model_copy(update={"rows": [*record.rows, *rows]}), "full")
    write()
    page = seen(texts()["index.html"])
    assert "\nclassify\nCUDA\nbound\n1\n1\n1\n8\n—\n" in page
    assert "\nclassify\nCUDA\ngraph\n1\n1\n1\n2\n—\n" in page


def test_without_cold_starts_there_is_no_table_of_them(tree):
    for path in latency.folder("full").iterdir():
        record = latency.read("full", path.stem)
        sources = {key: source.model_copy(update={"cold": []}) for key, source in record.sources.items()}
        latency.write(record.model_copy(update={"sources": sources}), "full")
    assert "<summary>Cold start" in texts()["index.html"]
    write()
    assert "<summary>Cold start" not in texts()["index.html"]


def test_peers_without_the_reference_are_not_compared(tree):
    structure = sample.structure("classifier", "classify")
    record = peers.read("full", structure)
    rows = [row for row in record.rows if row.runtime != "onnxruntime"]
    peers.write(record.model_copy(update={"rows": rows}), "full")
    write()
    assert "\nONNX Runtime beside its peers\nEvery runtime" not in seen(texts()["index.html"])


def test_a_mean_over_graphs_is_geometric_and_says_how_many():
    """2 and 8 give 4; one of the two ran on one graph of the two."""
    group = {"device": "CPU", "verb": "classify", "batch": 1, "mode": "host"}
    experiments = [
        {
            "name": "one",
            "peers": [{"verb": "classify", "rows": [group | {"runtime": of, "ratio": one} for of, one in ran]}],
        }
        for ran in ((("onnxruntime", 1.0), ("torch", 2.0)), (("onnxruntime", 1.0), ("torch", 8.0), ("openvino", 0.5)))
    ]
    (means,) = latency_results.geometric_means(experiments)
    for runtime, expected in (("onnxruntime", (1.0, 2)), ("torch", (4.0, 2)), ("openvino", (0.5, 1))):
        assert means["ratios"][runtime] == pytest.approx(expected)
    words = [wording.mean_ratio(means, name) for name in ("torch", "openvino", "torch_compile")]
    assert words == ["4", "0.5 (1)", "—"]


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)), min_size=1, max_size=8))
def test_a_ratio_is_the_geometric_mean_and_its_interval_holds_it(pairs):
    blocks, reference = (list(column) for column in zip(*pairs, strict=True))
    mean, low, high = latency_results.ratio(blocks, reference).values()
    assert mean == pytest.approx(scipy.stats.gmean(np.divide(blocks, reference)))
    assert (low is None) == (high is None) == (len(pairs) < 3)
    assert low is None or low / mean - 1e-9 <= 1 <= high / mean + 1e-9
    assert latency_results.ratio(reference, blocks)["ratio"] == pytest.approx(1 / mean)


# ---- pages and charts


def test_quality_is_set_against_latency_where_two_experiments_have_both(tree):
    """A generator is judged; where there is none, the decoder is."""
    assert list(charts.QUALITIES["judge.frechet_distance"]) == ["generate", "decode"]
    assert {verb for timed in charts.QUALITIES.values() for verb in timed} <= set(VERBS)
    path = files.report("full", "charts") / "quality-reconstruct.mse.png"
    assert not path.exists()
    record = metrics.read("full", "exploding")
    verbs = record.verbs | {"reconstruct": {"mse": sample.summary([0.5])}}
    metrics.write(record.model_copy(update={"verbs": verbs}))
    write(draw=True)
    assert path.is_file()
    for page in OUTPUTS[:2]:
        assert "MSE against the median time of a call at the smallest batch (CPU, the default" in texts()[page]
    points = charts.quality_points(results.gather("full", sample.VALUES)["experiments"], "reconstruct.mse")
    assert [(one["name"], one["p50_us"], one["quality"], one["partial"]) for one in points] == [
        ("autoencoder", 40.0, pytest.approx(0.0011), False), ("exploding", 40.0, 0.5, False)]  # fmt: skip


def test_the_best_classifiers_confusion_is_drawn(written):
    for page in OUTPUTS[:2]:
        assert "Confusion matrices of classifier, the most accurate classifier" in written[page]


def test_the_page_links_to_what_lies_beside_it_and_to_nothing_else(written):
    page, folder = written["index.html"], files.report("full", "")
    links = re.findall(r"""(?:src|href|url|srcset|action)\s*[=(]\s*["']?([^"'\s>)]+)""", page)
    anchors, beside = ({link for link in links if link.startswith("#") == own} for own in (True, False))
    assert {link[1:] for link in anchors} <= set(re.findall(r'id="([^"]+)"', page))
    assert beside
    for link in beside | set(re.findall(r"!\[.*?\]\((.*?)\)", written["README.md"])):
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


def test_every_table_of_the_readme_is_rectangular(written):
    for block in written["README.md"].split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) <= 1, block
        assert not lines or re.fullmatch(r"(\|:?-+:?)+\|", lines[1]), block


def test_equal_records_give_equal_bytes(tree):
    before = outputs()
    write(draw=True)
    assert outputs() == before


def test_the_quick_report_gives_no_verdict_and_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample.write("quick")
    write("quick")
    for page in OUTPUTS[:2]:
        text = files.report("quick", page).read_text(encoding="utf-8")
        assert "not comparable with any published figure" in text
        assert "write-up | 9" not in text
        assert not re.search(r"\*\*(reproduced|better|not reproduced)\*\*|class=\"chip (?!diverged)", text)
        assert "are | sharp" not in text
        assert "0.4321" not in text
    assert pandas.read_csv(files.report("quick", "summary.csv"))["verdict"].isna().all()


DAMAGED = {
    metrics.path("full", "words"): '{"next_word": {"perplexity": {"mean":',
    curve.path("full", "autoencoder"): "seed,step\n0,1\n",
    parity.path("full", "gan"): "[]",
    judged.path("full", "gan"): "{}",
    run.path("full", "gan"): '{"experiment": "gan"}',
    latency.path("full", sample.structure("gan", "generate")): '{"rows": []}',
    peers.path("full", sample.structure("classifier", "classify")): '{"rows": []}',
    files.figures("full", "classifier") / "classify.png": "no picture",
}


@pytest.mark.parametrize("path", DAMAGED, ids=str)
def test_a_damaged_file_is_named_and_earlier_outputs_stay(path, tree):
    before = outputs()
    path.write_text(DAMAGED[path], encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(str(path))) as caught:
        write()
    assert "\n" not in str(caught.value)
    assert "dvc repro" in str(caught.value)
    assert outputs() == before
    assert not [left for left in files.report("full", "").iterdir() if left.name.startswith(".")]


def test_a_missing_record_is_named_but_one_of_latency_or_peers_was_not_measured(tree):
    for folder in (latency.folder("full"), peers.folder("full")):
        shutil.rmtree(folder)
    write()
    assert texts()["index.html"].count("its structure has not been timed") == sum(map(len, sample.VERBS.values()))
    for path in (metrics.path("full", "words"), Path("code", "experiments", "full.json")):
        path.unlink()
        with pytest.raises(InputError, match=path.name):
            write()


def test_the_readmes_block_is_the_reports_table_and_its_claims(written):
    """It is made from summary.json alone, in which nothing infinite can stand."""
    summary = json.loads(written["summary.json"])
    assert [one["verdict"] for one in summary["claims"]] == [verdict for verdict, *_ in CLAIMED.values()]
    assert [one["key"] for one in summary["claims"]] == list(sample.VALUES["claims"])
    block = render.readme_block(summary)
    assert claim_rows(block) == claim_rows(written["README.md"])
    assert list(table_rows(block)) == list(sample.PLANNED)
    assert "](reports/full/README.md#autoencoder)" in block
    text = f"# Zoo\n{render.START}\nold\n{render.END}\nrest\n"
    rewritten = render.rewrite_block(text, block)
    assert rewritten == f"# Zoo\n{render.START}\n{block.strip()}\n{render.END}\nrest\n"
    assert render.rewrite_block(rewritten, block) == rewritten


def test_the_report_rounds_what_the_readme_rounds(tree):
    """The mean of these, 0.08587046, is 0.085870 at the five digits of its interval; kept as 0.0858705, 0.085871."""
    record = metrics.read("full", "autoencoder")
    mse = sample.summary([0.0858472, 0.0858576, 0.0858651, 0.0859424, 0.08584])
    reconstruct = record.verbs["reconstruct"] | {"mse": mse}
    metrics.write(record.model_copy(update={"verbs": record.verbs | {"reconstruct": reconstruct}}))
    write(claims={"low": sample.claim("it is low", "autoencoder.reconstruct.mse < 0.1")})
    page = texts()["README.md"]
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
        (None, "—"), (0.0, "0"), (0.5, "0.5000"), (2.4e-7, "2.400e-7"), (26448, "26,448"), (0.000948159, "0.0009482"),
        (115.912, "115.9"), (43000.4, "43,000"), (2.0, "2"), (1, "1"), (3.25e31, "3.250e31"),
    ],
)  # fmt: skip
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
