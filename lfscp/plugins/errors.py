"""The errors of plug-ins."""

from lfscp.errors import OperationError


class PluginError(OperationError):
    """A plug-in did not do what it was asked for."""


class DecisionOverdueError(Exception):
    """A plug-in has not answered in time."""
