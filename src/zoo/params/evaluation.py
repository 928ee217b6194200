"""The sections `evaluate` and `judge` of params.yaml."""

from zoo.params.fields import Count, Distinct, PerProfile, Strict, Word


class Evaluation(Strict):
    """`batch`: images per call. `importance_samples`: k of the importance-weighted bound."""

    batch: Count
    importance_samples: Count


class Judge(Strict):
    """`by`: the judging classifier. `of`: the generators that it judges. `samples`: images per generator and seed."""

    by: Word
    of: Distinct[Word]
    samples: PerProfile[Count]
