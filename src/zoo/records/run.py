"""reports/<profile>/runs/<experiment>.json: what was trained, with which recipe, where."""

from pathlib import Path
from typing import Any, Literal

from zoo import records
from zoo.records import Record


class Run(Record):
    """One seed. `device` is cpu or cuda, `processor` the model of the CPU or GPU that computed."""

    checkpoint_sha256: str
    diverged_at_step: int | None
    diverged_in: Literal["loss", "weights"] | None
    device: str
    processor: str
    threads: int


class Runs(Record):
    """Every seed of an experiment. `recipe` is `params.experiments.Experiment.recipe`, `data` the data set's facts."""

    experiment: str
    profile: str
    recipe: dict[str, Any]
    data: dict[str, Any]
    parameters: int
    versions: dict[str, str]
    seeds: dict[str, Run]


def path(profile, name):
    """Where the record of an experiment lies."""
    return Path("reports", profile, "runs", f"{name}.json")


def read(profile, name, text=None):
    """The `Runs` of an experiment. Raises InputError, as `records.read`."""
    return records.read(Runs, path(profile, name), text)


def write(runs):
    """Write the `Runs` of an experiment."""
    records.write(path(runs.profile, runs.experiment), runs)
