"""Writes the items of a sequence of codes anew: known codes stay, all others are replaced.

A code is known if it is in the tables of the standard that pydicom has, or if its scheme is a
public one and its value has the form of a number. Its meaning is that of the tables, else the
known words of what stood there.
Source: PS3.3 section 8; PS3.16 chapter 8.
"""

from __future__ import annotations

import re
from typing import Final

from lfscp.deidentification.layout import Found, Writer
from lfscp.deidentification.values import dummy, padded
from lfscp.deidentification.words.descriptors import cleaned, known_meaning
from lfscp.dicom.encoding.elements import Buffer

CODE_VALUE: Final = 0x00080100
CODING_SCHEME: Final = 0x00080102
CODE_MEANING: Final = 0x00080104
_PUBLIC: Final = frozenset(
    b"ACR DCM FMA I10 I10P I9C ICDO3 LN MDC NCIt NEU RADLEX RXNORM SCT SNM3 SRT UMLS".split()
)
_NUMBER: Final = re.compile(rb"[A-Z]{0,3}-?[0-9][0-9A-F.\-]{0,14}")
_UNKNOWN: Final = {CODE_VALUE: b"REMOVED ", CODING_SCHEME: b"99ANON", CODE_MEANING: b"REMOVED "}
_VRS: Final = {CODE_VALUE: b"SH", CODING_SCHEME: b"SH", CODE_MEANING: b"LO"}


class Coded:
    """Writes items of codes in one encoding."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def item(self, buffer: Buffer, found: list[Found], identifying: frozenset[bytes]) -> bytes:
        """The elements of one item.

        Args:
            identifying: words that no meaning may keep.
        """
        values = {
            each.tag: bytes(buffer[each.value : each.end]).strip(b" \0")
            for each in found
            if each.tag in _VRS
        }
        code = self._code(values, identifying)
        return b"".join(
            self._writer.element(tag, _VRS[tag], padded(value, _VRS[tag]))
            for tag, value in code.items()
        )

    def _code(self, values: dict[int, bytes], identifying: frozenset[bytes]) -> dict[int, bytes]:
        scheme, value = values.get(CODING_SCHEME, b""), values.get(CODE_VALUE, b"")
        meaning = known_meaning(scheme, value)
        if meaning is None and scheme in _PUBLIC and _NUMBER.fullmatch(value):
            given = cleaned(values.get(CODE_MEANING, b""), identifying)
            meaning = given[:64].strip() or dummy(b"LO")
        if meaning is None:
            return _UNKNOWN
        return {CODE_VALUE: value, CODING_SCHEME: scheme, CODE_MEANING: meaning}
