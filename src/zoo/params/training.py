"""`device`, `threads`, `tf32` and `curve` of params.yaml: the options common to all training runs."""

from typing import Literal

from zoo import params
from zoo.params.fields import Count, Strict


class Curve(Strict):
    """Rows of the training curve, evenly spaced over a run. `validation_items` counts images or words."""

    training_rows: Count
    validation_items: Count
    validation_rows: Count


class Training(Strict):
    """Options of all training runs in one profile."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Count
    tf32: bool
    curve: Curve


def training(values, profile):
    """Return the `Training` options of a profile. `values` is all of params.yaml. Raises InputError."""
    found = {key: params.section(values, key) for key in ("device", "threads", "tf32")}
    return params.parse(Training, found | {"curve": params.of_profile(values, "curve", profile)})
