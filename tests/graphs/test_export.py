"""Every kind of graph there is: compared with its network here, not by the code that made it."""

import copy
import functools
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import networks
import numpy
import onnx
import onnxruntime
import pytest
import torch
from networks import MODELS
from test_on_cuda import left_to_the_cpu
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import zoo
from zoo.errors import InputError
from zoo.graphs import export as onnx_export
from zoo.graphs import identity, interface, sessions, verbs
from zoo.params import experiments
from zoo.records import parity
from zoo.train import checkpoints

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("exporter")
ROOT = Path(__file__).parents[2]
COPIED = ("networks", "graphs/test_export", "graphs/test_on_cuda")  # what the tests of this file import
aten = torch.ops.aten
LARGE_STATES = {"initial_range": 0.4}
LARGE_WEIGHTS = {"weight_std": 0.1}

ONE_LAYER, THREE_LAYERS = {"layers": 1}, {"layers": 3}

# Experiments between whose graphs every operator of every experiment occurs, in a small size: an export takes a second
# and more. All verbs, or those named.
STRUCTURES = {
    "ae_dense32": {},
    "cae_upsample": {},
    "cae_strided": {},
    "cae_zero_unpool": {},
    "cae_argmax_unpool": {"verbs": ["reconstruct"]},
    "vae_bce": {},
    "cvae": {},
    "vae_2d": {},
    "cgan": {},
    "infogan": {"net": {"gradient_penalty": 0.0}, "verbs": ["generate"]},  # its losses need no gradient then
    "aae_gaussian": {"net": LARGE_WEIGHTS, "verbs": ["generate"]},
    "aae_supervised": {"net": LARGE_WEIGHTS, "verbs": ["generate"]},
    "aae_semi": {"verbs": ["reconstruct", "encode", "classify"]},
    "deep_conv_plain": {},
    "deep_conv_bn": {"net": THREE_LAYERS},
    "deep_conv_bn_manual": {"net": THREE_LAYERS},
    "mlp_sigmoid": {},
    "mlp_relu_bn": {},
    "resnet": {"net": {"bottlenecks": 1}},
    "lstm": {"net": LARGE_STATES},
    "lstm_relu": {"net": LARGE_STATES | ONE_LAYER},
    "rnn_tanh": {"net": LARGE_STATES | ONE_LAYER},
    "rnn_relu": {"net": LARGE_STATES},
    **{name: {} for name, entry in MODELS.items() if entry["file"] == "operators"},
}
FACTS = {
    "images": networks.FACTS["images"] | {"source": "digits", "sha256": "1" * 64, "licence": "CC BY 4.0"},
    "text": networks.FACTS["text"] | {"source": "grammar", "sha256": "2" * 64, "licence": "none"},
}


def net_of(name):
    return networks.small_net(name) | STRUCTURES.get(name, {}).get("net", {})


def record(name):
    facts = FACTS[MODELS[name]["data"]]
    return {
        "experiment": name, "profile": "quick", "seed": 3, "data": facts, "params_sha256": "3" * 64,
        "diverged_at_step": None,
        "recipe": {"file": MODELS[name]["file"], "net": net_of(name)},
    }  # fmt: skip


def images(source, batch, size=28):
    """Random pixels at a brightness of each image's own: images that are all alike make batch statistics touchy."""
    return (source.random((batch, 1, size, size)) * source.random((batch, 1, 1, 1))).astype(numpy.float32)


def widen(layer, inputs, output):
    """Scale a layer so that its outputs vary by 1 from image to image (Mishkin & Matas 2015)."""
    scale = 1 / output.std(0).mean()
    for weight in layer.parameters():
        weight.mul_(scale)
    return output * scale


def network_of(name):
    """The network of an experiment, no weight and no statistic of which is trivial.

    As initialised, biases are 0 and the deep networks' answers too small to depend on the image: a graph that left
    something out would be as good. Here biases are drawn, layers are widened, and statistics are of random images.
    """
    entry, source = MODELS[name], numpy.random.default_rng(0)
    torch.manual_seed(0)
    network = experiments.build(entry["file"], net_of(name), FACTS[entry["data"]])
    with torch.no_grad():
        for key, weight in network.named_parameters():
            if "bias_hh" in key:
                continue  # torch's second bias is always 0
            if "bias" in key:
                weight.normal_(0, 0.1)
            elif weight.dim() == 1:
                weight.uniform_(0.5, 1.5)
        for layer in network.modules():
            layer.momentum = 0.5  # of batch normalisation: four batches are statistics enough
        if entry["data"] == "images" and entry["players"]:
            linear = [
                part for part in network.modules() if isinstance(part, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))
            ]
            hooks = [layer.register_forward_hook(widen) for layer in linear]
            for turn in range(5):
                batch = torch.from_numpy(images(source, 16)), torch.arange(16) % 10
                list(network.train().losses(batch * 2 if "labelled" in entry["size"]["quick"] else batch))
                for hook in hooks * (turn == 0):
                    hook.remove()
    return network.eval()


@functools.cache
def exported(name):
    """(network, {verb: model}) of an experiment, made once."""
    network = network_of(name)
    return network, {verb: onnx_export.export(network, verb, record(name)) for verb in verbs_of(name)}


def write_all(names, folder):
    """Export experiments of one verb to `folder`: what the process of `test_equal_bytes_in_another_folder` runs."""
    for name in names:
        (model,) = exported(name)[1].values()
        (Path(folder) / f"{name}.onnx").write_bytes(onnx_export.content(model))


def verbs_of(name):
    module = importlib.import_module(f"zoo.models.{MODELS[name]['file']}")
    known = [verb for verb in verbs.VERBS if verb in vars(module.Network)]
    return STRUCTURES[name].get("verbs", known)


CASES = [(name, verb) for name in STRUCTURES for verb in verbs_of(name)]
every_verb = pytest.mark.parametrize(("name", "verb"), CASES, ids=["-".join(case) for case in CASES])


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def shape_of(value):
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def shapes(values):
    return {value.name: shape_of(value) for value in values}


def expected_inputs(name, verb, net):
    """The table of verbs in the design, filled in from params.yaml."""
    file = MODELS[name]["file"]
    size = 9 if name == "op_odd_transposed" else 28
    image, label = {"image": ["batch", 1, size, size]}, {"label": ["batch"]}
    condition = label if net.get("conditional") else {}
    if verb == "next_word":
        state = ["batch", net["layers"], net["units"]]
        return {"words": ["batch", "time"], "hidden": state} | ({"cell": state} if "lstm" in net["cell"] else {})
    if file == "infogan" and verb == "generate":
        return {"noise": ["batch", net["noise"]]} | label | {"code": ["batch", net["code"]]}
    if verb == "generate":
        return {"noise": ["batch", net.get("noise", net.get("code"))]} | condition
    if verb == "decode" and file == "semi_supervised_aae":
        return {"code": ["batch", net["style"]]} | label
    if verb == "decode":
        return {"code": ["batch", net["code"]]} | condition
    # The encoder of an adversarial autoencoder is not told the digit: its code is the style alone.
    told = ("reconstruct",) if file == "adversarial_autoencoder" else ("reconstruct", "encode")
    return image | (condition if verb in told else {})


def expected_outputs(name, verb):
    net, file, picture = net_of(name), MODELS[name]["file"], ["batch", 1, 28, 28]
    if verb == "next_word":
        state = ["batch", net["layers"], net["units"]]
        ends = {"next_hidden": state} | ({"next_cell": state} if "lstm" in net["cell"] else {})
        return {"logits": ["batch", "time", 30]} | ends
    if verb == "encode" and file == "variational":
        return {key: ["batch", net["code"]] for key in ("mean", "log_variance")}
    if verb == "encode":
        code = {
            "conv_autoencoder": lambda: [net["maps"][1], 7, 7],
            "unpool_autoencoder": lambda: [net["maps"][1], 7, 7],
            "upsampling_autoencoder": lambda: [net["maps"][2], 4, 4],
            "resnet": lambda: [net["widths"][-1] * net["expansion"]],
            "semi_supervised_aae": lambda: [net["style"]],
        }
        return {"code": ["batch", *code.get(file, lambda: [net["code"]])()]}
    if verb == "apply":
        shape = {
            "odd_transposed": (1, 9, 9), "unpool_argmax": (1, 28, 28), "batchnorm": (8, 26, 26),
            "batchnorm_folded": (8, 26, 26),
        }  # fmt: skip
        return {"result": ["batch", *shape.get(net["operator"], (1, 56, 56))]}
    return {
        "reconstruct": {"reconstruction": picture}, "decode": {"image": picture}, "generate": {"image": picture},
        "classify": {"logits": ["batch", 10]},
    }[verb]  # fmt: skip


def draw(inputs, batch, time):
    """{input name: random array} for the axes that the graph itself declares."""
    source, values = numpy.random.default_rng(7), {}
    for value in inputs:
        shape = [{"batch": batch, "time": time}.get(axis, axis) for axis in shape_of(value)]
        if value.name in ("label", "words"):
            values[value.name] = source.integers(0, {"label": 10, "words": 30}[value.name], shape)
        elif value.name == "image":
            values[value.name] = images(source, batch, shape[-1])
        else:
            values[value.name] = source.standard_normal(shape).astype(numpy.float32)
    return values


def without_near_ties(network, verb, images, batch):
    """The first `batch` of the images float32 [n, 1, 28, 28] of which the network knows where its maxima are.

    Where the two largest of four values agree to some units of float32's last place, rounding decides, and another
    processor decides otherwise.
    """
    gaps, pool = [], nn.functional.max_pool2d

    def watched(maps, kernel_size, return_indices=False):
        windows = nn.functional.unfold(maps.flatten(0, 1)[:, None], kernel_size, stride=kernel_size)
        first, second = windows.topk(2, dim=1).values.unbind(1)
        gap = (first - second).where(first != second, torch.inf)  # equal zeros stay equal
        gaps.append((gap / maps.abs().max()).view(len(maps), -1).amin(1))
        return pool(maps, kernel_size, return_indices=return_indices)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(nn.functional, "max_pool2d", watched)
        getattr(copy.deepcopy(network).double(), verb)(torch.from_numpy(images).double())
    clear = images[(torch.stack(gaps).amin(0) > 3e-6).numpy()][:batch]
    assert len(clear) == batch
    return clear


# ---- which graphs there are


class Operators(TorchDispatchMode):
    """Keeps the operators that run, with their options: those of convolutions and pooling include numbers."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        windows = (list,) if operator.overloadpacket in (aten.convolution, aten.max_pool2d_with_indices) else ()
        options = [repr(value) for value in args if value is None or isinstance(value, (bool, float, str, *windows))]
        self.seen.add((operator, *options))
        return operator(*args, **(kwargs or {}))


def operators(network, verb):
    """Those that a verb runs."""
    network, values = network.to("meta").eval(), networks.example(network, verb)
    with torch.device("meta"), torch.no_grad(), Operators() as mode:
        getattr(network, verb)(**values)
    return mode.seen


@functools.cache
def operators_in_graphs():
    """{(verb, its inputs): the operators of its graphs that are tested here}."""
    found = {}
    for name, verb in CASES:
        network = networks.build(name, **net_of(name))
        found.setdefault((verb, *verbs.inputs(network, verb)), set()).update(operators(network, verb))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_every_operator_is_in_a_graph_that_is_tested(name):
    """Of the same verb with the same inputs. An experiment for which this fails has a place in STRUCTURES."""
    network = networks.build(name)
    for verb in verbs.of(network):
        assert not operators(network, verb) - operators_in_graphs()[verb, *verbs.inputs(network, verb)], verb


@pytest.mark.parametrize("name", MODELS)
def test_every_graph_has_the_inputs_of_the_table(name):
    network = networks.build_small(name)
    for verb in verbs.of(network):
        found = {key: list(tensor.axes) for key, tensor in verbs.inputs(network, verb).items()}
        expected = expected_inputs(name, verb, networks.small_net(name))
        assert list(found.items()) == list(expected.items()), verb


@every_verb
def test_a_graph_equals_its_network(name, verb):
    """At three batches (and three times): shapes, finiteness, and 1e-5 times the larger of 1 and the largest output."""
    network, models = exported(name)
    running, differences, sizes, spreads = session(models[verb]), [], [], []
    for batch, time in itertools.product((1, 3, 64), (1, 7, 35) if verb == "next_word" else (1,)):
        feeds = draw(models[verb].graph.input, 3 * batch + 20 if "argmax" in name else batch, time)
        if "argmax" in name:
            feeds["image"] = without_near_ties(network, verb, feeds["image"], batch)
        with torch.no_grad():
            result = getattr(network, verb)(**{key: torch.from_numpy(value) for key, value in feeds.items()})
        wanted = list(result.values()) if isinstance(result, dict) else [result]
        for theirs, ours in zip(running.run(None, feeds), (value.numpy() for value in wanted), strict=True):
            assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
            assert numpy.isfinite(theirs).all()
            assert numpy.isfinite(ours).all()
            differences.append(numpy.abs(theirs - ours).max())
            sizes.append(numpy.abs(ours).max())
            spreads.append(ours.std(0).max())
    assert max(differences) <= 1e-5 * max(1, *sizes)
    assert max(spreads) > 1e-2, "an answer that does not depend on its input proves nothing"


@every_verb
def test_names_axes_and_opset(name, verb):
    model = exported(name)[1][verb]
    assert list(shapes(model.graph.input).items()) == list(expected_inputs(name, verb, net_of(name)).items())
    assert shapes(model.graph.output) == expected_outputs(name, verb)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 20
    assert not model.functions
    onnx.checker.check_model(model, full_check=True)


@every_verb
def test_metadata(name, verb):
    facts = FACTS[MODELS[name]["data"]]
    metadata = {entry.key: entry.value for entry in exported(name)[1][verb].metadata_props}
    assert json.loads(metadata.pop("facts")) == facts
    assert json.loads(metadata.pop("run")) == record(name)
    del metadata["interface"]  # see below
    assert metadata == {
        "experiment": name, "verb": verb, "profile": "quick", "seed": "3",
        "data": facts["source"], "data_sha256": facts["sha256"], "data_licence": facts["licence"],
        "params_sha256": "3" * 64,
    }  # fmt: skip


@every_verb
def test_no_path_in_a_graph(name, verb):
    model = exported(name)[1][verb]
    content = model.SerializeToString()
    for place in (str(ROOT.resolve()), str(Path.home()), sys.prefix, 'File "', "site-packages", "Traceback"):
        assert place.encode() not in content
    words = copy.deepcopy(model)
    for graph in identity.nested(words.graph):
        del graph.initializer[:]  # three bytes of a weight may spell anything
        for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
            assert not part.metadata_props
            assert not part.doc_string
    assert b".py" not in words.SerializeToString()


def test_equal_bytes_again():
    network, models = exported("ae_dense32")
    again = onnx_export.export(network, "decode", record("ae_dense32"))
    assert again.SerializeToString(deterministic=True) == models["decode"].SerializeToString(deterministic=True)


def test_equal_bytes_in_another_folder(tmp_path):
    """Dense and normalised, as written, recurrent as a loop: by a copy elsewhere.

    Its exporter is as warm as that of a stage that `zoo repro` forks, which needs a process without other threads.
    """
    names = ["mlp_relu_bn", "op_batchnorm", "rnn_relu"]
    shutil.copytree(ROOT / "src", tmp_path / "elsewhere" / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("params.yaml", "constraints.txt", "stages/_exporter.py", *(f"tests/{file}.py" for file in COPIED)):
        (tmp_path / "elsewhere" / file).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / file, tmp_path / "elsewhere" / file)
    code = (
        "import runpy, sys, threading\n"
        "runpy.run_path(sys.argv.pop(), run_name='__main__')\n"
        "assert (threading.active_count(), 'zoo' in sys.modules) == (1, False)\n"
        "import test_export\n"
        "assert test_export.zoo.__file__.startswith(sys.argv[1]), test_export.zoo.__file__\n"
        "test_export.write_all(sys.argv[2:], '.')\n"
    )
    folders = [str(tmp_path / "elsewhere" / folder) for folder in ("src", "tests", "tests/graphs")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "PYTHONHASHSEED": "1"}
    (tmp_path / "at").mkdir()
    exporter = str(tmp_path / "elsewhere" / "stages" / "_exporter.py")
    command = [sys.executable, "-c", code, str(tmp_path), *names, exporter]
    subprocess.run(command, cwd=tmp_path / "at", env=environment, check=True)
    assert not zoo.__file__.startswith(str(tmp_path))
    for name in names:
        (model,) = exported(name)[1].values()
        assert (tmp_path / "at" / f"{name}.onnx").read_bytes() == model.SerializeToString(deterministic=True)


def operations(name, verb):
    return [node.op_type for node in exported(name)[1][verb].graph.node]


@pytest.mark.parametrize("name", [name for name in STRUCTURES if MODELS[name]["file"] == "recurrent"])
def test_recurrent_layers_are_single_nodes(name):
    """One a layer, with ONNX's default activations or, with ReLU, a Scan over few operators; nothing was unrolled."""
    kind = {"lstm": "LSTM", "lstm_relu": "Scan", "tanh": "RNN", "relu": "Scan"}[MODELS[name]["net"]["cell"]]
    nodes = [node for node in exported(name)[1]["next_word"].graph.node if node.op_type in ("LSTM", "RNN", "Scan")]
    assert [node.op_type for node in nodes] == [kind] * net_of(name)["layers"]
    for node in nodes:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if kind == "Scan":
            within = [part.op_type for part in attributes["body"].node]
            assert within.count("Gemm") == 1
            assert set(within) <= {"Gemm", "Split", "Sigmoid", "Relu", "Mul", "Add", "Identity"}
            assert not attributes["body"].initializer
        else:
            assert attributes == {"hidden_size": net_of(name)["units"]}
    assert not {"Loop", "If", "Sigmoid", "Tanh", "Relu"} & set(operations(name, "next_word"))


@pytest.mark.parametrize("name", [name for name in STRUCTURES if MODELS[name]["file"] == "recurrent"])
def test_a_graph_carries_its_states(name):
    """Nine words at once, or in three calls each of which begins where the last ended: the same logits and states."""
    model = exported(name)[1]["next_word"]
    running, feeds, pieces = session(model), draw(model.graph.input, 2, 9), []
    whole = running.run(None, feeds)
    names = [value.name for value in model.graph.input][1:]
    state = [feeds[name] for name in names]
    for piece in numpy.split(feeds["words"], 3, axis=1):
        logits, *state = running.run(None, {"words": piece} | dict(zip(names, state, strict=True)))
        pieces.append(logits)
    for found, expected in zip([numpy.concatenate(pieces, 1), *state], whole, strict=True):
        numpy.testing.assert_allclose(found, expected, atol=1e-5)


@every_verb
def test_batch_normalisation_is_folded(name, verb):
    """But in the graph whose subject it is."""
    assert operations(name, verb).count("BatchNormalization") == (name == "op_batchnorm")


@pytest.mark.parametrize("name", ["deep_conv_plain", "deep_conv_bn"])
def test_a_deep_network_is_convolutions_and_little_else(name):
    found = operations(name, "classify")
    assert found.count("Conv") == net_of(name)["layers"]
    assert found.count("Gemm") == 2
    assert set(found) <= {"Conv", "Gemm", "Relu", "Pad", "Reshape", "Flatten"}


def test_written_out_normalisation_takes_no_moments_of_the_batch():
    """In the graph the moving averages are constants: an image's answer does not depend on its neighbours."""
    found = operations("deep_conv_bn_manual", "classify")
    assert found.count("Conv") == net_of("deep_conv_bn_manual")["layers"]
    assert not {"ReduceMean", "BatchNormalization"} & set(found)


@every_verb
def test_no_node_is_left_to_the_cpu(name, verb):
    graph = exported(name)[1][verb].graph
    assert not left_to_the_cpu(graph)
    # It may be there, but a graph that computes sizes is one step from a node on the CPU.
    assert not {"Shape", "Size", "NonZero"} & {node.op_type for node in graph.node}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("op_upsample_nearest", ["Resize"]), ("op_upsample_transposed", ["ConvTranspose"]),
        ("op_unpool_zero", ["ConvTranspose"]), ("op_batchnorm", ["Conv", "BatchNormalization"]),
        ("op_batchnorm_folded", ["Conv"]),
    ],
)  # fmt: skip
def test_an_operator_is_the_nodes_that_it_is_about(name, expected):
    assert operations(name, "apply") == expected


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [("op_upsample_nearest", "op_upsample_transposed", 0), ("op_batchnorm", "op_batchnorm_folded", 2e-6)],
)
def test_graphs_of_twin_operators_give_the_same(one, other, difference):
    models = [exported(name)[1]["apply"] for name in (one, other)]
    feeds = draw(models[0].graph.input, 5, 1)
    results = [session(model).run(None, feeds)[0] for model in models]
    assert results[0].std() > 0.1
    assert numpy.abs(results[0] - results[1]).max() <= difference


# ---- the edges of the inputs


def described(name, verb):
    metadata = {entry.key: entry.value for entry in exported(name)[1][verb].metadata_props}
    return json.loads(metadata["interface"])


@every_verb
def test_the_interface_is_the_graph_s_own(name, verb):
    """Types and axes as ONNX has them; every input, output and axis has its meaning, and integers their range."""
    model, found, facts = exported(name)[1][verb], described(name, verb), FACTS[MODELS[name]["data"]]
    for values, entries in ((model.graph.input, found["inputs"]), (model.graph.output, found["outputs"])):
        assert {key: one["axes"] for key, one in entries.items()} == shapes(values)
        types = [onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name for value in values]
        assert [one["type"] for one in entries.values()] == types
        assert all(one["meaning"] and one["unit"] for one in entries.values())
    symbolic = {axis for one in found["inputs"].values() for axis in one["axes"] if isinstance(axis, str)}
    assert {axis: one["least"] for axis, one in found["axes"].items()} == dict.fromkeys(symbolic, 1)
    ranges = {key: one["range"] for key, one in found["inputs"].items() if "range" in one}
    assert ranges == {key: {"label": [0, 9], "words": [0, 29], "image": [0, 1]}[key] for key in ranges}
    assert {"label", "words", "image"} & found["inputs"].keys() == ranges.keys()
    for one in (found["inputs"].get("label", {}), found["outputs"]["logits"] if verb == "classify" else {}):
        assert one.get("names", [*"0123456789"]) == [*"0123456789"]
    if "words" in found["inputs"]:
        assert found["inputs"]["words"]["word_list_sha256"] == facts["word_list_sha256"]


def test_the_prior_of_a_code_is_that_of_the_training():
    """Standard normal but where params.yaml says otherwise; an autoencoder's code has none."""
    deviations = {
        name: described(name, "decode")["inputs"]["code"].get("deviation") for name, verb in CASES if verb == "decode"
    }
    expected = {"ae_dense32": None, "aae_supervised": MODELS["aae_supervised"]["net"]["prior_std"]}
    assert deviations == {name: expected.get(name, 1.0) for name in deviations}


def at_an_end(name, one, feeds, end):
    """An input with all its values at the lower or upper end of its range, as it was drawn where there is none."""
    return numpy.full_like(feeds[name], one["range"][end]) if "range" in one else feeds[name]


@every_verb
def test_a_graph_equals_its_network_at_the_ends(name, verb):
    """Batch and time at their least, one, and large; integers and images at either end of their range.

    To 1e-4: of an image without contrast nineteen normalised layers amplify the rounding of the first.
    """
    (network, models), found = exported(name), described(name, verb)
    running, texts = session(models[verb]), verb == "next_word"
    for batch, time, end in [(1, 1, 0), (1, 1, 1), (100, 1, 1), *[(2, 150, 1)] * texts]:
        feeds = interface.draw(found["inputs"], {"batch": batch, "time": time})
        feeds = {key: at_an_end(key, one, feeds, end) for key, one in found["inputs"].items()}
        interface.check(found, feeds, name)
        with torch.no_grad():
            result = getattr(network, verb)(**{key: torch.from_numpy(value) for key, value in feeds.items()})
        expected = list(result.values()) if isinstance(result, dict) else [result]
        for (key, one), theirs, ours in zip(found["outputs"].items(), running.run(None, feeds), expected, strict=True):
            assert numpy.abs(theirs - ours.numpy()).max() <= 1e-4 * max(1, ours.abs().max()), (batch, time, end, key)
            low, high = one.get("range", (-numpy.inf, numpy.inf))
            assert low <= theirs.min() <= theirs.max() <= high


def wrong_feeds(found):
    """Yield (input, feeds) of what a graph does not take; the input is the one that is wrong, None for any."""
    good = interface.draw(found["inputs"], {"batch": 2, "time": 3})
    for axis in found["axes"]:
        yield None, interface.draw(found["inputs"], {"batch": 2, "time": 3} | {axis: 0})
    yield "unknown", good | {"unknown": numpy.zeros(2)}
    for key, one in found["inputs"].items():
        value = good[key]
        yield key, {other: good[other] for other in good if other != key}
        yield key, good | {key: value.astype(numpy.float64)}
        yield key, good | {key: value[None]}
        yield key, good | {key: value.tolist()}
        for place in [place for place, axis in enumerate(one["axes"]) if isinstance(axis, int)]:
            yield key, good | {key: value.repeat(2, place)}
        if len(good) > 1:
            yield None, good | {key: value.repeat(2, one["axes"].index("batch"))}
        if value.dtype == numpy.int64:
            for outside in (one["range"][0] - 1, one["range"][1] + 1):
                changed = value.copy()
                changed.flat[-1] = outside
                yield key, good | {key: changed}


@every_verb
def test_our_sessions_refuse_what_a_graph_does_not_take(name, verb, tmp_path):
    """In one line that names graph and input. Run, some would end the process, and others be taken in silence."""
    path = tmp_path / f"{verb}.onnx"
    path.write_bytes(onnx_export.content(exported(name)[1][verb]))
    opened = sessions.open_session(path)
    for key, feeds in wrong_feeds(described(name, verb)):
        for call in (sessions.host, sessions.bound, lambda session, feeds: sessions.run_batched(session, feeds, 2)):
            with pytest.raises(InputError) as caught:
                call(opened, feeds)
            assert str(caught.value).startswith(f"quick/{name}/3/{verb}: input {key or ''}")
            assert len(str(caught.value).splitlines()) == 1


# ---- what is refused


class Refused(nn.Module):
    """A classifier as `rule` has it."""

    def __init__(self, rule):
        super().__init__()
        self.rule, self.layer, self.cells = rule, nn.Linear(784, 10), nn.RNN(28, 10)

    def classify(self, image):
        return self.rule(self, image)


@pytest.mark.parametrize(
    "rule",
    [
        lambda self, image: self.layer(image.flatten(1)) + torch.zeros(3, 10),
        lambda self, image: self.layer(image.reshape(3, 784)),
        lambda self, image: self.layer(image.flatten(1)) * (2.0 if len(image) == 3 else 1.0),
        lambda self, image: self.layer(image[:3].reshape(3, 784)),
    ],
    ids=["added", "reshaped", "asked", "cut"],
)
def test_a_batch_that_came_out_fixed_is_refused(rule):
    with pytest.raises((torch._dynamo.exc.UserError, RuntimeError, ValueError)):
        onnx_export.export(Refused(rule), "classify", record("deep_conv_bn"))


def test_a_graph_with_a_fixed_axis_is_refused():
    network, models = exported("ae_dense32")
    inputs = verbs.inputs(network, "encode")
    onnx_export._check(models["encode"], inputs)
    model = copy.deepcopy(models["encode"])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    with pytest.raises(RuntimeError, match="input image should have axes"):
        onnx_export._check(model, inputs)


def test_another_opset_is_refused():
    network, models = exported("ae_dense32")
    model = copy.deepcopy(models["encode"])
    model.opset_import[0].version = 18
    with pytest.raises(RuntimeError, match=r"asked for opset 20.*18"):
        onnx_export._check(model, verbs.inputs(network, "encode"))


def with_shifted_bias(model, shift):
    """The model with `shift` added to the bias of its last Gemm: all its outputs move by that."""
    model = copy.deepcopy(model)
    bias = [node for node in model.graph.node if node.op_type == "Gemm"][-1].input[2]
    for weight in model.graph.initializer:
        if weight.name == bias:
            weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + shift, bias))
    return model


def test_parity_measures_the_difference():
    network, models = exported("aae_semi")
    model, run = models["classify"], record("aae_semi")
    values = onnx_export.draw_inputs(verbs.inputs(network, "classify"), 64, 1, run)
    with torch.no_grad():
        largest = float(network.classify(*values).abs().max())
    outcome = onnx_export.parity(network, "classify", model, run)
    assert outcome.bound >= 1e-5 * max(1, largest)
    assert (outcome.calls, outcome.finite) == (3, True)
    shift = numpy.float32(outcome.bound / 2)
    shifted = onnx_export.parity(network, "classify", with_shifted_bias(model, shift), run)
    assert shifted.largest_difference == pytest.approx(shift, abs=outcome.bound / 4)
    with pytest.raises(RuntimeError, match="classify: differs from the network by"):
        onnx_export.parity(network, "classify", with_shifted_bias(model, 4 * shift), run)


def test_parity_allows_the_rounding_of_large_weights_and_no_more():
    """Large terms that cancel before a sigmoid: in float32 their sum is off by more than 1e-5, whoever adds them."""
    torch.manual_seed(0)
    entry = MODELS["vae_2d_naive_init"]
    network = experiments.build(entry["file"], entry["net"], {"classes": 10}).eval()
    run, rounding = record("vae_2d_naive_init"), 0.0
    for batch in onnx_export.BATCHES:
        (image,) = onnx_export.draw_inputs(verbs.inputs(network, "reconstruct"), batch, 1, run)
        with torch.no_grad():
            exact = copy.deepcopy(network).double().reconstruct(image.double())
            distance = (network.reconstruct(image).double() - exact).abs()
            rounding = max(rounding, float(numpy.quantile(distance.numpy(), 0.99)))
    model = onnx_export.export(network, "reconstruct", run)
    outcome = onnx_export.parity(network, "reconstruct", model, run)
    assert outcome.largest_difference > 1e-5
    assert outcome.bound >= 10 * rounding * (1 - 1e-6)
    with pytest.raises(RuntimeError, match="reconstruct: differs from the network by"):
        onnx_export.parity(network, "reconstruct", with_shifted_bias(model, numpy.float32(0.1)), run)


def nearly_tied(share):
    """Images of 28 x 28 in which so large a share of the windows of four have two largest values, one ulp apart."""

    def draw_inputs(inputs, batch, time, run):
        source = numpy.random.default_rng(0)
        windows = source.random((batch, 1, 14, 14, 4), dtype=numpy.float32) / 2
        tied = source.random((batch, 1, 14, 14)) < share
        windows[tied, 0], windows[tied, 3] = numpy.float32(0.75), numpy.nextafter(numpy.float32(0.75), numpy.float32(1))
        image = windows.reshape(batch, 1, 14, 14, 2, 2).swapaxes(3, 4).reshape(batch, 1, 28, 28)
        return (torch.from_numpy(image),)

    return draw_inputs


def with_rounding(model, size):
    """The graph as another processor might compute it: each of its inputs off by a relative `size`, up or down."""
    model = copy.deepcopy(model)
    factors = 1 + size * numpy.random.default_rng(1).standard_normal((28, 28))
    model.graph.initializer.append(onnx.numpy_helper.from_array(factors.astype(numpy.float32), "factors"))
    for node in model.graph.node:
        node.input[:] = ["moved" if name == "image" else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["image", "factors"], ["moved"]))
    return model


def test_parity_leaves_out_what_a_near_tie_decides(monkeypatch):
    """Half a percent of the places of maxima flip: the graph is right, and what flipped is counted."""
    network, models = exported("op_unpool_argmax")
    run, model = record("op_unpool_argmax"), models["apply"]
    monkeypatch.setattr(onnx_export, "draw_inputs", nearly_tied(share=0.005))
    outcome = onnx_export.parity(network, "apply", with_rounding(model, 1e-7), run)
    assert outcome.largest_difference <= outcome.bound == 1e-5
    assert 0 < outcome.undecided <= 0.01
    assert onnx_export.parity(network, "apply", model, run).undecided == 0


def test_near_ties_admit_no_wrong_graph(monkeypatch):
    """Neither one that is off by more than rounding, nor one whose outputs are undecided all over."""
    network, models = exported("op_unpool_argmax")
    run, model = record("op_unpool_argmax"), models["apply"]
    monkeypatch.setattr(onnx_export, "draw_inputs", nearly_tied(share=0.005))
    with pytest.raises(RuntimeError, match="apply: differs from the network by"):
        onnx_export.parity(network, "apply", with_rounding(model, 1e-4), run)
    monkeypatch.setattr(onnx_export, "draw_inputs", nearly_tied(share=0.3))
    with pytest.raises(RuntimeError, match="apply: differs from the network by"):
        onnx_export.parity(network, "apply", with_rounding(model, 1e-7), run)


def test_a_place_in_the_tail_of_rounding_is_held_to_its_own():
    """Rounding of 1e-6 nearly everywhere and a hundredfold at one place: ten times that is allowed there alone."""
    roundings = numpy.full(1000, 1e-6)
    roundings[7] = 1e-4
    differences = 3 * roundings
    differences[7] = 2e-4
    assert onnx_export.closest_to_bound(differences, roundings, 1e-5) == pytest.approx((3e-6, 1e-5))
    differences[7] = 1.1e-3
    assert onnx_export.closest_to_bound(differences, roundings, 1e-5) == pytest.approx((1.1e-3, 1e-3))
    differences[[7, 8]] = 9e-4, 1.1e-5
    assert onnx_export.closest_to_bound(differences, roundings, 1e-5) == pytest.approx((1.1e-5, 1e-5))


def test_parity_of_text_goes_over_times():
    network, models = exported("lstm")
    assert onnx_export.parity(network, "next_word", models["next_word"], record("lstm")).calls == 9


def test_parity_sees_what_is_not_finite():
    """`max` hides NaN: finiteness is looked at apart. Only of a run that diverged is it recorded, not refused."""
    network, run = copy.deepcopy(exported("ae_dense32")[0]), record("ae_dense32")
    network.decoder[-1].bias.data[5] = torch.nan
    model = onnx_export.export(network, "decode", run)
    with pytest.raises(RuntimeError, match="finite=False"):
        onnx_export.parity(network, "decode", model, run)
    diverged = run | {"diverged_at_step": 7}
    assert onnx_export.parity(network, "decode", model, diverged).finite is False
    for own, other in ((network, exported("ae_dense32")[1]["decode"]), (exported("ae_dense32")[0], model)):
        with pytest.raises(RuntimeError, match="non-finite positions differ"):
            onnx_export.parity(own, "decode", other, diverged)


def test_inputs_are_drawn_in_range():
    run = {"data": networks.FACTS["images"] | networks.FACTS["text"]}
    words, hidden, _ = onnx_export.draw_inputs(verbs.inputs(exported("lstm")[0], "next_word"), 64, 35, run)
    assert (words.shape, hidden.shape) == ((64, 35), (64, 2, 24))
    assert set(words.unique().tolist()) == set(range(30))
    image, label = onnx_export.draw_inputs(verbs.inputs(exported("cvae")[0], "encode"), 200, 1, run)
    assert set(label.unique().tolist()) == set(range(10))
    assert (float(image.min()) >= 0, float(image.max()) < 1) == (True, True)


# ---- the stage


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The function of stages/export.py, in a folder with one checkpoint of seed 0."""
    monkeypatch.chdir(tmp_path)
    folder = Path("artifacts/quick/checkpoints/ae_dense32")
    folder.mkdir(parents=True)
    checkpoints.save(folder / "0.safetensors", exported("ae_dense32")[0], record("ae_dense32"))
    specification = importlib.util.spec_from_file_location("export_stage", ROOT / "stages" / "export.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.export_graphs


def test_the_stage(stage):
    """Graphs of the checkpoint's weights, beside what parity says of each; nothing half made stays."""
    stage("quick", "ae_dense32")
    folder, (network, models) = Path("artifacts/quick/graphs/ae_dense32"), exported("ae_dense32")
    for verb, model in models.items():
        assert (folder / "0" / f"{verb}.onnx").read_bytes() == model.SerializeToString(deterministic=True)
    written = parity.read("quick", "ae_dense32")
    assert list(written.graphs) == sorted(verbs.of(network))
    for verb, by_seed in written.graphs.items():
        assert by_seed["0"].check.largest_difference <= by_seed["0"].check.bound
        content = (folder / "0" / f"{verb}.onnx").read_bytes()
        assert by_seed["0"].graph == identity.describe(content)
        assert by_seed["0"].graph.graph_sha256 == hashlib.sha256(content).hexdigest()
    Path("artifacts/quick/checkpoints/ae_dense32/0.safetensors").write_bytes(b"damaged")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"checkpoints/ae_dense32/0\.safetensors is damaged"):
        stage("quick", "ae_dense32")
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_the_stage_fails_where_parity_does(stage, monkeypatch):
    def refuse(network, verb, model, run):
        raise RuntimeError("differs")

    monkeypatch.setattr(onnx_export, "parity", refuse)
    with pytest.raises(RuntimeError, match="differs"):
        stage("quick", "ae_dense32")
    assert not Path("artifacts/quick/graphs/ae_dense32").exists()
    assert not Path("reports/quick/parity").exists()
