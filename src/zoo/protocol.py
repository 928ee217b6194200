"""How a profile is timed, from params.yaml: what the stages measure with, and what the report holds their files to."""

from zoo import params


def settings(everything, profile, cores, *sections):
    """`benchmark` of params.yaml in a profile, with the keys of other sections in place of its own.

    `all` threads become the number of cores, which stands beside them as "cores".
    """
    chosen = params.of_profile(everything["benchmark"], profile)
    for section in sections:
        chosen |= params.of_profile(everything[section], profile)
    threads = {cores if count == "all" else count for count in chosen["threads"]}
    return chosen | {"threads": sorted(threads), "cores": cores}
