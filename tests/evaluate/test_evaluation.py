"""Each verb's evaluation on graphs whose behaviour is known beforehand, against written-out NumPy and scikit-learn."""

import hashlib
import importlib
import itertools
import math

import numpy
import pandas
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
import yaml
from networks import EVERYTHING
from PIL import Image
from sample_graphs import FLAT, IMAGE, SQUARE, save, write_parity

from zoo import files
from zoo.data import archive
from zoo.errors import InputError
from zoo.evaluate import evaluation
from zoo.graphs import sessions
from zoo.params import experiments
from zoo.params.evaluation import Evaluation
from zoo.records import metrics

RANDOM_STATE = 5
SETTINGS = Evaluation(batch=7, importance_samples=60)
WORDS, VOCABULARY, END = 60, 9, 4
NEXT_WORD = "(int64[batch,time] words, float[batch,1,9] hidden) => (float[batch,time,9] logits, float[batch,1,9] next)"


def image_arrays(n=23):
    random = numpy.random.default_rng(RANDOM_STATE)
    labels = numpy.concatenate([numpy.arange(10), random.integers(10, size=n - 10)])
    return {
        "test_images": random.integers(256, size=(n, 28, 28), dtype=numpy.uint8),
        "test_labels": labels.astype(numpy.uint8),
    }


def text_arrays():
    random = numpy.random.default_rng(RANDOM_STATE)
    return {split: random.integers(VOCABULARY, size=WORDS).astype(numpy.int32) for split in ("test", "validation")}


def case(folder, graphs, arrays=None, facts=None, pictures=None, settings=SETTINGS, net=None, progress=None):
    """A case of graphs {verb: (signature, body, constants)}."""
    opened = {
        verb: sessions.open_session(save(folder / f"{verb}.onnx", signature, body, **constants))
        for verb, (signature, body, constants) in graphs.items()
    }
    facts = {"classes": 10, "end_of_sentence": END} | (facts or {})
    return evaluation.Case(opened, arrays or image_arrays(), facts, {"net": net or {}}, settings, pictures, progress)


def float_images(arrays):
    return arrays["test_images"][:, None].astype(numpy.float32) / 255


def random_weights(*shape, scale=0.1):
    return numpy.random.default_rng(11).normal(0, scale, shape).astype(numpy.float32)


def assert_pictures(folder, *names):
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.png" for name in names)
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert len(picture.getcolors(1 << 16)) > 2


def scaling(factor):
    """A reconstruction that is `factor` times the image."""
    body = "reconstruction = Mul(image, factor)"
    return f"({IMAGE} image) => ({IMAGE} reconstruction)", body, {"factor": numpy.float32(factor)}


def classifier(weights):
    body = f"{FLAT} logits = MatMul(flat, weights)"
    return f"({IMAGE} image) => (float[batch,10] logits)", body, {"weights": weights}


def encoder(weights):
    body = f"{FLAT} code = MatMul(flat, weights)"
    return f"({IMAGE} image) => (float[batch,{weights.shape[1]}] code)", body, {"weights": weights}


def map_encoder(*factors):
    """A map of the code for each factor that the image is multiplied with."""
    kernel = numpy.float32(factors).reshape(1, -1, 1, 1)
    return f"({IMAGE} image) => (float[batch,3,28,28] code)", "code = Mul(image, kernel)", {"kernel": kernel}


def posterior(weights, log_variance):
    """A linear mean, and the same variance everywhere."""
    body = f"{FLAT} mean = MatMul(flat, weights) zeros = Sub(mean, mean) log_variance = Add(zeros, constant)"
    outputs = "float[batch,2] mean, float[batch,2] log_variance"
    return f"({IMAGE} image) => ({outputs})", body, {"weights": weights, "constant": numpy.float32(log_variance)}


def decoder(weights, code="code"):
    """Pixels are the sigmoid of a linear map of two numbers."""
    body = f"sums = MatMul({code}, weights) pixels = Sigmoid(sums) {SQUARE}"
    return f"(float[batch,2] {code}) => ({IMAGE} image)", body, {"weights": weights}


def conditional_decoder(weights, table):
    body = (
        f"own = Gather(table, label) sums = MatMul(code, weights) both = Add(sums, own) pixels = Sigmoid(both) {SQUARE}"
    )
    signature = f"(float[batch,2] code, int64[batch] label) => ({IMAGE} image)"
    return signature, body, {"weights": weights, "table": table}


# ---- reconstruct, encode, apply


def test_an_identity_reconstructs_without_error(tmp_path):
    metrics, items = evaluation.reconstruct(case(tmp_path, {"reconstruct": scaling(1)}))
    assert metrics["mse"] == 0
    assert not items["loss"].any()


def test_reconstruct_of_a_darker_image(tmp_path):
    """x/2 for x: squared error x^2/4."""
    arrays = image_arrays()
    metrics, items = evaluation.reconstruct(case(tmp_path, {"reconstruct": scaling(0.5)}, arrays))
    squares = [numpy.mean((image / 255.0) ** 2) / 4 for image in arrays["test_images"].astype(float)]
    assert items["loss"] == pytest.approx(squares, rel=1e-5)
    assert items["actual"].tolist() == arrays["test_labels"].tolist()
    assert metrics["mse"] == pytest.approx(numpy.mean(squares), rel=1e-5)
    assert metrics["psnr_db"] == pytest.approx(numpy.mean([-10 * math.log10(one) for one in squares]), rel=1e-5)


def test_all_black_output_scores_the_mean_square(tmp_path):
    """The plateau where dead networks sit (DESIGN.md); cross-entropy per pixel is bounded though p = 0 is wrong."""
    arrays = image_arrays()
    metrics, _ = evaluation.reconstruct(case(tmp_path, {"reconstruct": scaling(0)}, arrays))
    assert metrics["mse"] == pytest.approx(numpy.square(arrays["test_images"] / 255).mean(), rel=1e-6)
    assert 1 < metrics["bce"] < 17


def noisy(arrays, corruption):
    """clip(x + corruption * N(0, 1), 0, 1), with the evaluation's own noise: the first draw of seed 0."""
    images = float_images(arrays)
    noise = numpy.random.default_rng(0).standard_normal(images.shape, dtype=numpy.float32)
    return numpy.clip(images + numpy.float32(corruption) * noise, 0, 1)


def test_a_denoiser_is_given_noise_and_scored_against_the_clean_image(tmp_path):
    """An identity gives the noise back: both errors are one; half of it is nearer to black than to either."""
    arrays = image_arrays()
    clean, given = float_images(arrays), noisy(arrays, 0.5)
    for factor in (1, 0.5):
        graph = {"reconstruct": scaling(factor)}
        metrics, items = evaluation.reconstruct(case(tmp_path, graph, arrays, net={"corruption": 0.5}))
        errors = numpy.square(factor * given - clean).mean((1, 2, 3))
        assert items["loss"] == pytest.approx(errors, rel=1e-5)
        assert metrics["mse"] == pytest.approx(errors.mean(), rel=1e-5)
        of_input = numpy.square(given - clean).mean((1, 2, 3))
        assert metrics["noisy_mse"] == pytest.approx(of_input.mean(), rel=1e-5)
        assert metrics["noisy_psnr_db"] == pytest.approx(-10 * numpy.log10(of_input).mean(), rel=1e-5)


def test_the_noise_has_the_deviation_that_was_asked_for(tmp_path):
    """Of grey images and little noise nothing is clipped: its mean square is the variance."""
    arrays = image_arrays(100)
    arrays["test_images"][:] = 128
    net = {"corruption": 0.05}
    metrics, _ = evaluation.reconstruct(case(tmp_path, {"reconstruct": scaling(1)}, arrays, net=net))
    assert metrics["noisy_mse"] == pytest.approx(0.05**2, rel=0.02)


def test_without_noise_there_is_no_noisy_input(tmp_path):
    for net in ({}, {"corruption": 0.0}):
        metrics, _ = evaluation.reconstruct(case(tmp_path, {"reconstruct": scaling(1)}, net=net))
        assert metrics.keys() == {"mse", "bce", "psnr_db", "constant_mse", "escaped"}


@pytest.mark.parametrize("unpooling", ["zero", "nearest"])
def test_the_floor_of_a_last_unpooling_stands_beside_the_error(tmp_path, unpooling):
    """Block by block: of 2x2 pixels the top left alone is free, or one grey for all four."""
    arrays = image_arrays()
    net = {"unpooling": unpooling, "unpool": "after"}
    metrics, _ = evaluation.reconstruct(case(tmp_path, {"reconstruct": scaling(0.5)}, arrays, net=net))
    floor = []
    for image in arrays["test_images"] / 255:
        for row, column in itertools.product(range(0, 28, 2), repeat=2):
            block = image[row : row + 2, column : column + 2].ravel()
            best = numpy.array([block[0], 0, 0, 0]) if unpooling == "zero" else block.mean()
            floor += [*(block - best) ** 2]
    assert metrics["floor_mse"] == pytest.approx(numpy.mean(floor), rel=1e-5)
    assert metrics["over_floor"] == pytest.approx(metrics["mse"] / numpy.mean(floor) - 1, rel=1e-5)


@pytest.mark.parametrize(
    "net", [{}, {"unpooling": "zero", "unpool": "before"}, {"unpooling": "argmax", "unpool": "after"}]
)
def test_another_network_can_draw_every_picture_and_has_no_floor(tmp_path, net):
    metrics, _ = evaluation.reconstruct(case(tmp_path, {"reconstruct": scaling(0.5)}, net=net))
    assert not {"floor_mse", "over_floor"} & metrics.keys()


def constant(grey):
    """A reconstruction that is one grey, whatever the image."""
    body = "black = Sub(image, image) reconstruction = Add(black, grey)"
    return f"({IMAGE} image) => ({IMAGE} reconstruction)", body, {"grey": numpy.float32(grey)}


def test_whoever_is_not_below_the_best_constant_picture_has_not_escaped(tmp_path):
    """The best of a thousand greys errs as much as the metric says; a network must be below that."""
    arrays = image_arrays()
    pixels = arrays["test_images"] / 255
    best = min(numpy.square(pixels - grey).mean() for grey in numpy.linspace(0, 1, 1001))
    for graph, escaped in ((constant(0.2), 0), (scaling(0), 0), (scaling(0.9), 1), (scaling(math.nan), 0)):
        metrics, _ = evaluation.reconstruct(case(tmp_path, {"reconstruct": graph}, arrays))
        assert metrics["constant_mse"] == pytest.approx(best, rel=1e-5)
        assert metrics["escaped"] == escaped


def test_encode(tmp_path):
    arrays, weights = image_arrays(), random_weights(784, 2)
    weights[:, 1] = 0
    metrics, items = evaluation.encode(case(tmp_path, {"encode": encoder(weights)}, arrays))
    codes = float_images(arrays).reshape(-1, 784) @ weights
    assert metrics["dead_share"] == 0.5
    assert metrics["spread"] == pytest.approx(numpy.std(codes[:, 0]) / 2, rel=1e-4)
    assert items is None


@pytest.mark.parametrize("operator", ["upsample_nearest", "upsample_transposed"])
@pytest.mark.parametrize("wrong", [0.0, 0.25])
def test_apply_measures_the_distance_to_blocks_of_four(tmp_path, operator, wrong):
    """A transposed convolution with ones gives NumPy's Kronecker product; one wrong weight is seen in full."""
    kernel = numpy.ones((1, 1, 2, 2), numpy.float32)
    kernel[0, 0, 1, 0] += wrong
    graph = (
        f"({IMAGE} image) => (float[batch,1,56,56] result)",
        "result = ConvTranspose <strides = [2, 2]> (image, kernel)",
        {"kernel": kernel},
    )
    arrays = image_arrays()
    metrics, items = evaluation.apply(case(tmp_path, {"apply": graph}, arrays, net={"operator": operator}))
    largest = [
        numpy.abs(numpy.kron(image, kernel[0, 0] - 1)).max() / 255 for image in arrays["test_images"].astype(float)
    ]
    assert items["loss"] == pytest.approx(largest, abs=1e-7)
    assert metrics["largest_difference"] == pytest.approx(max(largest), abs=1e-7)
    assert wrong or metrics["largest_difference"] == 0


def test_an_operator_on_fewer_pixels_is_given_the_middle_of_each_image(tmp_path):
    """9x9 pixels from row and column 9 on, through a convolution and its transpose written out as loops."""
    body = """
        down = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (image, kernel)
        result = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1]> (down, kernel)
    """
    signature = "(float[batch,1,9,9] image) => (float[batch,1,9,9] result)"
    graph = (signature, body, {"kernel": numpy.ones((1, 1, 3, 3), numpy.float32)})
    arrays, net = image_arrays(), {"operator": "odd_transposed"}
    metrics, items = evaluation.apply(case(tmp_path, {"apply": graph}, arrays, net=net))
    assert len(items["loss"]) == len(arrays["test_images"])
    assert metrics["largest_difference"] < 1e-5
    shifted = graph[0], body.replace("pads = [1, 1, 1, 1]> (image", "pads = [0, 0, 2, 2]> (image"), graph[2]
    metrics, _ = evaluation.apply(case(tmp_path, {"apply": shifted}, arrays, net=net))
    assert metrics["largest_difference"] > 1


# ---- classify


def test_classify_is_scikit_learns(tmp_path):
    arrays, weights = image_arrays(60), random_weights(784, 10)
    metrics, items = evaluation.classify(case(tmp_path, {"classify": classifier(weights)}, arrays))
    labels, logits = arrays["test_labels"], float_images(arrays).reshape(-1, 784).astype(float) @ weights
    predicted = logits.argmax(1)
    assert numpy.array_equal(items["predicted"], predicted)
    assert metrics["accuracy"] == metrics["accuracy_one_at_a_time"]
    assert metrics["accuracy"] == sklearn.metrics.accuracy_score(labels, predicted)
    probabilities = scipy.special.softmax(logits, 1)
    assert metrics["nll"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities, labels=range(10)), rel=1e-4)
    assert items["loss"] == pytest.approx(-numpy.log(probabilities[range(60), labels]), rel=1e-3, abs=1e-5)
    precision, recall, _, _ = sklearn.metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(10), zero_division=math.nan
    )
    assert [metrics["precision"][digit] for digit in range(10)] == pytest.approx(precision.tolist(), nan_ok=True)
    assert [metrics["recall"][digit] for digit in range(10)] == pytest.approx(recall.tolist(), nan_ok=True)


def test_one_at_a_time_shows_a_network_that_looks_at_its_batch(tmp_path):
    """Logits relative to the batch's mean, as when batch normalisation infers wrongly: alone, all are 0."""
    signature, body, constants = classifier(10 * numpy.eye(784, 10, dtype=numpy.float32))
    body = body.replace("logits =", "all =")
    body += " axis = Constant <value = int64[1] {0}> () mean = ReduceMean(all, axis) logits = Sub(all, mean)"
    arrays = image_arrays(120)
    arrays["test_images"][:] = 0
    arrays["test_images"][numpy.arange(120), 0, arrays["test_labels"]] = 255  # the label is written in the image
    graphs = {"classify": (signature, body, constants)}
    metrics, _ = evaluation.classify(
        case(tmp_path, graphs, arrays, settings=Evaluation(batch=120, importance_samples=1))
    )
    assert metrics["accuracy"] == 1
    assert metrics["accuracy_one_at_a_time"] == (arrays["test_labels"][:100] == 0).mean()


# ---- next_word


def next_word_case(folder, body, arrays=None, facts=None, batch=7, **constants):
    graphs = {"next_word": (NEXT_WORD, body, constants)}
    return case(folder, graphs, arrays or text_arrays(), facts, settings=Evaluation(batch=batch, importance_samples=1))


def uniform(folder, **how):
    body = "logits = Gather(table, words) next = Identity(hidden)"
    return next_word_case(folder, body, table=numpy.zeros((VOCABULARY, VOCABULARY), numpy.float32), **how)


COUNTING = """
    seen = Gather(table, words) time = Constant <value = int64 {1}> () summed = CumSum(seen, time)
    logits = Add(summed, hidden)
    end = Constant <value = int64[1] {-1}> () most = Constant <value = int64[1] {9999}> ()
    axis = Constant <value = int64[1] {1}> () next = Slice(logits, end, most, axis)
"""


def counting(folder, **how):
    """Logits that count how often each word was seen so far: only a carried state knows."""
    return next_word_case(folder, COUNTING, table=numpy.eye(VOCABULARY, dtype=numpy.float32), **how)


def test_knowing_nothing_is_as_perplex_as_the_vocabulary_is_large(tmp_path):
    metrics, _ = evaluation.next_word(uniform(tmp_path))
    assert metrics["perplexity"] == pytest.approx(VOCABULARY, rel=1e-12)
    assert metrics["nats_per_word"] == pytest.approx(math.log(VOCABULARY), rel=1e-12)
    assert metrics["accuracy"] == (text_arrays()["test"][1:] == 0).mean()


@pytest.mark.parametrize("batch", [1, 7, 59, 60, 1000])
def test_the_state_is_carried_from_the_first_word_to_the_last(tmp_path, batch):
    nats, shares = {}, {}
    for split, words in text_arrays().items():
        counts, losses, right = [0] * VOCABULARY, [], 0
        for word, following in itertools.pairwise(words.tolist()):
            counts[word] += 1
            losses.append(math.log(sum(math.exp(count) for count in counts)) - counts[following])
            right += counts.index(max(counts)) == following
        nats[split], shares[split] = math.fsum(losses) / len(losses), right / len(losses)
    metrics, _ = evaluation.next_word(counting(tmp_path, batch=batch))
    assert metrics["nats_per_word"] == pytest.approx(nats["test"], rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(math.exp(nats["test"]), rel=1e-6)
    assert metrics["validation_perplexity"] == pytest.approx(math.exp(nats["validation"]), rel=1e-6)
    assert metrics["accuracy"] == shares["test"]


def test_a_perplexity_beyond_float64_is_infinite_and_its_cross_entropy_known(tmp_path):
    """The last word of the vocabulary, however wrong, is 1,000 nats more likely than any other."""
    table = numpy.zeros((VOCABULARY, VOCABULARY), numpy.float32)
    table[:, -1] = 1000
    body = "logits = Gather(table, words) next = Identity(hidden)"
    metrics, _ = evaluation.next_word(next_word_case(tmp_path, body, table=table))
    wrong = (text_arrays()["test"][1:] != VOCABULARY - 1).mean()
    assert metrics["nats_per_word"] == pytest.approx(1000 * wrong)
    assert 1000 * wrong > 709
    assert metrics["perplexity"] == metrics["validation_perplexity"] == math.inf


@pytest.mark.parametrize("last", [END, END + 1])
def test_items_are_sums_over_lines_and_hold_no_word(tmp_path, last):
    arrays = text_arrays()
    arrays["test"][-1], arrays["test"][0] = last, END + 1
    metrics, items = evaluation.next_word(counting(tmp_path, arrays=arrays))
    lines, length = [], 0
    for word in arrays["test"][1:].tolist():
        length += 1
        if word == END:
            lines.append(length)
            length = 0
    lines += [length] if length else []
    assert (items["actual"], items["predicted"]) == ("", "")
    assert items["words"].tolist() == lines
    assert sum(items["words"]) == WORDS - 1
    assert math.exp(sum(items["loss"]) / sum(items["words"])) == pytest.approx(metrics["perplexity"])


def test_a_text_without_line_ends_is_one_line(tmp_path):
    arrays = text_arrays() | {"test": numpy.zeros(20, numpy.int32)}
    _, items = evaluation.next_word(uniform(tmp_path, arrays=arrays))
    assert items["words"].tolist() == [19]
    assert items["loss"] == pytest.approx([19 * math.log(VOCABULARY)])


def test_floors_stand_beside_the_perplexity_where_they_are_known(tmp_path):
    facts = {"floor_nats_per_word": math.log(3), "test_nats_per_word": math.log(2)}
    metrics, _ = evaluation.next_word(uniform(tmp_path, facts=facts))
    assert metrics["floor_perplexity"] == pytest.approx(3)
    assert metrics["floor_perplexity_of_this_text"] == pytest.approx(2)
    natural, _ = evaluation.next_word(uniform(tmp_path, facts={"floor_nats_per_word": None}))
    assert natural.keys() == {"perplexity", "validation_perplexity", "nats_per_word", "accuracy"}


# ---- decode and generate


def log_likelihood(images, logits):
    """Of Bernoulli pixels: x l - log(1 + e^l)."""
    return (images * logits - numpy.logaddexp(0, logits)).sum(-1)


def test_a_decoder_that_ignores_its_code_has_bounds_in_closed_form(tmp_path):
    """p = 1/2 everywhere: -784 log 2. The posterior N(m, v) only costs its divergence from the prior."""
    arrays, weights = image_arrays(), random_weights(784, 2, scale=0.05)
    graphs = {"encode": posterior(weights, math.log(0.5)), "decode": decoder(random_weights(2, 784, scale=0))}
    metrics, items = evaluation.decode(case(tmp_path, graphs, arrays))
    means = float_images(arrays).reshape(-1, 784) @ weights
    divergence = 0.5 * (means.astype(float) ** 2 + 0.5 - math.log(0.5) - 1).sum(1).mean()
    assert metrics["reconstruction_nats"] == pytest.approx(784 * math.log(2), rel=1e-6)
    assert metrics["kl_nats"] == pytest.approx(divergence, rel=1e-4)
    assert metrics["elbo"] == pytest.approx(-784 * math.log(2) - divergence, rel=1e-6)
    assert metrics["elbo"] < metrics["importance_bound"] < -784 * math.log(2) + divergence
    assert items is None


def test_the_exact_posterior_closes_the_gap(tmp_path):
    """Posterior = prior, and a decoder that ignores the code: ELBO = bound = log p(image)."""
    nothing = random_weights(784, 2, scale=0)
    graphs = {"encode": posterior(nothing, 0), "decode": decoder(nothing.T)}
    metrics, _ = evaluation.decode(case(tmp_path, graphs))
    assert metrics["kl_nats"] == 0
    assert metrics["elbo"] == pytest.approx(-784 * math.log(2), rel=1e-6)
    assert metrics["importance_bound"] == pytest.approx(-784 * math.log(2), rel=1e-6)


def test_bounds_agree_with_numpy_on_draws_of_its_own(tmp_path):
    """All four written out in NumPy, an image at a time; they agree within what the draws scatter."""
    arrays, inwards, outwards = image_arrays(12), random_weights(784, 2, scale=0.02), random_weights(2, 784, scale=0.05)
    graphs = {"encode": posterior(inwards, -1), "decode": decoder(outwards)}
    settings = Evaluation(batch=5, importance_samples=400)
    metrics, _ = evaluation.decode(case(tmp_path, graphs, arrays, settings=settings))
    random, samples, expected, scatter = numpy.random.default_rng(99), 4000, [], []
    prior = scipy.stats.multivariate_normal([0, 0])
    for image in float_images(arrays).reshape(-1, 784).astype(float):
        q = scipy.stats.multivariate_normal(image @ inwards, math.exp(-1))
        codes = q.rvs(samples, random)
        likelihood = log_likelihood(image, codes @ outwards)
        regularity = q.logpdf(codes) - prior.logpdf(codes)
        weights = likelihood - regularity
        bound = math.log(numpy.exp(weights - weights.max()).mean()) + weights.max()
        expected.append([-likelihood.mean(), regularity.mean(), weights.mean(), bound])
        scatter.append([likelihood.std(), regularity.std(), weights.std(), weights.std()])
    tolerance = 5 * numpy.linalg.norm(scatter, axis=0) / 12 * math.sqrt(1 / 400 + 1 / samples)
    names = ("reconstruction_nats", "kl_nats", "elbo", "importance_bound")
    for name, value, allowed in zip(names, numpy.mean(expected, 0), tolerance, strict=True):
        assert metrics[name] == pytest.approx(value, abs=allowed)
        assert allowed < 1  # the images cost some 550 nats: the comparison means something
    assert metrics["elbo"] == pytest.approx(-metrics["reconstruction_nats"] - metrics["kl_nats"], rel=1e-9)
    assert metrics["importance_bound"] > metrics["elbo"]


def test_without_a_posterior_there_is_nothing_to_bound(tmp_path):
    graphs = {"encode": encoder(random_weights(784, 2)), "decode": decoder(random_weights(2, 784))}
    assert evaluation.decode(case(tmp_path, graphs)) == ({}, None)


# ---- pictures


def pictured(tmp_path, verb, graphs, **how):
    folder = tmp_path / "pictures"
    folder.mkdir()
    getattr(evaluation, verb)(case(tmp_path, graphs, pictures=folder, **how))
    return folder


@pytest.mark.parametrize(
    ("verb", "graph"),
    [
        ("reconstruct", scaling(0.5)),
        ("encode", encoder(random_weights(784, 2))),
        ("encode", encoder(random_weights(784, 5))),
        ("encode", map_encoder(1, 0, 2)),
        ("classify", classifier(random_weights(784, 10))),
        ("decode", conditional_decoder(random_weights(2, 784), random_weights(10, 784))),
        ("generate", decoder(random_weights(2, 784), "noise")),
    ],
    ids=["reconstruct", "encode two", "encode five", "encode maps", "classify", "decode label", "generate"],
)
def test_each_verb_draws_one_picture(tmp_path, verb, graph):
    assert_pictures(pictured(tmp_path, verb, {verb: graph}), verb)


def test_codes_that_are_decoded_are_draws_of_the_prior(tmp_path, monkeypatch):
    """Of the deviation that the graph says; a hundred draws of two numbers miss it by less than a fifth."""
    drawn = {}
    monkeypatch.setattr(evaluation, "_draw_samples", lambda case, verb, name, values: drawn.update({name: values}))
    described, deviation = sessions.read_interface, {"deviation": 2.0}

    def with_deviation(session):
        graph, takes = described(session)
        return graph, takes | {"inputs": {name: one | deviation for name, one in takes["inputs"].items()}}

    monkeypatch.setattr(sessions, "read_interface", with_deviation)
    graphs = {"decode": conditional_decoder(random_weights(2, 784), random_weights(10, 784))}
    evaluation.decode(case(tmp_path, graphs))
    assert drawn["code"].dtype == numpy.float32
    assert drawn["code"].std() == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize("encode", [posterior(random_weights(784, 2), 0), encoder(random_weights(784, 2))])
def test_decode_draws_one_picture(tmp_path, encode):
    graphs = {"encode": encode, "decode": decoder(random_weights(2, 784, scale=1))}
    assert_pictures(pictured(tmp_path, "decode", graphs), "decode")


@pytest.fixture
def rows(monkeypatch):
    """What is drawn as rows of images, instead of the picture: {picture: (rows, labels)}."""
    drawn = {}

    def note(blocks, labels, path):
        drawn[path.stem] = numpy.asarray(blocks), list(labels)

    monkeypatch.setattr(evaluation.pictures, "image_rows", note)
    return drawn


def two_numbers(encode=None):
    """A decoder whose first pixel is the sigmoid of the first number of the code, and second of the second."""
    graphs = {"decode": decoder(numpy.eye(2, 784, dtype=numpy.float32))}
    return graphs | ({"encode": encode} if encode else {})


def codes_drawn(blocks):
    return scipy.special.logit(blocks.reshape(*blocks.shape[:2], 784)[..., :2].astype(float))


def test_a_code_of_two_numbers_with_a_prior_is_drawn_on_the_plane_from_minus_5_to_5(tmp_path, rows):
    """(3, 3), (0, 0) and (0, 5), which write-up 002 shows, are among the places; the second number grows upwards."""
    evaluation.decode(case(tmp_path, two_numbers(posterior(random_weights(784, 2), 0)), pictures=tmp_path))
    blocks, labels = rows["decode"]
    assert labels == [str(place) for place in range(5, -6, -1)]
    expected = [[(x, y) for x in range(-5, 6)] for y in range(5, -6, -1)]
    assert codes_drawn(blocks) == pytest.approx(numpy.array(expected), abs=1e-3)


def test_a_code_of_two_numbers_without_a_prior_is_drawn_as_far_as_codes_lie(tmp_path, rows):
    """All but the farthest 5 % of the codes' numbers lie within the plane."""
    arrays, weights = image_arrays(), random_weights(784, 2)
    evaluation.decode(case(tmp_path, two_numbers(encoder(weights)), arrays, pictures=tmp_path))
    reach = numpy.quantile(numpy.abs(float_images(arrays).reshape(-1, 784) @ weights), 0.95)
    codes = codes_drawn(rows["decode"][0])
    assert (codes[0, 0], codes[-1, -1]) == (
        pytest.approx([-reach, reach], rel=1e-3),
        pytest.approx([reach, -reach], rel=1e-3),
    )
    assert codes[5, 5] == pytest.approx([0, 0], abs=1e-3)


def test_the_plane_of_a_diverged_encoder_is_drawn_all_the_same(tmp_path, rows):
    evaluation.decode(case(tmp_path, two_numbers(encoder(random_weights(784, 2) * math.nan)), pictures=tmp_path))
    assert codes_drawn(rows["decode"][0])[0, 0] == pytest.approx([-1, 1], abs=1e-3)


def longer(size):
    return f"(float[batch,{size}] code) => ({IMAGE} image)", f"pixels = MatMul(code, weights) {SQUARE}", {
        "weights": numpy.eye(size, 784, dtype=numpy.float32)}  # fmt: skip


def test_a_longer_code_without_a_prior_walks_from_image_to_image(tmp_path, rows):
    arrays, weights = image_arrays(), random_weights(784, 3)
    graphs = {"encode": encoder(weights), "decode": longer(3)}
    evaluation.decode(case(tmp_path, graphs, arrays, pictures=tmp_path))
    walked = rows["decode"][0].reshape(10, 10, 784)[..., :3]
    codes = float_images(arrays).reshape(-1, 784) @ weights
    assert walked[:, 0] == pytest.approx(codes[:10], abs=1e-4)
    assert walked[:, 9] == pytest.approx(codes[1:11], abs=1e-4)
    assert walked[4, 3] == pytest.approx(codes[4] + (codes[5] - codes[4]) / 3, abs=1e-4)


def test_a_label_makes_rows_of_digits(tmp_path, rows):
    table = numpy.full((10, 784), -30, numpy.float32)
    table[numpy.arange(10), numpy.arange(10)] = 30  # digit d lights pixel d
    graph = conditional_decoder(numpy.zeros((2, 784), numpy.float32), table)
    evaluation.decode(case(tmp_path, {"decode": graph}, pictures=tmp_path))
    blocks, labels = rows["decode"]
    assert labels == [str(digit) for digit in range(10)]
    assert blocks.reshape(10, 10, 784).argmax(-1).tolist() == [[digit] * 10 for digit in range(10)]


def test_along_a_row_of_samples_the_code_beside_the_noise_grows(tmp_path, rows):
    signature = f"(float[batch,2] noise, float[batch,2] code) => ({IMAGE} image)"
    weights = numpy.eye(2, 784, dtype=numpy.float32)
    graph = (signature, f"pixels = MatMul(code, weights) {SQUARE}", {"weights": weights})
    evaluation.generate(case(tmp_path, {"generate": graph}, pictures=tmp_path))
    codes = rows["generate"][0].reshape(10, 10, 784)[..., :2]
    assert codes == pytest.approx(numpy.tile(numpy.linspace(-2, 2, 10)[:, None], (10, 1, 2)), abs=1e-6)


@pytest.mark.parametrize(("looks", "shown"), [(1, [0]), (3, [0, 1, 2]), (21, list(range(0, 21, 2)))])
def test_progress_shows_at_most_eleven_looks_from_the_first_to_the_last(tmp_path, rows, looks, shown):
    images = numpy.broadcast_to(numpy.arange(looks, dtype=numpy.uint8)[:, None, None, None], (looks, 10, 28, 28))
    progress = {"steps": numpy.arange(looks) * 2000, "images": images}
    graphs = {"generate": decoder(random_weights(2, 784), "noise")}
    metrics, items = evaluation.generate(case(tmp_path, graphs, pictures=tmp_path, progress=progress))
    assert (metrics, items) == ({}, None)
    blocks, labels = rows["generate-progress"]
    assert labels == [f"{2000 * look:,}" for look in shown]
    assert blocks[:, 9, 27, 27] * 255 == pytest.approx(shown)


def test_without_progress_samples_alone_are_drawn(tmp_path, rows):
    evaluation.generate(case(tmp_path, {"generate": decoder(random_weights(2, 784), "noise")}, pictures=tmp_path))
    assert list(rows) == ["generate"]


@pytest.mark.parametrize("operator", ["upsample_nearest", "unpool_zero"])
def test_an_operators_result_may_be_larger_than_its_input(tmp_path, operator):
    kernel = numpy.ones((1, 1, 2, 2), numpy.float32)
    body = "result = ConvTranspose <strides = [2, 2]> (image, kernel)"
    graph = (f"({IMAGE} image) => (float[batch,1,56,56] result)", body, {"kernel": kernel})
    assert_pictures(pictured(tmp_path, "apply", {"apply": graph}, net={"operator": operator}), "apply")


# ---- a diverged network is a result


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("verb", "metric", "graph"),
    [
        ("reconstruct", "mse", scaling),
        ("encode", "spread", lambda bad: encoder(numpy.full((784, 2), bad, numpy.float32))),
        ("encode", "spread", lambda bad: encoder(numpy.full((784, 5), bad, numpy.float32))),
        ("encode", "spread", lambda bad: map_encoder(bad, bad, bad)),
        ("classify", "nll", lambda bad: classifier(numpy.full((784, 10), bad, numpy.float32))),
    ],
    ids=["reconstruct", "encode two", "encode five", "encode maps", "classify"],
)
def test_a_diverged_network_is_scored_and_drawn(tmp_path, verb, metric, graph, bad):
    folder = tmp_path / "pictures"
    folder.mkdir()
    metrics, _ = getattr(evaluation, verb)(case(tmp_path, {verb: graph(bad)}, pictures=folder))
    assert [path.stem for path in folder.iterdir()] == [verb]
    assert not math.isfinite(metrics[metric])


def test_a_diverged_classifier_is_never_right(tmp_path):
    """The largest of ten NaN would be the first: one digit in ten would count as recognised."""
    broken = classifier(numpy.full((784, 10), math.nan, numpy.float32))
    metrics, items = evaluation.classify(case(tmp_path, {"classify": broken}))
    assert metrics["accuracy"] == metrics["accuracy_one_at_a_time"] == 0
    assert set(items["predicted"]) == {-1}


def test_a_diverged_variational_autoencoder_has_no_bounds(tmp_path):
    broken = numpy.full((784, 2), math.nan, numpy.float32)
    metrics, _ = evaluation.decode(case(tmp_path, {"encode": posterior(broken, 0), "decode": decoder(broken.T)}))
    assert all(math.isnan(value) for value in metrics.values())
    assert metrics.keys() == {"reconstruction_nats", "kl_nats", "elbo", "importance_bound"}


def test_a_diverged_language_model_guesses_nothing_right(tmp_path):
    table = numpy.full((VOCABULARY, VOCABULARY), math.nan, numpy.float32)
    body = "logits = Gather(table, words) next = Identity(hidden)"
    metrics, _ = evaluation.next_word(next_word_case(tmp_path, body, table=table))
    assert metrics["accuracy"] == 0
    assert math.isnan(metrics["perplexity"])


# ---- the stage: what is written agrees with itself


@pytest.fixture
def evaluate(root, tmp_path, monkeypatch):
    """The stage's function, run in a folder with what it reads of params.yaml, data and graphs of our own."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({key: EVERYTHING[key] for key in ("evaluate", "threads")}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(root / "stages")
    module = importlib.import_module("evaluate")

    def written(name, graphs, arrays, seeds=(0,)):
        experiment = experiments.experiment(EVERYTHING, "quick", name)
        facts = {"classes": 10, "end_of_sentence": END, "source": "ours", "sha256": "0"}
        archive.write(files.data("quick", experiment.data), arrays, facts)
        for seed, (verb, (signature, body, constants)) in itertools.product(seeds, graphs.items()):
            save(files.graph("quick", name, seed, verb), signature, body, {"recipe": experiment.recipe}, **constants)
        write_parity("quick", name)
        module.evaluate("quick", name)
        return metrics.read("quick", name), pandas.read_csv(files.predictions("quick", name))

    return written


def test_accuracy_follows_from_the_predictions(evaluate):
    arrays = image_arrays(50)
    weights = random_weights(784, 10)
    graphs = {"classify": classifier(weights), "encode": encoder(weights[:, :2])}
    record, table = evaluate("resnet", graphs, arrays)
    assert list(table.columns) == ["item", "actual", "predicted", "loss"]
    assert table["item"].tolist() == list(range(50))
    assert table["actual"].tolist() == arrays["test_labels"].tolist()
    measured, accuracy = record.verbs["classify"], sklearn.metrics.accuracy_score(table["actual"], table["predicted"])
    assert measured["accuracy"].seeds == {"0": pytest.approx(accuracy)}
    assert (measured["accuracy"].mean, measured["accuracy"].low) == (pytest.approx(accuracy), None)
    assert measured["nll"].mean == pytest.approx(table["loss"].mean(), rel=1e-5)
    recall = sklearn.metrics.recall_score(table["actual"], table["predicted"], labels=range(10), average=None)
    assert [measured["recall"][str(digit)].mean for digit in range(10)] == pytest.approx(recall.tolist())
    for part, rows in (("tenth", table[:5]), ("all", table)):
        expected = sklearn.metrics.confusion_matrix(rows["actual"], rows["predicted"], labels=range(10))
        assert record.confusion[part] == expected.tolist()
    assert_pictures(files.figures("quick", "resnet"), "classify", "encode")


def test_every_number_names_its_graph(evaluate):
    """The sha256 of the very files that were scored, of every seed and verb."""
    graphs = {"classify": classifier(random_weights(784, 10)), "encode": encoder(random_weights(784, 2))}
    record, _ = evaluate("resnet", graphs, image_arrays(), seeds=(0, 2, 10))
    assert set(record.verbs["encode"]["spread"].seeds) == set(record.graphs) == {"0", "2", "10"}
    for seed, of_verb in record.graphs.items():
        for verb in graphs:
            content = files.graph("quick", "resnet", seed, verb).read_bytes()
            assert of_verb[verb].graph_sha256 == hashlib.sha256(content).hexdigest()


def test_a_graph_that_export_did_not_write(evaluate, root):
    """It is refused, and what was evaluated before stays."""
    evaluate("cae_strided", {"reconstruct": scaling(0.8)}, image_arrays())
    before = metrics.path("quick", "cae_strided").read_bytes()
    path = files.graph("quick", "cae_strided", 0, "reconstruct")
    signature, body, constants = scaling(0.7)
    save(path, signature, body, **constants)
    with pytest.raises(InputError, match=rf"{path} is not the graph that .*cae_strided\.json names: run `dvc repro`"):
        importlib.import_module("evaluate").evaluate("quick", "cae_strided")
    assert metrics.path("quick", "cae_strided").read_bytes() == before


def test_mse_follows_from_the_predictions(evaluate):
    record, table = evaluate("cae_strided", {"reconstruct": scaling(0.8)}, image_arrays())
    assert record.verbs["reconstruct"]["mse"].mean == pytest.approx(table["loss"].mean(), rel=1e-5)
    assert table["predicted"].isna().all()
    assert record.confusion is None


def test_perplexity_follows_from_the_predictions(evaluate):
    table = numpy.eye(VOCABULARY, dtype=numpy.float32)
    record, items = evaluate("lstm", {"next_word": (NEXT_WORD, COUNTING, {"table": table})}, text_arrays())
    assert list(items.columns) == ["item", "actual", "predicted", "words", "loss"]
    assert items[["actual", "predicted"]].isna().all(axis=None)
    assert items["words"].sum() == WORDS - 1
    perplexity = math.exp(items["loss"].sum() / items["words"].sum())
    assert record.verbs["next_word"]["perplexity"].mean == pytest.approx(perplexity, rel=1e-4)


def test_equal_inputs_give_equal_files(evaluate, tmp_path):
    def outputs():
        evaluate("cae_strided", {"reconstruct": scaling(0.8)}, image_arrays())
        return {path: path.read_bytes() for path in (tmp_path / "reports").rglob("*") if path.is_file()}

    assert outputs() == outputs()


def test_what_a_generator_drew_while_it_was_trained_is_drawn_from_beside_its_checkpoint(evaluate, tmp_path):
    drawn = {"steps": numpy.array([0, 400]), "images": numpy.zeros((2, 10, 28, 28), numpy.uint8)}
    archive.write(files.progress("quick", "gan", 0), drawn, {})
    evaluate("gan", {"generate": decoder(random_weights(2, 784), "noise")}, image_arrays())
    assert sorted(file.stem for file in files.figures("quick", "gan").iterdir()) == ["generate", "generate-progress"]


def test_what_no_verb_predicts_has_an_empty_table(evaluate):
    record, table = evaluate("gan", {"generate": decoder(random_weights(2, 784), "noise")}, image_arrays())
    assert list(table.columns) == ["item", "actual", "predicted", "loss"]
    assert table.empty
    assert record.verbs == {}
