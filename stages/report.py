"""Draw the report of a profile: index.html, README.md, summary.csv, summary.json, charts/."""

from zoo import params
from zoo.report import render, results
from zoo.stage import run


def report(profile):
    """Report what every experiment of params.yaml came to in a profile."""
    render.write(results.gather(profile, params.load(profile=profile)))


if __name__ == "__main__":
    run(report)
