"""What ends the wait for a peer: its silence, its end, or what it must not send."""

from __future__ import annotations


class ConnectionLostError(Exception):
    """The peer closed, or the connection broke."""


class CalledOffError(ConnectionLostError):
    """Whoever waits wants to wait no longer; raised by an `InlineSocket.while_waiting`."""


class ReadTimeoutError(Exception):
    """Nothing, or not enough, arrived in time."""


class ProtocolError(Exception):
    """The peer broke PS3.7 or PS3.8; the association is aborted. The message says how."""
