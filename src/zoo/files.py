"""Where each kind of output lies, and how it appears there: whole or not at all."""

import contextlib
import json
import math
import shutil
from pathlib import Path

from zoo import code
from zoo.errors import InputError


def data(profile, key):
    return Path("artifacts", profile, "data", f"{key}.npz")


def checkpoints(profile, name):
    return Path("artifacts", profile, "checkpoints", name)


def checkpoint(profile, name, seed):
    return checkpoints(profile, name) / f"{seed}.safetensors"


def progress(profile, name, seed):
    return checkpoints(profile, name) / f"{seed}.progress.npz"


def unfinished(profile, name, seed):
    """The state of a training under way: beside DVC's outputs, so that an interruption does not lose it."""
    return Path("artifacts", profile, "unfinished", name, f"{seed}.npz")


def graphs(profile, name):
    return Path("artifacts", profile, "graphs", name)


def graph(profile, name, seed, verb):
    return graphs(profile, name) / str(seed) / f"{verb}.onnx"


def predictions(profile, name):
    return Path("reports", profile, "predictions", f"{name}.csv")


def figures(profile, name):
    return Path("reports", profile, "figures", name)


def report(profile, file):
    return Path("reports", profile, file)


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary sibling of `path` to write a file or a folder at; rename it to `path` at the end.

    When the block raises, the temporary output is removed and whatever stood at `path` stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, retired = (path.with_name(f".{path.name}.{word}") for word in ("partial", "old"))
    remove(temporary)  # what a killed run left
    try:
        yield temporary
        code.verify()
        if path.is_dir() and temporary.exists():  # a folder does not replace one that has files
            remove(retired)
            path.rename(retired)
        temporary.replace(path)
    finally:
        remove(temporary)
        remove(retired)


def write_json(path, value):
    """Write `value` with sorted keys, floats at six significant digits, and null for what is not finite.

    A key has a line, and so has each dictionary that stands in a list: a table's row.
    """
    with replacing(path) as temporary:
        temporary.write_text(_text(_plain(value)) + "\n", encoding="utf-8")


def read_json(path):
    """The value that `write_json` wrote. Raises InputError where the file is missing or damaged."""
    try:
        return parse_json(Path(path).read_bytes(), path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro`, which makes it") from None


def parse_json(text, path):
    """The value that `text`, the content of the file at `path`, holds. Raises InputError where it is damaged."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): delete it and run `dvc repro` again") from None


def remove(path):
    """Remove a file or a folder with all that is in it, if it is there."""
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


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
