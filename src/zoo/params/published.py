"""The sections `published` and `published_curves` of params.yaml: figures and logged losses of the write-ups."""

from typing import Annotated, Literal

from pydantic import Field

from zoo import params
from zoo.params.fields import Finite, Positive, Strict, Whole, Word


class Figure(Strict):
    """A published value. The relative `tolerance` and the direction `better` were set before our measurement."""

    value: Finite
    better: Literal["lower", "higher"]
    tolerance: Positive
    source: str


class Curve(Strict):
    """Losses from the log of a write-up, by step."""

    player: Word
    split: Literal["training", "validation"]
    source: str
    points: Annotated[dict[Whole, Finite], Field(min_length=1)]


Curves = dict[Word, list[Curve]]  # {experiment: [Curve, ...]}, the section `published_curves`


def figures(values):
    """Return {experiment: {"verb.metric": Figure}} from the section `published`. Raises InputError."""
    found = params.load(dict[Word, dict[Word, dict[Word, Figure]]], values, "published")
    return {
        name: {f"{verb}.{metric}": figure for verb, metrics in verbs.items() for metric, figure in metrics.items()}
        for name, verbs in found.items()
    }
