"""The exception whose message is shown to the user."""


class InputError(Exception):
    """Bad input. The message is one line that names the file, key or value, and says what to do."""
