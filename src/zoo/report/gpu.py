"""What visits to machines with a GPU showed, in short; all of it is in reports/gpu."""

from zoo.records import gpu


def gather():
    """[{"gpu", "commit", "experiments", "captured", "least", "most", "repeated", "equal", "graphs", "whole"}] by visit.

    The latest comes first. The steps of `captured` of so many `experiments` were captured, and `least` to `most` times
    faster than eager ones (None without any); `equal` of those `repeated` had equal weights each time, in captured and
    eager steps; `whole` of so many `graphs` ran on CUDA alone in every mode.
    """
    return [_summary(visit) for _, visit in gpu.visits()]


def _summary(visit):
    setting = max(visit.steps, key=lambda one: len(visit.steps[one]), default=None)  # that with most experiments
    ratios = [ratio for _, ratio in visit.captured.get(setting, [])]
    whole, graphs = visit.whole
    answers = [(row.deterministic, row.resumes, row.captured_equals_eager is not False) for row in visit.determinism]
    return {
        "gpu": visit.machine.get("gpu"), "commit": visit.commit, "experiments": len(visit.steps.get(setting, [])),
        "captured": len(ratios), "least": min(ratios, default=None), "most": max(ratios, default=None),
        "repeated": len(answers), "equal": sum(all(one) for one in answers), "graphs": graphs, "whole": whole,
    }  # fmt: skip
