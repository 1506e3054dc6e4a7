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

MAX_UID_LENGTH: Final = 64
_IGNORE_VALIDITY: Final = 0


@lru_cache(maxsize=4096)
def intern_uid(text: str) -> UID:
    """The one UID object for a text that comes again and again: SOP classes, transfer syntaxes."""
    return UID(text, _IGNORE_VALIDITY)


@lru_cache(maxsize=4096)
def uid_of(value: bytes) -> UID:
    """A UID without its padding; the empty one when it can be none.

    Source: PS3.5 section 9.1: at most 64 characters; its padding is one NUL.
    """
    text = value.decode("ascii", "replace").strip("\0 \t\r\n")
    is_one = len(text) <= MAX_UID_LENGTH and text.isascii() and text.isprintable()
    return intern_uid(text if is_one else "")


def readable(value: bytes) -> str:
    """A name without its padding, all of it printable ASCII: other bytes as `\\xNN`."""
    name = value.partition(b"\0")[0].strip()
    text = "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in name)
    if name.isascii() or len(_config.CODECS) == 1:
        return text
    try:
        return decode_bytes(name).strip()  # the other codecs that pynetdicom is configured to try
    except ValueError:
        return text


@lru_cache(maxsize=1024)
def read_ae_title(value: bytes) -> str:
    """An AE title as it was sent, readable; `fault_of_ae_title` tells whether it is one."""
    return readable(value)


def fault_of_ae_title(title: str) -> str:
    """Why a text is no AE title; empty when it is one.

    Source: PS3.5 table 6.2-1, PS3.8 table 9-11: not the value of 16 blanks.
    """
    return _fault(title, _config.VALIDATORS["AE"]) if title else "is blank"


@lru_cache(maxsize=1024)
def _fault(title: str, validate: Callable[[str], tuple[bool, str]]) -> str:
    is_valid, reason = validate(title)
    return "" if is_valid else reason
