"""Evaluation of each verb: one function per verb runs its exported graph on the test set, scores it and draws it.

Each function takes a `Case` and returns (metrics, items). `metrics` is {name: float, or {class: float}}; `items` holds
the columns of the predictions file, or is None. Nothing here needs torch: graphs run in ONNX Runtime.
"""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy

from zoo.evaluate import pictures, scores
from zoo.graphs import sessions


class Case(NamedTuple):
    """One seed of one experiment: its open sessions by verb, its data, and its settings from params.yaml."""

    graphs: dict
    arrays: dict
    facts: dict
    recipe: dict
    settings: dict
    pictures: Path | None  # the folder for figures, or None to draw none
    progress: dict | None = None  # images drawn during training: steps [k], images uint8 [k, n, 28, 28]

    @property
    def images(self):
        return self.arrays["test_images"][:, None].astype(numpy.float32) / 255

    @property
    def labels(self):
        return self.arrays["test_labels"].astype(numpy.int64)

    def run(self, verb, **feeds):
        """{output: array} of a verb for all items; feeds that its graph does not take (the label) are ignored."""
        taken = {name: value for name, value in feeds.items() if name in self.inputs(verb)}
        return sessions.run_batched(self.graphs[verb], taken, self.settings.batch)

    def inputs(self, verb):
        """{name: axes} of the inputs of a verb's graph."""
        return {entry.name: entry.shape for entry in self.graphs[verb].get_inputs()}

    def draw(self, picture, name, *arguments):
        if self.pictures:
            picture(*arguments, self.pictures / f"{name}.png")


def reconstruct(case):
    """Errors of the reconstructions against the clean images, with baselines (noisy input, constant) and a floor."""
    images, net, shown = case.images, case.recipe["net"], slice(0, 10)
    given, rows, names = images, [images[shown, 0]], ["input"]
    if net.get("corruption"):
        noise = numpy.random.default_rng(0).standard_normal(images.shape, dtype=numpy.float32)
        given = numpy.clip(images + net["corruption"] * noise, 0, 1)
        rows, names = [images[shown, 0], given[shown, 0]], ["clean", "input"]
    reconstructions = case.run("reconstruct", image=given, label=case.labels)["reconstruction"]
    errors = scores.image_errors(images, reconstructions)
    case.draw(pictures.image_rows, "reconstruct", [*rows, reconstructions[shown, 0]], [*names, "output"])
    metrics = {name: values.mean() for name, values in errors.items()}
    if given is not images:
        noisy = scores.image_errors(images, given)
        metrics |= {"noisy_mse": noisy["mse"].mean(), "noisy_psnr_db": noisy["psnr_db"].mean()}
    # A network that ends with an unpooling cannot draw every image: its floor is the error of the best that it can.
    floor = FLOORS.get(net.get("unpooling")) if net.get("unpool") == "after" else None
    if floor:
        metrics["floor_mse"] = scores.image_errors(images, floor(images))["mse"].mean()
        metrics["over_floor"] = metrics["mse"] / metrics["floor_mse"] - 1
    metrics["constant_mse"] = images.var(dtype=numpy.float64)
    metrics["escaped"] = float(metrics["mse"] < metrics["constant_mse"])
    return metrics, {"actual": case.labels, "predicted": "", "loss": errors["mse"]}


def encode(case):
    codes = next(iter(case.run("encode", image=case.images, label=case.labels).values()))
    if codes.ndim == 4:
        case.draw(pictures.feature_maps, "encode", [*codes[:3, :16]])
    else:
        case.draw(_latent_map, "encode", codes, case.labels)
    return scores.code_usage(codes), None


def decode(case):
    generator = numpy.random.default_rng(0)
    size, labelled = case.inputs("decode")["code"][1], "label" in case.inputs("decode")
    variational = "encode" in case.graphs and len(case.graphs["encode"].get_outputs()) == 2
    if size == 2 and not labelled:
        _draw_plane(case, variational)
    elif variational or labelled:
        deviation = sessions.read_interface(case.graphs["decode"])[1]["inputs"]["code"].get("deviation", 1.0)
        codes = deviation * generator.standard_normal((100, size), dtype=numpy.float32)
        _draw_samples(case, "decode", "code", codes)
    else:  # no prior to sample from: interpolate between the codes of consecutive test images
        ends = next(iter(case.run("encode", image=case.images[:11]).values()))
        walk = [a + (b - a) * share for a, b in itertools.pairwise(ends) for share in numpy.linspace(0, 1, 10)]
        _draw_samples(case, "decode", "code", numpy.stack(walk).astype(numpy.float32))
    return (_bounds(case, generator) if variational else {}), None


def generate(case):
    shape = 100, case.inputs("generate")["noise"][1]
    _draw_samples(case, "generate", "noise", numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32))
    if case.progress:
        steps, images = case.progress["steps"], case.progress["images"].astype(numpy.float32) / 255
        shown = numpy.unique(numpy.linspace(0, len(steps) - 1, 11).round().astype(int))
        case.draw(pictures.image_rows, "generate-progress", [*images[shown]], [f"{steps[k]:,}" for k in shown])
    return {}, None


def classify(case):
    images, labels, classes = case.images, case.labels, case.facts["classes"]
    predicted, loss = scores.predictions_and_losses(case.run("classify", image=images)["logits"], labels)
    counts = scores.confusion(labels, predicted, classes)
    precision, recall = scores.precision_and_recall(counts)
    # Classifying one image at a time shows whether batch normalisation is wrong at inference (write-up 003).
    single = [sessions.host(case.graphs["classify"], {"image": image[None]})()[0] for image in images[:100]]
    alone, _ = scores.predictions_and_losses(numpy.concatenate(single), labels[:100])
    case.draw(pictures.confusion_matrix, "classify", counts)
    metrics = {
        "accuracy": (predicted == labels).mean(),
        "nll": loss.mean(),
        "accuracy_one_at_a_time": (alone == labels[:100]).mean(),
        "precision": dict(enumerate(precision)),
        "recall": dict(enumerate(recall)),
    }
    return metrics, {"actual": labels, "predicted": predicted, "loss": loss}


def next_word(case):
    """Score the test and the validation text, each read in order with the state carried from first to last word."""
    words = case.arrays["test"]
    losses, right = _read(case, words)
    metrics = {
        "perplexity": _perplexity(losses),
        "validation_perplexity": _perplexity(_read(case, case.arrays["validation"])[0]),
        "nats_per_word": losses.mean(),
        "accuracy": right / len(losses),
    }
    if case.facts.get("floor_nats_per_word") is not None:
        metrics["floor_perplexity"] = numpy.exp(case.facts["floor_nats_per_word"])
        metrics["floor_perplexity_of_this_text"] = numpy.exp(case.facts["test_nats_per_word"])
    lines, places = _lines(words[1:], case.facts["end_of_sentence"])
    case.draw(pictures.loss_by_place, "next_word", places, losses)
    # Losses are summed per line: the licence of the text does not allow keeping its words.
    sums = numpy.bincount(lines, losses)
    return metrics, {"actual": "", "predicted": "", "words": numpy.bincount(lines), "loss": sums}


def apply(case):
    height, width = case.inputs("apply")["image"][2:]
    top, left = (28 - height) // 2, (28 - width) // 2
    images = case.images[:, :, top : top + height, left : left + width]
    reference = REFERENCES[case.recipe["net"]["operator"]](images)
    result = case.run("apply", image=images)["result"]
    difference = numpy.abs(result - reference).max((1, 2, 3))
    case.draw(pictures.image_rows, "apply", [result[:10, 0] / max(numpy.abs(result).max(), 1)], ["result"])
    items = {"actual": case.labels, "predicted": "", "loss": difference}
    return {"largest_difference": difference.max()}, items


# Reference implementations of the operators in NumPy and SciPy; twins share one.
REFERENCES = {
    "upsample_nearest": scores.upsampled,
    "upsample_transposed": scores.upsampled,
    "odd_transposed": scores.down_and_up,
    "unpool_zero": scores.zero_unpool,
    "unpool_argmax": scores.argmax_unpool,
    "batchnorm": scores.normalised_convolution,
    "batchnorm_folded": scores.normalised_convolution,
}
# The closest images that a network can draw if it ends with this unpooling.
FLOORS = {"zero": scores.best_zero_unpool, "nearest": scores.best_nearest_unpool}


def _draw_samples(case, verb, name, values):
    """Draw 100 samples of a decoder or generator in a 10 x 10 grid; with labels, one digit per row."""
    labels = numpy.repeat(numpy.arange(10), 10)
    inputs = case.inputs(verb)
    # If a generator takes a code besides its noise, all dimensions of the code grow along a row.
    growing = numpy.tile(numpy.linspace(-2, 2, 10, dtype=numpy.float32), 10)[:, None]
    feeds = {"code": growing.repeat(inputs.get("code", (0, 0))[1], 1), "label": labels, name: values}
    images = case.run(verb, **feeds)["image"][:, 0]
    rows = [str(digit) if "label" in inputs else "" for digit in range(10)]
    case.draw(pictures.image_rows, verb, numpy.split(images, 10), rows)


def _draw_plane(case, variational):
    """Decode a grid of 2-D codes around (0, 0): from -5 to 5 for a prior N(0, 1), else as far as 95 % of the codes."""
    reach = 5.0
    if not variational:
        codes = next(iter(case.run("encode", image=case.images).values()))
        known = numpy.abs(codes[numpy.isfinite(codes).all(1)])
        reach = float(numpy.quantile(known, 0.95)) if known.size else 1.0
    places = numpy.linspace(-reach, reach, 11, dtype=numpy.float32)
    codes = numpy.stack(numpy.meshgrid(places, places[::-1]), -1).reshape(-1, 2)
    images = case.run("decode", code=codes)["image"][:, 0]
    case.draw(pictures.image_rows, "decode", numpy.split(images, 11), [f"{place:.2g}" for place in places[::-1]])


def _latent_map(codes, labels, path):
    """Scatter codes on the plane: as they are if they have two dimensions, else on their first two principal axes."""
    codes, names = codes.reshape(len(codes), -1), ("code 1", "code 2")
    if codes.shape[1] != 2:
        known = numpy.nan_to_num(codes, nan=0.0, posinf=0.0, neginf=0.0)  # for the PCA; they are not drawn
        axes = numpy.linalg.svd(known - known.mean(0), full_matrices=False)[2][:2]
        codes, names = (codes - known.mean(0)) @ axes.T, ("axis 1 of the code's PCA", "axis 2 of the code's PCA")
    pictures.latent_map(codes[:2000], labels[:2000], path, names)


def _bounds(case, generator):
    """The ELBO, its two terms, and the importance-weighted bound, in nats per image (summed over pixels and code)."""
    samples, images = case.settings.importance_samples, case.images
    posterior = case.run("encode", image=images, label=case.labels)
    per_batch = []
    for index in numpy.array_split(numpy.arange(len(images)), -(-len(images) // case.settings.batch)):
        mean, log_variance = posterior["mean"][index], posterior["log_variance"][index]
        noise = generator.standard_normal((samples, *mean.shape), dtype=numpy.float32)
        codes = mean + numpy.exp(0.5 * log_variance) * noise
        feeds = {"code": codes.reshape(-1, mean.shape[1]), "label": numpy.tile(case.labels[index], samples)}
        decoded = case.run("decode", **feeds)["image"].reshape(samples, *images[index].shape)
        likelihood = scores.pixel_log_likelihood(images[index], decoded)
        divergence = scores.gaussian_divergence(mean, log_variance)
        prior = scores.log_normal(codes, 0.0, numpy.zeros_like(mean))
        bound = scores.importance_bound(likelihood + prior - scores.log_normal(codes, mean, log_variance))
        per_batch.append((-likelihood.mean(0), divergence, likelihood.mean(0) - divergence, bound))
    names = ("reconstruction_nats", "kl_nats", "elbo", "importance_bound")
    columns = map(numpy.concatenate, zip(*per_batch, strict=True))
    return {name: values.mean() for name, values in zip(names, columns, strict=True)}


def _read(case, words):
    """(loss [n] in nats of every word after the first, number of correct predictions), with the state carried over."""
    words, batch = words.astype(numpy.int64), case.settings.batch
    shapes = {name: axes for name, axes in case.inputs("next_word").items() if name != "words"}
    state = {
        name: numpy.zeros([1 if axis == "batch" else axis for axis in axes], numpy.float32)
        for name, axes in shapes.items()
    }
    losses, right = [], 0
    for start in range(0, len(words) - 1, batch):
        following = words[start + 1 : start + 1 + batch]
        feeds = {"words": words[None, start : start + len(following)], **state}
        logits, *values = sessions.host(case.graphs["next_word"], feeds)()
        state = dict(zip(state, values, strict=True))
        predicted, loss = scores.predictions_and_losses(logits[0], following)
        losses.append(loss)
        right += (predicted == following).sum()
    return numpy.concatenate(losses), right


def _perplexity(losses):
    with numpy.errstate(over="ignore"):  # exp overflows float64 above 709: the perplexity is infinite
        return numpy.exp(losses.mean())


def _lines(words, end_of_sentence):
    """(line number of each word, from 0; its position in that line, from 1)."""
    ends = words == end_of_sentence
    lines = numpy.cumsum(ends) - ends
    _, first, inverse = numpy.unique(lines, return_index=True, return_inverse=True)
    return lines, numpy.arange(len(words)) - first[inverse] + 1
