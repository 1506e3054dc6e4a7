"""Lists an object's elements as text for people: some at a time, bounded in depth and length.

Rules: elements are read one after another, in place, and no further than asked for, so an object of
a million items needs no more memory than a small one. The list ends at the pixel data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple

from pydicom import dcmread
from pydicom.datadict import dictionary_VR, private_dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from lfscp.archive.store.stored_dataset import read_stored_dataset
from lfscp.dicom.encoding.elements import (
    IMPLICIT_LITTLE,
    ITEM,
    UNDEFINED_LENGTH,
    Encoding,
    element_head,
    skip_undefined,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_head import HEAD_BYTES
from lfscp.dicom.part10.file_meta import read_part10
from lfscp.web.imaging.errors import NoPictureError

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

MAX_ELEMENTS: Final = 20_000
MAX_LENGTH: Final = 500
MAX_DEPTH: Final = 16
_MAX_VALUES: Final = 100
_MAX_READ: Final = 1 << 20  # bytes of one value
_BINARY: Final = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN", "OB or OW"})
_PIXELS: Final = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_CHARACTER_SET: Final = BaseTag(0x00080005)
_IMAGE_PIXEL: Final = 0x0028  # this group resolves ambiguous VRs of other elements
_SHORT: Final = 8  # bytes
_BROKEN: Final = "cannot be read: its value does not fit its VR"


@dataclass(frozen=True, slots=True)
class Element:
    """One element; `depth` counts the sequences around it."""

    depth: int
    tag: str
    vr: str
    name: str
    value: str


def elements(
    path: StoredFile, first: int = 0, most: int = MAX_ELEMENTS
) -> tuple[list[Element], int | None]:
    """Some elements of an object in order, the meta information first.

    Args:
        first: of them, counted from 0.
        most: how many.
    Returns:
        The elements, and the number of the one that follows; None at the end.
    Raises:
        NoPictureError: it is not a DICOM file.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        meta = dcmread(BytesIO(head[: read_part10(head).dataset_offset])).file_meta
        stored = read_stored_dataset(path)
    except DatasetError as error:
        raise NoPictureError(f"this object cannot be read: {error.reason}") from None
    walk = _Walk(stored.content)
    walked = chain(
        (_Found(0, element.tag, element) for element in meta),
        walk.dataset(0, len(stored.content), stored.encoding, Dataset(), 0),
    )
    found = list(islice(walked, first, first + most + 1))
    return [each.text() for each in found[:most]], first + most if len(found) > most else None


@dataclass(frozen=True, slots=True)
class _Found:
    """One line of the list, whose value is read when it is shown.

    Args:
        element: None if the line is only the text in `value`.
        known: elements of the same dataset that are needed to read it.
    """

    depth: int
    tag: int = 0
    element: DataElement | RawDataElement | None = None
    known: Dataset | None = None
    vr: str = ""
    name: str = ""
    value: str = ""

    def text(self) -> Element:
        """The line as it is shown."""
        tag = f"({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})" if self.tag else ""
        if self.element is None:
            return Element(self.depth, tag, self.vr, self.name, self.value)
        try:
            element = self._read()
            return Element(self.depth, tag, element.VR, element.name, _value(element))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - one broken value must not hide the others
            return Element(self.depth, tag, "", "", _BROKEN)

    def _read(self) -> DataElement:
        if self.known is None or self.element is None:
            assert isinstance(self.element, DataElement)  # noqa: S101 - of the meta information
            return self.element
        dataset = Dataset()
        dataset.update(dict(self.known.items()))
        dataset[BaseTag(self.tag)] = self.element
        return dataset[BaseTag(self.tag)]


class _Place(NamedTuple):
    """Where an element's value is."""

    tag: int
    vr: str
    at: int
    length: int
    encoding: Encoding


def _require(position: int, end: int, what: str) -> None:
    if position > end:
        raise DatasetError(f"the dataset ends inside {what}, at byte {end}")


class _Walk:
    """The elements in some bytes, sequences item by item."""

    def __init__(self, content: memoryview) -> None:
        self._content = content

    def dataset(
        self, at: int, end: int, encoding: Encoding, known: Dataset, depth: int
    ) -> Iterator[_Found]:
        """The elements between two positions.

        Args:
            known: elements of the dataset that are needed to read others; grows.
            depth: number of sequences around them.
        """
        try:
            while at < end:
                _require(at + 8, end, "an element")
                raw, value, length, inner = element_head(self._content, at, end, encoding)
                tag = encoding.raw_tag(raw)
                if depth == 0 and tag in _PIXELS:
                    return
                vr = _vr(self._content, at, tag, encoding, known)
                if vr == "SQ" or length == UNDEFINED_LENGTH:
                    items = IMPLICIT_LITTLE if inner is None else inner
                    stop = self._end(value, length, end, items)
                    yield from self._sequence(tag, value, stop, items, known, depth)
                    at = value + length if length != UNDEFINED_LENGTH else stop
                    continue
                at = value + length
                _require(at, end, "a value")
                place = _Place(tag, vr, value, length, encoding)
                yield self._element(place, known, depth)
        except DatasetError as error:
            yield _Found(depth, value=f"the rest cannot be read: {error.reason}")

    def _end(self, value: int, length: int, end: int, items: Encoding) -> int:
        if length == UNDEFINED_LENGTH:
            return skip_undefined(self._content, value, end, items)
        _require(value + length, end, "a sequence")
        return value + length

    def _element(self, place: _Place, known: Dataset, depth: int) -> _Found:
        tag, vr, at, length, encoding = place
        if length > _MAX_READ:
            name = DataElement(tag, "UN", b"").name
            return _Found(depth, tag, vr=vr, name=name, value=f"{length} bytes")
        content = bytes(self._content[at : at + length])
        little, implicit = encoding.byteorder == "little", not encoding.explicit
        element = RawDataElement(BaseTag(tag), vr or None, length, content, at, implicit, little)
        _learn(known, element)
        return _Found(depth, tag, element, known)

    def _sequence(
        self, tag: int, at: int, end: int, encoding: Encoding, known: Dataset, depth: int
    ) -> Iterator[_Found]:
        count = sum(1 for _ in self._items(at, end, encoding))
        name = DataElement(tag, "SQ", []).name
        text = f"{count} item{'' if count == 1 else 's'}"
        yield _Found(depth, tag, vr="SQ", name=name, value=text)
        if depth >= MAX_DEPTH:
            return
        for number, (begin, stop) in enumerate(self._items(at, end, encoding), 1):
            yield _Found(depth + 1, name=f"item {number}")
            inside = Dataset()
            inside.update({each: known[each] for each in (_CHARACTER_SET,) if each in known})
            yield from self.dataset(begin, stop, encoding, inside, depth + 1)

    def _items(self, at: int, end: int, encoding: Encoding) -> Iterator[tuple[int, int]]:
        while at + 8 <= end:
            raw, length = encoding.unpack_tag_length(self._content, at)
            if encoding.raw_tag(raw) != ITEM:
                return
            at += 8
            if length == UNDEFINED_LENGTH:
                begin, at = at, skip_undefined(self._content, at, end, encoding, in_item=True)
                yield begin, at - 8
            else:
                _require(at + length, end, "an item")
                yield at, at + length
                at += length


def _learn(known: Dataset, element: RawDataElement) -> None:
    """Keep an element that is needed to read others."""
    tag = element.tag
    is_short = tag.group == _IMAGE_PIXEL and element.length <= _SHORT
    if tag.is_private_creator or is_short or tag == _CHARACTER_SET:
        known[tag] = element


def _vr(content: memoryview, at: int, tag: int, encoding: Encoding, known: Dataset) -> str:
    """The VR of an element; empty if it is unknown."""
    letters = bytes(content[at + 4 : at + 6]).decode("latin-1") if encoding.explicit else ""
    if letters.isalpha() and letters.isupper() and letters != "UN":
        return letters
    try:
        if not BaseTag(tag).is_private:
            return letters if dictionary_VR(tag) != "SQ" else "SQ"
        creator = known[BaseTag(tag >> 16 << 16 | tag >> 8 & 0xFF)].value
        return "SQ" if private_dictionary_VR(tag, str(creator)) == "SQ" else letters
    except (KeyError, ValueError):
        return letters if letters == "UN" else ""


def _value(element: DataElement) -> str:
    value = element.value
    if element.VR in _BINARY or isinstance(value, bytes):
        return f"{len(value or b'')} bytes"
    if element.VM > 1:
        text = "\\".join(str(each) for each in value[:_MAX_VALUES])
    else:
        text = "" if value is None else str(value)
    return text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + "…"
