"""params.yaml: one module a section, each with the typed model of it, so that a stage imports only what it reads.

`zoo.check` holds the whole file to all of them, and the names in it to what they refer to.
"""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML, YAMLError

from zoo.errors import InputError

PATH = Path("params.yaml")
PROFILES = ("quick", "full")
WORDS = {
    "extra_forbidden": "no such key is known here; check its spelling or remove it",
    "missing": "is missing; add it",
    "model_type": "should be a map of keys to values",
    "dict_type": "should be a map of keys to values",
}


def read(path=PATH):
    """All of params.yaml as plain dictionaries, not yet checked. Raises InputError where it is missing or no YAML."""
    try:
        values = YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))  # DVC's own parser
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run this from the project's top folder") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no map of keys to values: restore it")
    return values


def load(model, values, *keys):
    """What stands in all of params.yaml at these keys, as `parse` returns it. Raises InputError where it is missing."""
    return parse(model, section(values, *keys), ".".join(keys))


def parse(model, values, where=""):
    """`values`, found at the key `where` of params.yaml, as a typed model, or a type such as a dictionary of models.

    Raises InputError on the first thing wrong, naming the key, its value, and what to do.
    """
    try:
        return TypeAdapter(model).validate_python(values)
    except ValidationError as error:
        first, *more = error.errors()
        keys = [where, *(str(key) for key in first["loc"] if key != "[key]")]
        place, rest = ".".join(filter(None, keys)) or "the whole", f" (and {len(more)} more)" if more else ""
        message = WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
        if first["input"] is None:
            message = "null is no value here: give one, or remove the key"
        if first["type"] == "missing":
            raise InputError(f"{PATH}: {place} {message}{rest}") from None
        value = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
        raise InputError(f"{PATH}: {place}{value}: {message}{rest}") from None


def section(values, *keys):
    """What stands in params.yaml under a key within a key and so on. Raises InputError where it is missing."""
    for depth, key in enumerate(keys):
        if not isinstance(values, dict) or key not in values:
            raise InputError(f"{PATH}: {'.'.join(keys[: depth + 1])} is missing; add it")
        values = values[key]
    return values


def of_profile(values, key, profile, others=()):
    """The section `key`, whose values stand under `both` where they are the same in each profile, else under its name.

    `others` names parts of it that belong to no profile. Raises InputError for an unknown profile, a part that is
    missing, unknown or no map, and a key that stands in both parts.
    """
    known_profile(profile)
    both, own = (load(dict, values, key, part) for part in ("both", profile))
    for part in values[key].keys() - {"both", *PROFILES, *others}:
        raise InputError(f"{PATH}: {key}.{part}: no such key is known here; move it into both, quick or full")
    for name in sorted(both.keys() & own.keys()):
        raise InputError(f"{PATH}: {key}.{profile}.{name} stands in {key}.both too: remove one of them")
    return both | own


def known_profile(profile):
    """Raises InputError for a profile that there is not."""
    if profile not in PROFILES:
        raise InputError(f"profile {profile!r} is unknown: use one of {', '.join(PROFILES)}")
