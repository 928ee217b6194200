"""Metric arithmetic in NumPy: a value per item first, so that every mean can be taken again from what is kept."""

import numpy
import scipy  # which loads its large parts, `optimize` and `signal`, where they are first used
from scipy.special import log_softmax, logsumexp

# A pixel of exactly 0 or 1 that is wrong would cost infinitely many nats; 1 minus this is still exact in float32.
SMALLEST_PROBABILITY = 2.0**-23


def pixel_log_likelihood(images, probabilities):
    """Sum over pixels of x log p + (1 - x) log(1 - p), in nats per image.

    `images` [n, 1, 28, 28] and `probabilities` [..., n, 1, 28, 28]; returns [..., n]. Probabilities are clipped
    to [2^-23, 1 - 2^-23].
    """
    p = numpy.clip(probabilities, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return (images * numpy.log(p) + (1 - images) * numpy.log1p(-p)).sum((-3, -2, -1), dtype=numpy.float64)


def image_errors(images, reconstructions):
    """{"mse", "bce", "psnr_db"}, each [n]: means over the pixels of one image; PSNR against a peak of 1."""
    squared = numpy.square(reconstructions - images).mean((1, 2, 3), dtype=numpy.float64)
    entropy = -pixel_log_likelihood(images, reconstructions) / images[0].size
    return {"mse": squared, "bce": entropy, "psnr_db": -10 * numpy.log10(numpy.maximum(squared, 1e-12))}


def code_usage(codes):
    """{"dead_share", "spread"} of codes [n, units, ...].

    A unit (a number or a map) is dead when it is 0 for every item; the spread is the standard deviation over the
    items, averaged over all places of the code.
    """
    used = (codes.reshape(*codes.shape[:2], -1) != 0).any((0, 2))
    return {"dead_share": 1 - used.mean(), "spread": codes.std(0, dtype=numpy.float64).mean()}


def gaussian_divergence(mean, log_variance):
    """KL(N(mean, variance) || N(0, 1)) summed over the code, nats per item (Kingma & Welling 2013, appendix B)."""
    mean, log_variance = mean.astype(numpy.float64), log_variance.astype(numpy.float64)
    return 0.5 * (numpy.square(mean) + numpy.exp(log_variance) - log_variance - 1).sum(1)


def log_normal(values, mean, log_variance):
    """log N(values; mean, variance) summed over the last axis, in nats."""
    deviation = numpy.square(values - mean) / numpy.exp(log_variance)
    return -0.5 * (deviation + log_variance + numpy.log(2 * numpy.pi)).sum(-1)


def importance_bound(log_weights):
    """log of the mean weight over axis 0, [k, n] -> [n]: equation 8 of Burda et al. 2015."""
    return logsumexp(log_weights, 0) - numpy.log(len(log_weights))


def classified(logits, labels):
    """(predicted classes [n], -1 where a logit is not finite; -log softmax(logits)[labels] [n] in nats).

    `logits` [n, classes], `labels` integers [n].
    """
    predicted = numpy.where(numpy.isfinite(logits).all(1), logits.argmax(1), -1)
    with numpy.errstate(invalid="ignore"):  # an infinite logit gives a loss that is not a number
        return predicted, -log_softmax(logits.astype(numpy.float64), 1)[numpy.arange(len(labels)), labels]


def confusion(actual, predicted, classes):
    """Counts [classes, classes], actual by predicted; what was predicted as nothing (-1) is left out."""
    known = predicted >= 0
    counts = numpy.bincount(actual[known] * classes + predicted[known], minlength=classes**2)
    return counts.reshape(classes, classes)


def precision_and_recall(counts):
    """(precision, recall) of each class from confusion counts; not a number where nothing was predicted or is there."""
    with numpy.errstate(invalid="ignore"):
        right = numpy.diag(counts).astype(numpy.float64)
        return right / counts.sum(0), right / counts.sum(1)


def frechet_distance(first, second):
    """Frechet distance between Gaussians fitted to features [n, units] (Heusel et al. 2017, equation 6).

    |m1 - m2|^2 + trace(c1 + c2 - 2 (c1 c2)^(1/2)); the trace of the root is the sum of the roots of the
    eigenvalues of c1^(1/2) c2 c1^(1/2), which is symmetric. Not a number where a feature is not finite.
    """
    if not (numpy.isfinite(first).all() and numpy.isfinite(second).all()):
        return numpy.nan
    means = first.mean(0, dtype=numpy.float64), second.mean(0, dtype=numpy.float64)
    covariances = [numpy.cov(features.astype(numpy.float64), rowvar=False) for features in (first, second)]
    values, vectors = numpy.linalg.eigh(covariances[0])
    root = (vectors * numpy.sqrt(numpy.maximum(values, 0))) @ vectors.T
    shared = numpy.sqrt(numpy.maximum(numpy.linalg.eigvalsh(root @ covariances[1] @ root), 0)).sum()
    return numpy.square(means[0] - means[1]).sum() + numpy.trace(covariances[0] + covariances[1]) - 2 * shared


def coverage(predicted, classes):
    """exp(entropy) of the classes drawn: how many classes are drawn as if evenly, 1 (one mode) to `classes`.

    What was predicted as nothing (-1) is left out; not a number where that is all.
    """
    known = predicted[predicted >= 0]
    if not len(known):
        return numpy.nan
    share = numpy.bincount(known, minlength=classes) / len(known)
    return numpy.exp(-(share[share > 0] * numpy.log(share[share > 0])).sum())


def matched_agreement(asked, predicted, classes):
    """Share of items predicted as asked, after the best one-to-one renaming of what was asked.

    For a generator that was never told what a class means (Chen et al. 2016); the renaming is the assignment of
    largest sum. What was predicted as nothing (-1) counts as wrong.
    """
    counts = confusion(asked, predicted, classes)
    return counts[scipy.optimize.linear_sum_assignment(counts, maximize=True)].sum() / len(asked)


def best_spread_out(images):
    """The nearest picture that is 0 but for the top left pixel of each block of 2x2."""
    return spread_out(images[..., ::2, ::2])


def best_in_blocks(images):
    """The nearest picture, in squared error, whose blocks of 2x2 are of one grey: the mean of each block."""
    return upsampled(_blocks(images).mean(-1))


def spread_out(images):
    """Every pixel at the top left of a block of 2x2, zeros elsewhere."""
    result = numpy.zeros((*images.shape[:-2], 2 * images.shape[-2], 2 * images.shape[-1]), images.dtype)
    result[..., ::2, ::2] = images
    return result


def largest_in_place(images):
    """Of each block of 2x2 the largest pixel where it is, the first of equals; zeros elsewhere."""
    blocks = _blocks(images)
    kept = numpy.where(numpy.arange(4) == blocks.argmax(-1)[..., None], blocks, 0)
    result = numpy.zeros_like(images)
    for place in range(4):
        result[..., place // 2 :: 2, place % 2 :: 2] = kept[..., place]
    return result


def _blocks(images):
    """The four pixels of each block of 2x2, [..., h, w] -> [..., h / 2, w / 2, 4]."""
    return numpy.stack([images[..., row::2, column::2] for row in (0, 1) for column in (0, 1)], -1)


def down_and_up(images):
    """A convolution with 3x3 ones at stride 2, and its transpose: sums at every second pixel, spread over 3x3 again."""
    ones, spread = numpy.ones((1, 1, 3, 3)), numpy.zeros_like(images)
    spread[..., ::2, ::2] = scipy.signal.convolve(images, ones, "same", "direct")[..., ::2, ::2]
    return scipy.signal.convolve(spread, ones, "same", "direct")


def normalised_convolution(images):
    """The convolution and batch normalisation of `zoo.models.operators.NormalisedConvolution`, by their definitions."""
    maps = numpy.arange(8.0)
    kernels = numpy.sin(1 + numpy.arange(72.0)).reshape(8, 3, 3)
    plain = [[scipy.signal.correlate2d(image[0], kernel, "valid") for kernel in kernels] for image in images]
    mean, variance, scale, shift = numpy.stack([maps / 8, 1 + maps, numpy.cos(maps), numpy.sin(maps)])[..., None, None]
    return (numpy.stack(plain) - mean) / numpy.sqrt(variance + 1e-3) * scale + shift


def upsampled(images):
    """Every pixel as a block of 2x2: what the upsampling operators should give."""
    return images.repeat(2, axis=2).repeat(2, axis=3)
