"""params.yaml, validated whole before anything runs; and the registry, which is one importlib call."""

import ast
import importlib
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from zoo.errors import InputError

PATH = Path("params.yaml")
PROFILES = ("quick", "full")
CODE = Path(__file__).parent

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# DVC interpolates names into paths and stage names, where a dot would end a key.
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Several = Annotated[list[Count], Field(min_length=1)]
Whole = Annotated[int, Field(ge=0)]
Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]
Optimisation = Literal["none", "basic", "extended", "all"]
Runtime = Literal["torch", "torch_compile", "openvino"]
T = TypeVar("T")


def distinct(values):
    if len(set(values)) < len(values):
        raise ValueError("each may stand there once: remove the repeated one")
    return values


def parts(moves):
    named = isinstance(moves, (list, dict)) and moves and all(isinstance(part, str) for part in moves)
    rates = moves.values() if isinstance(moves, dict) else []
    if moves != "all" and not (named and all(isinstance(rate, float) and 0 < rate < math.inf for rate in rates)):
        raise ValueError("should be all, a list of parts of the network, or a map from parts to learning rates")
    return moves


AT_EQUAL_STEPS = "validation_loss"


class Measured(NamedTuple):
    """What an experiment came to, a value a seed: `metric` is verb.metric, or AT_EQUAL_STEPS."""

    experiment: str
    metric: str


class Comparison(NamedTuple):
    """That `left` is below (relation "<") or above (">") `right`; a side is `Measured`, or one of them a float.

    `seeds` is "every" or "some" where that is said of every or of some seed, None where it is said of the means.
    """

    seeds: str | None
    left: Measured | float
    relation: str
    right: Measured | float

    @property
    def measured(self):
        return [side for side in (self.left, self.right) if isinstance(side, Measured)]

    @property
    def at_equal_steps(self):
        return all(side.metric == AT_EQUAL_STEPS for side in self.measured)


def comparison(text):
    """The `Comparison` that `text` writes as LEFT < RIGHT or LEFT > RIGHT, perhaps with `every` or `some` before it.

    A side is a number, or `experiment.verb.metric`, or, on both sides, `experiment.validation_loss`: the validation
    loss at the last step at which both were validated. Raises ValueError where `text` is none of this.
    """
    found = re.fullmatch(r"(?:(every|some) )?(\S+) ([<>]) (\S+)", text)
    if not found:
        raise ValueError("should be a comparison such as `experiment.verb.metric < 0.5`")
    seeds, left, relation, right = found.groups()
    one = Comparison(seeds, _side(left), relation, _side(right))
    at_equal_steps = [side.metric for side in one.measured].count(AT_EQUAL_STEPS)
    if not one.measured:
        raise ValueError("compares two numbers; one side at least should be experiment.verb.metric")
    if at_equal_steps == 1:
        raise ValueError(f"{AT_EQUAL_STEPS} can be compared with that of another experiment only")
    return one


def _side(text):
    found = re.fullmatch(rf"([a-z][a-z0-9_]*)\.([a-z_]+\.[a-z_]+|{AT_EQUAL_STEPS})", text)
    if found:
        return Measured(*found.groups())
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text} is neither a finite number nor experiment.verb.metric")
    return value


def comparable(text):
    comparison(text)
    return text


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
    algorithm: Literal["Adagrad", "Adam", "AdamW", "NAdam", "RMSprop", "SGD"]
    lr: Positive
    moves: Annotated[Any, AfterValidator(parts)]


class Experiment(Strict):
    about: str
    headline: Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.[a-z_]+$")] | None = None
    file: Word
    data: Word
    start: str
    net: dict[str, Any]
    fit: Fit
    steps: PerProfile[Whole]
    players: dict[Word, Player]


class Curve(Strict):
    training_rows: Count
    validation_rows: PerProfile[Count]
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
    providers: Annotated[list[Provider], Field(min_length=1), AfterValidator(distinct)]
    threads: PerProfile[Annotated[list[Count | Literal["all"]], Field(min_length=1), AfterValidator(distinct)]]
    optimisations: PerProfile[Annotated[list[Optimisation], Field(min_length=1), AfterValidator(distinct)]]
    tf32: bool
    as_written: list[Word]
    blocks: Annotated[int, Field(ge=3)]  # fewer have no interval
    reference_seconds: PerProfile[Positive]
    most_drift: Positive
    patience_seconds: PerProfile[Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    warmup_calls: Count
    warmup_seconds: PerProfile[Positive]
    warmup_most_seconds: PerProfile[Positive]
    calls: PerProfile[Count]
    seconds: PerProfile[Positive]
    most_seconds: PerProfile[Positive]


class Peers(Strict):
    verbs: list[Word]
    batches: PerProfile[Several]
    runtimes: PerProfile[Annotated[list[Runtime], AfterValidator(distinct)]]


class QualityRule(Strict):
    relative: Positive


class LatencyRule(Strict):
    relative: Positive
    microseconds: Positive
    noise_times: Positive
    drift: Positive


class Compare(Strict):
    quality: QualityRule
    latency: LatencyRule


class Published(Strict):
    value: Finite
    better: Literal["lower", "higher"]
    tolerance: Positive
    source: str


class PublishedCurve(Strict):
    """Losses that a write-up's log prints, by step."""

    player: Word
    split: Literal["training", "validation"]
    source: str
    points: Annotated[dict[Whole, Finite], Field(min_length=1)]


class Claim(Strict):
    """What is said in words, as comparisons that must all hold; it may be the reason of figures that it `explains`."""

    says: str
    source: str
    test: Annotated[list[Annotated[str, AfterValidator(comparable)]], Field(min_length=1)]
    explains: Annotated[list[str], AfterValidator(distinct)] = []


class Everything(Strict):
    device: Literal["auto", "cpu", "cuda"]
    threads: Count
    seeds: PerProfile[Annotated[list[Whole], Field(min_length=1), AfterValidator(distinct)]]
    data: dict[Word, PerProfile[Source]]
    curve: Curve
    evaluate: Evaluation
    benchmark: Benchmark
    peers: Peers
    compare: Compare
    judge: Judge
    models: dict[Word, Experiment]
    published: dict[Word, dict[Word, dict[str, Published]]]
    published_curves: dict[Word, list[PublishedCurve]]
    claims: dict[Word, Claim]

    @model_validator(mode="after")
    def names_agree(self):
        for key, profiles in self.data.items():
            for profile in PROFILES:
                source = getattr(profiles, profile).source
                if not (CODE / "data" / f"{source}.py").exists():
                    raise ValueError(
                        f"data.{key}.{profile}.source = {source}: write src/zoo/data/{source}.py, or name one"
                    )
        for name, entry in self.models.items():
            self.known(f"models.{name}.data", entry.data, self.data)
            if entry.data == "text" and entry.fit.time is None:
                raise ValueError(f"models.{name}.fit.time is missing: how many words of text a step reads; add it")
            if not entry.players and max(entry.steps.quick, entry.steps.full):
                raise ValueError(f"models.{name}.players is empty, but steps is not 0: add a player")
        for key, name in [("by", self.judge.by), *(("of", name) for name in self.judge.of)]:
            self.known(f"judge.{key}", name, self.models)
        for name in self.published:
            self.known("published", name, self.models)
        for name, logs in self.published_curves.items():
            self.known("published_curves", name, self.models)
            for log in logs:
                self.known(f"published_curves.{name}.player", log.player, self.models[name].players)
        figures = [
            f"{name}.{verb}.{metric}"
            for name, verbs in self.published.items()
            for verb, metrics in verbs.items()
            for metric in metrics
        ]
        for key, claim in self.claims.items():
            for side in (side for test in claim.test for side in comparison(test).measured):
                self.known(f"claims.{key}.test", side.experiment, self.models)
            for figure in claim.explains:
                self.known(f"claims.{key}.explains", figure, figures)
        return self

    @staticmethod
    def known(where, name, names):
        if name not in names:
            raise ValueError(f"{where} = {name}: there is no such entry; there are {', '.join(names)}")


def load(path=PATH, profile=None):
    """All of params.yaml as plain dictionaries.

    Raises InputError on the first thing wrong in it, and for a `profile` that there is not.
    """
    if profile not in (None, *PROFILES):
        raise InputError(f"profile {profile!r} is unknown: use one of {', '.join(PROFILES)}")
    try:
        values = YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))  # DVC's own parser
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run this from the project's top folder") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        Everything.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path}: {_first(error)}") from None
    for name, entry in values["models"].items():
        _check_network(f"{path}: models.{name}", entry["file"], entry["net"])
    return values


def of_profile(section, profile):
    """A section of params.yaml, with the profile's own value in the place of {"quick": ..., "full": ...}."""
    return {key: value[profile] if isinstance(value, dict) else value for key, value in section.items()}


def experiment(profile, name, path=PATH):
    """(everything, the entry of one experiment). Raises InputError for an unknown profile or experiment."""
    everything = load(path, profile)
    if name not in everything["models"]:
        known = ", ".join(everything["models"])
        raise InputError(f"{path}: models has no experiment {name!r}: add an entry, or use one of {known}")
    return everything, everything["models"][name] | {"name": name}


def build(entry, facts):
    """The network of an experiment: `Network(data, **net)` of the model file that the entry names.

    `facts` are the data set's: what the data force (`classes` or `vocabulary`) is read from there.
    """
    module = importlib.import_module(f"zoo.models.{entry['file']}")
    try:
        return module.Network(SimpleNamespace(**facts), **entry["net"])
    except Exception as error:  # torch raises all kinds for a number that makes no network
        reason = " ".join(str(error).split())
        raise InputError(f"{PATH}: models.{entry.get('name')}.net = {entry['net']}: {reason}; mend it") from None


def _check_network(where, file, net):
    """Hold `net` to the constructor of the model file, read as text: a typo is found without importing torch."""
    source = CODE / "models" / f"{file}.py"
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
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    value = "" if isinstance(first["input"], (dict, type(None))) else f" = {first['input']!r}"
    words = {
        "extra_forbidden": "no such key is known here; check its spelling or remove it",
        "missing": "is missing; add it",
        "model_type": "should be a map of keys to values",
    }
    message = words.get(first["type"], first["msg"].removeprefix("Value error, "))
    rest = f" (and {len(more)} more)" if more else ""
    # What we raise ourselves about several entries at once begins with the key.
    return (
        f"{message}{rest}"
        if not first["loc"] and first["type"] == "value_error"
        else f"{where}{value}: {message}{rest}"
    )
