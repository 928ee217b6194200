"""reports/<profile>/curves/<experiment>.csv: losses and gradient norms of a training, by step."""

from pathlib import Path

import pandas

from zoo.errors import InputError

COLUMNS = ["seed", "step", "split", "player", "loss", "gradient_norm"]


def path(profile, name):
    """Where the curve of an experiment lies."""
    return Path("reports", profile, "curves", f"{name}.csv")


def write(at, rows):
    """Write rows of COLUMNS at a path: six significant digits, nan for what is not finite or not known."""
    pandas.DataFrame(rows, columns=COLUMNS).to_csv(at, index=False, float_format="%.6g", na_rep="nan")


def read(profile, name):
    """The curve of an experiment as a pandas.DataFrame. Raises InputError where it is missing or damaged."""
    at = path(profile, name)
    try:
        frame = pandas.read_csv(at)
    except FileNotFoundError:
        raise InputError(f"{at} is missing: run `dvc repro`, which makes it") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{at} is damaged ({error}): delete it and run `dvc repro` again") from None
    if not set(COLUMNS) <= set(frame.columns):
        found = ",".join(map(str, frame.columns))
        raise InputError(f"{at} is damaged (columns {found}): delete it and run `dvc repro` again")
    return frame
