"""The layout of params.yaml: DVC changes one line of it."""

import difflib
from pathlib import Path

import yaml
from dvc.utils.hydra import apply_overrides

PARAMS = Path(__file__).parents[2] / "params.yaml"
TEXT = PARAMS.read_text(encoding="utf-8")
MODELS = yaml.load(TEXT, yaml.CSafeLoader)["models"]


def test_dvc_exp_run_changes_one_line(tmp_path):
    """`dvc exp run -S` writes by this function of DVC, which keeps neither anchors nor comments after lists."""
    path = tmp_path / "params.yaml"
    path.write_text(TEXT, encoding="utf-8")
    steps = MODELS["resnet"]["steps"]["quick"] + 1
    apply_overrides(path, [f"models.resnet.steps.quick={steps}"])
    changes = list(difflib.ndiff(TEXT.splitlines(), path.read_text(encoding="utf-8").splitlines()))
    changed = [line for line in changes if line[0] in "+-"]  # ? lines mark columns
    assert len(changed) == 2, f"`make format` lays params.yaml out as DVC does: {changed[:4]}"
    assert changed[1].startswith(f"+     steps: {{quick: {steps}, ")


def test_no_line_is_folded():
    """DVC folds what is longer than a line, and leaves a space at its end: write a block, or text after `|-`."""
    assert [line for line in TEXT.splitlines() if line.endswith(" ")] == []


def test_no_entry_shares_a_value():
    """With an anchor, `-S` of one experiment would reach every other that refers to it."""
    events = yaml.parse(TEXT, yaml.CSafeLoader)
    assert not [event for event in events if getattr(event, "anchor", None)]
