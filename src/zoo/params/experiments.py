"""The section `models` of params.yaml, one entry per experiment, and the model registry: one importlib call."""

import math
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, model_validator

from zoo import code, params
from zoo.errors import InputError
from zoo.params import fields
from zoo.params.fields import Count, MetricName, PerProfile, Positive, Share, SomeDistinct, Strict, Whole, Word


def parts(updates):
    """Validate `updates`: "all", a list of network parts, or a map from parts to learning rates. Raises ValueError."""
    named = isinstance(updates, (list, dict)) and updates and all(isinstance(part, str) for part in updates)
    rates = updates.values() if isinstance(updates, dict) else []
    if updates != "all" and not (named and all(isinstance(rate, float) and 0 < rate < math.inf for rate in rates)):
        raise ValueError("should be all, a list of parts of the network, or a map from parts to learning rates")
    return updates if updates == "all" else fields.distinct(updates)


class Decay(Strict):
    """The learning rate is multiplied by `factor` at the start of every epoch after the first `after_epochs`."""

    after_epochs: Whole
    factor: Share


class Fit(Strict):
    """Batch size, gradient clipping and learning-rate schedule. An omitted option is off; null is not allowed."""

    batch: Count
    sequence_length: Count = None
    clip: Positive = None
    decay: Decay = None
    cooldown: Share = None

    @model_validator(mode="after")
    def _one_schedule(self):
        if self.decay is not None and self.cooldown is not None:
            raise ValueError("decay and cooldown are two schedules of one learning rate: remove one of them")
        return self


class Player(Strict, extra="allow"):
    """Weights and their optimiser. Its own options (betas, momentum, ...) are extra keys, checked by `zoo.check`."""

    algorithm: Literal["Adagrad", "Adam", "AdamW", "NAdam", "RMSprop", "SGD"]
    lr: Positive
    updates: Annotated[Any, AfterValidator(parts)]


class Size(Strict, extra="allow"):
    """What differs by profile besides steps and seeds: constructor arguments and the number of labelled images."""

    labelled: Count = None


class Shared(Strict):
    """Options common to both profiles. `start` is data/KEY.npz, or checkpoints/NAME to start from its weights."""

    file: Word
    data: Word
    start: Annotated[str, fields.matching(r"data/\w+\.npz|checkpoints/\w+", "data/KEY.npz or checkpoints/EXPERIMENT")]
    net: dict[str, Any]
    fit: Fit
    players: dict[Word, Player]


class Entry(Shared):
    """An experiment as written in params.yaml."""

    about: str
    headline: MetricName = None
    family: str  # the report's groups, in the order of params.yaml
    size: PerProfile[Size]
    steps: PerProfile[Whole]
    seeds: PerProfile[SomeDistinct[Whole]]
    tuned: str = None  # if tuned: what was tried, and the metric and split of the choice

    @model_validator(mode="after")
    def _parts_agree(self):
        if self.data == "text" and self.fit.sequence_length is None:
            raise ValueError("fit.sequence_length is missing: the number of words that a step reads; add it")
        if self.data != "text" and self.fit.sequence_length is not None:
            raise ValueError("fit.sequence_length counts words, but these data are not text: remove it")
        steps = self.steps.quick, self.steps.full
        if self.players and min(steps) < 1:
            raise ValueError("steps = {} and {}: players need at least 1 step; add steps".format(*steps))
        if not self.players and max(steps):
            raise ValueError("steps = {} and {} without players: add a player".format(*steps))
        return self


class Experiment(Shared):
    """An entry in one profile. `net` holds all constructor arguments, including those from `size`."""

    name: str
    profile: str
    labelled: int | None
    steps: int
    seeds: list[int]

    @property
    def recipe(self):
        """Everything that determines the weights, except data and seed, as plain values."""
        return self.model_dump(exclude={"name", "profile", "seeds"}, exclude_unset=True)


def experiment(values, profile, name):
    """Return the `Experiment` called `name`. `values` is all of params.yaml.

    Raises InputError if the profile or the experiment is unknown, or its entry is invalid.
    """
    params.check_profile(profile)
    if name not in (params.section(values, "models") or {}):
        raise InputError(f"{params.PATH}: models has no experiment {name!r}: add an entry or fix the name")
    return in_profile(name, params.load(Entry, values, "models", name), profile)


def entries(values):
    """Return {name: Entry}, the section `models` of params.yaml. Raises InputError for the first error."""
    return params.load(dict[Word, Entry], values, "models")


def reported(values, profile):
    """Return what the report shows of each experiment beyond its records: {name: plain values}, in order."""
    return {
        name: {key: getattr(entry, key) for key in ("about", "headline", "family", "tuned", "data")}
        | {key: getattr(getattr(entry, key), profile) for key in ("steps", "seeds")}
        for name, entry in entries(values).items()
    }


def in_profile(name, entry, profile):
    """Return the `Experiment` of an `Entry` in a profile."""
    size, steps, seeds = (getattr(of_profile, profile) for of_profile in (entry.size, entry.steps, entry.seeds))
    shared = {key: getattr(entry, key) for key in Shared.model_fields} | {"net": entry.net | size.model_extra}
    return Experiment(**shared, name=name, profile=profile, labelled=size.labelled, steps=steps, seeds=seeds)


def build(file, net, facts, where="net"):
    """Return the network `Network(data, **net)` of the model file `file`.

    The network reads what the data determine (`classes` or `vocabulary`) from `facts`, those of the data set. Raises
    InputError, naming `where`, if the network cannot be built.
    """
    module = code.module(f"models/{file}")
    try:
        return module.Network(SimpleNamespace(**facts), **net)
    except Exception as error:  # torch raises many kinds of errors for invalid sizes
        raise InputError(f"{params.PATH}: {where} = {net}: {' '.join(str(error).split())}; fix it") from None
