"""What is committed is current: the README's table, and figures that the predictions beside them give again."""

from pathlib import Path

import numpy
import pandas
import pytest
import yaml

from zoo import files
from zoo.report import render

ROOT = Path(__file__).parent.parent
PROFILES = ("quick", "full")


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def first_seed(profile, name, verb, metric):
    return files.read_json(files.metrics(profile, name))[verb][metric]["seeds"]["0"]


def test_readme_table_is_current():
    """`zoo readme` would change nothing."""
    text = Path("README.md").read_text()
    summary = files.read_json(files.report("full", "summary.json"))
    assert render.rewrite_block(text, render.readme_block(summary)) == text


@pytest.mark.parametrize("profile", PROFILES)
def test_every_experiment_is_reported(profile):
    names = list(yaml.safe_load(Path("params.yaml").read_text())["models"])
    summary = files.read_json(files.report(profile, "summary.json"))
    assert summary["order"] == names


@pytest.mark.parametrize("profile", PROFILES)
def test_every_claim_is_weighed_where_there_are_published_figures(profile):
    claims = yaml.safe_load(Path("params.yaml").read_text())["claims"] if profile == "full" else {}
    summary = files.read_json(files.report(profile, "summary.json"))
    assert [claim["key"] for claim in summary["claims"]] == list(claims)


@pytest.mark.parametrize(("name", "floor"), [("cae_zero_unpool", 0.08550), ("cae_nearest_unpool", 0.01636)])
def test_no_seed_is_below_the_floor_of_its_network(name, floor):
    """The floors of MNIST's test set, computed once before the project began."""
    metrics = files.read_json(files.metrics("full", name))["reconstruct"]
    assert metrics["floor_mse"]["mean"] == pytest.approx(floor, rel=1e-3)
    assert min(metrics["mse"]["seeds"].values()) >= metrics["floor_mse"]["mean"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ["resnet", "deep_conv_bn", "aae_semi"])
def test_accuracy_from_predictions(profile, name):
    items = pandas.read_csv(files.predictions(profile, name))
    accuracy = (items["actual"] == items["predicted"]).mean()
    assert first_seed(profile, name, "classify", "accuracy") == pytest.approx(accuracy, rel=1e-5)
    assert first_seed(profile, name, "classify", "nll") == pytest.approx(items["loss"].mean(), rel=1e-4)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ["cae_strided", "ae_dense32"])
def test_mse_from_predictions(profile, name):
    items = pandas.read_csv(files.predictions(profile, name))
    assert first_seed(profile, name, "reconstruct", "mse") == pytest.approx(items["loss"].mean(), rel=1e-4)


@pytest.mark.parametrize("profile", PROFILES)
def test_perplexity_from_predictions(profile):
    """exp(sum of nats / number of words), over the lines of the text."""
    lines = pandas.read_csv(files.predictions(profile, "lstm"))
    perplexity = numpy.exp(lines["loss"].sum() / lines["words"].sum())
    assert first_seed(profile, "lstm", "next_word", "perplexity") == pytest.approx(perplexity, rel=1e-4)


def test_full_test_sets_are_whole():
    """10,000 images of MNIST's; 82,430 words of the Penn Treebank's, less the first, which nothing predicts."""
    assert len(pandas.read_csv(files.predictions("full", "resnet"))) == 10_000
    assert pandas.read_csv(files.predictions("full", "lstm"))["words"].sum() == 82_430 - 1
