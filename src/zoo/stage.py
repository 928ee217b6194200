"""Run a function as a command-line program: arguments from its signature, bad input as a one-line error."""

import argparse
import inspect
import sys

from zoo.errors import InputError


def run(function, arguments=None):
    """Call `function` with the arguments of the command line.

    Parameters without a default are positional; a parameter whose default is False becomes a flag.
    On `InputError`, exit with its message and status 1.
    """
    summary = inspect.getdoc(function).splitlines()[0]
    parser = argparse.ArgumentParser(description=summary, allow_abbrev=False)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is inspect.Parameter.empty:
            parser.add_argument(name)
        else:
            parser.add_argument(f"--{name.replace('_', '-')}", action="store_true")
    values = vars(parser.parse_args(arguments))
    try:
        function(**values)
    except InputError as error:
        sys.exit(f"{parser.prog}: {error}")
