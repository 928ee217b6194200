"""DVC's own pages of plots and its diffs, on a small project with our templates: no network, and the right change."""

import html.parser
import json
import re
import shutil
import subprocess

import dvc_projects
import pytest
import vl_convert
from dvc_projects import dvc, inside
from PIL import Image

from zoo.errors import InputError
from zoo.runner import plots

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
STAGES = {
    "evaluate": {
        "cmd": "python evaluate.py",
        "metrics": [{"metrics.json": {"cache": False}}],
        "plots": [
            {"curve.csv": {"cache": False, "template": "curve", "x": "step", "y": "loss"}},
            {"classified.csv": {"cache": False, "template": "predictions", "x": "actual", "y": "predicted"}},
            {"reconstructed.csv": {"cache": False, "template": "predictions", "x": "actual", "y": "predicted"}},
            {"generated.csv": {"cache": False, "template": "predictions", "x": "actual", "y": "predicted"}},
            {"matrix.csv": {"cache": False, "template": "confusion", "x": "actual", "y": "predicted"}},
            {"figures": {"cache": False}},
        ],
    }
}
DRAWN = ("classified_csv", "curve_csv", "matrix_csv", "reconstructed_csv")  # generated.csv is empty: nothing to draw
HEAD = "item,actual,predicted,loss\n"
CURVE = "seed,player,split,step,loss\n0,model,training,1,0.9\n0,model,training,2,{loss}\n0,model,validation,2,0.7\n"


def outputs(loss):
    """What the stage would write: thirteen items of class 1 are recognised, and one of class 2 is taken for a 0."""
    classified = HEAD + "".join(f"{item},1,1,{loss}\n" for item in range(13)) + "13,2,0,0.9\n"
    return {
        "metrics.json": json.dumps({"classify": {"accuracy": {"mean": loss}}, "steps": 3}),
        "curve.csv": CURVE.format(loss=loss),
        "classified.csv": classified,
        "matrix.csv": classified,
        "reconstructed.csv": HEAD + f"0,7,,0.1\n1,6,,{loss}\n",
        "generated.csv": HEAD,
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory, request):
    """A DVC project whose stage wrote a loss of 0.5, committed, and then 0.25; with the template installed."""
    root = request.config.rootpath
    folder = dvc_projects.project(tmp_path_factory.mktemp("plots") / "project", STAGES, **outputs(0.5))
    shutil.copytree(root / ".dvc" / "plots", folder / ".dvc" / "plots")
    (folder / "figures").mkdir()
    Image.new("L", (8, 8), 128).save(folder / "figures" / "generate.png")
    git = ["git", "-C", folder, "-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "first"], check=True)
    for name, text in outputs(0.25).items():
        (folder / name).write_text(text)
    with inside(folder):
        plots.install()
    return folder


@pytest.fixture(scope="module")
def pages(project):
    """{"show", "diff"}: the two pages that DVC makes."""
    dvc(project, "plots", "show", "--out", "shown")
    dvc(project, "plots", "diff", "HEAD", "--out", "compared")
    return {"show": project / "shown" / "index.html", "diff": project / "compared" / "index.html"}


class Reader(html.parser.HTMLParser):
    """What a page fetches, and the text of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.scripts, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag == "script"
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        if self.inside:
            self.scripts.append(data)

    def handle_endtag(self, tag):
        self.inside = False


@pytest.mark.parametrize("page", ["show", "diff"])
def test_a_page_holds_its_scripts_and_fetches_its_own_pictures_alone(pages, page):
    read = Reader(pages[page].read_text(encoding="utf-8"))
    revisions = {"show": ["workspace"], "diff": ["HEAD", "workspace"]}[page]
    assert sorted(read.addresses) == [f"static/{revision}_figures_generate.png" for revision in revisions]
    assert all((pages[page].parent / address).is_file() for address in read.addresses)
    scripts, *specifications = read.scripts
    assert scripts.strip() == vl_convert.javascript_bundle(vl_version=plots.VEGA_LITE).strip()
    for name in ("vegaEmbed", "vegaLite", "vega"):
        assert f"window.{name}=" in scripts
    assert len([text for text in specifications if "vegaEmbed(" in text]) == len(STAGES["evaluate"]["plots"]) - 1


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium that could open the pages")
def test_a_browser_without_network_draws_the_page(pages, tmp_path):
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000", "--dump-dom", pages["diff"].as_uri(),
    ]  # fmt: skip
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    divisions = dict(re.findall(r'<div id="(\w+_csv)"(.*?)</svg>', drawn, flags=re.DOTALL))
    assert sorted(divisions) == sorted((*DRAWN, "generated_csv"))
    assert sorted(name for name, division in divisions.items() if "role-mark" in division) == sorted(DRAWN)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("curve.csv", {"revision", "HEAD", "workspace", "model, training", "model, validation", "step", "loss"}),
        ("classified.csv", {"revision", "HEAD", "workspace", "actual", "predicted", "loss of an item", "13"}),
        ("reconstructed.csv", {"revision", "HEAD", "workspace", "loss of an item"}),
        ("matrix.csv", {"HEAD", "workspace", "actual", "predicted"}),
    ],
)
def test_a_template_draws_both_revisions(project, name, texts):
    specification = json.loads(dvc(project, "plots", "diff", "HEAD", "--targets", name, "--show-vega"))
    assert specification["$schema"] == f"https://vega.github.io/schema/vega-lite/v{plots.VEGA_LITE.split('.')[0]}.json"
    svg = vl_convert.vegalite_to_svg(specification, vl_version=plots.VEGA_LITE)
    found = Texts(svg).texts
    assert texts <= found
    assert ("actual" in found) == (name in ("classified.csv", "matrix.csv"))


class Texts(html.parser.HTMLParser):
    def __init__(self, svg):
        super().__init__()
        self.texts = set()
        self.feed(svg)

    def handle_data(self, data):
        self.texts.add(data.strip())


def test_metrics_diff_shows_the_change_alone(project):
    assert json.loads(dvc(project, "metrics", "diff", "--json", "HEAD")) == {
        "metrics.json": {"classify.accuracy.mean": {"old": 0.5, "new": 0.25, "diff": -0.25}}
    }


def test_plots_diff_shows_the_change(project):
    data = json.loads(dvc(project, "plots", "diff", "--json", "HEAD"))["data"]
    content = data["curve.csv"][0]["content"]
    last = {
        row["rev"]: row["loss"]
        for row in content["data"]["values"]
        if row["step"] == "2" and row["split"] == "training"
    }
    assert last == {"HEAD": "0.5", "workspace": "0.25"}


def test_a_clone_without_the_template_makes_pages_as_dvc_does(project, tmp_path):
    """The setting lies beside the template, outside git: neither is there, and DVC does not look for it."""
    subprocess.run(["git", "clone", "--quiet", project, tmp_path / "clone"], check=True)
    dvc(tmp_path / "clone", "plots", "show")
    assert "https://cdn." in (tmp_path / "clone" / "dvc_plots" / "index.html").read_text()


def test_outside_a_project(tmp_path):
    with (
        inside(tmp_path),
        pytest.raises(InputError, match=r"^\.dvc is missing: run this from the project's top"),
    ):
        plots.install()


def test_a_configuration_that_dvc_cannot_read(tmp_path):
    folder = dvc_projects.project(tmp_path / "project")
    (folder / ".dvc" / "config.local").write_text("[plots\n")
    with inside(folder), pytest.raises(InputError, match=r"^\.dvc: DVC rejects the template: ") as refused:
        plots.install()
    assert "\n" not in str(refused.value)
