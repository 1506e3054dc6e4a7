"""Text to bytes in a requested Specific Character Set; UnicodeEncodeError when it cannot be.

Rules: nothing is replaced or lost: what a character set cannot hold is refused, and the
caller takes UTF-8. With code extensions (ISO 2022) each run of characters is written in the
first character set that has them, after its escape sequence, and every delimiter goes back
to the first (PS3.5 section 6.1.2.5.3). Names and escape sequences are pydicom's table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from pydicom.charset import ENCODINGS_TO_CODES, python_encoding

UTF_8: Final = "ISO_IR 192"
_ASCII_TERMS: Final = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
_DELIMITERS: Final = re.compile(r"([\\^=\r\n\f\t])")
_TO_FIRST: Final = b"\x1b(B"  # Python's codecs end a run of kanji by going back to ASCII
_TO_FIRST_KATAKANA: Final = b"\x1b(J"
_ESCAPES_WRITTEN_BY_CODEC: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})
_ESCAPE_SEQUENCES: Final = ENCODINGS_TO_CODES | {"shift_jis": b"\x1b)I"}

# Python's codecs for these write a few characters as others: a yen sign as a backslash.
_NOT_ONE_TO_ONE: Final = frozenset({"shift_jis", "euc_kr"})

Encoder = Callable[[str], bytes]


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
    if len(codecs) == 1 and codecs[0] not in _ESCAPES_WRITTEN_BY_CODEC:
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
    return b"".join(_encode_part(part, codecs) for part in _DELIMITERS.split(text))


def _encode_part(part: str, codecs: list[str]) -> bytes:
    """One part between delimiters: in the first character set when it holds all of it."""
    if part.isascii():
        return part.encode("ascii")
    if codecs[0] not in _ESCAPES_WRITTEN_BY_CODEC and _fits(part, codecs[0]):
        return part.encode(codecs[0])
    pieces: list[bytes] = []
    for codec, run in _runs(part, codecs):
        pieces.append(_encode_run(run, codec, codecs[0]))
    return b"".join(pieces)


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
    return codec not in _ESCAPES_WRITTEN_BY_CODEC or encoded.startswith(ENCODINGS_TO_CODES[codec])


def _encode_run(run: str, codec: str, first: str) -> bytes:
    encoded = run.encode(codec)
    if codec == "ascii":
        return encoded
    if codec in _ESCAPES_WRITTEN_BY_CODEC:
        tail = _TO_FIRST_KATAKANA if first == "shift_jis" else _TO_FIRST
        return encoded.removesuffix(_TO_FIRST) + tail
    return _ESCAPE_SEQUENCES[codec] + encoded
