"""`published` and `published_curves` of params.yaml: the figures of the write-ups, and the losses of their logs."""

from typing import Annotated, Literal

from pydantic import Field

from zoo import params
from zoo.params.fields import Finite, Positive, Strict, Whole, Word


class Figure(Strict):
    """A published value; `tolerance` is relative and, like the direction, set before ours was measured."""

    value: Finite
    better: Literal["lower", "higher"]
    tolerance: Positive
    source: str


class Curve(Strict):
    """Losses that a write-up's log prints, by step."""

    player: Word
    split: Literal["training", "validation"]
    source: str
    points: Annotated[dict[Whole, Finite], Field(min_length=1)]


Curves = dict[Word, list[Curve]]  # {experiment: [Curve, ...]}, the section `published_curves`


def figures(values):
    """{experiment: {"verb.metric": Figure}}, the section `published` of all of params.yaml. Raises InputError."""
    found = params.load(dict[Word, dict[Word, dict[Word, Figure]]], values, "published")
    return {
        name: {f"{verb}.{metric}": figure for verb, metrics in verbs.items() for metric, figure in metrics.items()}
        for name, verbs in found.items()
    }
