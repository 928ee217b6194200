"""reports/<profile>/runs/<experiment>.json: what was trained, with which recipe and on which hardware."""

from typing import Any, Literal

from zoo import records
from zoo.records import OfExperiment, Record


class Run(Record):
    """One seed. `device` is cpu or cuda, `processor` the model of that CPU or GPU; `tf32` applies to CUDA only."""

    checkpoint_sha256: str
    diverged_at_step: int | None
    diverged_in: Literal["loss", "weights"] | None
    device: str
    processor: str
    threads: int
    tf32: bool | None


class Runs(OfExperiment):
    """All seeds of an experiment. `recipe` is `params.experiments.Experiment.recipe`, `data` the data set's facts.

    `curve_sha256` is that of the curve's file; None in records older than this field.
    """

    recipe: dict[str, Any]
    data: dict[str, Any]
    parameters: int
    seeds: dict[str, Run]
    curve_sha256: str | None = None


folder, path, read, write = records.files_of(Runs, "runs")
