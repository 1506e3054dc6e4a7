"""The errors of commands that a user can do something about."""


class CommandError(Exception):
    """A command failed; its text is one line for the user."""
