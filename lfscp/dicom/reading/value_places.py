"""Finds one value in a dataset by its path, without reading the others.

A path is a tag, or tags with the number of an item, counted from 1, between two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from lfscp.dicom.encoding.elements import (
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    each_item,
    element_head,
    skip_undefined,
)
from lfscp.dicom.encoding.value_representations import WIDTH
from lfscp.dicom.errors import DatasetError


class ValuePlace(NamedTuple):
    """Where a value is.

    Args:
        vr: as it is written; empty in implicit VR.
        end: of the value; when it has items or fragments, of what holds it.
        has_items: whether it is a sequence, or has fragments.
        encoding: of the element.
    """

    tag: int
    vr: bytes
    begin: int
    end: int
    has_items: bool
    encoding: Encoding

    @property
    def word_bytes(self) -> int:
        """Bytes of the words that must be turned for little endian; 1 if none."""
        return WIDTH.get(self.vr, 1) if self.encoding.byteorder == "big" else 1


def find_value(dataset: Buffer, encoding: Encoding, path: Sequence[int]) -> ValuePlace | None:
    """Find the value at a path; None when it is not there.

    Args:
        path: tag, or tag, item, tag and so on.
    Raises:
        DatasetError: the dataset is broken.
    """
    begin, end = 0, len(dataset)
    found = _find(dataset, encoding, path[0], begin, end)
    for number, tag in zip(path[1::2], path[2::2], strict=True):
        place, items = found or (None, None)
        if place is None or items is None:
            return None
        inside = memoryview(dataset)[place.begin : place.end]
        item = next(islice(each_item(inside, items), number - 1, None), None)
        if item is None:
            return None
        found = _find(dataset, items, tag, place.begin + item[0], place.begin + item[1])
    return found[0] if found is not None else None


def _find(
    dataset: Buffer, encoding: Encoding, wanted: int, at: int, end: int
) -> tuple[ValuePlace, Encoding | None] | None:
    """An element between two positions, and the encoding of its items if it has some."""
    while at + 8 <= end:
        raw, value, length, inner = element_head(dataset, at, end, encoding)
        tag = encoding.raw_tag(raw)
        vr = bytes(dataset[at + 4 : at + 6]) if encoding.explicit else b""
        has_items = length == UNDEFINED_LENGTH
        if tag == wanted:
            until = end if has_items else value + length
            if until > end:
                raise DatasetError(f"{length} bytes of value, {end - value} are there", tag)
            is_sequence = has_items or vr == b"SQ"
            items = inner or (encoding if is_sequence else None)
            return ValuePlace(tag, vr, value, until, is_sequence, encoding), items
        at = skip_undefined(dataset, value, end, inner or encoding) if has_items else value + length
    return None
