"""Checkpoints: trained weights with the metadata of their run (safetensors), and the state of an unfinished run."""

import contextlib
import json

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from zoo.data import archive
from zoo.errors import InputError

# The keys of a run's metadata (`zoo.train.runs.Outcome`) that other stages read from its checkpoint.
KEYS = {"experiment", "profile", "seed", "recipe", "data", "params_sha256", "diverged_at_step"}


def save(path, network, run):
    """Write the state_dict of `network` and the dictionary `run` to `path`; equal inputs give equal bytes."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(state, path, metadata={"run": json.dumps(run, sort_keys=True)})


def load_metadata(path):
    """The dictionary `run` that was saved with the weights. Raises InputError if any of KEYS is missing."""
    with _readable(path), safe_open(path, "pt") as file:
        run = json.loads(file.metadata()["run"])
        if missing := sorted(KEYS - set(run)) or sorted({"file", "net"} - set(run["recipe"])):
            raise ValueError(f"its run metadata lacks {', '.join(missing)}")
        return run


def seeds(folder):
    """The seeds of all checkpoints in a folder, in ascending order."""
    return sorted(int(path.stem) for path in folder.glob("*.safetensors"))


def load(path, network):
    """Load the weights at `path` into `network`; all names and shapes must match."""
    with _readable(path):
        network.load_state_dict(load_file(path))


def load_matching(path, network):
    """Load the tensors that match `network` in name and shape; return their number. Raises InputError if none match."""
    with _readable(path):
        stored = load_file(path)
    own = network.state_dict()
    shared = {name: value for name, value in stored.items() if name in own and own[name].shape == value.shape}
    if not shared:
        raise InputError(f"{path} shares no weights with {network.__module__}: change start: in params.yaml")
    network.load_state_dict(shared, strict=False)
    return len(shared)


def save_state(path, state):
    """Write nested dictionaries and lists of tensors and plain values to `path` atomically."""
    arrays = {}

    def put(tensor):
        arrays[str(len(arrays))] = tensor.cpu().numpy()
        return {"array": str(len(arrays) - 1)}

    archive.write(path, arrays, json.loads(json.dumps(state, default=put)))


def load_state(path, device):
    """Read what `save_state` wrote: tensors on `device`, tuples as lists, keys as strings.

    Raises InputError if the file is missing or damaged: the archive has a checksum of each array.
    """
    arrays, state = archive.read(path)

    def fill(value):
        return torch.from_numpy(arrays[value["array"]]).to(device) if value.keys() == {"array"} else value

    return json.loads(json.dumps(state), object_hook=fill)


@contextlib.contextmanager
def _readable(path):
    """Turn the errors of safetensors and torch about a damaged or foreign checkpoint into an InputError."""
    if not path.exists():
        raise InputError(f"{path} is missing: run `dvc repro`, which trains it")
    try:
        yield
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        wrong = f"{path} is damaged or of another network ({' '.join(str(error).split())})"
        raise InputError(f"{wrong}: delete it and run `dvc repro` again") from None
