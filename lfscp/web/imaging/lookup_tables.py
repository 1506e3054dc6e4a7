"""Reads and applies lookup tables: modality, VOI and palettes.

Rules (PS3.3 sections C.7.6.3.1.5, C.7.6.3.1.6, C.11.1.1, C.11.2.1.1):
- The descriptor is entries (0 is 65536), first value mapped, bits of an entry.
- Values below the first mapped take the first entry, those above the last one take the last.
- Entries of 8 bits stand two in a word, the low byte first; or one in a word, which is told by the
  length. Others stand one in a word.
- The output goes from 0 to 2^bits - 1, whatever the entries in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset

from lfscp.services.transcoding.decoded import Array
from lfscp.services.transcoding.native_frames import in_little_endian
from lfscp.web.imaging.errors import LookupTableError
from lfscp.web.imaging.functional_groups import value
from lfscp.web.imaging.object_header import is_big_endian
from lfscp.web.imaging.segmented_tables import expanded

_BYTE: Final = 8
_MAX_BITS: Final = 16


@dataclass(frozen=True, slots=True)
class LookupTable:
    """One lookup table.

    Args:
        first: the value that the first entry is for.
        entries: Shape: (entries,), uint16.
        bits: of an entry.
    """

    first: int
    entries: Array
    bits: int

    @property
    def maximum(self) -> int:
        """The highest value that an entry may have."""
        return (1 << self.bits) - 1

    def look_up(self, values: Array) -> Array:
        """The entries for some values.

        Returns:
            Same shape, uint16.
        """
        found: Array = self.entries[self._index(values)]
        return found

    def to_bytes(self, values: Array) -> Array:
        """The entries for some values, from 0 to 255.

        Returns:
            Same shape, uint8.
        """
        shown: Array = (self.entries.astype(np.uint32) * 255 // self.maximum).astype(np.uint8)
        return shown[self._index(values)]

    def _index(self, values: Array) -> Array:
        last = self.first + len(self.entries) - 1
        if values.dtype.kind == "f":  # fmin and fmax replace NaN by the bound
            bounded = np.fmax(np.fmin(values, last), self.first)
            return np.rint(bounded).astype(np.int32) - np.int32(self.first)
        wide = values.astype(np.int64 if values.dtype.itemsize > 2 else np.int32)
        index: Array = np.clip(wide, self.first, last) - self.first
        return index


def read_table(
    item: Dataset,
    header: Dataset,
    *,
    signed: bool,
    descriptor: str = "LUTDescriptor",
    data: str = "LUTData",
    segmented: str = "",
) -> LookupTable:
    """Read a lookup table.

    Args:
        item: what holds the table.
        header: of the object; tells the byte order.
        signed: whether the first value mapped may be negative.
        descriptor: keyword, as data and segmented.
    Raises:
        LookupTableError: the table makes no sense.
    """
    count, first, bits = _descriptor(value(item, descriptor), signed=signed)
    compressed = value(item, segmented) if segmented else None
    if value(item, data) is None and compressed is not None:
        words = _words(item, segmented, big_endian=is_big_endian(header))
        return LookupTable(first, expanded(words, count, bits), bits)
    words = _words(item, data, big_endian=is_big_endian(header))
    return _table(words, count, first, bits)


def _descriptor(found: Any, *, signed: bool) -> tuple[int, int, int]:
    if isinstance(found, bytes):
        found = np.frombuffer(found[:6], "<u2").tolist() if len(found) >= 6 else []
    try:
        count, first, bits = (int(each) & 0xFFFF for each in found)
    except (TypeError, ValueError, OverflowError):
        raise LookupTableError("its descriptor does not have three values") from None
    if not 1 <= bits <= _MAX_BITS:
        raise LookupTableError(f"its descriptor says {bits} bits for an entry")
    if signed and first >= 1 << 15:
        first -= 1 << 16
    return count or 1 << 16, first, bits


def _words(item: Dataset, keyword: str, *, big_endian: bool) -> Array:
    """The value as words of 16 bits, from any type that pydicom returns."""
    found = value(item, keyword)
    if isinstance(found, bytes | bytearray):
        vr = b"OB" if item[keyword].VR == "OB" else b"OW"
        content = in_little_endian(bytes(found), vr, is_big_endian=big_endian)
        return np.frombuffer(content + bytes(len(content) % 2), "<u2")
    try:
        several = list(found) if hasattr(found, "__iter__") else [found]
        return np.array([int(each) & 0xFFFF for each in several], np.uint16)
    except (TypeError, ValueError, OverflowError):
        raise LookupTableError("it has no entries") from None


def _table(words: Array, count: int, first: int, bits: int) -> LookupTable:
    if bits <= _BYTE and len(words) < count:
        entries = words.astype("<u2").view(np.uint8).astype(np.uint16)
    else:
        entries = words.astype(np.uint16)
    if len(entries) < count:
        raise LookupTableError(f"it has {len(entries)} entries, its descriptor says {count}")
    entries = entries[:count]
    if bits == _BYTE and int(np.max(entries)) > 0xFF:
        bits = _MAX_BITS  # the descriptor of a palette of 16 bits, as some write it
    return LookupTable(first, np.minimum(entries, (1 << bits) - 1).astype(np.uint16), bits)
