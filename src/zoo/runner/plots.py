"""Make DVC's plot pages work offline: an HTML template that contains vega, vega-lite and vega-embed."""

import subprocess
import sys
from pathlib import Path

import vl_convert

from zoo import files
from zoo.errors import InputError

TEMPLATE = Path(".dvc", "plots.html")
# The same major version as DVC's own plot templates.
VEGA_LITE = "5.21"


def install():
    """Write the template and name it in .dvc/config.local, so that `dvc plots` uses it in this clone.

    The committed .dvc/config does not name it, because DVC fails if the template is missing. Without the setting, DVC's
    pages load the scripts from the network. Raises InputError outside a DVC project, or if DVC rejects the template.
    """
    if not TEMPLATE.parent.is_dir():
        raise InputError(f"{TEMPLATE.parent} is missing: run this from the project's top folder")
    with files.replacing(TEMPLATE) as temporary:
        temporary.write_text(page(), encoding="utf-8")
    command = [sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", TEMPLATE.name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{TEMPLATE.parent}: DVC rejects the template: {' '.join(done.stderr.split())}")


def page():
    """The template, with DVC's placeholders for the plots and the refresh interval.

    DVC's third placeholder, for the URLs of scripts, is left out: the page contains the scripts.
    """
    return f"""<!DOCTYPE html>
<html><head><meta charset="utf-8">{{refresh_tag}}<title>DVC plots</title>
<script>
{vl_convert.javascript_bundle(vl_version=VEGA_LITE)}
</script></head>
<body>{{plot_divs}}</body></html>
"""
