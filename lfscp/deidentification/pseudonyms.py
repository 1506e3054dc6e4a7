"""Makes new UIDs, names of patients and shifts of dates from the key of a project.

All of them are keyed hashes (HMAC-SHA-256): the same key gives the same again, and without the key
nobody goes back. Source: PS3.5 annex B.2 for UIDs below 2.25.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from functools import lru_cache
from typing import Final

from pydicom._uid_dict import UID_dictionary

from lfscp.deidentification.errors import DeidentificationRequestError
from lfscp.deidentification.table import row_of

MIN_KEY_BYTES: Final = 16
_MOST_DAYS: Final = 3650
_UID: Final = re.compile(rb"[0-9]+(\.[0-9]+)+")
# The parts of the standard's own UIDs are short: a number of a patient or a date is none of them.
_REGISTERED: Final = re.compile(rb"1\.2\.840\.10008(?:\.[0-9]{1,3}){1,10}")
# HL7 registered the coding schemes of others there (PS3.16 chapter 8).
_REGISTERED_SCHEME: Final = re.compile(rb"2\.16\.840\.1\.113883\.6(?:\.[0-9]{1,4}){1,3}")
_CODING_SCHEME_UID: Final = 0x0008010C
_MAX_UID: Final = 64


class Pseudonyms:
    """What one key makes of identifiers.

    Args:
        key: the secret of the project, of 16 bytes or more; None makes one that is forgotten.
    Raises:
        DeidentificationRequestError: the key is too short.
    """

    def __init__(self, key: bytes | None) -> None:
        if key is not None and len(key) < MIN_KEY_BYTES:
            raise DeidentificationRequestError(
                f"the key has {len(key)} bytes, and needs {MIN_KEY_BYTES} or more"
            )
        self._key = secrets.token_bytes(32) if key is None else key
        self.uid = lru_cache(maxsize=4096)(self._uid)

    def _hash(self, purpose: bytes, text: bytes) -> bytes:
        return hmac.digest(self._key, purpose + b"\0" + text, "sha256")

    def _uid(self, uid: bytes) -> bytes:
        """The new UID of one that is not registered."""
        number = int.from_bytes(self._hash(b"uid", uid)[:16], "big")
        number = number & ~(0xF << 76) | 8 << 76  # version 8: made by a rule of one's own
        number = number & ~(0x3 << 62) | 2 << 62
        return b"2.25.%d" % number

    def uids(self, tag: int, value: bytes) -> bytes:
        """The value of an element with UIDs, each of them new but for registered ones."""
        parts = value.rstrip(b"\0 ").split(b"\\")
        return b"\\".join(part if is_registered(tag, part) else self._new(part) for part in parts)

    def _new(self, uid: bytes) -> bytes:
        uid = uid.strip(b"\0 ")
        return self.uid(uid) if uid else b""

    def patient(self, identity: bytes) -> bytes:
        """A name for a patient, of capitals and digits."""
        digest = base64.b32encode(self._hash(b"patient", identity))
        return b"ANON" + digest[:12]

    def days(self, identity: bytes) -> int:
        """By how many days the dates of a patient go back, 1 to 3650."""
        number = int.from_bytes(self._hash(b"dates", identity)[:8], "big")
        return 1 + number % _MOST_DAYS


def is_registered(tag: int, uid: bytes) -> bool:
    """Whether a UID is the standard's or a coding scheme's, which tells nothing of anybody."""
    if not is_valid_uid(uid):
        return False
    if _REGISTERED.fullmatch(uid):  # no instance has such a UID, whatever an object says
        return row_of(tag) is None or uid.decode("ascii") in UID_dictionary
    return tag == _CODING_SCHEME_UID and _REGISTERED_SCHEME.fullmatch(uid) is not None


def is_valid_uid(uid: bytes) -> bool:
    """Whether a value has the form of a UID."""
    return len(uid) <= _MAX_UID and _UID.fullmatch(uid) is not None
