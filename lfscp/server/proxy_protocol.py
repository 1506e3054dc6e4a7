"""PROXY protocol version 2: who the peer is when a load balancer stands between it and this node.

The header comes first on a connection, before TLS and before DICOM. It is read by the thread that
serves, after it has promoted another, within a deadline; until it is there the connection waits
among the `arrivals`, which only look at it. Only proxies that the administrator has
named are believed; with any named, nobody else may connect, and nobody without the header: whether
there is one is never guessed (section 2 of the protocol's text, "The PROXY protocol", HAProxy).
Additional fields behind the addresses (TLVs) are passed over.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections.abc import Iterable
from typing import Final

from lfscp.server.listener import Address

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_1: Final = b"PROXY "
_HEAD: Final = struct.Struct(">12sBBH")  # signature, version and command, family, length
_MAX_BYTES: Final = 4096  # behind the head; balancers send less than 600
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPECIFIED: Final = 0x00
_ADDRESSES: Final = {
    0x11: (socket.AF_INET, struct.Struct(">4s4sHH")),  # TCP over IPv4
    0x21: (socket.AF_INET6, struct.Struct(">16s16sHH")),  # TCP over IPv6
}


class InvalidProxyHeaderError(Exception):
    """The connection is to be closed; the text says why, fit for one log line."""


class ProbeOnlyError(Exception):
    """The proxy only looked whether somebody listens, and is gone."""


class TrustedProxies:
    """The proxies whose word on their peers is taken. Any thread may call any method.

    Args:
        networks: of their addresses, as "10.0.0.7" or "10.1.0.0/16".
        timeout_s: longest wait for a header; None is for ever.
    """

    def __init__(self, networks: Iterable[str], timeout_s: float | None) -> None:
        self._networks = [ipaddress.ip_network(each) for each in networks]
        self._timeout_s = timeout_s

    def peer_of(self, connection: socket.socket, address: Address) -> Address:
        """Read the header; what follows it stays unread.

        Args:
            connection: blocking, as accepted; it is left so.
            address: of whoever has connected.
        Returns:
            The address of the peer that the proxy speaks for.
        Raises:
            InvalidProxyHeaderError: no trusted proxy, no header, or a wrong one.
            ProbeOnlyError: the proxy has closed again without speaking for anybody.
        """
        if not self._is_trusted(address[0]):
            raise InvalidProxyHeaderError("server.proxy_protocol does not name this address")
        deadline = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        try:
            head = _read(connection, _HEAD.size, deadline)
            family, size, is_local = _decode_head(head)
            body = _read(connection, size, deadline)
            if not is_local:
                return _decode_addresses(family, body) or address
            connection.settimeout(_left(deadline))
            if not connection.recv(1, socket.MSG_PEEK):
                raise ProbeOnlyError
        except TimeoutError:
            raise InvalidProxyHeaderError("no complete PROXY protocol header in time") from None
        except OSError as error:
            raise InvalidProxyHeaderError(
                f"the connection broke: {error.strerror or error}"
            ) from None
        finally:
            connection.settimeout(None)
        return address

    def _is_trusted(self, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)


def header_bytes(seen: bytes) -> int | None:
    """How long the header is that a connection begins with; None when there is none.

    Args:
        seen: the first bytes; of fewer than the header's head it is said how long that is.
    """
    if not _SIGNATURE.startswith(seen[: len(_SIGNATURE)]):
        return None
    if len(seen) < _HEAD.size:
        return _HEAD.size
    size: int = _HEAD.unpack_from(seen)[3]
    return _HEAD.size + size if size <= _MAX_BYTES else None


def named_source(seen: bytes) -> str | None:
    """The peer's address that a whole header names, whoever has sent it; None when it does not."""
    size = header_bytes(seen)
    if size is None or not _HEAD.size <= size <= len(seen):
        return None
    try:
        family, _, is_local = _decode_head(seen[: _HEAD.size])
        found = None if is_local else _decode_addresses(family, seen[_HEAD.size : size])
    except InvalidProxyHeaderError:
        return None
    return None if found is None else found[0]


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _read(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    """Exactly so many bytes, and not one more."""
    read = bytearray()
    while len(read) < size:
        connection.settimeout(_left(deadline))
        piece = connection.recv(size - len(read))
        if not piece:
            if not read:
                raise ProbeOnlyError
            raise InvalidProxyHeaderError("closed within the PROXY protocol header")
        read += piece
    return bytes(read)


def _decode_head(head: bytes) -> tuple[int, int, bool]:
    """Family, bytes that follow, and whether the proxy speaks for itself."""
    signature, command, family, size = _HEAD.unpack(head)
    if signature != _SIGNATURE:
        if signature.startswith(_VERSION_1):
            raise InvalidProxyHeaderError(
                "PROXY protocol version 1, set send-proxy-v2 at the proxy"
            )
        raise InvalidProxyHeaderError("no PROXY protocol header, set send-proxy-v2 at the proxy")
    if command not in (_LOCAL, _PROXY):
        raise InvalidProxyHeaderError(
            f"PROXY protocol version and command 0x{command:02X} are unknown"
        )
    if size > _MAX_BYTES:
        raise InvalidProxyHeaderError(f"a PROXY protocol header of {size} bytes")
    return family, size, command == _LOCAL


def _decode_addresses(family: int, body: bytes) -> Address | None:
    """The source; None when the proxy does not know it."""
    if family == _UNSPECIFIED:
        return None
    if family not in _ADDRESSES:
        raise InvalidProxyHeaderError(f"PROXY protocol family 0x{family:02X} is not TCP")
    kind, layout = _ADDRESSES[family]
    if len(body) < layout.size:
        raise InvalidProxyHeaderError("PROXY protocol addresses are cut off")
    source, _, port, _ = layout.unpack_from(body)
    text = socket.inet_ntop(kind, source)
    return (text, port) if kind == socket.AF_INET else (text, port, 0, 0)
