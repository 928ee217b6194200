"""Data sources: each module has one function, `load`, which returns (arrays, facts)."""

import inspect

from zoo import code
from zoo.data import archive
from zoo.errors import InputError


def load(source):
    """Return (arrays, facts) of a `zoo.params.data.Source`.

    `source` and `sha256` are added to the facts of the source. Raises InputError for an unknown source, for missing or
    unknown arguments, and for any error that the source reports.
    """
    name, units = source.source, code.units()
    if f"data/{name}" not in units:
        known = ", ".join(unit.removeprefix("data/") for unit in units if unit.startswith("data/"))
        raise InputError(f"params.yaml: data: source = {name!r} is unknown: use one of {known}")
    function = code.module(f"data/{name}").load
    takes = inspect.signature(function)
    try:
        takes.bind(**source.model_extra)
    except TypeError as error:
        known = ", ".join(takes.parameters) or "no further keys"
        raise InputError(f"params.yaml: data: source {name}: {error}; it takes {known}") from None
    arrays, facts = function(**source.model_extra)
    return arrays, {"source": name, "sha256": archive.sha256(arrays), **facts}
