"""Batches that never leave the device: the data lie there as one tensor, and a draw says which part a step reads."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from zoo.errors import InputError


class Stream(NamedTuple):
    """What a training reads. A draw is a tuple of integer tensors of fixed shape on the device.

    `draws` are endless; `batch_of(draw)` is computed on the device alone, so that it can be part of a captured step.
    `validation` holds whole batches.
    """

    draws: Iterator[tuple]
    batch_of: Callable
    validation: list
    steps_per_epoch: int


def images(arrays, split, device):
    """(images float32 [n, 1, 28, 28] in [0, 1], labels int64 [n]) of one split, on `device`."""
    pixels = torch.from_numpy(arrays[f"{split}_images"]).to(device)
    labels = torch.from_numpy(arrays[f"{split}_labels"]).to(device)
    return pixels[:, None].float() / 255, labels.long()


def shuffled(count, batch, device, generator):
    """Yield int64 [batch] of the numbers below `count` for ever, each epoch in a new order.

    A short last batch is left out. `generator` draws on the CPU: a seed means the same order on every device.
    """
    if batch > count:
        raise InputError(f"params.yaml: fit.batch = {batch} is more than the {count} training images: make it smaller")
    while True:
        order = torch.randperm(count, generator=generator).to(device)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]


def labelled_subset(labels, count, generator):
    """`count` places in `labels` [n], the same number of every class: what a semi-supervised run may look at."""
    classes = int(labels.max()) + 1
    each = count // classes
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    chosen = [order[labels[order] == digit][:each] for digit in range(classes)]
    if count % classes or any(len(index) < each for index in chosen):
        raise InputError(f"params.yaml: size.labelled = {count} is not {classes} equal shares of the training images")
    return torch.cat(chosen)


def stretches(words, batch, time):
    """One epoch of text as (`batch_of`, places): `batch_of((place,))` is (words, following words, fresh).

    The text [n] is cut into `batch` rows read side by side; words are [batch, time], row k continues in the next
    stretch, and `fresh`, a bool tensor [], says that the state starts anew. This is the reading order of Zaremba et al.
    2014 and of the TensorFlow tutorial.
    """
    rows = words[: len(words) // batch * batch].view(batch, -1)
    window = torch.arange(time, device=words.device)

    def batch_of(draw):
        (place,) = draw
        columns = place * time + window
        return rows.index_select(1, columns), rows.index_select(1, columns + 1), place == 0

    return batch_of, torch.arange(stretches_per_epoch(len(words), batch, time), device=words.device).unbind()


def stretches_per_epoch(words, batch, time):
    """How many stretches `words` words make. Raises InputError where there is none."""
    count = (words // batch - 1) // time
    if count < 1:
        asked = f"fit.batch = {batch} rows of fit.time = {time} words are more than a split of the text"
        raise InputError(f"params.yaml: {asked} or curve.validation_items has ({words} words): make one smaller")
    return count


def of_images(arrays, fit, labelled, validation_items, device, generator):
    """The `Stream` of images; `fit` is that part of params.yaml. With `labelled`, a labelled batch is beside each."""
    data = images(arrays, "train", device)
    held_out = [values[:validation_items] for values in images(arrays, "validation", device)]
    if labelled is None:
        draws = ((index,) for index in shuffled(len(data[1]), fit.batch, device, generator))
    else:
        chosen = labelled_subset(data[1], labelled, generator)
        known = (chosen[index] for index in shuffled(labelled, min(fit.batch, labelled), device, generator))
        draws = zip(shuffled(len(data[1]), fit.batch, device, generator), known, strict=True)
        held_out *= 2

    def batch_of(draw):
        return tuple(values[index] for index in draw for values in data)

    return Stream(draws, batch_of, [tuple(held_out)], len(data[1]) // fit.batch)


def of_text(arrays, fit, labelled, validation_items, device, generator):
    """The `Stream` of text, which is read in order: nothing is drawn by chance."""
    words, held_out = (torch.from_numpy(arrays[split]).to(device).long() for split in ("train", "validation"))
    batch_of, places = stretches(words, fit.batch, fit.time)
    validate, held_out_places = stretches(held_out[:validation_items], fit.batch, fit.time)
    validation = [validate((place,)) for place in held_out_places]
    return Stream(((place,) for place in itertools.cycle(places)), batch_of, validation, len(places))
