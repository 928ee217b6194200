"""Typed models of params.yaml: one module per section, so that a stage imports only the sections that it reads.

`zoo.check` validates the whole file against them and resolves the names in it.
"""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML, YAMLError

from zoo.errors import InputError

PATH = Path("params.yaml")
PROFILES = ("quick", "full")
WORDS = {
    "extra_forbidden": "unknown key; check its spelling or remove it",
    "missing": "is missing; add it",
    "model_type": "should be a map of keys to values",
    "dict_type": "should be a map of keys to values",
}


def read(path=PATH):
    """Return params.yaml as plain dictionaries, unvalidated. Raises InputError if it is missing or not valid YAML."""
    try:
        values = YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))  # DVC's own parser
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run this from the project's top folder") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a map of keys to values: restore it")
    return values


def load(model, values, *keys):
    """Return the section at the nested `keys` of params.yaml, parsed as `model`. Raises InputError as `parse` does."""
    return parse(model, section(values, *keys), ".".join(keys))


def parse(model, values, where=""):
    """Validate `values`, at the key `where` of params.yaml, as `model`: a typed model or, say, a dictionary of models.

    Raises InputError for the first error, naming the key, its value and what to do.
    """
    try:
        return TypeAdapter(model).validate_python(values)
    except ValidationError as error:
        first, *more = error.errors()
        keys = [where, *(str(key) for key in first["loc"] if key != "[key]")]
        place, rest = ".".join(filter(None, keys)) or "the whole", f" (and {len(more)} more)" if more else ""
        message = WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
        if first["input"] is None:
            message = "null is not allowed: set a value or remove the key"
        if first["type"] == "missing":
            raise InputError(f"{PATH}: {place} {message}{rest}") from None
        value = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
        raise InputError(f"{PATH}: {place}{value}: {message}{rest}") from None


def section(values, *keys):
    """Return the section of params.yaml at the nested `keys`. Raises InputError if it is missing."""
    for depth, key in enumerate(keys):
        if not isinstance(values, dict) or key not in values:
            raise InputError(f"{PATH}: {'.'.join(keys[: depth + 1])} is missing; add it")
        values = values[key]
    return values


def of_profile(values, key, profile, others=()):
    """Return the section `key` for a profile: its part `both`, if any, merged with the part named after the profile.

    `others` names parts that belong to no profile. Raises InputError if the profile is unknown, if a part is missing,
    unknown or not a map, or if a key is in both parts.
    """
    check_profile(profile)
    own = load(dict, values, key, profile)
    both = load(dict, values, key, "both") if "both" in values[key] else {}
    for part in values[key].keys() - {"both", *PROFILES, *others}:
        raise InputError(f"{PATH}: {key}.{part}: unknown key; move it into both, quick or full")
    for name in sorted(both.keys() & own.keys()):
        raise InputError(f"{PATH}: {key}.{profile}.{name} is also in {key}.both: remove one of them")
    return both | own


def check_profile(profile):
    """Raise InputError if the profile is unknown."""
    if profile not in PROFILES:
        raise InputError(f"profile {profile!r} is unknown: use one of {', '.join(PROFILES)}")
