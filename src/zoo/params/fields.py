"""Field types shared by the sections of params.yaml."""

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
    """Return a validator of strings that match all of `pattern`; the error message describes them by `name`."""

    def validate(text):
        if not re.fullmatch(pattern, text):
            raise ValueError(f"should be {name}")
        return text

    return AfterValidator(validate)


# DVC interpolates names into paths, stage names and shell commands, and reads a dot as the end of a key.
Word = Annotated[str, matching("[a-z][a-z0-9_]*", "lower-case letters, digits and _, beginning with a letter")]
MetricName = Annotated[str, matching(r"[a-z_]+\.[a-z_]+", "verb.metric")]


def distinct(values):
    """Return `values`. Raises ValueError if one is repeated."""
    if len(set(values)) < len(values):
        raise ValueError("should be distinct: remove the repeated one")
    return values


Distinct = Annotated[list[T], AfterValidator(distinct)]
SomeDistinct = Annotated[list[T], Field(min_length=1), AfterValidator(distinct)]


class Strict(BaseModel, extra="forbid", strict=True, frozen=True):
    """An immutable model that rejects unknown keys and values of another type."""


class PerProfile(Strict, Generic[T]):
    """A value for each profile."""

    quick: T
    full: T
