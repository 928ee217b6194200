"""The section `compare` of params.yaml: the changes that `zoo compare` reports as differences."""

from zoo.params.fields import Positive, Strict


class QualityRule(Strict):
    """Smallest relative change of a mean."""

    relative: Positive


class LatencyRule(Strict):
    """Smallest change of a median: relative, absolute and in multiples of the noise; and the largest accepted drift."""

    relative: Positive
    microseconds: Positive
    noise_times: Positive
    drift: Positive


class Rules(Strict):
    """The whole section."""

    quality: QualityRule
    latency: LatencyRule
