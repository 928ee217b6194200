"""The one exception that a user is meant to read."""


class InputError(Exception):
    """Bad input, in one line that names the file, the key or the value, and what to do about it."""
