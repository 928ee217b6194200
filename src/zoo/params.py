"""params.yaml, validated whole before anything runs; and the registry, which is one importlib call."""

import ast
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from zoo.errors import InputError

PATH = Path("params.yaml")
PROFILES = ("quick", "full")

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
# DVC interpolates names into paths and stage names, where a dot would end a key.
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Several = Annotated[list[Count], Field(min_length=1)]
Whole = Annotated[int, Field(ge=0)]
T = TypeVar("T")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PerProfile(Strict, Generic[T]):
    quick: T
    full: T


class Source(BaseModel):
    """What else an entry needs, its source checks: `zoo.data.load`."""

    model_config = ConfigDict(extra="allow", strict=True)
    source: Word


class Decay(Strict):
    after_epochs: Whole
    factor: Share


class Fit(Strict):
    batch: Count
    time: Count | None = None
    labelled: PerProfile[Count] | None = None
    clip: Positive | None = None
    decay: Decay | None = None
    cooldown: Share | None = None


class Player(BaseModel):
    """The optimiser's own options (betas, momentum, ...) stand beside these keys; torch checks them."""

    model_config = ConfigDict(extra="allow", strict=True)
    algorithm: str
    lr: Positive
    moves: Literal["all"] | list[str] | dict[str, Positive]


class Experiment(Strict):
    about: str
    headline: str | None = None
    file: Word
    data: Word
    start: str
    net: dict[str, Any]
    fit: Fit
    steps: PerProfile[Whole]
    players: dict[Word, Player]


class Curve(Strict):
    training_rows: Count
    validation_rows: Count
    validation_items: Count


class Evaluation(Strict):
    batch: Count
    importance_samples: Count


class Judge(Strict):
    by: Word
    of: list[Word]
    samples: PerProfile[Count]


class Benchmark(Strict):
    batches: PerProfile[Several]
    time: Count
    providers: Annotated[list[str], Field(min_length=1)]
    threads: Count
    warmup_calls: Count
    warmup_seconds: Positive
    warmup_most_seconds: Positive
    calls: PerProfile[Count]
    seconds: PerProfile[Positive]
    most_seconds: PerProfile[Positive]


class Published(Strict):
    value: float
    better: Literal["lower", "higher"]
    tolerance: Positive
    source: str


class Everything(Strict):
    device: Literal["auto", "cpu", "cuda"]
    threads: Count
    seeds: PerProfile[Annotated[list[Whole], Field(min_length=1)]]
    data: dict[Word, PerProfile[Source]]
    curve: Curve
    evaluate: Evaluation
    benchmark: Benchmark
    judge: Judge
    models: dict[Word, Experiment]
    published: dict[Word, dict[Word, dict[str, Published]]]

    @model_validator(mode="after")
    def names_exist(self):
        for name, entry in self.models.items():
            if entry.data not in self.data:
                raise ValueError(f"models.{name}.data = {entry.data}: not under data: ({', '.join(self.data)})")
        for key in ("by", "of"):
            value = getattr(self.judge, key)
            for name in [value] if isinstance(value, str) else value:
                if name not in self.models:
                    raise ValueError(f"judge.{key} = {name}: not under models:")
        for name in self.published:
            if name not in self.models:
                raise ValueError(f"published.{name}: not under models:")
        return self


def load(path=PATH):
    """All of params.yaml as plain dictionaries. Raises InputError on the first thing wrong in it."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run this from the project's top folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        Everything.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path}: {_first(error)}") from None
    for name, entry in values["models"].items():
        _check_network(f"{path}: models.{name}", entry["file"], entry["net"])
    return values


def experiment(profile, name, path=PATH):
    """(everything, the entry of one experiment). Raises InputError for an unknown profile or experiment."""
    everything = load(path)
    if profile not in PROFILES:
        raise InputError(f"profile {profile!r} is unknown: use one of {', '.join(PROFILES)}")
    if name not in everything["models"]:
        known = ", ".join(everything["models"])
        raise InputError(f"{path}: models has no experiment {name!r}: add an entry, or use one of {known}")
    return everything, everything["models"][name]


def build(entry, facts):
    """The network of an experiment: `Network(data, **net)` of the model file that the entry names.

    `facts` are the data set's: what the data force (`classes` or `vocabulary`) is read from there.
    """
    module = importlib.import_module(f"zoo.models.{entry['file']}")
    try:
        return module.Network(SimpleNamespace(**facts), **entry["net"])
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{PATH}: net of {entry['file']} = {entry['net']}: {error}") from None


def _check_network(where, file, net):
    """Hold `net` to the constructor of the model file, read as text: a typo is found without importing torch."""
    source = Path(__file__).parent / "models" / f"{file}.py"
    if not source.exists():
        known = ", ".join(sorted(path.stem for path in source.parent.glob("[a-z]*.py")))
        raise InputError(f"{where}.file = {file}: src/zoo/models/{file}.py does not exist; there are {known}")
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise InputError(f"{where}.file = {file}: src/zoo/models/{file}.py line {error.lineno}: {error.msg}") from None
    networks = [part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == "Network"]
    methods = [part for network in networks for part in network.body if isinstance(part, ast.FunctionDef)]
    constructors = [method for method in methods if method.name == "__init__"]
    if not constructors:
        raise InputError(f"{where}.file = {file}: {file}.py has no class Network with a constructor; add one")
    arguments = constructors[0].args
    wanted = {argument.arg for argument in arguments.args[2:] + arguments.kwonlyargs}
    for key in net.keys() - wanted:
        raise InputError(f"{where}.net.{key} is unknown to {file}.py: it takes {', '.join(sorted(wanted))}")
    for key in wanted - net.keys():
        raise InputError(f"{where}.net.{key} is missing: {file}.py asks for it; add it")


def _first(error):
    first, *more = error.errors()
    where = ".".join(str(part) for part in first["loc"])
    value = "" if isinstance(first["input"], (dict, type(None))) else f" = {first['input']!r}"
    message = first["msg"].removeprefix("Value error, ")
    rest = f" (and {len(more)} more)" if more else ""
    return f"{where}{value}: {message}{rest}".removeprefix(": ")
