"""The errors of plug-ins."""

from lfscp.errors import OperationError


class PluginError(OperationError):
    """A plug-in did not do what it was asked for."""


class PluginRefusalError(PluginError):
    """A plug-in does not let an object go on.

    Args:
        is_temporary: it may do so later.
    """

    def __init__(self, operation: str, reason: str, *, is_temporary: bool) -> None:
        super().__init__(operation, reason)
        self.is_temporary = is_temporary


class DecisionOverdueError(Exception):
    """A plug-in has not answered in time."""
