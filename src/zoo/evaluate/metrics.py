"""The registry of metrics, metrics.yaml: the name, meaning and better direction of each."""

import functools
from pathlib import Path

import yaml

from zoo.records import Record


class Metric(Record):
    """A metric; metrics.yaml explains the fields. `name`, `unit` and `meaning` are for display."""

    name: str
    meaning: str
    unit: str = ""
    floor: str | None = None
    better: str | None = None
    share: bool = False
    of_seeds: bool = False
    rounding: float = 0.0
    by_class: bool = False
    needs: str | None = None
    timed: tuple[str, ...] = ()


@functools.cache
def known_metrics():
    """{"verb.metric": Metric} of all metrics, in display order."""
    text = Path(__file__).with_name("metrics.yaml").read_text(encoding="utf-8")
    return {key: Metric.model_validate(metric) for key, metric in yaml.safe_load(text).items()}
