"""Batches that never leave the device: the data lie there as one tensor, a batch is an index or a slice."""

import itertools

import torch

from zoo.errors import InputError


def images(arrays, split, device):
    """(images float32 [n, 1, 28, 28] in [0, 1], labels int64 [n]) of one split, on `device`."""
    pixels = torch.from_numpy(arrays[f"{split}_images"]).to(device)
    labels = torch.from_numpy(arrays[f"{split}_labels"]).to(device)
    return pixels[:, None].float() / 255, labels.long()


def shuffled(images, labels, batch, generator):
    """Yield (images, labels) batches for ever, each epoch in a new order; a short last batch is left out."""
    count = len(images)
    if batch > count:
        raise InputError(f"params.yaml: fit.batch = {batch} is more than the {count} training images: make it smaller")
    while True:
        order = torch.randperm(count, generator=generator, device=images.device)
        for start in range(0, count - batch + 1, batch):
            chosen = order[start : start + batch]
            yield images[chosen], labels[chosen]


def labelled_subset(images, labels, count, generator):
    """`count` images, the same number of every class, and their labels: what a semi-supervised run may look at."""
    classes = int(labels.max()) + 1
    each = count // classes
    order = torch.randperm(len(images), generator=generator, device=images.device)
    chosen = [order[labels[order] == digit][:each] for digit in range(classes)]
    if count % classes or any(len(index) < each for index in chosen):
        raise InputError(f"params.yaml: size.labelled = {count} is not {classes} equal shares of the training images")
    chosen = torch.cat(chosen)
    return images[chosen], labels[chosen]


def stretches(words, batch, time):
    """Yield one epoch of text as (words [batch, time], following words, fresh): row k continues in the next stretch.

    The text [n] is cut into `batch` rows read side by side; `fresh`, a bool tensor [], says that the state starts anew.
    This is the reading order of Zaremba et al. 2014 and of the TensorFlow tutorial.
    """
    rows = words[: len(words) // batch * batch].view(batch, -1)
    fresh = torch.arange(stretches_per_epoch(len(words), batch, time), device=words.device) == 0
    for place, begins in enumerate(fresh):
        start = place * time
        yield rows[:, start : start + time], rows[:, start + 1 : start + time + 1], begins


def stretches_per_epoch(words, batch, time):
    """How many stretches `words` words make. Raises InputError where there is none."""
    count = (words // batch - 1) // time
    if count < 1:
        asked = f"fit.batch = {batch} rows of fit.time = {time} words are more than a split of the text"
        raise InputError(f"params.yaml: {asked} or curve.validation_items has ({words} words): make one smaller")
    return count


def of_images(arrays, fit, labelled, validation_items, device, generator):
    """(endless training batches, validation batches, steps per epoch) for images; `fit` is that part of params.yaml."""
    pixels, labels = images(arrays, "train", device)
    training = shuffled(pixels, labels, fit.batch, generator)
    held_out = [values[:validation_items] for values in images(arrays, "validation", device)]
    if labelled is not None:
        few = labelled_subset(pixels, labels, labelled, generator)
        labelled_batches = shuffled(*few, min(fit.batch, labelled), generator)
        training = (every + known for every, known in zip(training, labelled_batches, strict=True))
        held_out *= 2
    return training, [tuple(held_out)], len(pixels) // fit.batch


def of_text(arrays, fit, labelled, validation_items, device, generator):
    """The same for text, which is read in order: nothing is drawn."""
    words, held_out = (torch.from_numpy(arrays[split]).to(device).long() for split in ("train", "validation"))
    per_epoch = stretches_per_epoch(len(words), fit.batch, fit.time)
    epochs = (stretches(words, fit.batch, fit.time) for _ in itertools.count())
    validation = list(stretches(held_out[:validation_items], fit.batch, fit.time))
    return itertools.chain.from_iterable(epochs), validation, per_epoch
