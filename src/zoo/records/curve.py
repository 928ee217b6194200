"""reports/<profile>/curves/<experiment>.csv: losses and gradient norms of a training, by step."""

import pandas

from zoo import files

COLUMNS = ["seed", "step", "split", "player", "loss", "gradient_norm"]
path = files.at("reports/{profile}/curves/{name}.csv")


def write(file, rows):
    """Write rows of COLUMNS to a file: six significant digits, nan for what is not finite or not known."""
    pandas.DataFrame(rows, columns=COLUMNS).to_csv(file, index=False, float_format="%.6g", na_rep="nan")


def read(profile, name):
    """The curve of an experiment as a pandas.DataFrame. Raises InputError where it is missing or damaged."""
    file = path(profile, name)
    with files.reading(file, ValueError):
        frame = pandas.read_csv(file)
        if not set(COLUMNS) <= set(frame.columns):
            raise ValueError(f"columns {','.join(map(str, frame.columns))}")
    return frame
