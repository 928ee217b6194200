"""The section `data` of params.yaml: the source of each data set."""

from typing import Literal

from zoo import params
from zoo.params.fields import PerProfile, Strict, Whole, Word


class Source(Strict, extra="allow"):
    """A module of zoo.data; extra keys are the arguments of its `load` (counts and seeds)."""

    __pydantic_extra__: dict[str, Whole]
    source: Word


Sources = dict[Literal["images", "text"], PerProfile[Source]]  # the whole section


def source(values, key, profile):
    """Return the `Source` of a data set in a profile. `values` is all of params.yaml. Raises InputError."""
    params.check_profile(profile)
    return params.load(Source, values, "data", key, profile)
