"""`published` and `published_curves` of params.yaml: the figures of the write-ups, and the losses of their logs."""

from typing import Annotated, Literal

from pydantic import Field, RootModel

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


def figures(values):
    """{experiment: {"verb.metric": Figure}}, the section `published` of all of params.yaml. Raises InputError."""
    model = RootModel[dict[Word, dict[Word, dict[Word, Figure]]]]
    found = params.parse(model, params.section(values, "published"), "published").root
    return {
        name: {f"{verb}.{metric}": figure for verb, metrics in verbs.items() for metric, figure in metrics.items()}
        for name, verbs in found.items()
    }


def curves(values):
    """{experiment: [Curve, ...]}, the section `published_curves` of all of params.yaml. Raises InputError."""
    model = RootModel[dict[Word, list[Curve]]]
    return params.parse(model, params.section(values, "published_curves"), "published_curves").root
