"""reports/<profile>/runs/<experiment>.json: what was trained, with which recipe, where."""

from typing import Any, Literal

from zoo import records
from zoo.records import OfExperiment, Record


class Run(Record):
    """One seed. `device` is cpu or cuda, `processor` the model of the CPU or GPU that computed; `tf32` is CUDA's."""

    checkpoint_sha256: str
    diverged_at_step: int | None
    diverged_in: Literal["loss", "weights"] | None
    device: str
    processor: str
    threads: int
    tf32: bool | None


class Runs(OfExperiment):
    """Every seed of an experiment. `recipe` is `params.experiments.Experiment.recipe`, `data` the data set's facts.

    `curve_sha256` is of the bytes of the curve's file; None in a record from before it was kept.
    """

    recipe: dict[str, Any]
    data: dict[str, Any]
    parameters: int
    seeds: dict[str, Run]
    curve_sha256: str | None = None


folder, path, read, write = records.files_of(Runs, "runs")
