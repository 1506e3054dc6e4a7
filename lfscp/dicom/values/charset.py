"""Decodes and encodes text by Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1.2).

Decoding never fails and never warns; what cannot be decoded becomes U+FFFD. Encoding replaces and
loses nothing: it raises UnicodeEncodeError for what a character set cannot hold, and the caller
takes UTF-8. With code extensions (ISO 2022) each run of characters is written in the first set that
has them, after its escape sequence; every delimiter goes back to the first (PS3.5 6.1.2.5.3).
Python's names of the character sets and the escape sequences are pydicom's table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from pydicom.charset import CODES_TO_ENCODINGS, ENCODINGS_TO_CODES, python_encoding

from lfscp.dicom.values.attributes import SINGLE_VALUE_VRS

_ESCAPE: Final = b"\x1b"
_FRAGMENT: Final = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_DEFAULT: Final = "latin_1"  # the default repertoire is ASCII; Latin-1 keeps every byte visible
_STAND_ALONE: Final = frozenset({"ISO_IR 192", "GBK", "GB18030"})
# Python's codecs for these read and write the escape sequences themselves.
_WITH_ESCAPES: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})
# A delimiter resets to the first character set (PS3.5 section 6.1.2.5.3); which ones do depends
# on the VR: names have components, and some VRs never have several values.
_DELIMITERS: Final = re.compile(rb"[\\\r\n\f\t]")
_NAME_DELIMITERS: Final = re.compile(rb"[\\^=\r\n\f\t]")
_LINE_DELIMITERS: Final = re.compile(rb"[\r\n\f\t]")

UTF_8: Final = "ISO_IR 192"
_ASCII_TERMS: Final = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
_TEXT_DELIMITERS: Final = re.compile(r"([\\^=\r\n\f\t])")
_TO_FIRST: Final = b"\x1b(B"  # Python's codecs end a run of kanji by going back to ASCII
_TO_FIRST_KATAKANA: Final = b"\x1b(J"
_ESCAPE_SEQUENCES: Final = ENCODINGS_TO_CODES | {"shift_jis": b"\x1b)I"}

# Python's codecs for these write a few characters as others: a yen sign as a backslash.
_NOT_ONE_TO_ONE: Final = frozenset({"shift_jis", "euc_kr"})

Encoder = Callable[[str], bytes]


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
    if codec in _WITH_ESCAPES:
        return fragment.decode(codec, "replace")
    fragment = fragment[length:]
    delimiter = delimiters.search(fragment)
    end = delimiter.start() if delimiter else len(fragment)
    return fragment[:end].decode(codec, "replace") + fragment[end:].decode(codecs[0], "replace")


@lru_cache(maxsize=64)
def encoder(specific_character_set: str) -> tuple[str, Encoder]:
    """The character set to answer in and its encoder.

    Args:
        specific_character_set: the request's, several values with backslash; may be empty.
    Returns:
        What goes into Specific Character Set, and a function that encodes text or raises
        UnicodeEncodeError. UTF-8 when the request names none, or one that is unknown.
    """
    terms = specific_character_set.split("\\")
    if specific_character_set in ("", UTF_8) or not all(term in python_encoding for term in terms):
        return UTF_8, str.encode
    codecs = [_codec(term) for term in terms]
    if len(codecs) == 1 and codecs[0] not in _WITH_ESCAPES:
        return specific_character_set, lambda text: _encode_single(text, codecs[0])
    return specific_character_set, lambda text: _encode_extended(text, codecs)


def _codec(term: str) -> str:
    return "ascii" if term in _ASCII_TERMS else python_encoding[term]


def _encode_single(text: str, codec: str) -> bytes:
    encoded = text.encode(codec)
    if codec == "shift_jis" and len(encoded) != len(text):
        # ISO_IR 13 is the single-byte part of Shift JIS only.
        raise UnicodeEncodeError(codec, text, 0, len(text), "not in ISO_IR 13")
    if codec in _NOT_ONE_TO_ONE and encoded.decode(codec, "replace") != text:
        raise UnicodeEncodeError(codec, text, 0, len(text), "would be read as another")
    return encoded


def _encode_extended(text: str, codecs: list[str]) -> bytes:
    if text.isascii():
        return text.encode("ascii")
    return b"".join(_encode_part(part, codecs) for part in _TEXT_DELIMITERS.split(text))


def _encode_part(part: str, codecs: list[str]) -> bytes:
    """One part between delimiters: in the first character set when it holds all of it."""
    if part.isascii():
        return part.encode("ascii")
    if codecs[0] not in _WITH_ESCAPES and _fits(part, codecs[0]):
        return part.encode(codecs[0])
    return b"".join(_encode_run(run, codec, codecs[0]) for codec, run in _runs(part, codecs))


def _runs(part: str, codecs: list[str]) -> list[tuple[str, str]]:
    """Neighbouring characters of one codec together; ASCII stays as it is."""
    runs: list[tuple[str, str]] = []
    for sign in part:
        codec = "ascii" if sign.isascii() else _codec_for(sign, codecs)
        if runs and runs[-1][0] == codec:
            runs[-1] = (codec, runs[-1][1] + sign)
        else:
            runs.append((codec, sign))
    return runs


def _codec_for(sign: str, codecs: list[str]) -> str:
    for codec in codecs:
        if _fits(sign, codec):
            return codec
    raise UnicodeEncodeError(codecs[0], sign, 0, 1, "in none of the character sets")


def _fits(text: str, codec: str) -> bool:
    try:
        encoded = _encode_single(text, codec)
    except UnicodeEncodeError:
        return False
    # A codec of ISO 2022 may reach for a character set of its own that was not named.
    return codec not in _WITH_ESCAPES or encoded.startswith(ENCODINGS_TO_CODES[codec])


def _encode_run(run: str, codec: str, first: str) -> bytes:
    encoded = run.encode(codec)
    if codec == "ascii":
        return encoded
    if codec in _WITH_ESCAPES:
        tail = _TO_FIRST_KATAKANA if first == "shift_jis" else _TO_FIRST
        return encoded.removesuffix(_TO_FIRST) + tail
    return _ESCAPE_SEQUENCES[codec] + encoded
