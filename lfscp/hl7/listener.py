"""Takes HL7 messages over MLLP: a thread for each connection, which may send many messages.

Messages are taken one after the other, so what they cost in memory is that of one. A connection
whose peer is too slow, sends what is no message, or is one too many ends with one line in the log.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from lfscp.hl7.mllp import FramingError, Limits, Stream
from lfscp.observe import metrics
from lfscp.observe.log_budget import LogBudget
from lfscp.observe.logging import get_logger
from lfscp.server.listener import Listener, ListenerClosedError

LOG: Final = get_logger("lfscp.hl7")
_STOP_S: Final = 10.0  # for the message that is being taken

Take = Callable[[bytes, str], bytes]  # a message and the peer's address; the answer


class _Connection:
    """One peer.

    Attributes:
        active_at: when it was last heard of, in monotonic seconds.
        is_told: whether it was ended here.
    """

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.sock = sock
        self.address = address
        self.active_at = time.monotonic()
        self.is_told = False
        self.thread: threading.Thread | None = None

    def end(self) -> None:
        """Read nothing more; what was taken is still answered."""
        self.is_told = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RD)


class HL7Listener:
    """Serves one listening socket, until `stop`.

    Args:
        sock: listens; closed by `stop`.
        take: takes a message and gives the answer; never raises.
        networks: from which peers may connect; none: from all.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Take,
        networks: Iterable[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self._take = take
        self._networks = [ipaddress.ip_network(each) for each in networks]
        self._limits = limits or Limits()
        self._listener = Listener(sock)
        self._lines = LogBudget()
        self._taking = threading.Lock()
        self._changing = threading.Lock()
        self._connections: set[_Connection] = set()
        self._thread = threading.Thread(target=self._accept, name="lfscp-hl7", daemon=True)

    def start(self) -> None:
        """Accept connections, in threads."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more; end the connections, each after the message that is being taken."""
        self._listener.wake()
        self._thread.join()
        self._listener.close()
        with self._changing:
            left = list(self._connections)
        for each in left:
            each.end()
        deadline = time.monotonic() + _STOP_S
        for each in left:
            if each.thread is not None:
                each.thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        while True:
            try:
                sock, address = self._listener.accept()
            except ListenerClosedError:
                return
            connection = _Connection(sock, str(address[0]))
            if not self._may_connect(connection.address):
                self._refuse(connection, "address", "its address may not send HL7 messages")
                continue
            self._make_room()
            self._begin(connection)

    def _may_connect(self, address: str) -> bool:
        peer = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return not self._networks or any(peer in each for each in self._networks)

    def _make_room(self) -> None:
        """End the connection that was silent the longest when there are too many."""
        with self._changing:
            present = [each for each in self._connections if not each.is_told]
            if len(present) < self._limits.connections:
                return
            silent = min(present, key=lambda each: each.active_at)
            silent.end()
        self._say(silent, "connections", "ended for a newer one, since there are too many")

    def _begin(self, connection: _Connection) -> None:
        connection.thread = threading.Thread(
            target=self._serve, args=(connection,), name="lfscp-hl7-peer", daemon=True
        )
        with self._changing:
            # Those that were ended still take their last message, but not without limit.
            has_room = len(self._connections) < 2 * self._limits.connections
            if has_room:
                self._connections.add(connection)
                metrics.HL7_CONNECTIONS.set(len(self._connections))
        if not has_room:
            self._refuse(connection, "connections", "too many connections")
            return
        try:
            connection.thread.start()
        except RuntimeError:  # no thread can be had
            self._forget(connection)
            self._say(connection, "connections", "no thread could be started")

    def _refuse(self, connection: _Connection, kind: str, reason: str) -> None:
        connection.sock.close()
        self._say(connection, kind, reason)

    def _serve(self, connection: _Connection) -> None:
        stream = Stream(connection.sock, self._limits)
        try:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (message := stream.read()) is not None:
                connection.active_at = time.monotonic()
                with self._taking:
                    answer = self._take(message, connection.address)
                stream.write(answer)
        except FramingError as error:
            if not connection.is_told:
                self._say(connection, error.kind, error.reason)
        except OSError as error:
            if not connection.is_told:
                self._say(connection, "cut", error.strerror or "the connection broke")
        finally:
            self._forget(connection)

    def _forget(self, connection: _Connection) -> None:
        with self._changing:
            self._connections.discard(connection)
            metrics.HL7_CONNECTIONS.set(len(self._connections))
        connection.sock.close()

    def _say(self, connection: _Connection, kind: str, reason: str) -> None:
        metrics.HL7_ENDED.of(kind).add()
        if self._lines.allows(connection.address):
            LOG.warning("HL7 connection ended", peer=connection.address, reason=reason)
        left_out = self._lines.left_out()
        if left_out is not None:
            LOG.warning("more HL7 connections ended", reason=str(left_out))
