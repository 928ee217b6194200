"""`claims` of params.yaml: what is said in words, as comparisons of what was measured; and the grammar of those."""

import contextlib
import math
import re
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from zoo.params.fields import Distinct, Strict, Word

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
    found = re.fullmatch(r"(?:(every|some) )?(\S+) ([<>]) (\S+)", str(text))
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
    if found := re.fullmatch(rf"([a-z][a-z0-9_]*)\.([a-z_]+\.[a-z_]+|{AT_EQUAL_STEPS})", text):
        return Measured(*found.groups())
    with contextlib.suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise ValueError(f"{text} is neither a finite number nor experiment.verb.metric")


class Claim(Strict):
    """Comparisons that must all hold; a claim may be the reason of figures that it `explains`."""

    says: str
    source: str
    test: Annotated[list[Annotated[Any, AfterValidator(comparison)]], Field(min_length=1)]
    explains: Distinct[str] = Field(default_factory=list)


Claims = dict[Word, Claim]  # the section as a whole
