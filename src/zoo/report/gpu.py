"""A summary of the visits to machines with a GPU; reports/gpu has all of their measurements."""

from zoo.records import gpu


def gather():
    """[{"gpu", "commit", "experiments", "captured", "least", "most", "repeated", "equal", "graphs", "whole"}] by visit.

    Latest visit first. Of `experiments` training steps, `captured` were captured as a CUDA graph and ran `least` to
    `most` times faster than eagerly (None if there are none). Of `repeated` trainings, `equal` had equal weights each
    time, with captured and eager steps. Of `graphs` graphs, `whole` ran entirely on CUDA in every mode.
    """
    return [_summary(visit) for _, visit in gpu.visits()]


def _summary(visit):
    setting = max(visit.steps, key=lambda one: len(visit.steps[one]), default=None)  # the one with most experiments
    ratios = [ratio for _, ratio in visit.captured.get(setting, [])]
    whole, graphs = visit.whole
    answers = [(row.deterministic, row.resumes, row.captured_equals_eager is not False) for row in visit.determinism]
    return {
        "gpu": visit.machine.get("gpu"), "commit": visit.commit, "experiments": len(visit.steps.get(setting, [])),
        "captured": len(ratios), "least": min(ratios, default=None), "most": max(ratios, default=None),
        "repeated": len(answers), "equal": sum(all(one) for one in answers), "graphs": graphs, "whole": whole,
    }  # fmt: skip
