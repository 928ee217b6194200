"""Files of measurements, read with care: what is missing or damaged is named, with what to do about it."""

from collections.abc import Sequence
from pathlib import Path

import pandas

from zoo.errors import InputError


def table(path: Path, columns: Sequence[str]) -> pandas.DataFrame:
    """A CSV file that holds `columns`, perhaps others too. Raises InputError where it is missing or damaged."""
    try:
        frame = pandas.read_csv(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro`, which makes it") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and run `dvc repro` again") from None
    if not set(columns) <= set(frame.columns):
        found = ",".join(map(str, frame.columns))
        raise InputError(f"{path} is damaged (columns {found}): delete it and run `dvc repro` again")
    return frame


def mapping(value, key: str, path: Path) -> dict:
    """`value`, found under `key` in the file at `path`. Raises InputError where it is no mapping."""
    if not isinstance(value, dict):
        raise InputError(f"{path}: {key} = {value!r} is no mapping: delete the file and run `dvc repro` again")
    return value


def needed(value, key: str, path: Path):
    """value[key] of a mapping in the file at `path`. Raises InputError where there is none."""
    if not isinstance(value, dict) or key not in value:
        raise InputError(f"{path}: the key {key} is missing: delete the file and run `dvc repro` again")
    return value[key]
