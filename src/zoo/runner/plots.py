"""DVC's pages of plots, open without a network: an HTML template that holds vega, vega-lite and vega-embed itself."""

import subprocess
import sys
from pathlib import Path

import vl_convert

from zoo import files
from zoo.errors import InputError

TEMPLATE = Path(".dvc", "plots.html")
# Of the major version that DVC's own plot templates are written in.
VEGA_LITE = "5.21"


def install():
    """Write the template, and name it in .dvc/config.local: `dvc plots` uses it from now on in this clone.

    The committed .dvc/config does not name it: DVC fails on a template that is missing, and without the setting its
    pages load the scripts from the network. Raises InputError outside a DVC project, or where DVC refuses.
    """
    if not TEMPLATE.parent.is_dir():
        raise InputError(f"{TEMPLATE.parent} is missing: run this from the project's top folder")
    with files.replacing(TEMPLATE) as temporary:
        temporary.write_text(page(), encoding="utf-8")
    command = [sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", TEMPLATE.name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{TEMPLATE.parent}: DVC does not take the template: {' '.join(done.stderr.split())}")


def page():
    """The template's text, with DVC's placeholders for the plots and for the interval at which a page is loaded again.

    DVC's third placeholder, for the addresses of scripts, is left out: the scripts are in the page.
    """
    return f"""<!DOCTYPE html>
<html><head><meta charset="utf-8">{{refresh_tag}}<title>DVC plots</title>
<script>
{vl_convert.javascript_bundle(vl_version=VEGA_LITE)}
</script></head>
<body>{{plot_divs}}</body></html>
"""
