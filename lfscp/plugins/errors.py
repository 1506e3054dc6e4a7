"""The errors of plug-ins."""

from __future__ import annotations

import signal
import threading

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


def is_from_keyboard(error: BaseException) -> bool:
    """Whether it may be the user's Ctrl-C: only in the main thread, and only with Python's handler.

    A node has handlers of its own, so there a KeyboardInterrupt is the plug-in's.
    """
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
