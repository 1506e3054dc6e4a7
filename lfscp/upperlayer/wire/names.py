"""Names as they arrive in an A-ASSOCIATE-RQ: AE titles, UIDs, version names, well padded or not.

Padding is no part of a name: blanks around it, and whatever stands behind a NUL. What is left may
still be no name. It then stays readable, so that a log line can say what came, and is refused where
the name is needed. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from pydicom.uid import UID
from pynetdicom import _config
from pynetdicom.utils import decode_bytes

from lfscp.upperlayer.wire.commands import MAX_UID_LENGTH, printable_name

_IGNORE_VALIDITY: Final = 0
# With its padding; what is longer is no name, and would only fill the caches below.
_MAX_BYTES: Final = 2 * MAX_UID_LENGTH


@lru_cache(maxsize=4096)
def intern_uid(text: str) -> UID:
    """The one UID object for a text that comes again and again: SOP classes, transfer syntaxes."""
    return UID(text, _IGNORE_VALIDITY)


_NO_UID: Final = intern_uid("")


def uid_of(value: bytes) -> UID:
    """A UID without its padding; the empty one when it can be none.

    Source: PS3.5 section 9.1: at most 64 characters; its padding is one NUL.
    """
    return _uid_of(value) if len(value) <= _MAX_BYTES else _NO_UID


@lru_cache(maxsize=4096)
def _uid_of(value: bytes) -> UID:
    text = value.decode("ascii", "replace").strip("\0 \t\r\n")
    is_one = len(text) <= MAX_UID_LENGTH and text.isascii() and text.isprintable()
    return intern_uid(text if is_one else "")


@lru_cache(maxsize=1024)
def _decoded(value: bytes, codecs: tuple[str, ...]) -> str:
    text = printable_name(value)
    if value.isascii() or len(codecs) == 1:
        return text
    try:
        return decode_bytes(value.partition(b"\0")[0]).strip()
    except ValueError:
        return text


def readable(value: bytes) -> str:
    """A name without its padding, all of it printable ASCII: other bytes as `\\xNN`.

    Where pynetdicom is configured to try other codecs, what it makes of the name with them.
    """
    return _decoded(value[:_MAX_BYTES], tuple(_config.CODECS))


def fault_of_ae_title(title: str) -> str:
    """Why a text is no AE title; empty when it is one.

    Source: PS3.5 table 6.2-1, PS3.8 table 9-11: not the value of 16 blanks.
    """
    return _fault(title, _config.VALIDATORS["AE"]) if title else "is blank"


@lru_cache(maxsize=1024)
def _fault(title: str, validate: Callable[[str], tuple[bool, str]]) -> str:
    is_valid, reason = validate(title)
    if not is_valid and "\\x" in title:  # what `readable` made of other bytes
        return "must only contain printable ASCII characters"
    return "" if is_valid else reason
