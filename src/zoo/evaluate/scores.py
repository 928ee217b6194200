"""Metrics in NumPy, computed per item first, so that every mean can be recomputed from the saved items."""

import numpy
import scipy  # its large submodules `optimize` and `signal` load on first use
from scipy.special import log_softmax, logsumexp

# A wrong prediction of exactly 0 or 1 would cost infinitely many nats; 1 - 2^-23 is still exact in float32.
SMALLEST_PROBABILITY = 2.0**-23


def pixel_log_likelihood(images, probabilities):
    """Sum over pixels of x log p + (1 - x) log(1 - p), in nats per image.

    `images` [n, 1, 28, 28] and `probabilities` [..., n, 1, 28, 28]; returns [..., n]. Probabilities are clipped
    to [2^-23, 1 - 2^-23], so that 1 - p, which float32 rounds by at most 2^-25, has a logarithm.
    """
    p = numpy.clip(probabilities, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return (images * numpy.log(p) + (1 - images) * numpy.log(1 - p)).sum((-3, -2, -1), dtype=numpy.float64)


def image_errors(images, reconstructions):
    """{"mse", "bce", "psnr_db"}, each [n]: means over the pixels of one image; PSNR against a peak of 1."""
    squared = numpy.square(reconstructions - images).mean((1, 2, 3), dtype=numpy.float64)
    entropy = -pixel_log_likelihood(images, reconstructions) / images[0].size
    return {"mse": squared, "bce": entropy, "psnr_db": -10 * numpy.log10(numpy.maximum(squared, 1e-12))}


def code_usage(codes):
    """{"dead_share", "spread"} of codes [n, units, ...].

    A unit (a dimension or a feature map) is dead if it is 0 for every item. The spread is the standard deviation over
    items, averaged over all elements of the code.
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
    """Log of the mean weight over axis 0, [k, n] -> [n]: equation 8 of Burda et al. 2015."""
    return logsumexp(log_weights, 0) - numpy.log(len(log_weights))


def predictions_and_losses(logits, labels):
    """(predicted classes [n], -1 where a logit is not finite; -log softmax(logits)[labels] [n] in nats).

    `logits` [n, classes], `labels` integers [n].
    """
    predicted = numpy.where(numpy.isfinite(logits).all(1), logits.argmax(1), -1)
    with numpy.errstate(invalid="ignore"):  # an infinite logit gives a NaN loss
        return predicted, -log_softmax(logits.astype(numpy.float64), 1)[numpy.arange(len(labels)), labels]


def confusion(actual, predicted, classes):
    """Counts [actual class, predicted class]; items without a prediction (-1) are left out."""
    known = predicted >= 0
    counts = numpy.bincount(actual[known] * classes + predicted[known], minlength=classes**2)
    return counts.reshape(classes, classes)


def precision_and_recall(counts):
    """(precision, recall), each [classes], from confusion counts; NaN for a class never predicted, or without items."""
    with numpy.errstate(invalid="ignore"):
        right = numpy.diag(counts).astype(numpy.float64)
        return right / counts.sum(0), right / counts.sum(1)


def frechet_distance(first, second):
    """Frechet distance between Gaussians fitted to features [n, units] (Heusel et al. 2017, equation 6).

    |m1 - m2|^2 + trace(c1 + c2 - 2 (c1 c2)^(1/2)); the trace of the root is the sum of the square roots of
    the eigenvalues of c1^(1/2) c2 c1^(1/2), which is symmetric. NaN if a feature is not finite.
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
    """exp(entropy) of the predicted classes: their effective number, from 1 (one mode) to `classes` (uniform).

    Items without a prediction (-1) are left out; NaN if no item has one.
    """
    known = predicted[predicted >= 0]
    if not len(known):
        return numpy.nan
    share = numpy.bincount(known, minlength=classes) / len(known)
    return numpy.exp(-(share[share > 0] * numpy.log(share[share > 0])).sum())


def matched_agreement(asked, predicted, classes):
    """Share of items predicted as requested, under the best permutation of the requested classes.

    For a generator that is trained without labels (Chen et al. 2016). The permutation is the linear assignment of the
    largest sum. Items without a prediction (-1) count as wrong.
    """
    counts = confusion(asked, predicted, classes)
    return counts[scipy.optimize.linear_sum_assignment(counts, maximize=True)].sum() / len(asked)


def best_zero_unpool(images):
    """The closest image that is 0 except at the top left pixel of each 2x2 block."""
    return zero_unpool(images[..., ::2, ::2])


def best_nearest_unpool(images):
    """The closest image, in squared error, that is constant on each 2x2 block: the mean of the block."""
    return upsampled(_blocks(images).mean(-1))


def zero_unpool(images):
    """Unpooling with zeros: each pixel at the top left of a 2x2 block, zeros elsewhere."""
    result = numpy.zeros((*images.shape[:-2], 2 * images.shape[-2], 2 * images.shape[-1]), images.dtype)
    result[..., ::2, ::2] = images
    return result


def argmax_unpool(images):
    """Keep the largest pixel of each 2x2 block in place, the first of equals; zeros elsewhere."""
    blocks = _blocks(images)
    kept = numpy.where(numpy.arange(4) == blocks.argmax(-1)[..., None], blocks, 0)
    result = numpy.zeros_like(images)
    for place in range(4):
        result[..., place // 2 :: 2, place % 2 :: 2] = kept[..., place]
    return result


def _blocks(images):
    """The four pixels of each 2x2 block, [..., h, w] -> [..., h / 2, w / 2, 4]."""
    return numpy.stack([images[..., row::2, column::2] for row in (0, 1) for column in (0, 1)], -1)


def down_and_up(images):
    """A convolution with a 3x3 kernel of ones at stride 2, followed by its transpose."""
    ones, spread = numpy.ones((1, 1, 3, 3)), numpy.zeros_like(images)
    spread[..., ::2, ::2] = scipy.signal.convolve(images, ones, "same", "direct")[..., ::2, ::2]
    return scipy.signal.convolve(spread, ones, "same", "direct")


def normalised_convolution(images):
    """Convolution and batch normalisation of `zoo.models.operators.NormalisedConvolution`, from their definitions."""
    maps = numpy.arange(8.0)
    kernels = numpy.sin(1 + numpy.arange(72.0)).reshape(8, 3, 3)
    plain = [[scipy.signal.correlate2d(image[0], kernel, "valid") for kernel in kernels] for image in images]
    mean, variance, scale, shift = numpy.stack([maps / 8, 1 + maps, numpy.cos(maps), numpy.sin(maps)])[..., None, None]
    return (numpy.stack(plain) - mean) / numpy.sqrt(variance + 1e-3) * scale + shift


def upsampled(images):
    """Nearest-neighbour upsampling: each pixel becomes a 2x2 block."""
    return images.repeat(2, axis=2).repeat(2, axis=3)
