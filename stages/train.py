"""Train every seed of one experiment: data -> checkpoints, training curve, and records of the runs."""

import contextlib
import functools
import hashlib

import _checkout  # noqa: F401, the stage runs this checkout's code
from tqdm import tqdm

from zoo import files, params, records
from zoo.data import archive
from zoo.params import experiments, training
from zoo.records import cost, curve, run
from zoo.stage import run as run_stage
from zoo.train import checkpoints, runs


def train(profile, name):
    """Train every seed of one experiment."""
    values = params.read()
    experiment = experiments.experiment(values, profile, name)
    settings = training.training(values, profile)
    arrays, facts = archive.read(files.data(profile, experiment.data))
    rows, trained, costs = [], {}, {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(files.replacing(files.checkpoints(profile, name)))
        table = stack.enter_context(files.replacing(curve.path(profile, name)))
        folder.mkdir()
        for seed in experiment.seeds:
            label = f"{name}, seed {seed}"
            with tqdm(total=experiment.steps, desc=label, unit="step", disable=None) as bar:
                on_log = functools.partial(show, label, bar)
                outcome = runs.train(experiment, settings, seed, arrays, facts, on_log)
            rows += [(seed, *row) for row in outcome.rows]
            checkpoint = folder / f"{seed}.safetensors"
            checkpoints.save(checkpoint, outcome.network, outcome.metadata)
            if outcome.progress is not None:
                archive.write(folder / files.progress(profile, name, seed).name, outcome.progress, {})
            trained[str(seed)] = run.Run(
                checkpoint_sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest(), device=outcome.device.type,
                processor=outcome.processor, threads=settings.threads,
                tf32=settings.tf32 if outcome.device.type == "cuda" else None,
                **{key: outcome.metadata[key] for key in ("diverged_at_step", "diverged_in")},
            )  # fmt: skip
            if outcome.cost is not None:
                costs[str(seed)] = outcome.cost
        curve.write(table, rows)
        run.write(run.Runs(
            experiment=name, profile=profile, recipe=experiment.recipe, data=facts,
            parameters=outcome.metadata["parameters"], versions=records.versions("numpy", "torch"), seeds=trained,
            curve_sha256=hashlib.sha256(table.read_bytes()).hexdigest(),
        ))  # fmt: skip
        cost.write(cost.Cost(experiment=name, profile=profile, training=costs))


def show(label, bar, step, losses):
    """Advance the progress bar; without a terminal, print ten lines per run instead."""
    done = step + 1
    if bar.disable and done * 10 // bar.total > bar.n * 10 // bar.total:
        shown = ", ".join(f"{player} {loss:.5g}" for player, loss in losses.items())
        print(f"{label}, step {step}: {shown}", flush=True)
        bar.n = done
    bar.set_postfix(losses, refresh=False)
    bar.update(done - bar.n)


if __name__ == "__main__":
    run_stage(train)
