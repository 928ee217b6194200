"""Train every seed of one experiment: data -> checkpoints and the training curve."""

import functools
import shutil

import numpy
import pandas
from tqdm import tqdm

from zoo import files, params
from zoo.data import archive
from zoo.stage import run
from zoo.train import checkpoints, runs


def train(profile, name):
    """Train every seed of one experiment."""
    everything, entry = params.experiment(profile, name)
    arrays, facts = archive.read(files.data(profile, entry["data"]))
    rows = []
    with (
        files.replacing(files.checkpoints(profile, name)) as folder,
        files.replacing(files.curve(profile, name)) as curve,
    ):
        folder.mkdir()
        for seed in everything["seeds"][profile]:
            label = f"{name}, seed {seed}"
            with tqdm(total=entry["steps"][profile], desc=label, unit="step", disable=None) as bar:
                watch = functools.partial(show, label, bar)
                outcome = runs.train(everything, entry, profile, seed, arrays, facts, watch)
            network, of_seed, record, progress = outcome
            rows += [(seed, *row) for row in of_seed]
            record |= {"experiment": name, "profile": profile}
            checkpoints.save(folder / f"{seed}.safetensors", network, record)
            if progress is not None:
                numpy.savez(folder / files.progress(profile, name, seed).name, **progress)
        columns = ["seed", "step", "split", "player", "loss", "gradient_norm"]
        pandas.DataFrame(rows, columns=columns).to_csv(curve, index=False, float_format="%.6g", na_rep="nan")
    shutil.rmtree(files.unfinished(profile, name, 0).parent, ignore_errors=True)


def show(label, bar, step, losses):
    """Move the progress bar; where there is no terminal, print ten plain lines a run instead."""
    done = step + 1
    if bar.disable and done * 10 // bar.total > bar.n * 10 // bar.total:
        shown = ", ".join(f"{player} {loss:.5g}" for player, loss in losses.items())
        print(f"{label}, step {step}: {shown}", flush=True)
        bar.n = done
    bar.set_postfix(losses, refresh=False)
    bar.update(done - bar.n)


if __name__ == "__main__":
    run(train)
