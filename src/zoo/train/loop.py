"""The one training loop: autoencoder, adversary and language model alike are players that take turns."""

import inspect

import torch

from zoo.errors import InputError

PLAYERS = "params.yaml: players"


def fit(network, batches, players, steps, *, rate=lambda step: 1.0, clip=None, log_every=1, validate_every=None,
        validation=(), on_log=lambda step, losses: None, on_validate=lambda step: None, state=None,
        on_checkpoint=lambda snapshot: None):  # fmt: skip
    """Train `network` for `steps` steps; return (curve rows, None), or where it diverged (step, "loss" or "weights").

    For each (player, loss) that `network.losses(batch)` yields, the gradients of that player's weights alone are
    computed, clipped to the global norm `clip`, and stepped; then the generator goes on. `players` is that map
    of params.yaml; `rate(step)` scales all learning rates; `batches` is an endless iterator, `validation` a list.

    Rows are (step, split, player, loss, gradient norm): training rows hold one batch before the update of that step,
    with the norm before clipping; validation rows the mean over `validation` in evaluation mode, and no norm.
    Nothing waits for the device within a step: losses are read every `log_every` steps, and before the first of
    those at 1, 2, 4, 8, ... When a loss or a weight is not finite, training ends there and the network goes back
    to the state at the last reading where everything was finite. `on_validate(step)` is called beside every validation.

    At every reading `on_checkpoint` gets a function whose result, passed as `state` to a call with equal arguments and
    `batches` from their start, continues from there and ends with the same weights as a run without interruption.
    What a network carries from step to step beside its weights it holds in the dictionary `carried`.
    """
    optimizers = {name: _optimizer(network, name, player) for name, player in players.items()}
    base_rates = {name: [group["lr"] for group in one.param_groups] for name, one in optimizers.items()}
    rows, unread, first = [], [], 0
    network.train()
    if state is not None:
        rows, first = list(state["rows"]), state["step"]
        _restore(state, network, optimizers)
        for _ in range(first):
            next(batches)
    finite_state = _copy_of_state(network)
    for step in range(first, steps):
        if validate_every and step % validate_every == 0:
            rows += _validated(network, validation, step)
            on_validate(step)
        reading = step % log_every == 0 or step == steps - 1 or (step < log_every and step & (step - 1) == 0)
        losses, norms = {}, {}
        for player, loss in network.losses(next(batches)):
            if player not in optimizers:
                raise InputError(f"{PLAYERS} has no {player!r}, whose loss {network.__module__} yields: add it")
            optimizer = optimizers[player]
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            for group, base in zip(optimizer.param_groups, base_rates[player], strict=True):
                group["lr"] = base * rate(step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward(inputs=weights)
            if clip:
                norms[player] = torch.nn.utils.clip_grad_norm_(weights, clip)
            elif reading:
                norms[player] = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
            optimizer.step()
            losses[player] = loss.detach()
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
            on_checkpoint(lambda: _snapshot(step + 1, rows, network, optimizers))  # noqa: B023, called before the next step
    rows += _validated(network, validation, steps)
    on_validate(steps)
    return rows, None


def evaluate(network, batches):
    """[(player, mean loss)] over `batches`, in evaluation mode and with draws of its own, then back to training."""
    network.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=_cuda_devices(network)):
        torch.manual_seed(0)
        losses = [dict(network.losses(batch)) for batch in batches]
    network.train()
    return [(player, float(torch.stack([one[player] for one in losses]).mean())) for player in (losses or [{}])[0]]


def round_steps(most):
    """The largest of 1, 2, 5, 10, 20, 50, ... that is at most `most`: so curves have rows at 1,000 and 10,000 steps."""
    return max(digit * 10**power for power in range(len(str(most))) for digit in (1, 2, 5) if digit * 10**power <= most)


def decayed(steps_per_epoch, after_epochs, factor):
    """Rate that is multiplied by `factor` at the start of every epoch after the first `after_epochs`."""
    return lambda step: factor ** max(step // steps_per_epoch + 1 - after_epochs, 0)


def cooled(steps, share):
    """Rate that falls in a straight line to zero over the last `share` of the steps."""
    return lambda step: min(1.0, (steps - step) / (share * steps))


def _validated(network, batches, step):
    return [(step, "validation", player, loss, None) for player, loss in evaluate(network, batches)]


def _snapshot(step, rows, network, optimizers):
    """All that the next step depends on, the batches excepted."""
    return {
        "step": step,
        "rows": rows,
        "network": network.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
        "carried": getattr(network, "carried", {}),
        "random": torch.get_rng_state(),
        "cuda_random": [torch.cuda.get_rng_state(device) for device in _cuda_devices(network)],
    }


def _restore(state, network, optimizers):
    network.load_state_dict(state["network"])
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    if state["carried"]:
        network.carried = state["carried"]
    torch.set_rng_state(state["random"])
    for device, random in zip(_cuda_devices(network), state["cuda_random"], strict=True):
        torch.cuda.set_rng_state(random, device)


def _optimizer(network, name, player):
    where = f"{PLAYERS}.{name}"
    options = {key: value for key, value in player.items() if key not in ("algorithm", "moves")}
    weights = _weight_groups(network, f"{where}.moves", player["moves"])
    algorithm = getattr(torch.optim, player["algorithm"])
    known = inspect.signature(algorithm).parameters
    for key in options.keys() - known.keys():
        raise InputError(f"{where}.{key} is unknown to {player['algorithm']}: it takes {', '.join(list(known)[1:])}")
    if "fused" in known:
        options.setdefault("fused", True)
    try:
        return algorithm(weights, **options)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} = {player}: {error}; mend it") from None


def _weight_groups(network, where, moves):
    """Parameter groups of the submodules that `moves` names: "all", a list, or a map to learning rates."""
    if moves == "all":
        return [{"params": [weight for weight in network.parameters() if weight.requires_grad]}]
    known, groups = dict(network.named_children()), []
    for part in moves:
        if part not in known:
            raise InputError(f"{where} = {part}: the network has no such part; it has {', '.join(known)}")
        weights = [weight for weight in known[part].parameters() if weight.requires_grad]
        groups.append({"params": weights} | ({"lr": moves[part]} if isinstance(moves, dict) else {}))
    return groups


def _copy_of_state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def _is_finite(network):
    values = [value.isfinite().all() for value in network.state_dict().values() if value.is_floating_point()]
    return not values or bool(torch.stack(values).all())


def _cuda_devices(network):
    return list({weight.device for weight in network.parameters() if weight.is_cuda})
