"""Judges by TCP's acknowledgements how fast a peer takes what is sent to it."""

from __future__ import annotations

import socket

from lfscp.upperlayer.connection.errors import ConnectionLostError
from lfscp.upperlayer.connection.record import ConnectionRecord
from lfscp.upperlayer.connection.socket_calls import bytes_acknowledged


class SendPace:
    """Of one association.

    Args:
        record: has the network timeout, and the slowest pace (`limits.min_bytes_per_s`).
    """

    def __init__(self, record: ConnectionRecord) -> None:
        self._record = record
        self._waited_s = 0.0  # in sends, since so many bytes were acknowledged
        self._acknowledged: int | None = None

    def went_on(self) -> None:
        """A send was taken."""
        if self._acknowledged is None:  # nobody knows the pace
            self._waited_s = 0.0

    def waited(self, sock: socket.socket | None, waited_s: float) -> None:
        """End the association of a peer that takes nothing, or takes it too slowly.

        Args:
            waited_s: how long the last send has waited for it.
        Raises:
            ConnectionLostError: it has waited for the network timeout.
        """
        timeout_s, acknowledged = self._record.network_timeout_s, bytes_acknowledged(sock)
        self._waited_s += waited_s
        if self._acknowledged is None:
            self._acknowledged = acknowledged
        if timeout_s is None or self._waited_s < 0.99 * timeout_s:
            return
        taken = (acknowledged or 0) - (self._acknowledged or 0)
        if taken <= 0:
            raise ConnectionLostError("send timed out")
        rate = self._record.limits.min_bytes_per_s
        if taken < rate * self._waited_s:
            raise ConnectionLostError(
                f"peer too slow: took {taken} bytes in {self._waited_s:.0f} s, "
                f"expected {rate} a second"
            )
        self._acknowledged, self._waited_s = acknowledged, 0.0
