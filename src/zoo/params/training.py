"""`device`, `threads`, `tf32` and `curve` of params.yaml: what every training has in common."""

from typing import Literal

from zoo import params
from zoo.params.fields import Count, Strict


class Curve(Strict):
    """Rows of the training curve, spread evenly over a run; `validation_items` images or words of validation data."""

    training_rows: Count
    validation_items: Count
    validation_rows: Count


class Training(Strict):
    """Settings of every training in one profile."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Count
    tf32: bool
    curve: Curve


def training(values, profile):
    """The `Training` of a profile, from all of params.yaml (`params.read`). Raises InputError."""
    found = {key: params.section(values, key) for key in ("device", "threads", "tf32")}
    return params.parse(Training, found | {"curve": params.of_profile(values, "curve", profile)})
