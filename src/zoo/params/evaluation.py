"""`evaluate` and `judge` of params.yaml."""

from zoo.params.fields import Count, Distinct, PerProfile, Strict, Word


class Evaluation(Strict):
    """`batch` images a call; `importance_samples`: k of the importance-weighted bound."""

    batch: Count
    importance_samples: Count


class Judge(Strict):
    """The classifier `by` which the generators `of` are judged, each on so many `samples`."""

    by: Word
    of: Distinct[Word]
    samples: PerProfile[Count]
