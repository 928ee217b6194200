"""params.yaml is valid; whatever is wrong in one is named with key, value and remedy before anything runs."""

import copy
import shutil
from pathlib import Path

import pytest
import yaml

from zoo import params
from zoo.errors import InputError

MISSING = object()
MODEL, PLAYER = "models/cae_strided", "models/cae_strided/players/autoencoder"
EVERYTHING = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
ENTRIES = EVERYTHING["models"]
ONE_OF_EACH = {entry["file"]: name for name, entry in reversed(ENTRIES.items())}
CLAIM, LOG = "claims/maps_empty", "published_curves/cae_strided/0"


def changed(folder, key, value, everything=EVERYTHING):
    """A copy of params.yaml whose `key` ("a/b/c") is `value`, or is MISSING."""
    values = copy.deepcopy(everything)
    *parents, last = key.split("/")
    place = values
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def alone(name):
    """params.yaml with one experiment, which nothing else there names: quick to read."""
    others = {key: {} for key in EVERYTHING if key.startswith("published") or key == "claims"}
    judge = EVERYTHING["judge"] | {"by": name, "of": []}
    return EVERYTHING | others | {"models": {name: ENTRIES[name]}, "judge": judge}


def complaint(path):
    with pytest.raises(InputError) as caught:
        params.load(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}")
    return text.removeprefix(f"{path}")


def test_params_yaml_is_valid_and_comes_back_as_it_is():
    assert params.load() == EVERYTHING


@pytest.mark.parametrize("profile", params.PROFILES)
def test_every_experiment_is_found(profile, monkeypatch):
    monkeypatch.setattr(params, "load", lambda path, profile: EVERYTHING)
    for name, entry in ENTRIES.items():
        assert params.experiment(profile, name) == (EVERYTHING, entry | {"name": name})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        # unknown and missing keys
        ("modells", {}, ("modells", "no such key")),
        ("curve/rows", 3, ("curve.rows = 3", "no such key")),
        (f"{MODEL}/fit/bacth", 60, ("models.cae_strided.fit.bacth = 60", "no such key")),
        ("seeds/half", [0], ("seeds.half = [0]", "no such key")),
        ("curve", MISSING, ("curve", "is missing; add it")),
        ("seeds/full", MISSING, ("seeds.full", "is missing; add it")),
        (f"{MODEL}/file", MISSING, ("models.cae_strided.file", "is missing; add it")),
        (f"{MODEL}/fit/batch", MISSING, ("models.cae_strided.fit.batch", "is missing; add it")),
        (f"{MODEL}/steps/quick", MISSING, ("models.cae_strided.steps.quick", "is missing; add it")),
        (f"{PLAYER}/lr", MISSING, ("models.cae_strided.players.autoencoder.lr", "is missing; add it")),
        ("data/images/quick/source", MISSING, ("data.images.quick.source", "is missing; add it")),
        # wrong types
        ("threads", 1.5, ("threads = 1.5", "valid integer")),
        ("threads", True, ("threads = True", "valid integer")),
        (f"{MODEL}/fit/batch", "60", ("fit.batch = '60'", "valid integer")),
        (f"{MODEL}/steps", 100, ("steps = 100", "a map of keys")),
        (f"{MODEL}/net", None, ("models.cae_strided.net", "valid dictionary")),
        (MODEL, None, ("models.cae_strided", "a map of keys")),
        (f"{PLAYER}/lr", "fast", ("lr = 'fast'", "valid number")),
        (f"{PLAYER}/moves", "encoder", ("moves = 'encoder'", "should be all, a list of parts")),
        (f"{PLAYER}/moves", {"encoder": -1.0}, ("moves", "should be all, a list of parts")),
        ("seeds/quick", 0, ("seeds.quick = 0", "valid list")),
        ("judge/of", "gan", ("judge.of = 'gan'", "valid list")),
        ("published/lstm/next_word/perplexity/value", "115", ("perplexity.value = '115'", "valid number")),
        # impossible numbers and words
        ("threads", 0, ("threads = 0", "greater than or equal to 1")),
        ("device", "gpu", ("device = 'gpu'", "'auto', 'cpu' or 'cuda'")),
        ("seeds/quick", [], ("seeds.quick = []", "at least 1 item")),
        ("seeds/quick", [0, -1], ("seeds.quick.1 = -1", "greater than or equal to 0")),
        ("evaluate/batch", 0, ("evaluate.batch = 0", "greater than or equal to 1")),
        ("evaluate/importance_samples", 0, ("importance_samples = 0", "greater than or equal to 1")),
        ("judge/samples/quick", 0, ("judge.samples.quick = 0", "greater than or equal to 1")),
        ("benchmark/batches/quick", [1, 0], ("benchmark.batches.quick.1 = 0", "greater than or equal to 1")),
        ("benchmark/seconds/full", 0, ("benchmark.seconds.full = 0", "greater than 0")),
        (f"{MODEL}/fit/batch", 0, ("models.cae_strided.fit.batch = 0", "greater than or equal to 1")),
        (f"{MODEL}/fit/clip", -5.0, ("fit.clip = -5.0", "greater than 0")),
        (f"{MODEL}/fit/cooldown", 1.5, ("fit.cooldown = 1.5", "less than or equal to 1")),
        (f"{MODEL}/steps/quick", -1, ("steps.quick = -1", "greater than or equal to 0")),
        (f"{PLAYER}/lr", -0.01, ("models.cae_strided.players.autoencoder.lr = -0.01", "greater than 0")),
        (f"{PLAYER}/lr", float("nan"), ("autoencoder.lr = nan", "finite")),
        (f"{PLAYER}/lr", float("inf"), ("autoencoder.lr = inf", "finite")),
        ("seeds/quick", [0, 0], ("seeds.quick = [0, 0]", "remove the repeated one")),
        ("models/lstm/fit/time", MISSING, ("models.lstm.fit.time is missing", "add it")),
        (f"{MODEL}/players", {}, ("models.cae_strided.players", "add a player")),
        ("published/lstm/next_word/perplexity/better", "less", ("better = 'less'", "'lower' or 'higher'")),
        # names that nothing bears
        (f"{MODEL}/data", "sounds", ("models.cae_strided.data = sounds", "images, text")),
        (f"{MODEL}/file", "conv_autoencodr", ("models.cae_strided.file = conv_autoencodr", "conv_autoencoder,")),
        (f"{MODEL}/file", "../layers", ("models.cae_strided.file = '../layers'", "match")),
        ("judge/by", "resnt", ("judge.by = resnt", "resnet")),
        ("judge/of", ["gan", "gna"], ("judge.of = gna", "there are", "gan")),
        ("published/cae", {}, ("published = cae", "cae_strided")),
        (f"{PLAYER}/algorithm", "Adma", ("algorithm = 'Adma'", "'Adam'")),
        ("data/images/quick/source", "mnits", ("data.images.quick.source = mnits", "src/zoo/data/mnits.py")),
        ("benchmark/providers", ["CUDA"], ("benchmark.providers.0 = 'CUDA'", "'CUDAExecutionProvider'")),
        (f"{MODEL}/headline", "mse", ("headline = 'mse'", "match")),
        ("models/two.words", ENTRIES["gan"], ("models.two.words", "match")),
        # claims
        ("claims", MISSING, ("claims", "is missing; add it")),
        (f"{CLAIM}/says", MISSING, ("claims.maps_empty.says", "is missing; add it")),
        (f"{CLAIM}/sourse", "ours", ("claims.maps_empty.sourse = 'ours'", "no such key")),
        (f"{CLAIM}/test", [], ("claims.maps_empty.test = []", "at least 1 item")),
        (f"{CLAIM}/test", "a.b.c < 1", ("claims.maps_empty.test = 'a.b.c < 1'", "valid list")),
        (f"{CLAIM}/test", ["a.b.c <= 1"], ("claims.maps_empty.test.0 = 'a.b.c <= 1'", "such as")),
        (f"{CLAIM}/test", ["a.b.c<1"], ("test.0 = 'a.b.c<1'", "such as")),
        (f"{CLAIM}/test", ["any a.b.c < 1"], ("test.0 = 'any a.b.c < 1'", "such as")),
        (f"{CLAIM}/test", [5.0], ("test.0 = 5.0", "valid string")),
        (f"{CLAIM}/test", ["a.b.c < much"], ("a.b.c < much", "much is neither a finite number nor experiment.verb")),
        (f"{CLAIM}/test", ["a.b.c < nan"], ("nan is neither a finite number",)),
        (f"{CLAIM}/test", ["a.b.c < inf"], ("inf is neither a finite number",)),
        (f"{CLAIM}/test", ["a.mse < 1"], ("a.mse is neither a finite number nor experiment.verb.metric",)),
        (f"{CLAIM}/test", ["a.b.c.d < 1"], ("a.b.c.d is neither",)),
        (f"{CLAIM}/test", ["1 < 2"], ("1 < 2", "compares two numbers")),
        (f"{CLAIM}/test", ["lstm.validation_loss < 5"], ("lstm.validation_loss < 5", "of another experiment only")),
        (f"{CLAIM}/test", ["lstm.validation_loss < rnn_tanh.next_word.perplexity"], ("of another experiment only",)),
        (f"{CLAIM}/test", ["cae.b.c < 1"], ("claims.maps_empty.test = cae: there is no such entry", "cae_strided")),
        (f"{CLAIM}/test", ["lstm.validation_loss < rn.validation_loss"], ("claims.maps_empty.test = rn", "rnn_tanh")),
        (f"{CLAIM}/explains", ["lstm.next_word.perplexety"], ("claims.maps_empty.explains = lstm.next_word.perplexety",
                                                            "lstm.next_word.perplexity")),
        (f"{CLAIM}/explains", ["lstm"], ("claims.maps_empty.explains = lstm:", "lstm.next_word.perplexity")),
        ("claims/Two Words", {}, ("claims.Two Words", "match")),
        # published curves
        ("published_curves", MISSING, ("published_curves", "is missing; add it")),
        ("published_curves/cae", [], ("published_curves = cae", "cae_strided")),
        (f"{LOG}/player", "encoder", ("published_curves.cae_strided.player = encoder", "there are autoencoder")),
        (f"{LOG}/split", "test", ("published_curves.cae_strided.0.split = 'test'", "'training' or 'validation'")),
        (f"{LOG}/points", {}, ("published_curves.cae_strided.0.points", "at least 1 item")),
        (f"{LOG}/points", {-1: 0.5}, ("points.-1", "greater than or equal to 0")),
        (f"{LOG}/points", {0.5: 0.5}, ("points.0.5", "valid integer")),
        (f"{LOG}/points", {10: "low"}, ("points.10 = 'low'", "valid number")),
        (f"{LOG}/points", {10: float("nan")}, ("points.10 = nan", "finite")),
        (f"{LOG}/source", MISSING, ("published_curves.cae_strided.0.source", "is missing; add it")),
        ("published/lstm/next_word/perplexity/value", float("inf"), ("perplexity.value = inf", "finite")),
        # net, against the constructor of the model file
        (f"{MODEL}/net/kernal", 5, ("models.cae_strided.net.kernal", "kernel, maps, weight_deviation")),
        (f"{MODEL}/net/kernel", MISSING, ("models.cae_strided.net.kernel is missing", "add it")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, key, value, words):
    text = complaint(changed(tmp_path, key, value))
    for part in words:
        assert part in text


@pytest.mark.parametrize("name", ONE_OF_EACH.values())
def test_every_key_of_every_network_is_needed(tmp_path, name):
    """One experiment of each model file: the constructor's keys are the same for all of a file."""
    for key in ENTRIES[name]["net"]:
        text = complaint(changed(tmp_path, f"models/{name}/net/{key}", MISSING, alone(name)))
        assert text.startswith(f": models.{name}.net.{key} is missing")


def test_every_entry_of_a_model_file_has_the_same_keys():
    for name, entry in ENTRIES.items():
        assert list(entry["net"]) == list(ENTRIES[ONE_OF_EACH[entry["file"]]]["net"]), name


def test_the_first_of_several_errors_says_how_many_more(tmp_path):
    path = changed(tmp_path, "threads", 0)
    path.write_text(path.read_text() + "\nsomething: 1\n")
    assert complaint(path).endswith("(and 1 more)")


@pytest.mark.parametrize("text", ["models: [", "a: b: c", "models: *nothing", "\0", "\tmodels: 1"])
def test_damaged_yaml(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert complaint(path).startswith(" is not YAML: ")


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"models", b"\xff\xfe"])
def test_yaml_of_something_else(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    assert "a map of keys" in complaint(path) or "not YAML" in complaint(path)


def test_a_repeated_key_is_refused(root, tmp_path):
    """Of two entries of one name, the second would win without a word."""
    path = tmp_path / "params.yaml"
    path.write_text((root / "params.yaml").read_text() + "\nthreads: 2\n")
    assert "duplicate key" in complaint(path)


def test_params_yaml_is_missing(tmp_path):
    assert complaint(tmp_path / "params.yaml") == " is missing: run this from the project's top folder"


def test_unknown_experiment_and_profile():
    with pytest.raises(InputError, match=r"no experiment 'cae_stridde': add an entry, or use one of .*cae_strided"):
        params.experiment("quick", "cae_stridde")
    with pytest.raises(InputError, match=r"'fast' is unknown: use one of quick, full"):
        params.experiment("fast", "cae_strided")


# ---- the experiments, as SYSTEMS.md sets them side by side


PAIRS = [
    # published and tuned
    ("ae_dense2", "ae_dense2_tuned", "players.autoencoder.lr"),
    ("cvae", "cvae_tuned", "net.code", "net.hidden", "players.autoencoder.lr"),
    (
        "cgan", "cgan_tuned", "fit.cooldown", "net.gradient_penalty",
        *(f"players.{player}.{key}" for player in ("discriminator", "generator") for key in ("betas", "lr")),
    ),
    ("rnn_tanh", "rnn_tanh_tuned", "players.language_model.lr"),
    ("rnn_relu", "rnn_relu_tuned", "players.language_model.lr"),
    # with and without
    ("cae_zero_unpool", "cae_nearest_unpool", "net.unpooling"),
    ("cae_nearest_unpool", "cae_nearest_linear", "net.output"),
    ("cae_nearest_unpool_first", "cae_argmax_unpool", "net.unpooling"),
    ("vae_bce", "vae_mse", "net.likelihood"),
    ("vae_bce", "cvae", "net.conditional"),
    ("vae_2d", "vae_2d_naive_init", "net.initial_weights"),
    ("gan", "cgan", "net.conditional"),
    ("aae_gaussian", "aae_supervised", "net.conditional"),
    ("deep_conv_plain", "deep_conv_bn", "net.normalisation"),
    ("mlp_sigmoid", "mlp_relu", "net.activation"),
    ("mlp_sigmoid_bn", "mlp_relu_bn", "net.activation"),
    ("mlp_sigmoid", "mlp_sigmoid_bn", "net.normalisation"),
    ("mlp_relu", "mlp_relu_bn", "net.normalisation"),
    ("probe_frozen", "probe_two_rates", "players.classifier.moves"),
    ("lstm", "rnn_tanh", "net.cell"),
    ("lstm", "rnn_relu", "net.cell"),
    ("rnn_tanh_tuned", "rnn_relu_tuned", "net.cell"),
    ("lstm", "lstm_relu", "net.cell"),
    ("lstm", "lstm_1layer", "net.layers"),
    ("lstm", "lstm_3layer", "net.layers"),
    ("op_upsample_nearest", "op_upsample_transposed", "net.operator"),
    ("op_batchnorm", "op_batchnorm_folded", "net.operator"),
]  # fmt: skip


def leaves(entry):
    """{"part.key": value} of what an experiment is made of; what a player moves is one value."""
    values = {"file": entry["file"], "data": entry["data"], "start": entry["start"]}
    values |= {f"{part}.{key}": value for part in ("net", "fit") for key, value in entry[part].items()}
    for player, options in entry["players"].items():
        values |= {f"players.{player}.{key}": value for key, value in options.items()}
    return values


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_pair_differs_in_one_word(pair):
    """That word is the experiment (or several, where one was too few); a pair that trains does so equally long."""
    one, other, *words = pair
    first, second = leaves(ENTRIES[one]), leaves(ENTRIES[other])
    assert sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key)) == words
    assert ENTRIES[one]["steps"] == ENTRIES[other]["steps"]


def test_the_twin_without_unlabelled_images_has_no_more_than_it_needs():
    """What differs from aae_semi beside the word: nothing but the encoder learns, so no critic and no decoder moves."""
    first, second = leaves(ENTRIES["aae_semi"]), leaves(ENTRIES["aae_labels_only"])
    differing = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    critic = {key for key in first if key.startswith("players.critic.")}
    assert differing == {"net.unlabelled", "players.autoencoder.moves"} | critic
    assert ENTRIES["aae_semi"]["steps"]["full"] == ENTRIES["aae_labels_only"]["steps"]["full"]


@pytest.mark.parametrize(
    ("name", "epochs", "items", "batch", "time"),
    [
        ("ae_dense32", 20, 60_000, 200, 1), ("ae_dense2", 200, 55_000, 100, 1), ("cae_upsample", 20, 60_000, 200, 1),
        ("cae_denoise", 100, 60_000, 200, 1), ("lstm", 13, 929_589, 20, 20), ("lstm_medium", 39, 929_589, 20, 35),
        ("lstm_large", 55, 929_589, 20, 35),
    ],
)  # fmt: skip
def test_full_budgets_are_the_write_ups_epochs(name, epochs, items, batch, time):
    """Images over the batch; words as the tutorial counts them: rows of equal length, cut into whole stretches."""
    entry = ENTRIES[name]
    steps_per_epoch = items // batch if time == 1 else (items // batch - 1) // time
    assert (entry["fit"]["batch"], entry["fit"].get("time", 1)) == (batch, time)
    assert entry["steps"]["full"] == epochs * steps_per_epoch


# ---- comparisons


def test_a_comparison_is_read_as_it_is_written():
    mse = params.Measured("cae_strided", "reconstruct.mse")
    assert params.comparison("cae_strided.reconstruct.mse < 1e-3") == (None, mse, "<", 0.001)
    assert params.comparison("0.5 > cae_strided.reconstruct.mse") == (None, 0.5, ">", mse)
    assert params.comparison("every cae_strided.reconstruct.mse > -2") == ("every", mse, ">", -2.0)
    assert params.comparison("some cae_strided.reconstruct.mse < cae_strided.reconstruct.mse") == (
        "some",
        mse,
        "<",
        mse,
    )


def test_validation_losses_are_compared_at_equal_steps_and_nothing_else_is():
    assert params.comparison("lstm.validation_loss < rnn_tanh.validation_loss").at_equal_steps
    assert not params.comparison("lstm.training.final_loss < rnn_tanh.training.final_loss").at_equal_steps
    assert not params.comparison("lstm.next_word.perplexity < 120").at_equal_steps


# ---- model files, read as text


@pytest.fixture
def models(root, tmp_path, monkeypatch):
    """A copy of the models folder in which params looks."""
    folder = tmp_path / "zoo" / "models"
    shutil.copytree(root / "src" / "zoo" / "models", folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "src" / "zoo" / "data", folder.parent / "data")
    monkeypatch.setattr(params, "CODE", folder.parent)
    return folder


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", ("has no class Network", "add one")),
        ("class Netwrok:\n    def __init__(self, data): ...\n", ("has no class Network", "add one")),
        ("class Network:\n    pass\n", ("has no class Network with a constructor", "add one")),
        ("def Network(data): ...\n", ("has no class Network", "add one")),
        ("class Network:\n    def __init__(self, data:\n", ("gan.py line 2", "never closed")),
        ("import torch\n\n  class Network:\n", ("gan.py line 3", "unexpected indent")),
    ],
)
def test_a_model_file_without_a_network(models, source, words):
    params.load()
    (models / "gan.py").write_text(source)
    text = complaint(params.PATH)
    for part in ("models.gan.file = gan", *words):
        assert part in text


def test_a_model_file_is_not_run(models):
    """Validation takes milliseconds, without importing torch."""
    (models / "gan.py").write_text("raise SystemExit\n" + (models / "gan.py").read_text())
    params.load()


def test_a_new_key_of_a_network_is_asked_for(models):
    source = (models / "operators.py").read_text()
    assert "def __init__(self, data, operator):" in source
    (models / "operators.py").write_text(source.replace("data, operator):", "data, operator, *, factor):"))
    assert "models.op_upsample_nearest.net.factor is missing" in complaint(params.PATH)


# ---- build


FACTS = {"images": {"classes": 10}, "text": {"vocabulary": 50}}


def built(name, facts=None, **net):
    entry = ENTRIES[name]
    return params.build(entry | {"name": name, "net": entry["net"] | net}, facts or FACTS[entry["data"]])


@pytest.mark.parametrize("name", ["cae_strided", "resnet", "op_upsample_nearest"])
def test_build_gives_the_network_of_the_file_that_the_entry_names(name):
    network = built(name)
    assert type(network).__name__ == "Network"
    assert type(network).__module__ == f"zoo.models.{ENTRIES[name]['file']}"


def test_what_the_data_force_is_read_from_the_facts():
    assert built("resnet", {"classes": 7}).head.out_features == 7
    assert built("lstm", {"vocabulary": 33}, units=4).logits.out_features == 33


@pytest.mark.parametrize(
    ("name", "net", "words"),
    [
        ("op_upsample_nearest", {"operator": "upsample_cubic"}, ("models.op_upsample_nearest.net", "'upsample_cubic'")),
        ("cae_strided", {"maps": [16]}, ("models.cae_strided.net", "[16]", "expected 2")),
        ("vae_bce", {"dropout": 2.0}, ("models.vae_bce.net", "2.0", "between 0 and 1")),
        ("vae_bce", {"likelihood": "bxe"}, ("models.vae_bce.net", "'bxe'")),
        ("lstm", {"layers": 0}, ("models.lstm.net", "'layers': 0", "greater than zero")),
        ("resnet", {"depth": 3}, ("models.resnet.net", "'depth'", "unexpected keyword")),
        ("vae_bce", {"code": -2}, ("models.vae_bce.net", "'code': -2", "negative")),
        ("vae_bce", {"hidden": []}, ("models.vae_bce.net", "'hidden': []")),
        ("cae_strided", {"bias": "a"}, ("models.cae_strided.net", "'a'")),
    ],
)
def test_a_network_that_cannot_be_built(name, net, words):
    with pytest.raises(InputError) as caught:
        built(name, **net)
    text = str(caught.value)
    assert "\n" not in text
    for part in ("params.yaml", *words):
        assert part in text


def test_a_network_on_data_of_another_kind():
    with pytest.raises(InputError, match="vocabulary"):
        built("lstm", {"classes": 10})
