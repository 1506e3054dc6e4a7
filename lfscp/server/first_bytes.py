"""Tells by its first bytes whether a connection needs a thread yet. No I/O.

Source: PS3.8 section 9.3.1 (the head of a PDU); RFC 8446 section 5.1 (that of a TLS record); "The
PROXY protocol", HAProxy, section 2.2.
"""

from __future__ import annotations

from typing import Final

from lfscp.server.proxy_protocol import header_bytes
from lfscp.upperlayer.wire.associate_pdus import MAX_ACSE_PDU_BYTES

# Who asks for more than this is served as it comes; a request of 128 contexts with the usual
# transfer syntaxes is about half as long.
LOOKED_AT: Final = 32768
_A_ASSOCIATE_RQ: Final = 0x01
_PDU_HEAD: Final = 6
_TLS_HANDSHAKE: Final = 0x16
_TLS_HEAD: Final = 5


def bytes_wanted(seen: bytes, *, is_tls: bool, has_proxy_header: bool) -> int:
    """How many bytes a connection has to have sent before it is worth a thread.

    Args:
        seen: its first bytes, as many as there are.
        is_tls: whether a TLS handshake is due.
        has_proxy_header: whether a header of the PROXY protocol is due first.
    Returns:
        At most `len(seen)` when it is worth one now.
    """
    start = header_bytes(seen) if has_proxy_header else 0
    if start is None:
        return 0  # no such header
    head = _TLS_HEAD if is_tls else _PDU_HEAD
    if len(seen) < start + head:
        first = seen[start : start + 1]
        is_other = bool(first) and first[0] != (_TLS_HANDSHAKE if is_tls else _A_ASSOCIATE_RQ)
        return 0 if is_other else start + head
    if is_tls:
        kind, length = seen[start], int.from_bytes(seen[start + 3 : start + 5])
    else:
        kind, length = seen[start], int.from_bytes(seen[start + 2 : start + 6])
    if kind != (_TLS_HANDSHAKE if is_tls else _A_ASSOCIATE_RQ) or length > MAX_ACSE_PDU_BYTES:
        return 0
    return min(start + head + length, LOOKED_AT)
