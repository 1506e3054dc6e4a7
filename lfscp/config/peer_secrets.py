"""Reads the password or token that a peer asks for, which may be in a file of its own.

A file is read whenever it is needed, so that whatever renews a token may replace it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lfscp.config.access import PeerSettings

_MAX_BYTES: Final = 65_536


def password_of(peer: PeerSettings) -> str:
    """The passcode of associations, or the password for Basic authentication; "" if there is none.

    Raises:
        OSError: its file cannot be read.
        ValueError: its file has no password.
    """
    return _secret(peer.password.get_secret_value(), peer.password_file)


def token_of(peer: PeerSettings) -> str:
    """The bearer token; "" if there is none.

    Raises:
        OSError: its file cannot be read.
        ValueError: its file has no token.
    """
    token = _secret(peer.token.get_secret_value(), peer.token_file)
    if not token.isascii() or " " in token:
        raise ValueError("its first line is no token: letters, digits and signs without spaces")
    return token


def read_secret(file: str) -> str:
    """The first line of a file, without white space around it.

    Raises:
        OSError: it cannot be read.
        ValueError: the line is empty or is no text; the message does not quote it.
    """
    with Path(file).open("rb") as opened:
        line = opened.readline(_MAX_BYTES)
    try:
        secret = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("its first line is not UTF-8") from None
    if not secret or not secret.isprintable():
        raise ValueError("its first line is empty, or has control characters")
    return secret


def _secret(given: str, file: str) -> str:
    return read_secret(file) if file else given
