"""Turns the bytes of an HL7 message into text by MSH-18 (HL7 table 0211).

Text is decoded before anything is split, since in many of these sets the second byte of a character
may look like a separator. Bytes that do not belong to the set are an error: a garbled name must not
reach a device.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lfscp.dicom.values.charset import codecs_of, decode

_WHOLE: Final = {
    **dict.fromkeys(("UNICODE UTF-8", "UTF-8", "UTF8", "UNICODE", "ISO IR192"), "utf_8"),
    **{f"8859/{part}": f"iso8859_{part}" for part in (*range(1, 12), 13, 14, 15, 16)},
    "ISO IR100": "latin_1",
    "GB 18030-2000": "gb18030",
    "GB18030": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
    "BIG5": "big5",
}
# With escape sequences; the names that DICOM has for them.
_ESCAPED: Final = {
    "ISO IR6": "ISO 2022 IR 6",
    "ISO IR14": "ISO 2022 IR 13",
    "ISO IR87": "ISO 2022 IR 87",
    "ISO IR159": "ISO 2022 IR 159",
}
_NOT_SAID: Final = frozenset({"", "ASCII"})  # a sender that says ASCII and sends more means its own
REPLACED: Final = "\ufffd"
_ISO_8859: Final = re.compile(r"^(?:ISO[ -]?)?8859[/ _-]?(\d+)$")
_ISO_IR: Final = re.compile(r"^ISO[ _-]IR[ _-]?")


def decode_message(data: bytes, named: Sequence[str], default: str) -> tuple[str, str]:
    """Decode a message.

    Args:
        named: the repetitions of MSH-18.
        default: the name of a set, for messages that name none.
    Returns:
        The text, and Python's codec for an answer.
    Raises:
        ValueError: the set is unknown, or the bytes are not of it.
    """
    names = [_plain(each) for each in named if each.strip()]
    is_ascii = data.isascii() and b"\x1b" not in data
    if is_ascii:  # then the set matters for escape sequences alone
        return data.decode("ascii"), _WHOLE.get(names[0] if names else "", "utf_8")
    if len(names) > 1 and names[0] in _NOT_SAID:  # ASCII first, others after escape sequences
        names[0] = "ISO IR6"
    if not names or names[0] in _NOT_SAID:
        return _decode_unsaid(data, default)
    if all(each in _ESCAPED for each in names):
        return _decode_escaped(data, names), "ascii"
    codec = codec_of(names[0])
    return _strict(data, codec), codec


def codec_of(name: str) -> str:
    """Python's codec for the name of a character set.

    Raises:
        ValueError: it is unknown.
    """
    plain = _plain(name)
    if plain in _NOT_SAID:
        return "ascii"
    if plain not in _WHOLE:
        raise ValueError("is no character set that this node knows")
    return _WHOLE[plain]


def _decode_unsaid(data: bytes, default: str) -> tuple[str, str]:
    codec = codec_of(default)
    try:
        return data.decode(codec), codec
    except UnicodeDecodeError:
        if codec != "utf_8":
            raise ValueError("the bytes are not of worklist.hl7_character_set") from None
        return data.decode("latin_1"), "latin_1"


def _strict(data: bytes, codec: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        raise ValueError("the message has bytes that are not of this character set") from None


def _decode_escaped(data: bytes, names: Sequence[str]) -> str:
    terms = [_ESCAPED[each] for each in names]
    text = decode(data, codecs_of("\\".join(terms)), "LT")
    if REPLACED in text:
        raise ValueError("the message has bytes that are not of these character sets")
    return text


def _plain(name: str) -> str:
    plain = _ISO_8859.sub(r"8859/\1", " ".join(name.upper().split()))
    return _ISO_IR.sub("ISO IR", plain)


def encode_answer(text: str, codec: str) -> bytes:
    """Encode an answer; what the set of its message does not have becomes a question mark."""
    return text.encode(codec, "replace")
