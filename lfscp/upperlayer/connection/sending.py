"""Sends on an association's socket: gathers buffers into few calls, and files from the page cache.

Rule: a peer that takes nothing, or takes it slowly, is waited for within its limits.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationSocket

from lfscp.upperlayer.connection.errors import ConnectionLostError
from lfscp.upperlayer.connection.record import ConnectionRecord
from lfscp.upperlayer.connection.send_pace import SendPace
from lfscp.upperlayer.connection.socket_calls import GATHER, bytes_acknowledged
from lfscp.upperlayer.connection.waiting import LazyEvent

# A send that took longer waited for the peer.
_WAITED_S: Final = 0.5
_NOT_YET: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, TimeoutError)
_IN_ONE_PIECE: Final = 16384  # bytes of a file that are read, not sent from the page cache


class SendingSocket(AssociationSocket):
    """pynetdicom's AssociationSocket with blocking, gathering sends.

    Args:
        assoc: the association it serves.
        record: its limits and times.
        client_socket: an accepted connection, TLS handshake not yet done.
        address: for a requestor, the local address to bind.

    Attributes:
        while_waiting: called about every `look_every_s` while waiting, for a C-MOVE's pending
            responses; also while the peer sends or takes without end. May raise CalledOffError,
            which ends the association at once.
        is_sending: a part of a PDU is out, perhaps; only with `while_waiting`.
    """

    def __init__(
        self,
        assoc: Association,
        record: ConnectionRecord,
        client_socket: socket.socket | None = None,
        address: AddressInformation | None = None,
    ) -> None:
        self._prepare(assoc, client_socket, address)
        self._record = record
        self._is_tls = False
        self._owes_ack = False  # for what was read: an answer acknowledges by itself
        self.while_waiting: Callable[[], None] | None = None
        self.look_every_s = 1.0
        self._look_at = 0.0
        self.is_sending = False
        self._pace = SendPace(record)

    def _prepare(
        self,
        assoc: Association,
        client_socket: socket.socket | None,
        address: AddressInformation | None,
    ) -> None:
        """Set what AssociationSocket sets, with an event that makes no lock."""
        self._assoc = assoc
        self._ready: Any = LazyEvent()
        self._tls_args = None
        self.select_timeout = 0.5
        self._is_connected = client_socket is not None
        if client_socket is None:
            self.socket = self._create_socket(cast(AddressInformation, address))
            return
        self.socket = client_socket
        self._ready.set()
        self.event_queue.put("Evt5")  # transport connection indication

    def _look(self) -> None:
        """Call `while_waiting`, when it is time."""
        if self.while_waiting is not None and (now := time.monotonic()) >= self._look_at:
            self._look_at = now + 0.9 * self.look_every_s  # a wait may end a little early
            self.while_waiting()

    def send_all(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send buffers one after another, gathered into as few calls as possible.

        Raises:
            ConnectionLostError: it broke, the peer took nothing for the network timeout, or less
                than `min_bytes_per_s` of its limits.
        """
        sock = self.socket
        if sock is None:
            raise ConnectionLostError("closed")
        self._owes_ack = False  # what is sent acknowledges what came
        if self.while_waiting is not None and len(buffers) >= GATHER:
            buffers = [b"".join(buffers)]
        began = time.monotonic()
        if self._is_tls or self.while_waiting is not None or len(buffers) == 1:
            for buffer in buffers:
                self._send_one(sock, buffer)
        else:
            for first in range(0, len(buffers), GATHER):
                self._send_gathered(sock, buffers[first : first + GATHER])
        if self.while_waiting is None and time.monotonic() - began > _WAITED_S:
            self._pace.waited(self.socket, time.monotonic() - began)

    def send_file(self, fd: int, offset: int, size: int, before: bytes) -> None:
        """Send `before` and then `size` bytes of a file, from the page cache when it can be.

        Raises:
            ConnectionLostError: as `send_all`.
            OSError: the file could not be read, or is shorter than it should be.
        """
        sock = self.socket
        if sock is None:
            raise ConnectionLostError("closed")
        if self._is_tls or size <= _IN_ONE_PIECE:
            piece = os.pread(fd, size, offset)
            if len(piece) != size:
                raise OSError(f"file is {size - len(piece)} bytes shorter than expected")
            self.send_all([before, piece])
            return
        self._owes_ack = False
        self._send_one(sock, before, socket.MSG_MORE)
        size = self._send_file_looking(sock, fd, offset, size)
        if size > 0:
            raise OSError(f"file is {size} bytes shorter than expected")

    def _send_one(self, sock: socket.socket, buffer: bytes | memoryview, flags: int = 0) -> None:
        sent = 0
        if self.while_waiting is None:
            try:
                sent = sock.send(buffer, flags)
            except _NOT_YET:
                pass
            except (OSError, ValueError) as problem:
                raise ConnectionLostError(str(problem)) from problem
        if sent < len(buffer):
            self._send_looking(sock, memoryview(buffer).cast("B")[sent:], flags)

    def _send_gathered(self, sock: socket.socket, buffers: Sequence[bytes | memoryview]) -> None:
        try:
            sent = sock.sendmsg(buffers)
        except _NOT_YET:
            sent = 0
        except (OSError, ValueError) as problem:
            raise ConnectionLostError(str(problem)) from problem
        for buffer in buffers:
            if sent < len(buffer):
                self._send_looking(sock, memoryview(buffer)[sent:])
            sent = max(0, sent - len(buffer))

    def _send_looking(self, sock: socket.socket, rest: memoryview, flags: int = 0) -> None:
        """Send, and call `while_waiting` while the peer takes nothing, or takes it slowly."""
        while rest:
            rest = rest[self._sent(partial(sock.send, rest, flags)) :]

    def _send_file_looking(self, sock: socket.socket, fd: int, offset: int, size: int) -> int:
        """The same from a file; how many bytes it is short of."""
        while size > 0:
            sent = self._sent(partial(os.sendfile, sock.fileno(), fd, offset, size))
            if not sent:
                break
            offset += sent
            size -= sent
        return size

    def _sent(self, send: Callable[[], int]) -> int:
        """How much one send took, when it took something; see `send_all`."""
        while True:
            began = time.monotonic()
            try:
                count = send()
            except _NOT_YET:
                count = -1
            except (OSError, ValueError) as problem:
                raise ConnectionLostError(str(problem)) from problem
            waited_s = time.monotonic() - began
            if count < 0 or waited_s > _WAITED_S:
                self._pace.waited(self.socket, waited_s)
            if self.while_waiting is not None:
                self._look_while_sending()
            if count >= 0:
                self._pace.went_on()
                return count

    def bytes_acknowledged(self) -> int | None:
        """How much of what was sent the peer has taken; None when the connection is gone."""
        return bytes_acknowledged(self.socket)

    def _look_while_sending(self) -> None:
        self.is_sending = True
        self._look()
        self.is_sending = False  # not when it was called off: half a PDU is out
