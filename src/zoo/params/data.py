"""`data` of params.yaml: where each data set comes from."""

from typing import Any

from pydantic import BaseModel, ConfigDict, RootModel

from zoo import params
from zoo.params.fields import PerProfile, Word


class Source(BaseModel):
    """A module of zoo.data, and the arguments of its `load`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    source: Word

    @property
    def arguments(self) -> dict[str, Any]:
        """What `load` is called with."""
        return dict(self.model_extra)


def sources(values):
    """{key of a data set: PerProfile of its `Source`}, from all of params.yaml. Raises InputError."""
    return params.parse(RootModel[dict[Word, PerProfile[Source]]], params.section(values, "data"), "data").root
