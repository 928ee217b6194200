"""`models` of params.yaml: an entry an experiment; and the registry, which is one importlib call."""

import math
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, model_validator

from zoo import code, params
from zoo.errors import InputError
from zoo.params import fields
from zoo.params.fields import Count, Metric, PerProfile, Positive, Share, SomeDistinct, Strict, Whole, Word


def parts(moves):
    """`moves`: "all", names of parts of the network, or a map from those to learning rates. Raises ValueError."""
    named = isinstance(moves, (list, dict)) and moves and all(isinstance(part, str) for part in moves)
    rates = moves.values() if isinstance(moves, dict) else []
    if moves != "all" and not (named and all(isinstance(rate, float) and 0 < rate < math.inf for rate in rates)):
        raise ValueError("should be all, a list of parts of the network, or a map from parts to learning rates")
    return moves if moves == "all" else fields.distinct(moves)


class Decay(Strict):
    """The learning rate is multiplied by `factor` at the start of every epoch after the first `after_epochs`."""

    after_epochs: Whole
    factor: Share


class Fit(Strict):
    """How batches are cut and steps are scaled. A key that is left out is not used; null is no value."""

    batch: Count
    time: Count = None
    clip: Positive = None
    decay: Decay = None
    cooldown: Share = None

    @model_validator(mode="after")
    def _one_schedule(self):
        if self.decay is not None and self.cooldown is not None:
            raise ValueError("decay and cooldown are two schedules of one learning rate: remove one of them")
        return self


class Player(Strict, extra="allow"):
    """The optimiser's own options (betas, momentum, ...) stand beside these keys; `zoo.check` knows torch's."""

    algorithm: Literal["Adagrad", "Adam", "AdamW", "NAdam", "RMSprop", "SGD"]
    lr: Positive
    moves: Annotated[Any, AfterValidator(parts)]


class Size(Strict, extra="allow"):
    """What differs by profile besides steps and seeds: keys of the network's constructor, and the labelled images."""

    labelled: Count = None


class Shared(Strict):
    """What is the same in each profile. `start` is data/KEY.npz, or checkpoints/NAME of which training goes on."""

    file: Word
    data: Word
    start: Annotated[str, fields.matching(r"data/\w+\.npz|checkpoints/\w+", "data/KEY.npz or checkpoints/EXPERIMENT")]
    net: dict[str, Any]
    fit: Fit
    players: dict[Word, Player]


class Entry(Shared):
    """An experiment as params.yaml has it."""

    about: str
    headline: Metric = None
    size: PerProfile[Size]
    steps: PerProfile[Whole]
    seeds: PerProfile[SomeDistinct[Whole]]
    tuned: str = None  # of a tuned entry: what was tried, by what it was chosen, on which split

    @model_validator(mode="after")
    def _parts_agree(self):
        if self.data == "text" and self.fit.time is None:
            raise ValueError("fit.time is missing: how many words of text a step reads; add it")
        if self.data != "text" and self.fit.time is not None:
            raise ValueError("fit.time counts words of text, which these data are not: remove it")
        steps = self.steps.quick, self.steps.full
        if self.players and min(steps) < 1:
            raise ValueError("steps = {} and {}: players move for 1 step or more; add steps".format(*steps))
        if not self.players and max(steps):
            raise ValueError("steps = {} and {} without players, who move: add a player".format(*steps))
        return self


class Experiment(Shared):
    """An entry in one profile. `net` is all that the constructor takes: with what `size` has for this profile."""

    name: str
    profile: str
    labelled: int | None
    steps: int
    seeds: list[int]

    @property
    def recipe(self):
        """All that the weights follow from, data and seed apart, as plain values."""
        return self.model_dump(exclude={"name", "profile", "seeds"}, exclude_unset=True)


def experiment(values, profile, name):
    """The `Experiment` of that name, from all of params.yaml.

    Raises InputError for an unknown profile or experiment, or a faulty entry.
    """
    params.known_profile(profile)
    if name not in (params.section(values, "models") or {}):
        raise InputError(f"{params.PATH}: models has no experiment {name!r}: add an entry, or mend the name")
    return in_profile(name, params.load(Entry, values, "models", name), profile)


def entries(values):
    """{name: Entry}, the section `models` of all of params.yaml. Raises InputError on the first thing wrong."""
    return params.load(dict[Word, Entry], values, "models")


def reported(values, profile):
    """What the report says of each experiment in a profile and no record holds: {name: plain values}, in order."""
    return {
        name: {key: getattr(entry, key) for key in ("about", "headline", "tuned", "data")}
        | {key: getattr(getattr(entry, key), profile) for key in ("steps", "seeds")}
        for name, entry in entries(values).items()
    }


def in_profile(name, entry, profile):
    """The `Experiment` that an `Entry` is in a profile."""
    size, steps, seeds = (getattr(of_profile, profile) for of_profile in (entry.size, entry.steps, entry.seeds))
    shared = {key: getattr(entry, key) for key in Shared.model_fields} | {"net": entry.net | size.model_extra}
    return Experiment(**shared, name=name, profile=profile, labelled=size.labelled, steps=steps, seeds=seeds)


def build(file, net, facts, where="net"):
    """The network `Network(data, **net)` of the model file `file`.

    `facts` are the data set's: what the data force (`classes` or `vocabulary`) is read from there. Raises InputError,
    naming `where`, for what makes no network.
    """
    module = code.module(f"models/{file}")
    try:
        return module.Network(SimpleNamespace(**facts), **net)
    except Exception as error:  # torch raises all kinds for a number that makes no network
        raise InputError(f"{params.PATH}: {where} = {net}: {' '.join(str(error).split())}; mend it") from None
