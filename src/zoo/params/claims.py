"""The section `claims` of params.yaml: verbal claims as comparisons of measurements, and their grammar."""

import contextlib
import math
import re
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from zoo.params.fields import Distinct, Strict, Word

AT_EQUAL_STEPS = "validation_loss"


class Measured(NamedTuple):
    """A metric of an experiment, one value per seed: `metric` is verb.metric or AT_EQUAL_STEPS."""

    experiment: str
    metric: str


class Comparison(NamedTuple):
    """States that `left` is below (relation "<") or above (">") `right`. At most one side is a number.

    `seeds` is "every" or "some" if this is claimed for every or for some seed, None if it is claimed for the means.
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
    """Parse `text`, LEFT < RIGHT or LEFT > RIGHT with an optional prefix `every` or `some`, as a `Comparison`.

    A side is a number or `experiment.verb.metric`. Both sides may be `experiment.validation_loss`: the validation loss
    at the last step at which both experiments were validated. Raises ValueError for any other text.
    """
    found = re.fullmatch(r"(?:(every|some) )?(\S+) ([<>]) (\S+)", str(text))
    if not found:
        raise ValueError("should be a comparison such as `experiment.verb.metric < 0.5`")
    seeds, left, relation, right = found.groups()
    one = Comparison(seeds, _side(left), relation, _side(right))
    at_equal_steps = [side.metric for side in one.measured].count(AT_EQUAL_STEPS)
    if not one.measured:
        raise ValueError("compares two numbers; at least one side should be experiment.verb.metric")
    if at_equal_steps == 1:
        raise ValueError(f"{AT_EQUAL_STEPS} can only be compared with that of another experiment")
    return one


def _side(text):
    if found := re.fullmatch(rf"([a-z][a-z0-9_]*)\.([a-z_]+\.[a-z_]+|{AT_EQUAL_STEPS})", text):
        return Measured(*found.groups())
    with contextlib.suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise ValueError(f"{text} is neither a finite number nor experiment.verb.metric")


class Claim(Strict):
    """Comparisons that must all hold. `explains` names the published figures whose deviation the claim explains."""

    says: str
    source: str
    test: Annotated[list[Annotated[Any, AfterValidator(comparison)]], Field(min_length=1)]
    explains: Distinct[str] = Field(default_factory=list)


Claims = dict[Word, Claim]  # the whole section
