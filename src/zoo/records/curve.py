"""reports/<profile>/curves/<experiment>.csv: training curves: losses and gradient norms by step."""

import hashlib
import io

import pandas

from zoo import files
from zoo.records import run

COLUMNS = ["seed", "step", "split", "player", "loss", "gradient_norm"]
path = files.at("reports/{profile}/curves/{name}.csv")


def write(file, rows):
    """Write rows of COLUMNS as CSV: six significant digits, nan for non-finite or unknown values."""
    pandas.DataFrame(rows, columns=COLUMNS).to_csv(file, index=False, float_format="%.6g", na_rep="nan")


def read(profile, name):
    """Return the curve of an experiment as a pandas.DataFrame.

    Raises InputError if it is missing or damaged, or if its sha256 is not that in the record of the run.
    """
    file, named = path(profile, name), run.read(profile, name).curve_sha256
    with files.reading(file, ValueError):
        content = file.read_bytes()
        frame = pandas.read_csv(io.BytesIO(content))
        if not set(COLUMNS) <= set(frame.columns):
            raise ValueError(f"columns {','.join(map(str, frame.columns))}")
        if not content.endswith(b"\n") or named not in (None, hashlib.sha256(content).hexdigest()):
            raise ValueError(f"its sha256 is not that in {run.path(profile, name)}")
    return frame
