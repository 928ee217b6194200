"""`data` of params.yaml: where each data set comes from."""

from typing import Literal

from zoo import params
from zoo.params.fields import PerProfile, Strict, Whole, Word


class Source(Strict, extra="allow"):
    """A module of zoo.data; beside it stand the arguments of its `load`: counts and seeds."""

    __pydantic_extra__: dict[str, Whole]
    source: Word


Sources = dict[Literal["images", "text"], PerProfile[Source]]  # the section as a whole


def source(values, key, profile):
    """The `Source` of one kind of data in a profile, from all of params.yaml. Raises InputError."""
    params.known_profile(profile)
    return params.load(Source, values, "data", key, profile)
