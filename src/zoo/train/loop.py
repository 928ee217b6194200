"""The training loop of all experiments: one or more players, each with a loss and an optimiser, take turns."""

import contextlib
import functools
import inspect
import sys

import torch

from zoo.errors import InputError

PLAYERS = "params.yaml: players"
EAGER_STEPS = 3  # before the capture: libraries, optimisers and carried states allocate memory on first use


def fit(network, draws, players, steps, *, batch_of=lambda draw: draw, rate=lambda step: 1.0, clip=None, log_every=1,
        validate_every=None, validation=(), on_log=lambda step, losses: None, on_validate=lambda step: None, state=None,
        on_checkpoint=lambda snapshot: None, capture=True):  # fmt: skip
    """Train `network` for `steps` steps; return (curve rows, None), or (curve rows, (step, cause)) if it diverged.

    `draws` is an endless iterator, `batch_of(draw)` a batch, `validation` a list of batches, `players` that section of
    params.yaml. For each (player, loss) that `network.losses(batch)` yields, the loop computes the gradients of that
    player's weights only, clips them to the global norm `clip`, updates the weights and resumes the generator.
    `rate(step)` scales all learning rates.

    Rows are (step, split, player, loss, gradient norm). A training row is one batch before its update, with the norm
    before clipping; a validation row is the mean over `validation` in evaluation mode, without a norm. A step never
    waits for the device: losses are read every `log_every` steps, and before the first of those at 1, 2, 4, 8, ...
    If a loss or a weight is not finite, training stops (cause "loss" or "weights") and the network is restored to the
    last reading at which everything was finite. `on_validate(step)` is called after each validation.

    On CUDA, a step is captured as a CUDA graph after `EAGER_STEPS` steps and then replayed, unless `capture` is false.
    If it cannot be captured, the steps stay eager and a line on stderr says why.

    At each reading, `on_checkpoint` receives a function that returns the state of training. Passed as `state` to a call
    with the same arguments and `draws` from their start, it resumes training with the same final weights as an
    uninterrupted run. A network keeps what it carries from step to step, besides weights, in its dictionary `carried`.
    """
    device = next(network.parameters()).device
    optimizers = optimizers_of(network, players)
    base_rates, scale = [float(group["lr"]) for group in _groups(optimizers)], None
    rows, unread, first = [], [], 0
    network.train()
    if state is not None:
        rows, first = [tuple(row) for row in state["rows"]], state["step"]
        _restore(state, network, optimizers)
        for _ in range(first):
            next(draws)
    finite_state = _copy_of_state(network)

    def compute(draw, norms):
        return step_of(network, optimizers, batch_of(draw), clip, norms)

    with on_a_stream(device):
        for step in range(first, steps):
            if validate_every and step % validate_every == 0:
                rows += _validated(network, validation, step)
                on_validate(step)
            if (scaled := rate(step)) != scale:
                scale = scaled
                for group, base in zip(_groups(optimizers), base_rates, strict=True):
                    group["lr"].fill_(base * scale)
            reading = step % log_every == 0 or step == steps - 1 or (step < log_every and step & (step - 1) == 0)
            draw = next(draws)
            if capture and device.type == "cuda" and step == first + EAGER_STEPS:
                try:
                    compute = captured(compute, draw, optimizers)
                except Exception as error:
                    reason = " ".join(str(error).split())
                    print(f"{network.__module__}: no CUDA graph of a step: {reason}", file=sys.stderr, flush=True)
            losses, norms = compute(draw, reading)
            if step == 0 and losses.keys() != optimizers.keys():
                idle = ", ".join(optimizers.keys() - losses.keys())
                raise InputError(f"{PLAYERS} has {idle}, but {network.__module__} yields no such loss: remove it")
            unread.append(torch.stack(list(losses.values())))
            if reading:
                read = torch.stack(unread).cpu()
                bad = (~read.isfinite().all(1)).nonzero()
                logged = dict(zip(losses, read[-1].tolist(), strict=True))
                rows += [(step, "training", player, loss, float(norms[player])) for player, loss in logged.items()]
                on_log(step, logged)
                if len(bad) or not _is_finite(network):
                    network.load_state_dict(finite_state)
                    place = (step + 1 - len(read) + int(bad[0]), "loss") if len(bad) else (step + 1, "weights")
                    return rows, place
                unread, finite_state = [], _copy_of_state(network)
                on_checkpoint(functools.partial(_snapshot, step + 1, rows, network, optimizers))
        rows += _validated(network, validation, steps)
        on_validate(steps)
    return rows, None


def step_of(network, optimizers, batch, clip=None, norms=True):
    """Run one training step; return ({player: loss}, {player: gradient norm}), tensors [] on the device.

    Control flow and tensor shapes do not depend on values, and nothing waits for the device. Norms are those before
    clipping to `clip`; they are computed if `norms` or `clip` is set.
    """
    losses, found = {}, {}
    for player, loss in network.losses(batch):
        if player not in optimizers:
            raise InputError(f"{PLAYERS} has no {player!r}, whose loss {network.__module__} yields: add it")
        optimizer = optimizers[player]
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=weights)
        if clip:
            found[player] = torch.nn.utils.clip_grad_norm_(weights, clip)
        elif norms:
            found[player] = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
        optimizer.step()
        losses[player] = loss.detach()
    return losses, found


def captured(compute, draw, optimizers):
    """Capture `compute(draw, norms)` as two CUDA graphs, with and without norms; return a function that replays them.

    It has the signature of `compute`; each call overwrites the results of the one before. Raises ValueError if an
    optimiser cannot be captured, and the operator's exception if an operator cannot; `compute` still works then.
    """
    for optimizer in optimizers.values():
        if not optimizer.defaults.get("capturable", isinstance(optimizer, torch.optim.SGD)):
            raise ValueError(f"{type(optimizer).__name__} counts its steps on the host")
    inputs, graphs, results = [part.clone() for part in draw], {}, {}
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.current_stream()
    random = torch.cuda.default_generators[stream.device_index]
    before = random.clone_state()
    try:
        for norms in (False, True):
            graphs[norms] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graphs[norms], pool, stream):
                results[norms] = compute(inputs, norms)
    except Exception:
        random.graphsafe_set_state(before)  # a failed capture leaves the generator unusable
        raise

    @functools.wraps(compute)  # keeps the tensors of `compute` alive: the graphs hold only their addresses
    def replay(draw, norms):
        for own, given in zip(inputs, draw, strict=True):
            own.copy_(given)
        graphs[norms].replay()
        return results[norms]

    return replay


@contextlib.contextmanager
def on_a_stream(device):
    """On CUDA, run the block on a stream of its own: the default stream cannot be captured."""
    if device.type != "cuda":
        yield
        return
    before, own = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    own.wait_stream(before)
    try:
        with torch.cuda.stream(own):
            yield
    finally:
        before.wait_stream(own)


def evaluate(network, batches):
    """[(player, mean loss)] over `batches` in evaluation mode with a fixed seed; restores mode and random state."""
    network.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=_cuda_devices(network)):
        torch.manual_seed(0)
        losses = [dict(network.losses(batch)) for batch in batches]
    network.train()
    return [(player, float(torch.stack([one[player] for one in losses]).mean())) for player in (losses or [{}])[0]]


def round_steps(most):
    """The largest of 1, 2, 5, 10, 20, 50, ... up to `most`, so that curves have rows at 1,000 and 10,000 steps."""
    return max(digit * 10**power for power in range(len(str(most))) for digit in (1, 2, 5) if digit * 10**power <= most)


def decayed(steps_per_epoch, after_epochs, factor):
    """Step decay: the rate is multiplied by `factor` at the start of each epoch after the first `after_epochs`."""
    return lambda step: factor ** max(step // steps_per_epoch + 1 - after_epochs, 0)


def cooled(steps, share):
    """Linear cooldown: the rate falls linearly to zero over the last `share` of the steps."""
    return lambda step: min(1.0, (steps - step) / (share * steps))


def _validated(network, batches, step):
    return [(step, "validation", player, loss, None) for player, loss in evaluate(network, batches)]


def _snapshot(step, rows, network, optimizers):
    """Everything that the next step depends on except the draws: dictionaries and lists of tensors and plain values."""
    return {
        "step": step,
        "rows": rows,
        "network": network.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
        "carried": getattr(network, "carried", {}).get(True, []),
        "random": torch.get_rng_state(),
        "cuda_random": [torch.cuda.get_rng_state(device) for device in _cuda_devices(network)],
    }


def _restore(state, network, optimizers):
    network.load_state_dict(state["network"])
    for name, optimizer in optimizers.items():
        saved = state["optimizers"][name]
        optimizer.load_state_dict(saved | {"state": {int(key): value for key, value in saved["state"].items()}})
        for weight, values in optimizer.state.items():  # in the weight's memory format, which fused kernels expect
            values |= {
                key: torch.empty_like(weight).copy_(value)
                for key, value in values.items()
                if value.shape == weight.shape
            }
    if state["carried"]:
        network.carried[True] = state["carried"]
    torch.set_rng_state(state["random"].cpu())
    for device, random in zip(_cuda_devices(network), state["cuda_random"], strict=True):
        torch.cuda.set_rng_state(random.cpu(), device)


def optimizers_of(network, players):
    """{player: torch.optim.Optimizer}, with learning rates that are tensors on the network's device.

    Raises InputError for an unknown part of the network and for an unknown option of the optimiser.
    """
    return {name: _optimizer(network, name, player) for name, player in players.items()}


def _optimizer(network, name, player):
    where = f"{PLAYERS}.{name}"
    device = next(network.parameters()).device
    options = {key: value for key, value in player.items() if key not in ("algorithm", "updates")}
    weights = _weight_groups(network, f"{where}.updates", player["updates"])
    algorithm = getattr(torch.optim, player["algorithm"])
    known = inspect.signature(algorithm).parameters
    for key in options.keys() - known.keys():
        raise InputError(f"{where}.{key} is unknown to {player['algorithm']}: it takes {', '.join(list(known)[1:])}")
    if "fused" in known:
        options.setdefault("fused", True)
    if "capturable" in known and device.type == "cuda":
        options.setdefault("capturable", True)
    try:
        optimizer = algorithm(weights, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{where} = {player}: {error}; correct it") from None
    for group in optimizer.param_groups:  # a tensor, which a replayed step reads again; fused kernels need float32
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        group["lr"] = torch.tensor(group["lr"], dtype=dtype, device=device)
    return optimizer


def _groups(optimizers):
    return [group for optimizer in optimizers.values() for group in optimizer.param_groups]


def _weight_groups(network, where, updates):
    """Parameter groups of the submodules in `updates`: "all", a list of names, or a map of names to learning rates."""
    if updates == "all":
        return [{"params": [weight for weight in network.parameters() if weight.requires_grad]}]
    known, groups = dict(network.named_children()), []
    for part in updates:
        if part not in known:
            raise InputError(f"{where} = {part}: the network has no such part; it has {', '.join(known)}")
        weights = [weight for weight in known[part].parameters() if weight.requires_grad]
        groups.append({"params": weights} | ({"lr": updates[part]} if isinstance(updates, dict) else {}))
    return groups


def _copy_of_state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def _is_finite(network):
    values = [value.isfinite().all() for value in network.state_dict().values() if value.is_floating_point()]
    return not values or bool(torch.stack(values).all())


def _cuda_devices(network):
    return list({weight.device for weight in network.parameters() if weight.is_cuda})
