"""The errors of an association's connection, for those who read or write it."""

from __future__ import annotations


class ConnectionLost(Exception):  # noqa: N818 - what happened, not a fault
    """The peer closed, or the connection broke."""


class CalledOff(ConnectionLost):
    """Whoever waits wants to wait no longer; raised by an `InlineSocket.while_waiting`."""


class ReadTimeout(Exception):  # noqa: N818 - what happened, not a fault
    """Nothing, or not enough, arrived in time."""
