"""One run: one seed of one experiment, from its entry in params.yaml and its data to a trained network."""

import hashlib
import json
from pathlib import Path

import torch

from zoo import checkpoints, params, seeding, training
from zoo.data import batches

BATCHES = {"images": batches.of_images, "text": batches.of_text}


def train(everything, entry, profile, seed, arrays, facts, watch):
    """Return (network, curve rows, record); `watch(step, losses)` is called whenever losses are read.

    The record is what the checkpoint and every graph made of it say of their origin: data, recipe and its sha256,
    seed, steps, `diverged_at_step` (null for a run that stayed finite), device, threads, torch version.
    """
    fit = {key: value[profile] if key == "labelled" else value for key, value in entry["fit"].items()}
    steps = entry["steps"][profile]
    device = seeding.prepare(seed, everything["threads"], everything["device"])
    # channels_last changes how convolutions are computed, not what: 1.4 times faster on a CPU
    network = params.build(entry, facts).to(device, memory_format=torch.channels_last)
    if entry["start"].startswith("checkpoints/"):
        checkpoints.begin_from(Path("artifacts", profile, entry["start"], f"{seed}.safetensors"), network)
    rows, diverged_at_step = [], None
    if steps:
        curve, order = everything["curve"], seeding.generator(seed, device)
        stream, held_out, epoch = BATCHES[entry["data"]](arrays, fit, curve["validation_items"], device, order)
        rows, diverged_at_step = training.fit(
            network, stream, entry["players"], steps, rate=_rate(fit, steps, epoch), clip=fit.get("clip"),
            log_every=max(steps // curve["training_rows"], 1), watch=watch,
            validate_every=max(steps // curve["validation_rows"][profile], 1), validation=held_out,
        )  # fmt: skip
    recipe = {key: entry[key] for key in ("file", "data", "start", "net", "players")} | {"fit": fit, "steps": steps}
    return network, rows, {
        "seed": seed,
        "data": facts,
        "recipe": recipe,
        "params_sha256": hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest(),
        "diverged_at_step": diverged_at_step,
        "parameters": sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": everything["threads"],
        "torch": torch.__version__.split("+")[0],
    }  # fmt: skip


def _rate(fit, steps, steps_per_epoch):
    if "decay" in fit:
        return training.decayed(steps_per_epoch, **fit["decay"])
    if "cooldown" in fit:
        return training.cooled(steps, fit["cooldown"])
    return lambda step: 1.0
