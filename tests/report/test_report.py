"""The report, from made-up records: every experiment in it, each word as the numbers say."""

import contextlib
import html
import html.parser
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import sample_records as sample
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo import files
from zoo.errors import InputError
from zoo.evaluate.metrics import known_metrics
from zoo.graphs.verbs import VERBS
from zoo.records import Identity, curve, judged, latency, metrics, parity, peers, run
from zoo.report import charts, drawing, latency_results, render, results, wording

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


def stand_in(patch, first_real=False):
    """{file: (function, rows, options)} of what is drawn from now on: small pictures, and where asked for a real one.

    What they look like is tested beside the drawing.
    """
    calls = {}

    def replace(function, real):
        def draw(rows, path, **options):
            drawn = {name for name, *_ in calls.values()}
            calls[path.name] = function, rows, options
            if first_real and function not in drawn:
                real(rows, path, **options)
            else:
                Image.new("L", (100, 50)).save(path)

        patch.setattr(drawing, function, draw)

    for function in ("curves", "latency", "latency_overview", "peers", "three_confusions", "thumbnail"):
        replace(function, getattr(drawing, function))
    return calls


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The folder with the records and the report of the full profile, which no test changes."""
    folder = tmp_path_factory.mktemp("once")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        stand_in(patch, first_real=True)
        sample.write("full")
        write(draw=True)
    return folder


@pytest.fixture
def written(once, monkeypatch):
    monkeypatch.chdir(once)
    return texts()


@pytest.fixture
def page(written):
    return Page(written["index.html"]).root


@pytest.fixture
def tree(once, tmp_path, monkeypatch):
    """A copy of it all, to change."""
    monkeypatch.chdir(shutil.copytree(once, tmp_path / "copy"))


@pytest.fixture
def drawn(monkeypatch):
    """{file: (function, rows, options)} of what is drawn."""
    return stand_in(monkeypatch)


def table_rows(markdown):
    """{experiment: its line} of the table of results."""
    lines = re.findall(r'^\| (?:<a id="\w+"></a>\*\*|\[)(\w+)(.*)$', markdown.split("## Claims")[0], re.MULTILINE)
    return dict(lines)


def seen(page):
    """The text of a page of HTML, each cell and block on a line of its own."""
    cells = re.sub(r"</(td|th|tr|p|li|h\d|summary)>|<br>", "\n", page.split("<body>")[1].split("<script>")[0])
    return html.unescape(re.sub(r"\s*\n\s*", "\n", re.sub(r"<[^>]+>", "", cells)))


def section(page, name):
    """The text of an experiment's own part of the page."""
    return seen("<body>" + page.split(f'class="experiment" id="{name}">')[1].split('class="experiment"')[0])


class Element:
    """One of a page of HTML."""

    def __init__(self, tag, attributes):
        self.tag, self.attributes, self.text, self.children = tag, dict(attributes), "", []

    def all(self, *tags):
        """The elements within, of these tags where some are given, in order."""
        found = []
        for child in self.children:
            found += [child] * (not tags or child.tag in tags) + child.all(*tags)
        return found


class Page(html.parser.HTMLParser):
    """`root` holds the elements of a page, in which every tag that is opened has to be closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag, attributes):
        element = Element(tag, attributes)
        self.open[-1].children.append(element)
        if tag not in ("br", "img", "meta", "wbr"):
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        for element in self.open:
            element.text += data


def tables(page):
    """[(the headings' cells, [the cells of a row])] of the tables that can be sorted."""
    found = [table for table in Page(page).root.all("table") if "sortable" in table.attributes["class"]]
    rows = [[row.all("th", "td") for row in table.all("tr")] for table in found]
    return [(head, body) for head, *body in rows]


# ---- results


def test_every_experiment_is_in_the_table_and_has_a_part_of_its_own(written):
    assert list(table_rows(written["README.md"])) == list(sample.PLANNED)
    for name in sample.PLANNED:
        assert written["index.html"].count(f'<details class="experiment" id="{name}">') == 1
    assert json.loads(written["summary.json"])["order"] == list(sample.PLANNED)
    assert set(pandas.read_csv(files.report("full", "summary.csv"))["experiment"]) == set(sample.PLANNED)


def test_verdicts_follow_from_value_tolerance_and_direction(written):
    rows = table_rows(written["README.md"])
    # 0.0011 lies within 25 % of 0.001; 0.9123 beyond 5 % above 0.8; a perplexity overflowed, and one run diverged.
    assert "| **reproduced** |" in rows["autoencoder"]
    assert "| **better** |" in rows["classifier"]
    assert "| **not finite** |" in rows["words"]
    assert "| **diverged** |" in rows["exploding"]
    assert "| pictures only | — |" in rows["gan"]
    assert "| — | — |" in rows["operator"]
    verdicts = pandas.read_csv(files.report("full", "summary.csv")).set_index(["experiment", "metric"])["verdict"]
    assert verdicts["autoencoder", "reconstruct.psnr_db"] == "not reproduced"
    assert verdicts["autoencoder", "encode.dead_share"] == "undecided"
    assert verdicts["words", "next_word.floor_perplexity"] == "partial budget"
    tiles = [item.text for item in Page(written["index.html"]).root.all("li")]
    assert tiles == ["6 experiments", "1 reproduced", "1 better", "1 not finite", "1 diverged"]


def test_an_interval_is_printed_only_from_three_seeds_on(written):
    rows = table_rows(written["README.md"])
    assert "| 0.00110 ± 0.00025 |" in rows["autoencoder"]
    assert "| 0.9123 |" in rows["classifier"]
    assert [name for name, row in rows.items() if "±" in row] == ["autoencoder"]


def test_the_interval_of_a_share_of_seeds_is_wilsons(written):
    high = scipy.stats.binomtest(0, 3).proportion_ci(method="wilson").high
    assert f"\ntraining\ndiverged\n0.00 (0.00–{high:.2f})\n" in section(written["index.html"], "autoencoder")


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
    text = section(written["index.html"], "classifier")
    for row in (
        "trained on\ncpu, Test CPU 3000, PyTorch 2.13.0\n",
        "tuned\nthe rate, on validation data\n",
        "weights\n26,448\ndata\nmade up\n",
        "network\nconv_autoencoder.py units: [8, 4]\n",
        "player model\nAdam lr: 0.001 updates: all\n",
        "exported classify\nlargest difference from the network 2.4e-07, allowed 1e-05 (3 calls)\n",
    ):
        assert row in text


def test_every_metric_of_the_glossary_is_explained():
    for key, metric in known_metrics().items():
        assert key.split(".")[0] in results.ORDER
        assert metric.meaning.endswith(".")


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
    told = "With seed 0 a weight stopped being finite at step 17; the gradient's norm was infinite"
    assert told in section(written["index.html"], "exploding")
    assert "diverged" not in table_rows(written["README.md"])["words"]
    for page in OUTPUTS[:2]:
        assert not re.search(r"\b(nan|inf|None)\b", seen("<body>" + written[page]))


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
    page = texts()["index.html"]
    assert seen(page).count("\nnot reproduced no reason established\n") == 2
    words = "\nundecided the interval extends beyond the tolerance on both sides\n"
    assert words in section(page, "autoencoder")
    reason = sample.claim(
        "it is <b>small</b>", "autoencoder.reconstruct.mse < 1", explains=["autoencoder.reconstruct.psnr_db"]
    )
    write(claims={"reason": reason})
    assert "\nnot reproduced it is <b>small</b>\n" in section(texts()["index.html"], "autoencoder")
    wrong = {"autoencoder": {"reconstruct": {"mse": sample.figure(0.0001, "lower", 0.25)}}}
    claim = sample.claim("it is small", "autoencoder.reconstruct.mse < 1", explains=["autoencoder.reconstruct.mse"])
    write(claims={"reason": claim}, published=wrong)
    assert "| **not reproduced**: it is small |" in table_rows(texts()["README.md"])["autoencoder"]


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
        ("gan.judge.oddness > 0.5", r"params\.yaml: claims\.odd: judge\.oddness was not measured for gan; use one of"),
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
    told = "timed on autoencoder reconstruct, seed 0: a graph of the same structure with other weights"
    pages = texts()
    assert pages["index.html"].count(told) == section(pages["index.html"], "exploding").count(told) == 1
    marked = [row[0] for row in overview(pages["index.html"]) if row[-1] == "1 †"]
    assert marked == ["exploding", "exploding"]
    export_again("exploding", "reconstruct", "0", **OPERATOR)
    write()
    page = texts()["index.html"]
    assert "reconstruct: not measured: its structure has not been timed" in section(page, "exploding")
    assert "machine 1" not in section(page, "exploding")
    assert "exploding" not in {row[0] for row in overview(page)}


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
    assert "Times of different machines cannot be compared." in page
    for fact in ("Test CPU 3000", "Other CPU 4000", "Test GPU", "commits\nabc1234", "gpu_watts\n80 to 300"):
        assert f"\n{fact}\n" in page
    for place in ("CPU, machine 1\n", "CUDA, machine 2, TF32 off\n"):
        assert place in page
    assert "\ngpu_throttled_by\nnone; SwPowerCap\n" in page
    assert page.count("gpu_watts") == 1


def overview(page):
    """The rows of the latencies of all experiments."""
    (rows,) = (rows for head, rows in tables(page) if head[-1].text == "Machine")
    return [[cell.text for cell in row] for row in rows]


def test_the_overview_has_the_smallest_and_the_largest_batch(written):
    rows, faster = overview(written["index.html"]), "bound, 1 thread, optimisation all"
    assert [row[2:] for row in rows if row[0] == "words"] == [
        ["next_word", "CPU", "1", "40", "20", faster, "2", "1"],
        ["next_word", "CPU", "64", "2,560", "2,560", "the default", "1", "1"],
    ]
    assert [row[3:] for row in rows if row[:2] == ["classifier", "Classifiers"] and row[3] == "CUDA"] == [
        ["CUDA", "1", "30", "7.5", "graph, 1 thread, optimisation all", "4", "2"]
    ]
    assert len(rows) == 2 * 5 + 1


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
    counted = "2 of 7 measurements, with an asterisk beside the machine, were made with settings that differ from"
    text = seen(pages["index.html"])
    assert counted in text
    assert "(calls, seconds)" in text
    assert f"next_word: commit abc1234; calls 1, now {settings['calls']} *." in text
    assert f"generate: commit abc1234; seconds unset, now {settings['seconds']} *." in text
    assert {row[0] for row in overview(pages["index.html"]) if row[-1] == "1 *"} == {"words", "gan"}


def test_a_row_that_drifted_is_grey_and_marked_and_left_out_of_the_charts(tree, drawn):
    source = latency.read("full", sample.structure("gan", "generate")).sources["CPUExecutionProvider"]
    drift = 1.01 * source.settings["max_drift"]
    rows = [row.model_copy(update={"times": row.times.model_copy(update={"drift": drift})}) for row in source.rows]
    change_source("gan", rows=rows)
    write(draw=True)
    page = texts()["index.html"]
    assert [row[5:7] for row in overview(page) if row[0] == "gan"] == [["40 ~", "20 ~"], ["2,560 ~", "2,560 ~"]]
    assert seen(page).count("40 ~ (38.4–41.6)\n") == 2
    assert "In 6 of 32 rows the time of the reference graph changed" in seen(page)
    grey = [row for row in Page(page).root.all("tr") if row.attributes.get("class") == "drifted"]
    assert len(grey) == 2 + 4 + 6  # the overview, the advice, and all configurations
    assert all("~" in row.text for row in grey)
    assert "autoencoder-latency.png" in drawn
    assert "gan-latency.png" not in drawn
    _, points, _ = drawn["latency-overview.png"]
    assert not points["name"].str.startswith("gan").any()


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
    assert 'id="section-peers"' not in texts()["index.html"]


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


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)), min_size=1, max_size=8))
def test_a_ratio_is_the_geometric_mean_and_its_interval_holds_it(pairs):
    blocks, reference = (list(column) for column in zip(*pairs, strict=True))
    mean, low, high = latency_results.ratio(blocks, reference).values()
    assert mean == pytest.approx(scipy.stats.gmean(np.divide(blocks, reference)))
    assert (low is None) == (high is None) == (len(pairs) < 3)
    assert low is None or low / mean - 1e-9 <= 1 <= high / mean + 1e-9
    assert latency_results.ratio(reference, blocks)["ratio"] == pytest.approx(1 / mean)


def timed(name, key, quality, verb, p50, drift=0.0):
    """An experiment with one metric and one timing."""
    row = SimpleNamespace(times=SimpleNamespace(p50_us=p50, drift=drift))
    timing = {"verb": verb, "provider": "CPU", "advice": [{"default": row}]}
    timing["source"] = SimpleNamespace(settings={"max_drift": 0.05})
    return {"name": name, "rows": [{"key": key, "mean": quality}], "latency": [timing], "partial": name == "short"}


def test_quality_is_set_against_latency_a_panel_a_metric():
    """Shares stand at their logits, ln 9 at 0.9 and ln 99 at 0.99, times at logarithms, lower perplexities higher."""
    assert list(charts.QUALITIES["judge.frechet_distance"]) == ["generate", "decode"]
    assert {verb for timed in charts.QUALITIES.values() for verb in timed} <= set(VERBS)
    accuracies = {"good": (0.99, 1000.0), "coarse": (0.5, 10.0), "short": (0.9, 100.0), "unsteady": (0.8, 500.0)}
    experiments = [
        timed(name, "classify.accuracy", share, "classify", p50, 0.06 if name == "unsteady" else 0.0)
        for name, (share, p50) in accuracies.items()
    ]
    experiments += [timed(f"lstm{p50}", "next_word.perplexity", 100.0 + p50, "next_word", p50) for p50 in (20.0, 40.0)]
    experiments += [
        timed("not timed", "classify.accuracy", 0.7, "classify", None),
        timed("overflowed", "next_word.perplexity", None, "next_word", 1.0),
        timed("encoded", "classify.accuracy", 0.7, "encode", 1.0),
        timed("alone", "judge.frechet_distance", 1.0, "decode", 1.0),
    ]
    accuracy, perplexity = charts.quality_panels(experiments)
    assert (accuracy["x"], accuracy["y"], accuracy["label"]) == ((10, 1000), (0.5, 0.99), "accuracy")
    across, up = ([point[axis] for point in accuracy["points"]] for axis in ("across", "up"))
    assert [point["name"] for point in accuracy["points"]] == [*accuracies]
    assert across == pytest.approx([1, 0, 0.5, np.log10(50) / 2])
    assert up == pytest.approx([1, 0, np.log(9) / np.log(99), np.log(4) / np.log(99)])
    for mark, expected in (("named", ["good", "coarse"]), ("partial", ["short"]), ("drifted", ["unsteady"])):
        assert [point["name"] for point in accuracy["points"] if point[mark]] == expected
    assert perplexity["y"] == (140, 120)
    assert [(point["across"], point["up"], point["named"]) for point in perplexity["points"]] == [
        (0, 1, True), (1, 0, False)]  # fmt: skip


# ---- pages


def test_the_first_screen_has_verdicts_a_picture_an_experiment_by_family_a_chart_and_how_to_read(tree, drawn):
    record = metrics.read("full", "exploding")
    verbs = record.verbs | {"reconstruct": {"mse": sample.summary([0.5])}}
    metrics.write(record.model_copy(update={"verbs": verbs}))
    write(draw=True)
    text = texts()["index.html"].split("<h2")[0]
    places = [text.index(of) for of in ("How to read this page.", 'class="tiles"', 'class="gallery"', 'class="panels"')]
    assert places == sorted(places)
    root = Page(texts()["index.html"]).root
    (gallery,) = (one for one in root.all("div") if one.attributes.get("class") == "gallery")
    families = {one.children[0].text: [link.text.strip() for link in one.all("a")] for one in gallery.children}
    assert families == {
        "Autoencoders": ["autoencoder", "exploding"], "Classifiers": ["classifier"], "GANs": ["gan"],
        "Language models": ["words"], "Operators": ["operator"],
    }  # fmt: skip
    for link in gallery.all("a"):
        name = link.text.strip()
        assert link.attributes["href"] == f"#{name}"
        assert [image.attributes["src"] for image in link.all("img")] == (
            [] if name == "operator" else [f"charts/{name}-thumbnail.png"]
        )
    dots = [one.attributes["aria-label"] for one in gallery.all("span")]
    assert dots == ["reproduced", "diverged", "better", "not finite"]
    shown = {name: rows.name for name, (function, rows, _) in drawn.items() if function == "thumbnail"}
    assert shown == {
        "autoencoder-thumbnail.png": "reconstruct.png", "classifier-thumbnail.png": "classify.png",
        "gan-thumbnail.png": "generate.png", "words-thumbnail.png": "words.png",
        "exploding-thumbnail.png": "exploding.png",
    }  # fmt: skip
    (panel,) = root.all("svg")
    assert [link.attributes["href"] for link in panel.all("a")] == ["#autoencoder", "#exploding"]
    assert [title.text for title in panel.all("title")] == [
        "autoencoder: MSE 0.001100, 40 µs", "exploding: MSE 0.5000, 40 µs"]  # fmt: skip
    heights = [float(circle.attributes["cy"]) for circle in panel.all("circle")]
    assert heights[0] < heights[1]


def test_every_number_of_a_table_is_sorted_by_what_it_prints(written):
    """A cell has its value where its heading is one of numbers, and only there."""
    for head, rows in tables(written["index.html"]):
        for row in rows:
            assert len(row) == len(head)
            for heading, cell in zip(head, row, strict=True):
                numeric = heading.attributes.get("class") == "number"
                assert ("data-n" in cell.attributes) == numeric
                if numeric:
                    printed = re.match(r"(-?[\d,]+(?:\.\d+)?(?:e-?\d+)?) ?(%?)", cell.text)
                    value = cell.attributes["data-n"]
                    assert bool(value) == bool(printed), cell.text
                    if value:
                        number = float(printed[1].replace(",", "")) / (100 if printed[2] else 1)
                        assert float(value) == pytest.approx(number, rel=0.05, abs=5e-4), cell.text


def test_rows_have_what_they_are_filtered_by(page):
    results, claims, latencies = (one for one in page.all("table") if "data-filtered" in one.attributes)
    chosen = {row.all("a")[0].text: row.attributes for row in results.all("tr")[1:]}
    assert {name: of["data-family"] for name, of in chosen.items()} == {
        name: of["family"] for name, of in sample.PLANNED.items()
    }
    assert {name: of.get("data-verdict") for name, of in chosen.items()} == {
        "autoencoder": "reproduced", "classifier": "better", "words": "not finite", "exploding": "diverged",
        "gan": None, "operator": None,
    }  # fmt: skip
    assert [row.attributes["data-verdict"] for row in claims.all("tr")[1:]] == [of for of, *_ in CLAIMED.values()]
    assert {row.attributes["data-family"] for row in latencies.all("tr")[1:]} == {
        "Autoencoders", "Classifiers", "GANs", "Language models"}  # fmt: skip


def test_what_training_cost_stands_beside_the_result(written):
    """12.3, 13.3 and 14.3 seconds; the first seed took most memory."""
    (rows,) = (rows for head, rows in tables(written["index.html"]) if head[-1].text == "Trained on")
    costs = {row[0].text.split()[0]: [cell.text for cell in row[-3:]] for row in rows}
    assert costs["autoencoder"] == ["39.9", "512", "Test CPU"]
    assert costs["words"] == ["12.3", "512", "Test CPU"]


def test_without_a_script_nothing_is_lost(written, page):
    """Every row is there, what is folded opens by itself, and under each table stands how to read it."""
    assert not [one for one in page.all("tr", "details", "table", "p") if "hidden" in one.attributes]
    assert all(details.children[0].tag == "summary" for details in page.all("details"))
    (script,) = page.all("script")
    assert script.attributes == {}
    assert written["index.html"].count('<table class="sortable') == written["index.html"].count("How to read:")


def test_no_rule_of_the_style_is_for_a_class_that_is_nowhere(page):
    (style,) = page.all("style")
    ruled = set(re.findall(r"\.([a-z][a-z-]*)", style.text))
    present = {name for one in page.all() for name in one.attributes.get("class", "").split()}
    elsewhere = {"drifted", "end", "filters", "panels", "partial"}  # of the chart, the script and rows that drifted
    assert ruled <= present | elsewhere


def test_the_best_classifiers_confusion_is_drawn(written):
    assert "Confusion matrices of classifier, the most accurate classifier" in written["index.html"]


def test_the_pages_link_to_what_lies_beside_them_and_to_nothing_else(written, page):
    text, folder = written["index.html"], files.report("full", "")
    ids = [one.attributes["id"] for one in page.all() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    links = {value for one in page.all() for name, value in one.attributes.items() if name in ("href", "src")}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    beside = {link for link in links if not link.startswith("#")}
    assert beside
    for link in beside | set(re.findall(r"\]\((.*?)\)", written["README.md"])):
        assert not Path(link).is_absolute(), link
        assert (folder / link).exists(), link
        assert (folder / link).resolve().is_relative_to(folder.resolve()), link
    assert not re.search(r"https?:|//(?! )|<link|@import|data:", text)
    assert "deep &lt;and&gt; narrow" in text


def test_every_picture_of_the_page_has_its_size_its_words_and_waits_to_be_seen(page):
    pictures = {one.attributes["src"]: one.attributes for one in page.all("img")}
    assert all(of["loading"] == "lazy" for of in pictures.values())
    captions = {one.all("img")[0].attributes["src"]: one.all("figcaption")[0].text
                for one in page.all("figure") if one.all("img")}  # fmt: skip
    assert captions.keys() == {src for src in pictures if "-thumbnail" not in src}
    assert len(captions) >= 8
    for source, caption in captions.items():
        assert pictures[source]["alt"] == caption
        with Image.open(files.report("full", source)) as picture:
            width, height = picture.size
        shown = [int(pictures[source][side]) for side in ("width", "height")]
        assert shown == [round(0.8 * width), round(0.8 * height)]
    assert captions["figures/gan/generate.png"].endswith(
        "one row per digit if the network takes a label. Drawn by generate."
    )


def test_the_readme_has_results_and_links_and_no_second_copy(written):
    """What the page has beside the headline, its metrics, times and pictures, is not there."""
    rows = table_rows(written["README.md"])
    assert rows["gan"].endswith("[pictures](figures/gan), [curve](charts/gan.png), [metrics](metrics/gan.json) |")
    assert rows["operator"].endswith("| [metrics](metrics/operator.json) |")
    for name in sample.PLANNED:
        assert written["README.md"].count(f'<a id="{name}"></a>') == 1
    for words in ("PSNR | 30", "µs", "![", "conv_autoencoder.py"):
        assert words not in written["README.md"]


def test_every_table_of_the_readme_is_rectangular(written):
    for block in written["README.md"].split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) <= 1, block
        assert not lines or re.fullmatch(r"(\|:?-+:?)+\|", lines[1]), block


def test_equal_records_give_equal_bytes(tree, drawn):
    """As far as the pages; what is drawn is held to that one by one."""
    write(draw=True)
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


def test_the_readmes_block_has_rows_of_each_family(written):
    """It is made from summary.json alone, in which nothing infinite can stand."""
    summary = json.loads(written["summary.json"])
    assert [one["verdict"] for one in summary["claims"]] == [verdict for verdict, *_ in CLAIMED.values()]
    assert [one["key"] for one in summary["claims"]] == list(sample.VALUES["claims"])
    families = {"autoencoder": "Codes", "exploding": "Codes", "classifier": "Classifiers", "operator": "Operators"}
    assert "| Autoencoders | [autoencoder]" in render.readme_block(summary, {})
    for entry in summary["experiments"].values():  # as in a summary of an earlier version
        del entry["family"]
    lines = render.readme_block(summary, families).splitlines()
    assert len(lines) <= 20
    assert "reproduced 1, better 1, diverged 1, not finite 1. Verbal claims: holds 2, " in lines[0]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if "README.md#" in line]
    assert [(family, name, verdict) for _, family, name, *_, verdict, _ in cells] == [
        (family, f"[{name}](reports/full/README.md#{name})", verdict)
        for family, name, verdict in [
            ("Codes", "autoencoder", "**reproduced**"), ("", "exploding", "**diverged**"),
            ("Classifiers", "classifier", "**better**"), ("", "words", "**not finite**"),
            ("Operators", "operator", "—"),
        ]
    ]  # fmt: skip
    block = render.readme_block(summary, {})
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
    summary = files.read_json(files.report("full", "summary.json"))
    assert "0.085871\u00a0±\u00a00.000051" in render.readme_block(summary, {})


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
