"""`evaluate` and `judge` of params.yaml."""

from typing import Annotated

from pydantic import AfterValidator

from zoo import params
from zoo.params.fields import Count, PerProfile, Strict, Word, distinct


class Evaluation(Strict):
    """`batch` images a call; `importance_samples`: k of the importance-weighted bound."""

    batch: Count
    importance_samples: Count


class Judge(Strict):
    """The classifier `by` which the generators `of` are judged, each on so many `samples`."""

    by: Word
    of: Annotated[list[Word], AfterValidator(distinct)]
    samples: PerProfile[Count]


def evaluation(values):
    """The section `evaluate` of all of params.yaml. Raises InputError."""
    return params.parse(Evaluation, params.section(values, "evaluate"), "evaluate")


def judge(values):
    """The section `judge` of all of params.yaml. Raises InputError."""
    return params.parse(Judge, params.section(values, "judge"), "judge")
