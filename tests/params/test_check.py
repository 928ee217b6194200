"""The whole check of params.yaml: every planted mistake is one line that names the key, its value, and what to do."""

import functools
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import networks
import pytest
import torch
import yaml

from zoo import code, params, signatures
from zoo.check import check
from zoo.errors import InputError
from zoo.evaluate import metrics
from zoo.graphs import verbs
from zoo.params import experiments

MISSING = object()
PARAMS = Path(__file__).parents[2] / "params.yaml"
CAE, GAN, PLAYER = "models/cae_strided", "models/gan", "models/cae_strided/players/autoencoder"
PROBE, CLAIM, LOG = "models/probe_frozen", "claims/maps_empty", "published_curves/cae_strided/0"
FIGURE = "published/lstm/next_word/perplexity"
ADAM = {"algorithm": "Adam", "lr": 1.0e-3, "updates": "all"}
PERPLEXITY = {"value": 115.9, "better": "lower", "tolerance": 0.05, "source": "a paper"}

# key, its planted value, and how the line begins after "params.yaml: "; where it begins with the key, what follows that
PLANTED = [
    # ---- sections and their keys
    ("modells", {}, ": unknown key; did you mean models?"),
    ("curve", MISSING, " is missing; add it"),
    ("curve/full", MISSING, " is missing; add it"),
    ("curve/half", {}, ": unknown key; move it into both, quick or full"),
    ("curve/quick/training_rows", 7, " is also in curve.both: remove one of them"),
    ("curve/both/rows", 3, "curve.rows = 3: unknown key"),
    ("benchmark/full/max_drift", 9, " is also in benchmark.both: remove one of them"),
    ("peers/quick", 3, " = 3: should be a map of keys to values"),
    ("device", "gpu", " = 'gpu': Input should be 'auto', 'cpu' or 'cuda'"),
    ("threads", 1.5, " = 1.5: Input should be a valid integer"),
    ("threads", True, " = True: Input should be a valid integer"),
    ("tf32", MISSING, " is missing; add it"),
    ("tf32", "no", " = 'no': Input should be a valid boolean"),
    ("benchmark/visit", MISSING, " is missing; add it"),
    ("benchmark/visit/batches", [], "benchmark.batches = []: List should have at least 1 item"),
    ("benchmark/visit/batch", [1], "benchmark.batch = [1]: unknown key"),
    ("peers/visit/runtimes", ["tvm"], "peers.runtimes.0 = 'tvm': Input should be 'torch'"),
    ("threads", 0, " = 0: Input should be greater than or equal to 1"),
    ("evaluate/batch", 0, " = 0: Input should be greater than or equal to 1"),
    ("compare/latency/drift", -0.05, " = -0.05: Input should be greater than 0"),
    ("benchmark/full/batches", [1, 1], "benchmark.batches = [1, 1]: should be distinct: remove the repeated one"),
    ("benchmark/quick/seconds", float("inf"), " = inf: should be a finite number"),
    ("benchmark/both/providers", ["CUDA"], "benchmark.providers.0 = 'CUDA': Input should be 'CPUExecutionProvider'"),
    # ---- data
    ("data/sounds", {}, " = 'sounds': Input should be 'images' or 'text'"),
    ("data/images/quick/source", MISSING, " is missing; add it"),
    ("data/images/quick/source", "fetch", " = 'fetch': unknown name; use one of digits, grammar"),
    ("data/images/quick/source", "mnits", " = 'mnits': unknown name; did you mean mnist?"),
    ("data/images/quick/tset", 360, ": unknown key; did you mean test?"),
    ("data/images/full/validation", MISSING, " is missing: mnist takes it; add it"),
    ("data/images/full/validation", -5, " = -5: should be 0 or more"),
    ("data/images/full", {"source": "ptb"}, ".source = 'ptb': these data have no classes, which models."),
    # ---- names, which DVC and a shell read
    ("models/gan; rm -rf", {}, " = 'gan; rm -rf': should be lower-case letters, digits and _"),
    ("models/two.words", {}, " = 'two.words': should be lower-case letters, digits and _"),
    ("models/$(ls)", {}, " = '$(ls)': should be lower-case letters, digits and _"),
    (f"{CAE}/about", "costs ${price}", " = 'costs ${price}': DVC interpolates ${...}"),
    (f"{CAE}/file", "../layers", " = '../layers': should be lower-case letters, digits and _"),
    # ---- what an experiment is
    (CAE, None, " = None: null is not allowed: set a value or remove the key"),
    (f"{CAE}/file", MISSING, " is missing; add it"),
    (f"{CAE}/file", "layers", " = 'layers': unknown name; use one of"),
    (f"{CAE}/file", "conv_autoencodr", " = 'conv_autoencodr': unknown name; did you mean conv_auto"),
    (f"{CAE}/data", "image", " = 'image': unknown name; did you mean images?"),
    (f"{CAE}/fit/bacth", 60, " = 60: unknown key"),
    (f"{CAE}/fit/batch", "60", " = '60': Input should be a valid integer"),
    (f"{CAE}/fit/clip", -5.0, " = -5.0: Input should be greater than 0"),
    (f"{CAE}/fit/sequence_length", 20, "models.cae_strided: fit.sequence_length counts words, but these data are"),
    (f"{CAE}/fit/decay", None, " = None: null is not allowed: set a value or remove the key"),
    (f"{CAE}/fit/cooldown", None, " = None: null is not allowed: set a value or remove the key"),
    ("models/lstm/fit/cooldown", 0.4, "models.lstm.fit: decay and cooldown are two schedules of one learning rate"),
    ("models/lstm/fit/sequence_length", MISSING, "models.lstm: fit.sequence_length is missing: the number of words"),
    (f"{CAE}/steps/quick", MISSING, " is missing; add it"),
    (f"{CAE}/steps", 100, " = 100: should be a map of keys to values"),
    (f"{CAE}/steps/quick", 0, "models.cae_strided: steps = 0 and 5000: players need at least 1 step"),
    (f"{CAE}/seeds/quick", [], " = []: List should have at least 1 item"),
    (f"{CAE}/seeds/quick", [0, 0], " = [0, 0]: should be distinct"),
    (f"{CAE}/seeds/quick", [-1], ".0 = -1: should be 0 or more"),
    (f"{CAE}/size/quick", None, " = None: null is not allowed: set a value or remove the key"),
    # ---- net and size, against the constructor
    (f"{CAE}/net", None, " = None: null is not allowed: set a value or remove the key"),
    (f"{CAE}/net/kernal", 5, ": unknown key; did you mean kernel?"),
    (f"{CAE}/net/kernel", MISSING, " is missing: conv_autoencoder takes it; add it"),
    (f"{CAE}/net/kernel", -5, " = -5: should be 0 or more"),
    (f"{CAE}/net/bias", float("nan"), " = nan: should be a finite number"),
    (f"{CAE}/size/full", {"kernel": 3}, ".kernel = 3: is also in models.cae_strided.net"),
    (f"{CAE}/size/full", {"kernal": 3}, ".kernal: unknown key; did you mean"),
    (f"{CAE}/size/full/labelled", 100, "models.cae_strided.data = 'images': gives 4 tensors per batch, conv_auto"),
    (f"{CAE}/size/quick/labelled", None, " = None: null is not allowed: set a value or remove the key"),
    ("models/aae_semi/size/full", {}, "models.aae_semi.data = 'images': gives 2 tensors per batch, semi_sup"),
    ("models/lstm/net/cell", "gru", " = 'gru': use one of lstm, lstm_relu, tanh, relu"),
    ("models/vae_bce/net/likelihood", "bxe", " = 'bxe': use one of bce, mse"),
    ("models/cae_zero_unpool/net/unpool", "last", " = 'last': use one of after, before"),
    # ---- start
    (f"{CAE}/start", "../..", " = '../..': should be data/KEY.npz or checkpoints/EXPER"),
    (f"{CAE}/start", "data/text.npz", " = 'data/text.npz': is not the data of this experiment"),
    (f"{PROBE}/start", "checkpoints/no_such", " = 'no_such': unknown name; use one of"),
    (f"{PROBE}/start", "checkpoints/gan", " = 'checkpoints/gan': gan shares no part with probe"),
    (f"{PROBE}/start", "checkpoints/probe_frozen", " = 'checkpoints/probe_frozen': is circular"),
    ("models/ae_dense32/start", "checkpoints/probe_frozen", " = 'checkpoints/probe_frozen': is circular"),
    (f"{PROBE}/seeds/full", [0, 7], "models.probe_frozen.start = 'checkpoints/ae_dense32': has no seed 7 in full: add"),
    # ---- players
    (f"{CAE}/players", {}, "models.cae_strided: steps = 60 and 5000 without players: add a player"),
    (f"{PLAYER}/lr", MISSING, " is missing; add it"),
    (f"{PLAYER}/lr", "fast", " = 'fast': Input should be a valid number"),
    (f"{PLAYER}/algorithm", "Adma", " = 'Adma': Input should be 'Adagrad"),
    (f"{PLAYER}/updates", "encoder", " = 'encoder': should be all, a list of"),
    (f"{PLAYER}/updates", {"encoder": -1.0}, ": should be all, a list of parts"),
    (f"{PLAYER}/updates", ["encoder"] * 2, " = ['encoder', 'encoder']: should be"),
    (f"{PLAYER}/updates", ["encodr"], " = 'encodr': unknown name; did you mean"),
    (f"{PLAYER}/betaz", [0.5], ": unknown key; did you mean be"),
    (f"{PLAYER}/weight_decay", -1, " = -1: should be 0 or more"),
    (f"{GAN}/players/critic", ADAM, " = 'Adam': gan yields no such loss; use one of discriminat"),
    (f"{GAN}/players/generator", MISSING, "models.gan.players = 'discriminator': gan yields a loss generator: add it"),
    ("models/op_batchnorm/players", {"operator": ADAM}, "models.op_batchnorm: steps = 0 and 0: players need"),
    # ---- metrics and verbs
    (f"{CAE}/headline", None, " = None: null is not allowed: set a value or remove the key"),
    (f"{CAE}/headline", "mse", " = 'mse': should be verb.metric"),
    (f"{CAE}/headline", "reconstruct.mze", " = 'reconstruct.mze': unknown name; did you mean"),
    (f"{CAE}/headline", "classify.accuracy", " = 'classify.accuracy': cae_strided has no verb"),
    (f"{CAE}/headline", "reconstruct.noisy_mse", " = 'reconstruct.noisy_mse': cae_strided has no"),
    (f"{CAE}/headline", "judge.coverage", " = 'judge.coverage': cae_strided is not in judge.of"),
    (f"{GAN}/headline", "judge.agreement", " = 'judge.agreement': gan is not told the label"),
    ("models/ae_dense32/headline", "decode.elbo", " = 'decode.elbo': ae_dense32 has no spread"),
    ("models/aae_labels_only/headline", "decode.elbo", " = 'decode.elbo': aae_labels_only"),
    ("models/dnn/headline", "classify.recall", " = 'classify.recall': has one value per class"),
    ("models/op_batchnorm/headline", "training.diverged", " = 'training.diverged': op_batchnor"),
    ("benchmark/both/as_written", ["aply"], " = 'aply': unknown name; did you mean apply?"),
    ("peers/quick/verbs", ["classfy"], " = 'classfy': unknown name; did you mean classify?"),
    # ---- judge
    ("judge/by", "resnt", " = 'resnt': unknown name; did you mean resnet?"),
    ("judge/by", "gan", " = 'gan': does not classify: name an experiment that can classify and encode"),
    ("judge/by", "dnn", " = 'dnn': does not encode"),
    ("judge/of", ["gna"], " = 'gna': unknown name; did you mean gan?"),
    ("judge/of", ["cae_strided"], " = 'cae_strided': draws no images (no generate or decode): remove it"),
    ("judge/samples/full", 0, " = 0: Input should be greater than or equal to 1"),
    # ---- published figures and curves
    ("published/cae", {"reconstruct": {}}, "published = 'cae': unknown name; did you mean cvae?"),
    ("published/lstn", {"next_word": {"perplexity": PERPLEXITY}}, "published = 'lstn': unknown name; did you mean lst"),
    ("published/lstm/next_word/perplexty", PERPLEXITY, " = 'next_word.perplexty': unkno"),
    ("published/dnn", {"next_word": {"perplexity": PERPLEXITY}}, ".next_word.perplexity = 'next_word.perplex"),
    (f"{FIGURE}/value", "115", " = '115': Input should be a valid number"),
    (f"{FIGURE}/value", float("inf"), " = inf: should be a finite number"),
    (f"{FIGURE}/better", "less", " = 'less': Input should be 'lower' or 'higher'"),
    (f"{FIGURE}/better", "higher", " = 'higher': next_word.perplexity is better"),
    ("published_curves/cae", [], "published_curves = 'cae': unknown name"),
    (f"{LOG}/player", "encoder", " = 'encoder': unknown name; did you mean autoencode"),
    (f"{LOG}/split", "test", " = 'test': Input should be 'training' or 'validation'"),
    (f"{LOG}/points", {}, ": Dictionary should have at least 1 item"),
    (f"{LOG}/points", {-1: 0.5}, ".-1 = -1: Input should be greater than or equal"),
    # ---- claims
    (f"{CLAIM}/sourse", "ours", " = 'ours': unknown key"),
    (f"{CLAIM}/test", [], " = []: List should have at least 1 item"),
    (f"{CLAIM}/test", ["a.b.c <= 1"], ".0 = 'a.b.c <= 1': should be a comparison such as"),
    (f"{CLAIM}/test", ["a.b.c < inf"], ".0 = 'a.b.c < inf': inf is neither a finite number nor"),
    (f"{CLAIM}/test", ["1 < 2"], ".0 = '1 < 2': compares two numbers"),
    (f"{CLAIM}/test", ["cae.encode.spread < 1"], " = 'cae': unknown name; did you mean"),
    (f"{CLAIM}/test", ["gan.encode.spread < 1"], " = 'encode.spread': gan has no verb encode; it has"),
    (f"{CLAIM}/test", ["lstm.encode.spred < 1"], " = 'encode.spred': unknown name; did you mean enc"),
    (f"{CLAIM}/test", ["lstm.validation_loss < 5"], ".0 = 'lstm.validation_loss < 5': validation_lo"),
    (f"{CLAIM}/test", ["lstm.validation_loss < op_batchnorm.validation_loss"], " = 'training.final_"),
    (f"{CLAIM}/explains", ["lstm.next_word.perplexety"], " = 'lstm.next_word.perplexety': unknow"),
    ("claims/Two Words", {}, " = 'Two Words': should be lower-case letters, digits and _"),
]  # fmt: skip


def unshared(values):
    """A copy in which no two keys hold the same object, as anchors of YAML do: a change is one change."""
    if isinstance(values, dict):
        return {key: unshared(value) for key, value in values.items()}
    return [unshared(value) for value in values] if isinstance(values, list) else values


@functools.cache
def everything():
    return yaml.load(PARAMS.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@pytest.fixture
def _read_once(monkeypatch):
    """What source text says is the same for every planted mistake."""
    for function in (signatures.Network, signatures.optimiser, signatures.source):
        monkeypatch.setattr(signatures, function.__name__, remembered(function))


@functools.cache
def remembered(function):
    return functools.cache(function)


def planted(key, value):
    """params.yaml as plain values, with `value` at `key` ("a/b/c"), or without that key."""
    values = place = unshared(everything())
    *parents, last = key.split("/")
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return values


def complaint(monkeypatch, values):
    """The line that the check gives of these values, without "params.yaml: "; None where it finds nothing wrong."""
    monkeypatch.setattr(params, "read", lambda path: values)
    try:
        check()
    except InputError as error:
        text = str(error)
        assert "\n" not in text
        assert text.startswith("params.yaml: ")
        return text.removeprefix("params.yaml: ")


@pytest.mark.parametrize(("key", "value", "line"), PLANTED, ids=lambda part: part if isinstance(part, str) else "")
@pytest.mark.usefixtures("_read_once")
def test_a_planted_mistake_is_named(monkeypatch, key, value, line):
    text = complaint(monkeypatch, planted(key, value))
    assert text is not None
    assert text.startswith(key.replace("/", ".") + line if line[0] in " :." else line)


def test_the_check_does_without_torch():
    source = "import sys; from zoo.check import check; check(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source]).returncode == 0


def test_the_check_returns_the_experiments_in_order():
    assert list(check()) == list(everything()["models"])


def test_a_repeated_key_is_refused(root, tmp_path):
    """Of two entries of one name, the second would win without a word."""
    path = tmp_path / "params.yaml"
    path.write_text((root / "params.yaml").read_text() + "\nthreads: 2\n")
    with pytest.raises(InputError, match="duplicate key"):
        check(path)


def test_the_first_of_several_errors_says_how_many_more(monkeypatch):
    values = planted("evaluate/batch", 0)
    values["evaluate"]["importance_samples"] = 0
    assert complaint(monkeypatch, values).endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("class Netwrok: ...", "params.yaml: models.gan.file = 'gan': unknown name; did you mean infogan?"),
        ("def Network(data): ...", "gan.py has no class Network: add one"),
        ("class Network:\n    def __init__(self, data:", "gan.py, line 2: '(' was never closed"),
        (
            "class Network:\n    def __init__(self, data, *, depth): ...",
            "params.yaml: models.gan.net.noise: unknown key",
        ),
    ],
)
def test_a_changed_model_file(changed, monkeypatch, source, line):
    path = changed / "src/zoo/models/gan.py"
    path.write_text(source, encoding="utf-8")
    monkeypatch.setattr(code, "units", functools.partial(code.units, changed))
    monkeypatch.setattr(signatures, "SOURCES", changed / "src" / "zoo")
    with pytest.raises(InputError) as error:
        check()
    assert str(error.value).startswith(line)


def test_a_model_file_is_read_and_not_run(changed):
    path = changed / "src/zoo/models/gan.py"
    path.write_text("raise SystemExit\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-c", "from zoo.cli import main; main()", "check"]
    environment = os.environ | {"PYTHONPATH": str(changed / "src")}
    done = subprocess.run(command, env=environment, cwd=changed, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing wrong" in done.stdout


@pytest.fixture
def changed(root, tmp_path):
    """A copy of the code and of params.yaml."""
    shutil.copytree(root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PARAMS, tmp_path)
    return tmp_path


# ---- source text against what it defines, imported


@pytest.mark.parametrize("name", networks.MODELS)
def test_a_model_file_reads_as_it_runs(name):
    network, entry = networks.build_small(name), experiments.in_profile(name, networks.ENTRIES[name], "quick")
    found = signatures.Network(entry.file)
    assert found.keys == set(inspect.signature(type(network)).parameters) - {"data"}
    assert found.verbs(entry.net) == verbs.of(network)
    for verb in verbs.of(network):
        assert found.takes_label(verb, entry.net) == ("label" in verbs.inputs(network, verb)), verb
    assert set(found.parts) >= {part for part, _ in network.named_children()} - {"loss"}
    if entry.players:
        assert found.batch == len(networks.batch_for(name))
        yielded = set(networks.losses(network, networks.batch_for(name)))
        assert yielded == set(found.losses) if found.always else yielded <= set(found.losses)


@pytest.mark.parametrize("algorithm", ["Adagrad", "Adam", "AdamW", "NAdam", "RMSprop", "SGD"])
def test_options_of_optimisers_are_torch_s(algorithm):
    expected = set(inspect.signature(getattr(torch.optim, algorithm)).parameters) - {"params"}
    assert signatures.optimiser(algorithm) == expected


def test_metrics_that_need_something_name_an_option_of_a_network():
    keys = {key for entry in networks.ENTRIES.values() for key in entry.net}
    assert {metric.needs for metric in metrics.known_metrics().values() if metric.needs} <= keys | {"label"}
