"""Reads the attributes of a dataset that a query asks for and the index lacks.

Rules: reading stops at Pixel Data. A value that is too long, or a sequence nested too deep, is left
out, and the caller is told. Text is decoded by the character set of its dataset or item, so that
a response may be written in one of its own; all other values stay bytes, in little endian. An
attribute that is absent has zero length. No files.
Source: PS3.5 sections 6.2, 7.1, 7.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from pydicom.datadict import keyword_for_tag

from lfscp.archive.query.keys import Items
from lfscp.archive.query.object_keys import (
    FIRST_BULK,
    MAX_DEPTH,
    ObjectKey,
    vr_by_dictionary,
)
from lfscp.dicom.encoding.elements import (
    EXPLICIT_BIG,
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    element_head,
    items_of,
    skip_undefined,
)
from lfscp.dicom.encoding.image_pixel import PIXEL_REPRESENTATION
from lfscp.dicom.encoding.value_representations import WIDTH
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.values.attributes import LEADING_SPACE_VRS, SPECIFIC_CHARACTER_SET, TEXT_VRS
from lfscp.dicom.values.charset import codecs_of, decode

_MAX_VALUE: Final = 1 << 20  # bytes of one attribute, a sequence's items included
_MAX_VALUES: Final = 2 << 20  # bytes of all attributes of one object
_MAX_ELEMENTS: Final = 100_000  # that are answered of one object, those in items included
_MAX_CHARACTER_SET: Final = 1024  # bytes of its names
_NUMBER_BYTES: Final = {vr.decode(): width for vr, width in WIDTH.items()}
_VRS: Final = TEXT_VRS | _NUMBER_BYTES.keys() | {"OB", "SQ"}


@dataclass(frozen=True, slots=True)
class ObjectAttribute:
    """One attribute of an object.

    Args:
        value: text; or bytes, numbers in little endian; or the elements of each item.
    """

    tag: int
    vr: str
    value: str | bytes | list[list[ObjectAttribute]]


class _Span(NamedTuple):
    """Where one element is: its begin, its value, and how its items are encoded."""

    begin: int
    value: int
    until: int
    inner: Encoding | None
    is_undefined: bool


def empty(key: ObjectKey) -> ObjectAttribute:
    """The attribute with zero length."""
    return ObjectAttribute(key.tag, _chosen(vr_by_dictionary(key.tag)), b"")


class DatasetAttributes:
    """The wanted elements of one dataset.

    Args:
        is_cut: there is more of it than ends at `end`.
        look: called at each element; what it raises passes.
    Raises:
        DatasetError: it is broken, or cut, before Pixel Data.
    """

    def __init__(
        self,
        buffer: Buffer,
        at: int,
        end: int,
        encoding: Encoding,
        keys: Sequence[ObjectKey],
        *,
        is_cut: bool,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._buffer = buffer
        self._encoding = encoding
        self._look = look
        self._bytes_left = _MAX_VALUES
        self._elements_left = _MAX_ELEMENTS
        wanted = {key.tag for key in keys} | {SPECIFIC_CHARACTER_SET, PIXEL_REPRESENTATION}
        self._spans = _spans(buffer, at, end, encoding, wanted, is_cut=is_cut, look=look)
        self._codecs = _codecs(buffer, self._spans, codecs_of(""))
        self._is_signed = bool(self._number(PIXEL_REPRESENTATION))

    def _number(self, tag: int) -> int:
        span = self._spans.get(tag)
        if span is None:
            return 0
        return int.from_bytes(self._buffer[span.value : span.until], self._encoding.byteorder)

    def elements(self, keys: Sequence[ObjectKey]) -> list[ObjectAttribute | None]:
        """One element per key; None where it cannot be read."""
        found: list[ObjectAttribute | None] = []
        for key in keys:
            span = self._spans.get(key.tag)
            try:
                found.append(empty(key) if span is None else self._top(key, span))
            except DatasetError:
                found.append(None)
        return found

    def _top(self, key: ObjectKey, span: _Span) -> ObjectAttribute:
        length = span.until - span.value
        if length > min(_MAX_VALUE, self._bytes_left):
            raise DatasetError("too long", key.tag)
        self._bytes_left -= length
        return self._element(self._buffer, span, self._encoding, self._codecs, key, 1)

    def _element(
        self,
        buffer: Buffer,
        span: _Span,
        encoding: Encoding,
        codecs: Sequence[str],
        key: ObjectKey,
        depth: int,
    ) -> ObjectAttribute:
        if depth > MAX_DEPTH:
            raise DatasetError("too deep", key.tag)
        vr = _chosen(_vr_of(buffer, span, encoding, key.tag), is_signed=self._is_signed)
        value = bytes(buffer[span.value : span.until])
        if vr == "SQ" or (span.is_undefined and vr == "UN"):
            items = self._items(value, span.inner or encoding, codecs, key, depth)
            return ObjectAttribute(key.tag, "SQ", items)
        if span.is_undefined:  # fragments, such as an icon's: they have no place in a response
            raise DatasetError("its value is compressed", key.tag)
        if vr in TEXT_VRS:
            return ObjectAttribute(key.tag, vr, _text(value, codecs, vr))
        if len(value) % _NUMBER_BYTES.get(vr, 1):
            raise DatasetError(f"{len(value)} bytes are no {vr}", key.tag)
        return ObjectAttribute(
            key.tag, vr, value if encoding is not EXPLICIT_BIG else swapped(value, vr)
        )

    def _items(
        self,
        value: bytes,
        encoding: Encoding,
        codecs: Sequence[str],
        key: ObjectKey,
        depth: int,
    ) -> list[list[ObjectAttribute]]:
        items: list[list[ObjectAttribute]] = []
        for begin, end in items_of(value, encoding):
            self._look()
            spans = _spans(value, begin, end, encoding, None)
            own = _codecs(value, spans, codecs)
            keys = key.items
            if keys is None:
                keys = tuple(ObjectKey(tag) for tag in spans if _is_value(tag))
            self._elements_left -= len(keys) + 1
            if self._elements_left < 0:
                raise DatasetError("too many elements", key.tag)
            item = [
                self._element(value, spans[each.tag], encoding, own, each, depth + 1)
                if each.tag in spans
                else empty(each)
                for each in keys
            ]
            if not isinstance(key.match, Items) or key.match.accepts_item(_texts(item)):
                items.append(item)
        return items


def _spans(
    buffer: Buffer,
    at: int,
    end: int,
    encoding: Encoding,
    wanted: set[int] | None,
    *,
    is_cut: bool = False,
    look: Callable[[], None] | None = None,
) -> dict[int, _Span]:
    """Where the wanted elements before Pixel Data are; in an item (None) where all are."""
    spans: dict[int, _Span] = {}
    while at < end:
        if look is not None:
            look()
        if at + 8 > end:
            raise DatasetError(f"the dataset ends inside an element, at byte {at}")
        raw, value, length, inner = element_head(buffer, at, end, encoding)
        tag = encoding.raw_tag(raw)
        if wanted is not None and tag >= FIRST_BULK:
            break
        is_undefined = length == UNDEFINED_LENGTH
        if is_undefined:
            following = skip_undefined(buffer, value, end, inner or encoding, look=look)
            until = following - 8
        else:
            following = until = value + length
        if following > end:
            raise DatasetError(f"{length} bytes of value, {end - value} are there", tag)
        if wanted is None or tag in wanted:
            spans[tag] = _Span(at, value, until, inner, is_undefined)
        at = following
    else:
        if is_cut:
            raise DatasetError("the dataset is cut before its pixels")
    return spans


def _codecs(buffer: Buffer, spans: dict[int, _Span], outer: Sequence[str]) -> Sequence[str]:
    """The codecs of a dataset or item: by its own character set, else those around it."""
    span = spans.get(SPECIFIC_CHARACTER_SET)
    if span is None or span.until - span.value > _MAX_CHARACTER_SET:
        return outer
    own = bytes(buffer[span.value : span.until]).strip(b" \0")
    return codecs_of(own.decode("latin_1")) if own else outer


def _is_value(tag: int) -> bool:
    """Whether an element of an item goes into a response, which has a character set of its own."""
    return tag != SPECIFIC_CHARACTER_SET and bool(tag & 0xFFFF)


def _vr_of(buffer: Buffer, span: _Span, encoding: Encoding, tag: int) -> str:
    """As the dataset says; by the data dictionary where it says nothing or UN."""
    if encoding.explicit:
        vr = bytes(buffer[span.begin + 4 : span.begin + 6]).decode("latin_1")
        if vr in _VRS:
            return vr
    return vr_by_dictionary(tag)


@lru_cache(maxsize=64)
def _chosen(vr: str, *, is_signed: bool = False) -> str:
    """One VR where the data dictionary has several."""
    if "OW" in vr:
        return "OW"
    if vr.startswith("US or SS"):
        return "SS" if is_signed else "US"
    return vr


def _text(value: bytes, codecs: Sequence[str], vr: str) -> str:
    text = decode(value, codecs, vr)
    return text.rstrip(" \0") if vr in LEADING_SPACE_VRS else text.strip(" \0")


def _texts(item: list[ObjectAttribute]) -> dict[str, str]:
    """An item as the index would keep it, to be compared with a key."""
    return {keyword_for_tag(e.tag): e.value for e in item if isinstance(e.value, str)}


def swapped(value: bytes, vr: str) -> bytes:
    """The value's numbers in the other byte order."""
    width = _NUMBER_BYTES.get(vr, 1)
    if width == 1:
        return value
    other = bytearray(len(value))
    for at in range(width):
        other[at::width] = value[width - 1 - at :: width]
    return bytes(other)
