"""reports/<profile>/curves/<experiment>.csv: losses and gradient norms of a training, by step."""

import hashlib
import io
from pathlib import Path

import pandas

from zoo.errors import InputError
from zoo.records import run

COLUMNS = ["seed", "step", "split", "player", "loss", "gradient_norm"]


def path(profile, name):
    """Where the curve of an experiment lies."""
    return Path("reports", profile, "curves", f"{name}.csv")


def write(at, rows):
    """Write rows of COLUMNS at a path: six significant digits, nan for what is not finite or not known."""
    pandas.DataFrame(rows, columns=COLUMNS).to_csv(at, index=False, float_format="%.6g", na_rep="nan")


def read(profile, name):
    """The curve of an experiment as a pandas.DataFrame.

    Raises InputError where it is missing or damaged, or not the one that the record of the run names.
    """
    at = path(profile, name)
    try:
        content = at.read_bytes()
        frame = pandas.read_csv(io.BytesIO(content))
    except FileNotFoundError:
        raise InputError(f"{at} is missing: run `dvc repro`, which makes it") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{at} is damaged ({error}): delete it and run `dvc repro` again") from None
    if not set(COLUMNS) <= set(frame.columns):
        found = ",".join(map(str, frame.columns))
        raise InputError(f"{at} is damaged (columns {found}): delete it and run `dvc repro` again")
    named = run.read(profile, name).curve_sha256
    if not content.endswith(b"\n") or named not in (None, hashlib.sha256(content).hexdigest()):
        raise InputError(f"{at} is damaged (not as {run.path(profile, name)} names it): run `dvc repro` again")
    return frame
