"""reports/<profile>/curves/<experiment>.csv: losses and gradient norms of a training, by step."""

import hashlib
import io

import pandas

from zoo import files
from zoo.records import run

COLUMNS = ["seed", "step", "split", "player", "loss", "gradient_norm"]
path = files.at("reports/{profile}/curves/{name}.csv")


def write(file, rows):
    """Write rows of COLUMNS to a file: six significant digits, nan for what is not finite or not known."""
    pandas.DataFrame(rows, columns=COLUMNS).to_csv(file, index=False, float_format="%.6g", na_rep="nan")


def read(profile, name):
    """The curve of an experiment as a pandas.DataFrame.

    Raises InputError where it is missing or damaged, or not the one that the record of the run names.
    """
    file, named = path(profile, name), run.read(profile, name).curve_sha256
    with files.reading(file, ValueError):
        content = file.read_bytes()
        frame = pandas.read_csv(io.BytesIO(content))
        if not set(COLUMNS) <= set(frame.columns):
            raise ValueError(f"columns {','.join(map(str, frame.columns))}")
        if not content.endswith(b"\n") or named not in (None, hashlib.sha256(content).hexdigest()):
            raise ValueError(f"not as {run.path(profile, name)} names it")
    return frame
