"""The one registry of metrics: what each is called, what it means, and which way is good (metrics.yaml)."""

import functools
from pathlib import Path

import yaml

from zoo.records import Record


class Term(Record):
    """See the comments of metrics.yaml. `name`, `unit` and `meaning` are for readers."""

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
def terms():
    """{"verb.metric": Term} of all metrics, in the order in which they are shown."""
    text = Path(__file__).with_name("metrics.yaml").read_text(encoding="utf-8")
    return {key: Term.model_validate(term) for key, term in yaml.safe_load(text).items()}
