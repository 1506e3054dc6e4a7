"""The errors of commands that the user can correct; their text is one line."""

from typing import ClassVar


class CommandError(Exception):
    """A command failed."""

    exit_code: ClassVar[int] = 1


class OptionError(CommandError):
    """An option or an argument is wrong."""

    exit_code = 2
