"""Limits what an identifier may ask for: the number, length and depth of keys and values.

Rules: all of it is looked at, also keys that are not known, before a value is decoded or a
statement is made. A key is refused for its cost, not for breaking its VR: the limits of single
values are several times those of PS3.5 table 6.2-1, since objects break these, too.
"""

from __future__ import annotations

import re
from typing import Final

from lfscp.archive.query.object_keys import MAX_DEPTH, vr_by_dictionary
from lfscp.archive.query.query import InvalidKeyError
from lfscp.dicom.reading import identifiers
from lfscp.dicom.reading.identifiers import Identifier
from lfscp.dicom.values.attributes import SINGLE_VALUE_VRS, SPECIFIC_CHARACTER_SET, TEXT_VRS

DEFAULT_MAX_VALUES: Final = 10_000
MAX_KEYS: Final = 1_000  # the dictionary's attributes before Pixel Data are some 4,000
# A name, or a value with a wildcard, costs the database as much as so many other values.
PATTERN_VALUES: Final = 100
MAX_CHARACTER_SETS: Final = 32  # the standard has half as many
MAX_VALUE_BYTES: Final = {
    **dict.fromkeys(("LT", "ST", "UC", "UR", "UT"), 32_768),
    "PN": 2_048,
}
MAX_SHORT_VALUE_BYTES: Final = 1_024  # of all other text, and of every value with a wildcard
_PATTERNS: Final = TEXT_VRS - {"DA", "DS", "DT", "IS", "TM", "UI"}
_WILDCARDS: Final = re.compile(rb"[*?]")


class ExcessiveKeyError(InvalidKeyError):
    """The identifier asks for more than the limits allow (0xA900)."""


def require_within_limits(identifier: Identifier, max_values: int = DEFAULT_MAX_VALUES) -> None:
    """Refuse an identifier that asks for too much.

    Args:
        identifier: as received, or built.
        max_values: most values in all keys together, those in items and the items included; a
            name and a value with a wildcard count as PATTERN_VALUES.
    Raises:
        ExcessiveKeyError: it does; the key at which the limit was reached is named.
        DatasetError: a sequence key is broken inside.
    """
    _Count(max_values).identifier(identifier, 1)


class _Count:
    """Counts keys and values of one identifier."""

    def __init__(self, max_values: int) -> None:
        self._max_values = max_values
        self._values = 0
        self._keys = 0

    def identifier(self, identifier: Identifier, depth: int) -> None:
        """Count an identifier, or one of its items."""
        for tag in identifiers.tags(identifier):
            self._keys += 1
            if self._keys > MAX_KEYS:
                raise ExcessiveKeyError(tag, f"more than {MAX_KEYS} keys")
            if identifiers.is_empty(identifier, tag):
                continue
            vr = vr_by_dictionary(tag)
            if vr == "SQ":
                self._sequence(identifier, tag, depth)
            elif vr in TEXT_VRS:
                self._text(tag, vr, identifiers.content(identifier, tag))

    def _sequence(self, identifier: Identifier, tag: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ExcessiveKeyError(tag, f"sequences are nested more than {MAX_DEPTH} deep")
        self._add(tag, identifiers.count_items(identifier, tag))
        for item in identifiers.items(identifier, tag):
            self.identifier(item, depth + 1)

    def _text(self, tag: int, vr: str, content: bytes) -> None:
        """Count the values of a text; a byte of another character may look like a sign of ours."""
        values = [content]
        if vr not in SINGLE_VALUE_VRS and b"\\" in content:
            self._add(tag, content.count(b"\\"))
            values = content.split(b"\\")
        self._add(tag, 1)
        if tag == SPECIFIC_CHARACTER_SET and len(values) > MAX_CHARACTER_SETS:
            raise ExcessiveKeyError(tag, f"more than {MAX_CHARACTER_SETS} character sets")
        largest = MAX_VALUE_BYTES.get(vr, MAX_SHORT_VALUE_BYTES)
        for value in values:
            if len(value) > largest:
                raise ExcessiveKeyError(
                    tag, f"a value of {len(value)} bytes, in {vr} at most {largest}"
                )
        if vr == "PN":
            self._add(tag, len(values) * (PATTERN_VALUES - 1))
        elif vr in _PATTERNS and _WILDCARDS.search(content):
            patterns = [value for value in values if _WILDCARDS.search(value)]
            self._add(tag, len(patterns) * (PATTERN_VALUES - 1))
            if max(map(len, patterns)) > MAX_SHORT_VALUE_BYTES:
                raise ExcessiveKeyError(
                    tag, f"a pattern of more than {MAX_SHORT_VALUE_BYTES} bytes"
                )

    def _add(self, tag: int, values: int) -> None:
        self._values += values
        if self._values > self._max_values:
            raise ExcessiveKeyError(
                tag,
                f"more than {self._max_values} values in all keys, "
                f"patterns count as {PATTERN_VALUES}",
            )
