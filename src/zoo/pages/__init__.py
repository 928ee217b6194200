"""The Jinja environment shared by the pages of reports and comparisons."""

from pathlib import Path

import jinja2

SHARED = Path(__file__).with_name("templates")


def environment(folder, filters=None):
    """Return an environment for the templates in `folder` and SHARED. It escapes HTML; undefined names are errors."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, SHARED]),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")  # | separates cells in Markdown
    environment.filters |= filters or {}
    return environment
