"""One run: one seed of one experiment, from its entry in params.yaml and its data to a trained network."""

import ast
import hashlib
import inspect
import json
import time
import zipfile
from pathlib import Path

import numpy
import torch

from zoo import files, params
from zoo.graphs import verbs
from zoo.models import layers
from zoo.train import batches, checkpoints, loop, seeding

BATCHES = {"images": batches.of_images, "text": batches.of_text}
SECONDS_BETWEEN_STATES = 30


def train(everything, entry, profile, seed, arrays, facts, watch):
    """Return (network, curve rows, record, progress); `watch(step, losses)` is called whenever losses are read.

    The record is what the checkpoint and every graph made of it say of their origin: data, recipe and its sha256,
    seed, steps, `diverged_at_step` (null for a run that stayed finite) and `diverged_in`, device, threads, torch
    version. `progress` is {"steps": [k], "images": uint8 [k, 10, 28, 28]}: what a network that generates drew,
    from one noise, beside every validation; None for the others.

    An interrupted run goes on from its last state, and a finished one is not run again, as long as recipe, data,
    code, device, threads and torch are the same: `files.unfinished` holds both until the stage removes them.
    """
    fit = {key: value[profile] if key == "labelled" else value for key, value in entry["fit"].items()}
    steps, curve = entry["steps"][profile], everything["curve"]
    device = seeding.prepare(seed, everything["threads"], everything["device"])
    # channels_last changes how convolutions are computed, not what: 1.4 times faster on a CPU
    network = params.build(entry, facts).to(device, memory_format=torch.channels_last)
    begun_from = None
    if entry["start"].startswith("checkpoints/"):
        start = Path("artifacts", profile, entry["start"], f"{seed}.safetensors")
        checkpoints.begin_from(start, network)
        begun_from = hashlib.sha256(start.read_bytes()).hexdigest()
    recipe = {key: entry[key] for key in ("file", "data", "start", "net", "players")} | {"fit": fit, "steps": steps}
    record = {
        "seed": seed,
        "data": facts,
        "recipe": recipe,
        "params_sha256": hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest(),
        "parameters": sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": everything["threads"],
        "torch": torch.__version__.split("+")[0],
    }
    rows, diverged, progress = [], None, None
    if steps:
        place, identity = files.unfinished(profile, entry["name"], seed), _identity(record, curve, begun_from, network)
        state, progress = _state(place, identity, device), _progress(network)
        if state is not None and progress is not None:
            progress |= state["progress"]
        kept_at = time.monotonic()

        def keep(snapshot, finished=None):
            nonlocal kept_at
            if finished is None and time.monotonic() - kept_at < SECONDS_BETWEEN_STATES:
                return
            with files.replacing(place) as temporary:
                kept = {"identity": identity, "finished": finished, "progress": progress}
                torch.save(snapshot() | kept, temporary)
            kept_at = time.monotonic()

        if state is not None and state["finished"]:
            network.load_state_dict(state["network"])
            rows, diverged = state["rows"], state["finished"]["diverged"]
        else:
            order = seeding.generator(seed, device)
            stream, held_out, epoch = BATCHES[entry["data"]](arrays, fit, curve["validation_items"], device, order)
            rows, diverged = loop.fit(
                network, stream, entry["players"], steps, rate=_rate(fit, steps, epoch), clip=fit.get("clip"),
                log_every=loop.round_steps(max(steps // curve["training_rows"], 1)), watch=watch,
                validate_every=loop.round_steps(max(steps // curve["validation_rows"][profile], 1)),
                validation=held_out, look=lambda step: _look(network, progress, step), state=state, keep=keep,
            )  # fmt: skip
            keep(lambda: {"network": network.state_dict(), "rows": rows}, finished={"diverged": diverged})
    step, where = diverged or (None, None)
    return network, rows, record | {"diverged_at_step": step, "diverged_in": where}, progress


def _rate(fit, steps, steps_per_epoch):
    if "decay" in fit:
        return loop.decayed(steps_per_epoch, **fit["decay"])
    if "cooldown" in fit:
        return loop.cooled(steps, fit["cooldown"])
    return lambda step: 1.0


def _identity(record, curve, begun_from, network):
    """What a kept state must agree with to be gone on from: everything that the weights and the curve depend on."""
    code = [_code(inspect.getfile(part)) for part in (train, loop, seeding, batches, layers, type(network))]
    return hashlib.sha256(json.dumps([record, curve, begun_from, code], sort_keys=True).encode()).hexdigest()


def _code(path):
    """A source file as Python reads it: another comment, layout or docstring is not another computation."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    for part in ast.walk(tree):
        if isinstance(part, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(part) is not None:
            del part.body[0]
    return ast.dump(tree)


def _state(path, identity, device):
    """The kept state at `path`, or None where there is none, a damaged one, or that of another run."""
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip():  # torch.load does not look at the checksums that torch.save writes
                return None
        state = torch.load(path, map_location=device, weights_only=False)
        if state["identity"] != identity:
            return None
    except Exception:  # each byte of it, when wrong, raises its own
        return None
    if "random" in state:
        state["random"], state["cuda_random"] = state["random"].cpu(), [one.cpu() for one in state["cuda_random"]]
    return state


def _progress(network):
    return {"steps": [], "images": []} if hasattr(network, "generate") else None


def _look(network, progress, step):
    """Let a network that generates draw ten images, one of each class where it is told which, from one noise."""
    if progress is None:
        return
    device, source, feeds = next(network.parameters()).device, torch.Generator().manual_seed(0), {}
    for name, (kind, axes) in verbs.inputs(network, "generate").items():
        shape = [10 if axis == "batch" else axis for axis in axes]
        value = torch.arange(10) if kind == "int64" else torch.randn(shape, generator=source)
        feeds[name] = value.to(device)
    network.eval()
    with torch.no_grad():
        images = network.generate(**feeds)[:, 0].nan_to_num().clamp(0, 1).cpu().numpy()
    network.train()
    progress["steps"].append(step)
    progress["images"].append(numpy.round(images * 255).astype(numpy.uint8))
