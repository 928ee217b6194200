"""`data` of params.yaml: where each data set comes from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from zoo import params
from zoo.params.fields import PerProfile, Whole, Word


class Source(BaseModel):
    """A module of zoo.data, and the arguments of its `load`: counts and seeds."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, Whole]
    source: Word

    @property
    def arguments(self) -> dict[str, int]:
        """What `load` is called with."""
        return dict(self.model_extra)


Sources = dict[Literal["images", "text"], PerProfile[Source]]  # the section as a whole


def source(values, key, profile):
    """The `Source` of one kind of data in a profile, from all of params.yaml. Raises InputError."""
    params.known_profile(profile)
    return params.load(Source, values, "data", key, profile)
