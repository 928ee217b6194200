"""Paths of all outputs, and how they are read and written: atomically."""

import contextlib
import json
import operator
import re
import shutil
from pathlib import Path

from zoo import code
from zoo.errors import InputError


def at(place):
    """Return a function that fills the placeholders of `place`, in their order, and returns the path."""
    names = re.findall(r"{(\w+)}", place)
    return lambda *values: Path(place.format(**dict(zip(names, values, strict=True))))


data = at("artifacts/{profile}/data/{key}.npz")
checkpoints = at("artifacts/{profile}/checkpoints/{name}")
checkpoint = at("artifacts/{profile}/checkpoints/{name}/{seed}.safetensors")
progress = at("artifacts/{profile}/checkpoints/{name}/{seed}.progress.npz")
# The state of a running training. It is no DVC output, so it survives an interruption.
unfinished = at("artifacts/{profile}/unfinished/{name}/{seed}.npz")
graphs = at("artifacts/{profile}/graphs/{name}")
graph = at("artifacts/{profile}/graphs/{name}/{seed}/{verb}.onnx")
predictions = at("reports/{profile}/predictions/{name}.csv")
figures = at("reports/{profile}/figures/{name}")
report = at("reports/{profile}/{file}")


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary sibling of `path` to write a file or a folder at; rename it to `path` at the end.

    If the block raises, the temporary output is removed and an existing `path` is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, retired = (path.with_name(f".{path.name}.{word}") for word in ("partial", "old"))
    remove(temporary)  # left by a killed run
    try:
        yield temporary
        code.verify()
        if path.is_dir() and temporary.exists():  # a folder cannot replace one that has files
            remove(retired)
            path.rename(retired)
        temporary.replace(path)
    finally:
        remove(temporary)
        remove(retired)


@contextlib.contextmanager
def reading(path, *damage):
    """Raise InputError if the block does not find the file at `path`, or raises one of the errors `damage`."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro`, which makes it") from None
    except damage as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is damaged ({reason}): delete it and run `dvc repro` again") from None


def write_json(path, value):
    """Write `value` with sorted keys, floats to six significant digits, and null for non-finite numbers.

    NumPy scalars are written as numbers. Each key has its own line, and so has each dictionary in a list (a table row).
    """
    text = json.dumps(value, default=operator.methodcaller("item"))
    plain = json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}"), parse_constant=lambda name: None)
    with replacing(path) as temporary:
        temporary.write_text(_text(plain) + "\n", encoding="utf-8")


def read_json(path):
    """Return the value that `write_json` wrote. Raises InputError if the file is missing or damaged."""
    with reading(path, ValueError):
        return json.loads(Path(path).read_bytes())


def remove(path):
    """Remove a file, or a folder with its contents, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _text(value, indent="\n"):
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{deeper}{_line(key)}: {_text(value[key], deeper)}" for key in sorted(value)]
        return "{" + ",".join(lines) + indent + "}"
    if isinstance(value, list) and value:
        lines = [deeper + (_line(item) if isinstance(item, dict) else _text(item, deeper)) for item in value]
        return "[" + ",".join(lines) + indent + "]"
    return _line(value)


def _line(value):
    return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)
