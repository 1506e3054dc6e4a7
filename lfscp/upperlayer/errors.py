"""The errors of an association's connection, for those who read or write it."""

from __future__ import annotations


class ConnectionLostError(Exception):
    """The peer closed, or the connection broke."""


class CalledOffError(ConnectionLostError):
    """Whoever waits wants to wait no longer; raised by an `InlineSocket.while_waiting`."""


class ReadTimeoutError(Exception):
    """Nothing, or not enough, arrived in time."""
