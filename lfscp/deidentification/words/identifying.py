"""Finds the words of an object that tell of people and places, so that no cleaned text keeps one.

They are those of all names of persons, and of what the Basic Profile takes out of text, but for the
descriptors that are cleaned themselves. Sequences are gone through as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from lfscp.deidentification.layout import Found, elements_of, items_of
from lfscp.deidentification.options import Option
from lfscp.deidentification.table import row_of, vr_of
from lfscp.deidentification.words.descriptors import words_of
from lfscp.dicom.encoding.elements import IMPLICIT_LITTLE, Encoding

_TEXT: Final = frozenset(["AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT"])
_MAX_DEPTH: Final = 8


def identifying_words(
    buffer: memoryview, found: list[Found], encoding: Encoding
) -> frozenset[bytes]:
    """All these words of a dataset, in small letters."""
    return words_of(_values(buffer, found, encoding, 0))


def _values(
    buffer: memoryview, found: list[Found], encoding: Encoding, depth: int
) -> Iterator[bytes]:
    for each in found:
        if _is_identifying(each.tag):
            yield bytes(buffer[each.value : each.end])
        elif each.inner is not None and depth < _MAX_DEPTH and vr_of(each.tag) == "SQ":
            inner = IMPLICIT_LITTLE if each.declared == b"UN" else encoding
            for begin, end in items_of(buffer, each, inner):
                yield from _values(buffer, elements_of(buffer, begin, end, inner), inner, depth + 1)


@lru_cache(maxsize=16384)
def _is_identifying(tag: int) -> bool:
    vr = vr_of(tag)
    if vr == "PN":
        return True
    row = row_of(tag)
    return row is not None and vr in _TEXT and Option.CLEAN_DESCRIPTORS not in row.by_option
