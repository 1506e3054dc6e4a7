"""Bytes to text by Specific Character Set (PS3.3 section C.12.1.1.2, PS3.5 section 6.1.2).

Rule: decoding never fails and never warns; what cannot be decoded becomes U+FFFD. What a
character set is called in Python, and which escape sequence selects it, is pydicom's table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

from lfscp.dicom.attributes import SINGLE_VALUE_VRS

_ESCAPE: Final = b"\x1b"
_FRAGMENT: Final = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_DEFAULT: Final = "latin_1"  # the default repertoire is ASCII; Latin-1 keeps every byte visible
_STAND_ALONE: Final = frozenset({"ISO_IR 192", "GBK", "GB18030"})
# Python's codecs for these read and strip the escape sequences themselves.
_ESCAPES_READ_BY_CODEC: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})
# A delimiter resets to the first character set (PS3.5 section 6.1.2.5.3); which ones do depends
# on the VR: names have components, and some VRs never have several values.
_DELIMITERS: Final = re.compile(rb"[\\\r\n\f\t]")
_NAME_DELIMITERS: Final = re.compile(rb"[\\^=\r\n\f\t]")
_LINE_DELIMITERS: Final = re.compile(rb"[\r\n\f\t]")


@lru_cache(maxsize=64)
def codecs_of(specific_character_set: str) -> tuple[str, ...]:
    """The Python codecs of a Specific Character Set value, at least one.

    Args:
        specific_character_set: the element's text, several values with backslash. Common
            misspellings ("ISO-IR 100", "ISO IR 192") are understood; unknown ones are Latin-1.
    """
    terms = [_spelled(term.strip(" \0")) for term in specific_character_set.split("\\")]
    if len(terms) > 1 and terms[0] in _STAND_ALONE:
        terms = terms[:1]
    names = [
        python_encoding.get(term, _DEFAULT)
        for index, term in enumerate(terms)
        if index == 0 or term not in _STAND_ALONE
    ]
    return tuple(_DEFAULT if name == "iso8859" else name for name in names)


def _spelled(term: str) -> str:
    if term in python_encoding:
        return term
    term = re.sub(r"^ISO.2022.IR.", "ISO 2022 IR ", term.upper())
    return re.sub(r"^ISO.IR.", "ISO_IR ", term)


def decode(value: bytes, codecs: Sequence[str], vr: str = "PN") -> str:
    """Decode one element's value; padding and delimiters stay."""
    if _ESCAPE not in value:
        return value.decode(codecs[0], "replace")
    delimiters = _delimiters_of(vr)
    return "".join(_decode_fragment(part, codecs, delimiters) for part in _FRAGMENT.findall(value))


def _delimiters_of(vr: str) -> re.Pattern[bytes]:
    if vr == "PN":
        return _NAME_DELIMITERS
    return _LINE_DELIMITERS if vr in SINGLE_VALUE_VRS else _DELIMITERS


def _decode_fragment(fragment: bytes, codecs: Sequence[str], delimiters: re.Pattern[bytes]) -> str:
    length = 4 if fragment[:3] in (b"\x1b$(", b"\x1b$)") else 3
    codec = CODES_TO_ENCODINGS.get(fragment[:length])
    if codec is None:  # plain text, or an escape sequence of no standard character set
        return fragment.decode(codecs[0], "replace")
    if codec in _ESCAPES_READ_BY_CODEC:
        return fragment.decode(codec, "replace")
    fragment = fragment[length:]
    delimiter = delimiters.search(fragment)
    end = delimiter.start() if delimiter else len(fragment)
    return fragment[:end].decode(codec, "replace") + fragment[end:].decode(codecs[0], "replace")
