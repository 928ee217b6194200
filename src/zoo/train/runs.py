"""A run trains one seed of one experiment, from its entry in params.yaml and its data."""

import hashlib
import json
import resource
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zoo import code, files, hardware
from zoo.errors import InputError
from zoo.graphs import verbs
from zoo.params import experiments
from zoo.records.cost import Training as Cost
from zoo.train import batches, checkpoints, loop, seeding

BATCHES = {"images": batches.of_images, "text": batches.of_text}
# The faster format for convolutions on each device: by a factor of 1.4 on a CPU, and of up to 2 with the deterministic
# kernels of a GPU.
MEMORY_FORMATS = {"cpu": torch.channels_last, "cuda": torch.contiguous_format}
SECONDS_BETWEEN_STATES = 30


class Outcome(NamedTuple):
    """The result of a run.

    `rows` are the rows of the training curve. `metadata` is stored in the checkpoint: experiment, profile, seed, recipe
    and its sha256, data, number of parameters, `diverged_at_step` (None if the run stayed finite) and `diverged_in`.
    It does not depend on the machine. `progress` is {"steps": [k], "images": uint8 [k, 10, 28, 28]}: the images that a
    generative network drew from the same noise at each validation; None for other networks. `cost` is None for an
    experiment without training steps.
    """

    network: torch.nn.Module
    rows: list
    metadata: dict[str, Any]
    progress: dict | None
    device: torch.device
    processor: str
    cost: Cost | None


def train(experiment, settings, seed, arrays, facts, on_log):
    """Train one seed of an `experiments.Experiment` with `params.training.Training` settings; return its `Outcome`.

    `on_log(step, losses)` is called whenever losses are read. An interrupted run resumes from its last saved state, and
    a finished one is reused, if recipe, data, code, device, processor, threads and torch are unchanged. Both are saved
    at `files.unfinished` until `zoo clean`.
    """
    device = seeding.prepare(seed, settings.threads, settings.device, settings.tf32)
    processor = torch.cuda.get_device_name() if device.type == "cuda" else hardware.cpu()
    where = f"models.{experiment.name}.net"
    network = experiments.build(experiment.file, experiment.net, facts, where)
    network = network.to(device, memory_format=MEMORY_FORMATS[device.type])
    begun_from = _begin(experiment, seed, network)
    metadata = _metadata(experiment, seed, facts, network)
    rows, diverged, progress, cost = [], None, None, None
    if experiment.steps:
        place = files.unfinished(experiment.profile, experiment.name, seed)
        computed = code.identity(["train", f"models/{experiment.file}"])
        # Everything that the weights and the curve depend on: a saved state is used only if this is equal.
        identity = _sha256([metadata, settings.model_dump(), begun_from, device.type, processor, computed])
        state = _state(place, identity, device)
        progress = {"steps": [], "images": []} if hasattr(network, "generate") else None
        progress = state["progress"] if state else progress
        if state is not None and state["finished"]:
            network.load_state_dict(state["network"])
            rows, diverged = [tuple(row) for row in state["rows"]], state["finished"]["diverged"]
            cost = Cost.model_validate(state["finished"]["cost"])
        else:
            began, began_cpu = time.perf_counter(), time.process_time()
            keep = _Keeper(place, identity, progress)
            rows, diverged = _fit(experiment, settings, seed, network, arrays, device, progress, state, on_log, keep)
            cost = Cost(
                seconds=time.perf_counter() - began, cpu_seconds=time.process_time() - began_cpu,
                memory_peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                processor=processor, resumed_at_step=state["step"] if state else None,
            )  # fmt: skip
            finished = {"diverged": diverged, "cost": cost.model_dump()}
            keep.finish({"network": network.state_dict(), "rows": rows}, finished)
    metadata |= dict(zip(("diverged_at_step", "diverged_in"), diverged or (None, None), strict=True))
    if progress:
        progress["images"] = [images.cpu().numpy() for images in progress["images"]]
    return Outcome(network, rows, metadata, progress, device, processor, cost)


def _begin(experiment, seed, network):
    """Load the weights of the checkpoint that `start` names, if any; return the sha256 of its file, or None."""
    if not experiment.start.startswith("checkpoints/"):
        return None
    start = Path("artifacts", experiment.profile, experiment.start, f"{seed}.safetensors")
    checkpoints.load_matching(start, network)
    return hashlib.sha256(start.read_bytes()).hexdigest()


def _metadata(experiment, seed, facts, network):
    return {
        "experiment": experiment.name, "profile": experiment.profile, "seed": seed, "data": facts,
        "recipe": experiment.recipe, "params_sha256": _sha256(experiment.recipe),
        "parameters": sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
    }  # fmt: skip


def _sha256(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _fit(experiment, settings, seed, network, arrays, device, progress, state, on_log, keep):
    fit, steps, curve = experiment.fit, experiment.steps, settings.curve
    stream = BATCHES[experiment.data](
        arrays, fit, experiment.labelled, curve.validation_items, device, seeding.generator(seed)
    )
    return loop.fit(
        network, stream.draws, experiment.recipe["players"], steps, batch_of=stream.batch_of, clip=fit.clip,
        rate=_rate(fit, steps, stream.steps_per_epoch), on_log=on_log,
        log_every=loop.round_steps(max(steps // curve.training_rows, 1)), validation=stream.validation,
        validate_every=loop.round_steps(max(steps // curve.validation_rows, 1)),
        on_validate=lambda step: _draw(network, progress, step), state=state, on_checkpoint=keep.save,
    )  # fmt: skip


def _rate(fit, steps, steps_per_epoch):
    if fit.decay is not None:
        return loop.decayed(steps_per_epoch, fit.decay.after_epochs, fit.decay.factor)
    if fit.cooldown is not None:
        return loop.cooled(steps, fit.cooldown)
    return lambda step: 1.0


class _Keeper:
    """Saves the state of a run at `place`, at most once per SECONDS_BETWEEN_STATES, and its result at the end."""

    def __init__(self, place, identity, progress):
        self._place, self._kept, self._at = place, {"identity": identity, "progress": progress}, time.monotonic()

    def save(self, snapshot):
        """Save `snapshot()` if the last save is SECONDS_BETWEEN_STATES ago."""
        if time.monotonic() - self._at >= SECONDS_BETWEEN_STATES:
            self.finish(snapshot(), None)

    def finish(self, state, finished):
        """Save a state; `finished` is None while the run is unfinished."""
        checkpoints.save_state(self._place, state | self._kept | {"finished": finished})
        self._at = time.monotonic()


def _state(place, identity, device):
    """The saved state at `place`, or None if it is missing, damaged or from another run."""
    try:
        state = checkpoints.load_state(place, device)
    except InputError:
        return None
    return state if state["identity"] == identity else None


def _draw(network, progress, step):
    """Add ten images of a generative network to `progress`, from fixed noise, one per class if it takes a label."""
    if progress is None:
        return
    device, source, feeds = next(network.parameters()).device, torch.Generator().manual_seed(0), {}
    for name, (kind, axes) in verbs.inputs(network, "generate").items():
        shape = [10 if axis == "batch" else axis for axis in axes]
        value = torch.arange(10) if kind == "int64" else torch.randn(shape, generator=source)
        feeds[name] = value.to(device)
    network.eval()
    with torch.no_grad():
        images = network.generate(**feeds)[:, 0].nan_to_num().clamp(0, 1)
    network.train()
    progress["steps"].append(step)
    progress["images"].append((images * 255).round().byte())
