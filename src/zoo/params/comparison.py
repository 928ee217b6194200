"""`compare` of params.yaml: what `zoo compare` calls different."""

from zoo.params.fields import Positive, Strict


class QualityRule(Strict):
    """Least relative change of a mean."""

    relative: Positive


class LatencyRule(Strict):
    """Least change of a median, relative and absolute; how many times the noise; and the drift that is too much."""

    relative: Positive
    microseconds: Positive
    noise_times: Positive
    drift: Positive


class Rules(Strict):
    """The section as a whole."""

    quality: QualityRule
    latency: LatencyRule
