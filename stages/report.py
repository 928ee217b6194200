"""Draw the report of a profile: index.html, README.md, summary.csv, summary.json, charts/."""

from zoo import params, reporting, results
from zoo.errors import InputError
from zoo.stage import run


def report(profile):
    """Report what every experiment of params.yaml came to in a profile."""
    everything = params.load()
    if profile not in params.PROFILES:
        raise InputError(f"profile {profile!r} is unknown: use one of {', '.join(params.PROFILES)}")
    reporting.write(results.gather(profile, everything))


if __name__ == "__main__":
    run(report)
