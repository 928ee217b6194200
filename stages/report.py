"""Render the report of a profile: index.html, README.md, summary.csv, summary.json, charts/."""

import _checkout  # noqa: F401

from zoo import params
from zoo.report import render, results
from zoo.stage import run


def report(profile):
    """Report every experiment of a profile from the records of earlier stages."""
    params.check_profile(profile)
    render.write(results.gather(profile, params.read()))


if __name__ == "__main__":
    run(report)
