"""README and its neighbours: short, in order, and what they name is there."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from zoo import cli

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
HEADINGS = [
    "Two commands", "Use a model", "Results", "Compare commits", "Measure latency", "Several machines",
    "Add an experiment", "Layout", "Licence and data",
]  # fmt: skip


def commands(text):
    """The command lines in the sh blocks of a document, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.split("#")[0].split() for block in blocks for line in block.splitlines() if line.split("#")[0].strip()]


def test_readme_is_short_and_in_order(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 200
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(root, name):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (root / name).read_text(encoding="utf-8"))
    missing = [link for link in links if not ((root / name).parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_exist(root, name):
    """Each `zoo COMMAND OPTIONS` parses, and each `make TARGET` is a target."""
    targets = re.findall(r"^(\w+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for program, *words in commands((root / name).read_text(encoding="utf-8")):
        if program == "make":
            assert words[0] in targets
        if program == "zoo":
            cli.parser().parse_args(words)


def test_a_command_that_there_is_not_is_found():
    words = commands("```sh\n# words\nzoo repo --dry    # words\n```\n")[0]
    assert words == ["zoo", "repo", "--dry"]
    with pytest.raises(SystemExit):
        cli.parser().parse_args(words[1:])


def test_versions_and_licences_agree(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    annotations = tomllib.loads((root / "REUSE.toml").read_text(encoding="utf-8"))["annotations"]
    assert annotations[0]["path"] == "**"
    assert annotations[0]["SPDX-License-Identifier"] == project["license"]
    names = {annotation["SPDX-License-Identifier"] for annotation in annotations}
    assert {path.stem for path in Path(root, "LICENSES").iterdir()} == names
    assert (root / "LICENSES" / "MIT.txt").read_bytes() == (root / "LICENSE").read_bytes()
