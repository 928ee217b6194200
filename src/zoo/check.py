"""Validation of the whole params.yaml: each section against its typed model, and each name against its target."""

import difflib
import math
from typing import NamedTuple

from zoo import code, params, signatures
from zoo.errors import InputError
from zoo.evaluate import metrics
from zoo.graphs.verbs import VERBS
from zoo.params import benchmark, claims, comparison, data, evaluation, experiments, published, training

SECTIONS = (
    "device", "threads", "tf32", "data", "curve", "evaluate", "benchmark", "peers", "compare", "judge", "models",
    "published", "published_curves", "claims",
)  # fmt: skip
JUDGING, GENERATING = ("classify", "encode"), ("generate", "decode")
TENSORS_PER_BATCH = {"images": 2, "text": 3}  # labelled images add two


class Zoo(NamedTuple):
    """The experiments, the networks of their model files, their verbs, and the experiments that are judged."""

    entries: dict
    networks: dict
    verbs: dict  # {experiment: its verbs}
    judged: list


def check(path=params.PATH):
    """Return the experiments in the file at `path`: {name: experiments.Entry}.

    Raises InputError for the first error, naming the key, its value and what to do.
    """
    values = params.read(path)
    _keys("", values, SECTIONS)
    _leaves(values)
    params.load(evaluation.Evaluation, values, "evaluate")
    params.load(comparison.Rules, values, "compare")
    entries, judge = experiments.entries(values), params.load(evaluation.Judge, values, "judge")
    sources = params.load(data.Sources, values, "data")
    units = [name.split("/") for name in code.units() if "/" in name]
    files, modules = ([name for folder, name in units if folder == kind] for kind in ("models", "data"))
    for name, entry in entries.items():
        _known(f"models.{name}.file", entry.file, files)
        _known(f"models.{name}.data", entry.data, sources)
    networks = {file: signatures.Network(file) for file in {entry.file for entry in entries.values()}}
    verbs = {name: networks[entry.file].verbs(entry.net) for name, entry in entries.items()}
    zoo = Zoo(entries, networks, verbs, judge.of)
    _sources(zoo, sources, modules)
    for name, entry in entries.items():
        for check_part in (_network, _players, _start):
            check_part(zoo, name, entry)
    _judge(zoo, judge)
    for name, entry in entries.items():
        if entry.headline is not None:
            _metric(zoo, f"models.{name}.headline", name, entry.headline)
    for profile in params.PROFILES:
        training.training(values, profile)
        _verbs(zoo, "benchmark.both.as_written", benchmark.benchmark(values, profile).as_written)
        _verbs(zoo, f"peers.{profile}.verbs", benchmark.peers(values, profile).verbs)
        benchmark.settings(values, profile, 1, with_peers=True, visit=True)
    figures = published.figures(values)
    _published(zoo, figures, params.load(published.Curves, values, "published_curves"))
    explained = [f"{name}.{metric}" for name, found in figures.items() for metric in found]
    _claims(zoo, params.load(claims.Claims, values, "claims"), explained)
    return entries


def _sources(zoo, sources, modules):
    for key, of_profile in sources.items():
        for profile in params.PROFILES:
            source, where = getattr(of_profile, profile), f"data.{key}.{profile}"
            _known(f"{where}.source", source.source, modules)
            arguments, words = signatures.source(source.source)
            _keys(where, source.model_extra, arguments, source.source)
            for name, entry in zoo.entries.items():
                for missing in zoo.networks[entry.file].needs - words if entry.data == key else ():
                    reason = f"these data have no {missing}, which models.{name} needs: name another source"
                    _refuse(f"{where}.source", source.source, reason)


def _network(zoo, name, entry):
    """Check `net` and `size` against the constructor of the network."""
    network = zoo.networks[entry.file]
    for profile in params.PROFILES:
        where, size = f"models.{name}.size.{profile}", getattr(entry.size, profile)
        for key in size.model_extra.keys() & entry.net.keys():
            _refuse(f"{where}.{key}", size.model_extra[key], f"is also in models.{name}.net: remove one of them")
        _keys(where, size.model_extra, network.keys)
        _keys(f"models.{name}.net", entry.net | size.model_extra, network.keys, entry.file)
        for key, value in (entry.net | size.model_extra).items():
            if key in network.options and value not in network.options[key]:
                _refuse(f"models.{name}.net.{key}", value, f"use one of {', '.join(network.options[key])}")
        given = TENSORS_PER_BATCH[entry.data] + (0 if size.labelled is None else 2)
        if given != (network.batch or given):
            reason = f"gives {given} tensors per batch, {entry.file} takes {network.batch}"
            _refuse(f"models.{name}.data", entry.data, f"{reason}: choose other data or fix size.labelled")


def _players(zoo, name, entry):
    """Check `players` against the network's parts, the losses that it yields, and the optimiser's options."""
    network = zoo.networks[entry.file]
    for player, options in entry.players.items():
        where = f"models.{name}.players.{player}"
        if network.losses is not None and player not in network.losses:
            _refuse(where, options.algorithm, f"{entry.file} yields no such loss; {_hint(player, network.losses)}")
        for part in () if options.updates == "all" else options.updates:
            _known(f"{where}.updates", part, network.parts)
        if options.model_extra:
            _keys(where, options.model_extra, signatures.optimiser(options.algorithm))
    for player in network.losses or ():
        if entry.players and network.always and player not in entry.players:
            _refuse(f"models.{name}.players", ", ".join(entry.players), f"{entry.file} yields a loss {player}: add it")


def _start(zoo, name, entry):
    """Check that `start` is the experiment's own data, or an experiment with the same seeds and a part in common."""
    where, chain = f"models.{name}.start", [name]
    while (start := zoo.entries[chain[-1]].start).startswith("checkpoints/"):
        chain.append(start.removeprefix("checkpoints/"))
        _known(f"models.{chain[-2]}.start", chain[-1], zoo.entries)
        if chain[-1] in chain[:-1]:
            _refuse(where, entry.start, "is circular: start one of these experiments from data")
    if len(chain) == 1:
        if start != f"data/{entry.data}.npz":
            _refuse(where, start, f"is not the data of this experiment: write data/{entry.data}.npz")
        return
    other = zoo.entries[chain[1]]
    if not set(zoo.networks[entry.file].parts) & set(zoo.networks[other.file].parts):
        _refuse(where, entry.start, f"{other.file} shares no part with {entry.file}: name another experiment")
    for profile in params.PROFILES:
        missing = set(getattr(entry.seeds, profile)) - set(getattr(other.seeds, profile))
        if missing:
            _refuse(where, entry.start, f"has no seed {min(missing)} in {profile}: add it to models.{chain[1]}.seeds")


def _judge(zoo, judge):
    _known("judge.by", judge.by, zoo.entries)
    for verb in JUDGING:
        if verb not in zoo.verbs[judge.by]:
            _refuse("judge.by", judge.by, f"does not {verb}: name an experiment that can {' and '.join(JUDGING)}")
    for name in judge.of:
        _known("judge.of", name, zoo.entries)
        if not set(GENERATING) & set(zoo.verbs[name]):
            _refuse("judge.of", name, "draws no images (no generate or decode): remove it")


def _verbs(zoo, where, verbs):
    for verb in verbs:
        _known(where, verb, VERBS)
        if not any(verb in able for able in zoo.verbs.values()):
            _refuse(where, verb, "no experiment has this verb: remove it")


def _metric(zoo, where, name, metric):
    """Check that a metric is registered and that the experiment can have it."""
    _known(where, metric, metrics.known_metrics())
    verb, entry, info = metric.partition(".")[0], zoo.entries[name], metrics.known_metrics()[metric]
    if verb == "training":
        fits, reason = entry.players, f"{name} is not trained"
    elif verb == "judge":
        fits, reason = name in zoo.judged, f"{name} is not in judge.of"
    else:
        fits, reason = verb in zoo.verbs[name], f"{name} has no verb {verb}; it has {', '.join(zoo.verbs[name])}"
    if fits and info.needs == "label":
        verb = next(verb for verb in GENERATING if verb in zoo.verbs[name])
        fits, reason = zoo.networks[entry.file].takes_label(verb, entry.net), f"{name} is not told the label"
    elif fits and info.needs:
        fits, reason = entry.net.get(info.needs), f"{name} has no {info.needs} in net"
    if not fits or info.by_class:
        _refuse(where, metric, f"{reason if not fits else 'has one value per class'}: name another metric")


def _published(zoo, figures, curves):
    for name, found in figures.items():
        _known("published", name, zoo.entries)
        for metric, figure in found.items():
            where = f"published.{name}.{metric}"
            _metric(zoo, where, name, metric)
            better = metrics.known_metrics()[metric].better
            if better not in (None, figure.better):
                _refuse(f"{where}.better", figure.better, f"{metric} is better when {better}")
    for name, logs in curves.items():
        _known("published_curves", name, zoo.entries)
        for index, log in enumerate(logs):
            _known(f"published_curves.{name}.{index}.player", log.player, zoo.entries[name].players)


def _claims(zoo, found, figures):
    for key, claim in found.items():
        for test in claim.test:
            for side in test.measured:
                _known(f"claims.{key}.test", side.experiment, zoo.entries)
                metric = "training.final_loss" if side.metric == claims.AT_EQUAL_STEPS else side.metric
                _metric(zoo, f"claims.{key}.test", side.experiment, metric)
        for figure in claim.explains:
            _known(f"claims.{key}.explains", figure, figures)


def _leaves(values, where=""):
    """Reject what no section may contain: strings that DVC would interpolate, and impossible numbers."""
    if isinstance(values, (dict, list)):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            _leaves(value, f"{where}.{key}" if where else str(key))
    elif isinstance(values, str) and "${" in values:
        _refuse(where, values, "DVC interpolates ${...}: rephrase it")
    elif isinstance(values, float) and not math.isfinite(values):
        _refuse(where, values, "should be a finite number")
    elif not isinstance(values, (str, float, int, type(None))):
        _refuse(where, str(values), "should be text, a number, true, false or null")
    elif isinstance(values, int) and values < 0 and where.startswith(("data.", "models.")):
        _refuse(where, values, "should be 0 or more")


def _keys(where, values, known, taker=None):
    """Reject keys of `values` that are not in `known`. With a `taker`, which requires them all, reject missing keys."""
    for key in values:
        if key not in known:
            place = f"{where}.{key}" if where else key
            raise InputError(f"{params.PATH}: {place}: unknown key; {_hint(key, known)}")
    for key in sorted(known - values.keys()) if taker else ():
        raise InputError(f"{params.PATH}: {where}.{key} is missing: {taker} takes it; add it")


def _known(where, name, names):
    if name not in names:
        _refuse(where, name, f"unknown name; {_hint(name, names)}")


def _hint(name, names):
    """Suggest the entry of `names` that `name` probably means."""
    close = difflib.get_close_matches(str(name), names, 1)
    shown = sorted(names)
    return f"did you mean {close[0]}?" if close else f"use one of {', '.join(shown[:9])}{', ...' * (len(shown) > 9)}"


def _refuse(where, value, reason):
    raise InputError(f"{params.PATH}: {where} = {value!r}: {reason}")
