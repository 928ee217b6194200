"""Scores of generated samples by our own classifier: requested digit, coverage of classes, Frechet distance."""

import numpy

from zoo.evaluate import scores
from zoo.graphs import sessions


def judge(generator, classifier, real_images, real_labels, samples, batch):
    """Score `samples` images of a generator with a classifier's sessions {"classify", "encode"}.

    `generator` is an open session. Its noise or code is drawn from N(0, 1); its label, if it takes one, cycles through
    the classes. `real_images` float32 [n, 1, 28, 28] are the test set. Returns {"coverage" (effective number of
    classes), "frechet_distance" (of features, to half of the real images), "frechet_floor" (between the two halves),
    "judge_accuracy" (on the real images)}; with a label also {"agreement" (share classified as requested),
    "matched_agreement" (the same under the best permutation of the labels), "agreement_by_class"}.
    """
    source, classes = numpy.random.default_rng(0), int(real_labels.max()) + 1
    asked = numpy.arange(samples, dtype=numpy.int64) % classes
    feeds = {}
    for entry in generator.get_inputs():
        labelled = entry.name == "label"
        shape = (samples, *entry.shape[1:])
        feeds[entry.name] = asked if labelled else source.standard_normal(shape, dtype=numpy.float32)
    drawn = sessions.run_batched(generator, feeds, batch)["image"]

    def answers(verb, output, images):
        return sessions.run_batched(classifier[verb], {"image": images}, batch)[output]

    predicted, _ = scores.predictions_and_losses(answers("classify", "logits", drawn), asked)
    known, _ = scores.predictions_and_losses(answers("classify", "logits", real_images), real_labels)
    # The halves do not depend on the generator, so that all generators have the same floor.
    order = numpy.random.default_rng(1).permutation(len(real_images))
    half, other = (answers("encode", "code", real_images[index]) for index in numpy.array_split(order, 2))
    result = {
        "coverage": scores.coverage(predicted, classes),
        "frechet_distance": scores.frechet_distance(answers("encode", "code", drawn), half),
        "frechet_floor": scores.frechet_distance(other, half),
        "judge_accuracy": (known == real_labels).mean(),
    }
    if "label" in feeds:
        right = predicted == asked
        result["agreement"] = right.mean()
        result["matched_agreement"] = scores.matched_agreement(asked, predicted, classes)
        result["agreement_by_class"] = {digit: right[asked == digit].mean() for digit in range(classes)}
    return result
