"""What visits to machines with a GPU showed, in short; all of it is in reports/gpu."""

from zoo.records import gpu


def gather():
    """[{"gpu", "commit", "experiments", "captured", "least", "most", "graphs", "whole"}], the latest visit first.

    The steps of `captured` of so many `experiments` were captured, and `least` to `most` times faster than eager ones
    (None without any); `whole` of so many `graphs` ran on CUDA alone in every mode.
    """
    return [_summary(visit) for _, visit in gpu.visits()]


def _summary(visit):
    setting = max(
        visit.steps, key=lambda setting: len(visit.steps[setting]), default=None
    )  # that with most experiments
    ratios = [ratio for _, ratio in visit.captured.get(setting, [])]
    return {
        "gpu": visit.machine.get("gpu"), "commit": visit.commit, "experiments": len(visit.steps.get(setting, [])),
        "captured": len(ratios), "least": min(ratios, default=None), "most": max(ratios, default=None),
        "graphs": len(visit.graphs), "whole": len(visit.whole),
    }  # fmt: skip
