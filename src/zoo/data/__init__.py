"""A data source is a module here with one function, `load`, which returns (arrays, facts)."""

import inspect

from zoo import code
from zoo.data import archive
from zoo.errors import InputError


def load(source):
    """Return (arrays, facts) of a `zoo.params.data.Source`.

    To the source's own facts are added `source` and `sha256`. Raises InputError for a source that is not there, for
    missing or unknown arguments, and for whatever the source finds wrong.
    """
    name = source.source
    known = [unit.removeprefix("data/") for unit in code.units() if unit.startswith("data/")]
    if name not in known:
        raise InputError(f"params.yaml: data: source = {name!r} is unknown: use one of {', '.join(known)}")
    function = code.module(f"data/{name}").load
    try:
        inspect.signature(function).bind(**source.arguments)
    except TypeError as error:
        takes = ", ".join(inspect.signature(function).parameters) or "no further keys"
        raise InputError(f"params.yaml: data: source {name}: {error}; it takes {takes}") from None
    arrays, facts = function(**source.arguments)
    return arrays, {"source": name, "sha256": archive.sha256(arrays), **facts}
