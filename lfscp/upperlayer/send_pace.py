"""Judges by TCP's acknowledgements how fast a peer takes what is sent to it."""

from __future__ import annotations

import socket

from pynetdicom.association import Association

from lfscp.upperlayer.errors import ConnectionLostError
from lfscp.upperlayer.socket_calls import bytes_acknowledged


class SendPace:
    """Of one association.

    Args:
        assoc: has the network timeout, and perhaps the slowest pace (`limits.min_bytes_per_s`).
    """

    def __init__(self, assoc: Association) -> None:
        self._assoc = assoc
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
        timeout_s, acknowledged = self._assoc.network_timeout, bytes_acknowledged(sock)
        self._waited_s += waited_s
        if self._acknowledged is None:
            self._acknowledged = acknowledged
        if timeout_s is None or self._waited_s < 0.99 * timeout_s:
            return
        taken = (acknowledged or 0) - (self._acknowledged or 0)
        if taken <= 0:
            raise ConnectionLostError("send timed out")
        limits = getattr(self._assoc, "limits", None)
        rate = 0 if limits is None else limits.min_bytes_per_s
        if taken < rate * self._waited_s:
            raise ConnectionLostError(
                f"peer too slow: took {taken} bytes in {self._waited_s:.0f} s, "
                f"expected {rate} a second"
            )
        self._acknowledged, self._waited_s = acknowledged, 0.0
