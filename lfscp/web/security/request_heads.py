"""Checks what a request's head must say beyond what the parser of HTTP checks. Pure.

The parser (llhttp) refuses what two readers could take for two different requests: more than one
length, a length beside chunks, bare line ends, folded lines, blanks before a colon. It leaves some
rules of RFC 9112 to its user; those are here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]

VERSIONS: Final = ("1.0", "1.1")
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)
_SCHEMES: Final = (b"http://", b"https://")


class HeadError(ValueError):
    """A head that breaks a rule."""


def length_of_body(version: str, method: bytes, target: bytes, headers: Headers) -> int | None:
    """The length of the body that a head announces; None if it comes in chunks.

    Args:
        version: of HTTP, such as "1.1".
        headers: their names in lower case.
    Raises:
        HeadError: the head breaks a rule of RFC 9112 sections 2.3, 3.2, 6.1 or 6.3.
    """
    if version not in VERSIONS or method == b"CONNECT":
        raise HeadError("not a request of HTTP/1.1")
    if not target.startswith((b"/", *_SCHEMES)) or b"#" in target:
        raise HeadError("not a target of a request")
    hosts, length, codings = 0, 0, 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            codings += 1
            if value.lower() != b"chunked" or version == "1.0" or codings > 1:
                raise HeadError("a transfer coding that is not known here")
    if hosts > 1 or (not hosts and version != "1.0"):
        raise HeadError("not one Host")
    return None if codings else length


def without_upgrade(head: bytes) -> bytes:
    """A head without its wish for another protocol, which a server may ignore.

    The parser takes the body of such a request for the other protocol, and clients of Java send the
    wish with every first request.

    Source: RFC 9110 section 7.8.
    """
    return _UPGRADE.sub(b"", head)


def authority_of(target: bytes) -> bytes | None:
    """The host of a target in absolute form; None if it has another form.

    It counts instead of the header Host (RFC 9112 section 3.2.2).

    Raises:
        HeadError: it names a user.
    """
    if target.startswith(b"/"):
        return None
    authority = target.partition(b"//")[2].partition(b"/")[0].partition(b"?")[0]
    if b"@" in authority or not authority:
        raise HeadError("a target with a user")
    return authority
