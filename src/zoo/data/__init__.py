"""A data source is a module here with one function, `load`, which returns (arrays, facts)."""

import importlib
import inspect

from zoo.data import archive
from zoo.errors import InputError

SOURCES = ("digits", "mnist", "grammar", "ptb")


def load(sources, key, profile):
    """Return (arrays, facts) of one entry of `sources`, the `data` part of params.yaml.

    An entry is such as {source: mnist, validation: 5000}. To the source's own facts are added `source` and
    `sha256`. Raises InputError for a key, profile or source that is not there, for missing or unknown keys
    of the entry, and for whatever the source finds wrong.
    """
    if profile not in sources.get(key, {}):
        known = ", ".join(f"{key}.{profile}" for key in sources for profile in sources[key])
        raise InputError(f"params.yaml data.{key}.{profile}: not there; choose one of {known}")
    where = f"params.yaml data.{key}.{profile}"
    values = dict(sources[key][profile])
    source = values.pop("source", None)
    if source not in SOURCES:
        raise InputError(f"{where}.source: {source!r} is unknown; choose one of {', '.join(SOURCES)}")
    function = importlib.import_module(f"zoo.data.{source}").load
    signature = inspect.signature(function)
    try:
        signature.bind(**values)
    except TypeError as error:
        keys = ", ".join(signature.parameters) or "no further keys"
        raise InputError(f"{where}: {error}; source {source} takes {keys}") from None
    arrays, facts = function(**values)
    return arrays, {"source": source, "sha256": archive.sha256(arrays), **facts}
