"""reports/<profile>/curves/<experiment>.csv: losses and gradient norms of a training, by step."""

from pathlib import Path

import pandas

from zoo import files

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
    with files.reading(at, ValueError):
        frame = pandas.read_csv(at)
        if not set(COLUMNS) <= set(frame.columns):
            raise ValueError(f"columns {','.join(map(str, frame.columns))}")
    return frame
