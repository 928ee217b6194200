"""The kinds of values that sections of params.yaml have in common."""

import re
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, Field

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
T = TypeVar("T")


def matching(pattern, name):
    """Validate that a text matches `pattern` as a whole; `name` says what such a text is."""

    def validate(text):
        if not re.fullmatch(pattern, text):
            raise ValueError(f"should be {name}")
        return text

    return AfterValidator(validate)


# DVC interpolates names into paths, stage names and commands, where a dot would end a key and a shell reads the rest.
Word = Annotated[str, matching("[a-z][a-z0-9_]*", "lower-case letters, digits and _, beginning with a letter")]
Metric = Annotated[str, matching(r"[a-z_]+\.[a-z_]+", "verb.metric")]


def distinct(values):
    """`values`, of which none stands there twice. Raises ValueError."""
    if len(set(values)) < len(values):
        raise ValueError("each may stand there once: remove the repeated one")
    return values


Distinct = Annotated[list[T], AfterValidator(distinct)]
SomeDistinct = Annotated[list[T], Field(min_length=1), AfterValidator(distinct)]


class Strict(BaseModel, extra="forbid", strict=True, frozen=True):
    """Knows its keys, takes no value of another type, and does not change."""


class PerProfile(Strict, Generic[T]):
    """A value that each profile has its own of."""

    quick: T
    full: T
