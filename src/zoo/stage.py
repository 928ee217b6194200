"""Run one function as a program: arguments by its signature, bad input as one line."""

import argparse
import inspect
import sys

from zoo.errors import InputError


def run(function, arguments=None):
    """Call `function` with the command line's arguments and end the program with its exit status.

    Parameters without a default are positional; a parameter whose default is False becomes a flag.
    `InputError` ends the program with its one line and exit status 1.
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
