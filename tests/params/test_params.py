"""The typed sections of params.yaml: what a stage reads of it, and one line for each thing wrong with the file."""

import copy
from pathlib import Path

import pytest
import yaml
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo

from zoo import params
from zoo.errors import InputError
from zoo.params import benchmark, claims, data, experiments, training

VALUES = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
MODELS = VALUES["models"]
ONE_OF_EACH = {entry["file"]: name for name, entry in reversed(MODELS.items())}


@pytest.mark.parametrize("text", ["models: [", "a: b: c", "models: *nothing", "\0", "\tmodels: 1", "a: 1\na: 2"])
def test_damaged_yaml(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"^[^\n]*params.yaml is not valid YAML: [^\n]*$"):
        params.read(path)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"models", b"\xff\xfe"])
def test_yaml_of_something_else(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a map of keys|not valid YAML"):
        params.read(path)


def test_params_yaml_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^params.yaml is missing: run this from the project's top folder$"):
        params.read()


def test_dvc_and_yaml_read_the_same_values():
    assert params.read() == VALUES


# ---- what a stage reads


@pytest.mark.parametrize("profile", params.PROFILES)
def test_an_experiment_has_its_values_of_the_profile(profile):
    for name, entry in MODELS.items():
        found = experiments.experiment(VALUES, profile, name)
        assert (found.name, found.profile, found.file) == (name, profile, entry["file"])
        assert (found.steps, found.seeds) == (entry["steps"][profile], entry["seeds"][profile])
        size = {key: value for key, value in entry["size"][profile].items() if key != "labelled"}
        assert found.net == entry["net"] | size
        assert found.labelled == entry["size"][profile].get("labelled")
        assert found.fit.model_dump(exclude_unset=True) == entry["fit"]
        assert {key: player.model_dump() for key, player in found.players.items()} == entry["players"]


def test_size_adds_to_the_network_what_differs_by_profile():
    entry = MODELS["ae_dense32"] | {"size": {"quick": {"code": 8}, "full": {"code": 32, "labelled": 100}}}
    entry["net"] = {key: value for key, value in entry["net"].items() if key != "code"}
    quick, full = (experiments.experiment({"models": {"a": entry}}, profile, "a") for profile in params.PROFILES)
    assert (quick.net, quick.labelled) == (entry["net"] | {"code": 8}, None)
    assert (full.net, full.labelled) == (entry["net"] | {"code": 32}, 100)


def test_a_stage_reads_its_own_entry_alone():
    """Another entry may be faulty: no training waits for it."""
    values = {"models": {"gan": MODELS["gan"], "cgan": None}}
    assert experiments.experiment(values, "quick", "gan").name == "gan"
    with pytest.raises(InputError, match=r"models\.cgan = None: null is not allowed"):
        experiments.experiment(values, "quick", "cgan")


@pytest.mark.parametrize("values", [VALUES, {"models": None}, {"models": [1]}])
def test_unknown_experiment(values):
    with pytest.raises(InputError, match=r"^params.yaml: models has no experiment 'cae_stridde': add an entry"):
        experiments.experiment(values, "quick", "cae_stridde")


@pytest.mark.parametrize("read", [experiments.experiment, training.training, benchmark.benchmark, data.source])
def test_unknown_profile(read):
    arguments = {experiments.experiment: ("fast", "gan"), data.source: ("images", "fast")}.get(read, ("fast",))
    with pytest.raises(InputError, match=r"^profile 'fast' is unknown: use one of quick, full$"):
        read(VALUES, *arguments)


def test_the_recipe_leaves_out_what_makes_no_difference_to_weights():
    recipe = experiments.experiment(VALUES, "quick", "lstm").recipe
    decay = {"after_epochs": 4, "factor": 0.5}
    assert recipe["fit"] == {"batch": 20, "sequence_length": 20, "clip": 5.0, "decay": decay}
    assert recipe["players"] == {"language_model": {"algorithm": "SGD", "lr": 1.0, "updates": "all"}}
    assert not {"about", "headline", "seeds", "profile", "name"} & recipe.keys()


def test_a_section_in_a_profile_is_what_both_share_and_its_own():
    for profile in params.PROFILES:
        expected = VALUES["benchmark"]["both"] | VALUES["benchmark"][profile]
        assert benchmark.benchmark(VALUES, profile).model_dump() == expected


def test_settings_of_latency_name_the_cores():
    settings = benchmark.settings(VALUES, "full", 4, with_peers=True)
    assert (settings["threads"], settings["cores"]) == ([1, 4], 4)
    assert settings["batches"] == VALUES["peers"]["full"]["batches"]
    assert benchmark.settings(VALUES, "full", 1)["threads"] == [1]


def test_a_short_visit_replaces_what_it_names():
    for profile in params.PROFILES:
        usual, visit = (benchmark.settings(VALUES, profile, 4, with_peers=True, visit=of) for of in (False, True))
        own = VALUES["benchmark"]["visit"] | VALUES["peers"]["visit"]
        assert {key: visit[key] for key in own} == own
        assert {key: visit[key] for key in usual.keys() - own.keys()} == {
            key: usual[key] for key in usual.keys() - own.keys()
        }
    assert (visit["batches"], visit["cold_start"]) == ([1, 64], False)


def test_training_and_timing_have_one_precision():
    for tf32 in (False, True):
        values = VALUES | {"tf32": tf32}
        assert training.training(values, "quick").tf32 is benchmark.settings(values, "quick", 1)["tf32"] is tf32


def test_what_is_reported_follows_the_file():
    found = experiments.reported(VALUES, "full")
    assert list(found) == list(MODELS)
    assert found["gan"] == {
        "about": MODELS["gan"]["about"], "headline": None, "family": "GANs", "tuned": None, "data": "images",
        "steps": 43000, "seeds": [0, 1, 2, 3, 4],
    }  # fmt: skip


# ---- profiles


def below(values, word, path=()):
    """(path, value) of each value anywhere under a key `word`."""
    for key, value in values.items() if isinstance(values, dict) else ():
        if word in path or key == word:
            yield (*path, key), value
        yield from below(value, word, (*path, key))


def at(values, path):
    for key in path:
        values = values[key]
    return values


def test_a_changed_quick_value_makes_no_stage_of_full_run_again(root):
    """Every key under a `quick`, one after the other: what full/dvc.yaml tracks, by DVC's own reading, is as before."""
    with Repo(str(root)) as repo:
        stages = repo.stage.load_file("full/dvc.yaml")
        dependencies = [dependency for stage in stages for dependency in stage.deps]
        assert not [text for text in (*map(str, dependencies), *(stage.cmd for stage in stages)) if "quick" in text]
        tracked = {
            tuple(key.split("."))
            for dependency in dependencies
            if isinstance(dependency, ParamsDependency)
            for key in dependency.params
        }
    keys = [path for path, _ in below(VALUES, "quick")]
    assert len(keys) > 3 * len(MODELS)
    values = copy.deepcopy(VALUES)
    for path in keys:
        parent, last = at(values, path[:-1]), path[-1]
        original, parent[last] = parent[last], "changed"
        assert all(at(values, key) == at(VALUES, key) for key in tracked), path
        parent[last] = original


def test_what_is_reported_of_full_has_no_quick_value():
    values = copy.deepcopy(VALUES)
    for name, entry in MODELS.items():
        changed = {"steps": {"quick": 9}, "seeds": {"quick": [7, 8]}, "size": {"quick": {"labelled": 10}}}
        values["models"][name] = entry | {key: entry[key] | value for key, value in changed.items() if entry["players"]}
    assert experiments.reported(values, "full") == experiments.reported(VALUES, "full")
    assert experiments.reported(values, "quick") != experiments.reported(VALUES, "quick")


# ---- the experiments, as SYSTEMS.md sets them side by side


def test_every_entry_of_a_model_file_has_the_same_keys():
    for name, entry in MODELS.items():
        assert list(entry["net"]) == list(MODELS[ONE_OF_EACH[entry["file"]]]["net"]), name


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
    ("cae_nearest_unpool", "cae_nearest_logits", "net.hidden", "net.loss"),
    ("cae_nearest_unpool", "cae_nearest_unpool_first", "net.decoder_bias", "net.unpool"),
    ("cae_nearest_unpool", "cae_nearest_relu_mse", "net.hidden", "net.output"),
    ("cae_nearest_unpool_first", "cae_argmax_unpool", "net.unpooling"),
    ("vae_bce", "vae_mse", "net.likelihood"),
    ("vae_bce", "cvae", "net.conditional"),
    ("vae_2d", "vae_2d_naive_init", "net.initial_weights"),
    ("gan", "cgan", "net.conditional"),
    ("aae_gaussian", "aae_supervised", "net.conditional"),
    ("deep_conv_plain", "deep_conv_bn", "net.normalisation"),
    ("deep_conv_bn", "deep_conv_bn_manual", "net.normalisation", "net.weight_std"),
    ("mlp_sigmoid", "mlp_relu", "net.activation"),
    ("mlp_sigmoid_bn", "mlp_relu_bn", "net.activation"),
    ("mlp_sigmoid", "mlp_sigmoid_bn", "net.normalisation"),
    ("mlp_relu", "mlp_relu_bn", "net.normalisation"),
    ("probe_frozen", "probe_two_rates", "players.classifier.updates"),
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
    first, second = leaves(MODELS[one]), leaves(MODELS[other])
    assert sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key)) == words
    assert MODELS[one]["steps"] == MODELS[other]["steps"]


def test_the_twin_without_unlabelled_images_has_no_more_than_it_needs():
    """What differs from aae_semi beside the word: nothing but the encoder learns, so no critic and no decoder moves."""
    first, second = leaves(MODELS["aae_semi"]), leaves(MODELS["aae_labels_only"])
    differing = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    critic = {key for key in first if key.startswith("players.critic.")}
    assert differing == {"net.unlabelled", "players.autoencoder.updates"} | critic
    assert MODELS["aae_semi"]["steps"]["full"] == MODELS["aae_labels_only"]["steps"]["full"]


@pytest.mark.parametrize(
    ("name", "epochs", "items", "batch", "time"),
    [
        ("ae_dense32", 20, 60_000, 200, 1), ("ae_dense2", 200, 55_000, 100, 1), ("cae_upsample", 20, 60_000, 200, 1),
        ("cae_denoise", 100, 60_000, 200, 1), ("lstm", 13, 929_589, 20, 20), ("lstm_medium", 39, 929_589, 20, 35),
        ("lstm_large", 55, 929_589, 20, 35),
    ],
)  # fmt: skip
def test_full_budgets_are_the_write_ups_epochs(name, epochs, items, batch, time):
    """Images over the batch; words as the tutorial counts them: rows of equal length, cut into whole segments."""
    entry = MODELS[name]
    steps_per_epoch = items // batch if time == 1 else (items // batch - 1) // time
    assert (entry["fit"]["batch"], entry["fit"].get("sequence_length", 1)) == (batch, time)
    assert entry["steps"]["full"] == epochs * steps_per_epoch


# ---- comparisons


def test_a_comparison_is_read_as_it_is_written():
    mse = claims.Measured("cae_strided", "reconstruct.mse")
    assert claims.comparison("cae_strided.reconstruct.mse < 1e-3") == (None, mse, "<", 0.001)
    assert claims.comparison("0.5 > cae_strided.reconstruct.mse") == (None, 0.5, ">", mse)
    assert claims.comparison("every cae_strided.reconstruct.mse > -2") == ("every", mse, ">", -2.0)
    assert claims.comparison("some cae_strided.reconstruct.mse < cae_strided.reconstruct.mse") == (
        "some",
        mse,
        "<",
        mse,
    )


def test_validation_losses_are_compared_at_equal_steps_and_nothing_else_is():
    assert claims.comparison("lstm.validation_loss < rnn_tanh.validation_loss").at_equal_steps
    assert not claims.comparison("lstm.training.final_loss < rnn_tanh.training.final_loss").at_equal_steps
    assert not claims.comparison("lstm.next_word.perplexity < 120").at_equal_steps


# ---- build


FACTS = {"images": {"classes": 10}, "text": {"vocabulary": 50}}


def built(name, facts=None, **net):
    entry = MODELS[name]
    net = experiments.experiment(VALUES, "quick", name).net | net
    return experiments.build(entry["file"], net, facts or FACTS[entry["data"]], f"models.{name}.net")


@pytest.mark.parametrize("name", ["cae_strided", "resnet", "op_upsample_nearest"])
def test_build_gives_the_network_of_the_file_that_the_entry_names(name):
    network = built(name)
    assert type(network).__name__ == "Network"
    assert type(network).__module__ == f"zoo.models.{MODELS[name]['file']}"


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
