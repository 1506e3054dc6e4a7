"""Writes the metadata of a stored dataset as DICOM JSON, from its bytes in place.

Rules: pixel data, and binary values longer than INLINE_BYTES, are URIs of bulk data; shorter ones
are in base 64, little endian. Text is UTF-8 and says so. What does not follow its VR is written as
`json_writer` does it. An attribute that is broken inside, or nested too deep, is left out; the
dataset ends where it is cut. The instances of a series have most elements alike; these are written
once.
Source: PS3.18 section F.2; bulk data, section 10.4.1.1.5.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from lfscp.dicom.encoding.elements import (
    EXPLICIT_BIG,
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    each_item,
    element_head,
    skip_undefined,
)
from lfscp.dicom.encoding.image_pixel import PIXEL_REPRESENTATION
from lfscp.dicom.encoding.value_representations import KNOWN, SQ, UN, WIDTH, Deciding, left_out
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Element
from lfscp.dicom.models.json_text import head_of, quoted, values_writer
from lfscp.dicom.models.json_writer import element_to_json
from lfscp.dicom.models.repeated_elements import (
    MAX_ANEW,
    MAX_BYTES,
    Known,
    RepeatedElements,
    Repeating,
    Written,
    decides,
    is_repeatable,
)
from lfscp.dicom.values.attributes import (
    CHARACTER_VRS,
    LEADING_SPACE_VRS,
    SPECIFIC_CHARACTER_SET,
    TEXT_VRS,
)
from lfscp.dicom.values.charset import UTF_8, codecs_of, decode

INLINE_BYTES: Final = 1024
MAX_DEPTH: Final = 50  # of sequences in sequences
_MAX_WRITTEN: Final = 10_000
_SHORT: Final = 64  # bytes
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_BULK: Final = frozenset(b"OB OD OF OL OV OW UN".split())
_ENCODED_TEXT: Final = frozenset(vr.encode() for vr in CHARACTER_VRS)
_TEXT: Final = frozenset(vr.encode() for vr in TEXT_VRS)
_WHOLE: Final = {b"SL": "<l", b"SS": "<h", b"UL": "<L", b"US": "<H"}
_dumps: Final = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
_LATIN: Final = ("latin_1",)
_TRAILING_PADDING: Final = 0xFFFCFFFC
_DELIMITERS: Final = 0xFFFE


def metadata_of(
    content: Buffer, encoding: Encoding, location: str, written: Written | None = None
) -> str:
    """The metadata of one dataset, an object of JSON.

    Args:
        content: the encoded dataset, without file meta information.
        location: the URL of the instance, or what shall stand for it.
        written: the instances of a series share it.
    """
    known = Written() if written is None else written
    if len(known.values) > _MAX_WRITTEN:
        known.values.clear()
    where, repeated = f"{location}/bulkdata", known.repeated

    def dataset() -> _Dataset:
        return _Dataset(content, encoding, codecs_of(""), Deciding(), where, known)

    if repeated is not None and repeated.encoding is encoding:
        text = dataset().text_beside(repeated)
        if text:
            return text
    return dataset().text_to_repeat() if written is not None else dataset().text()


# Tag, VR, begin and end of the value, the encoding of its items if it has some, and the end of the
# element. The value's end is negative where it is in fragments.
_Found = tuple[int, bytes, int, int, Encoding | None, int]


class _Dataset:
    """A dataset or an item.

    Args:
        location: of its bulk data, without the tag.
    """

    def __init__(
        self,
        content: Buffer,
        encoding: Encoding,
        codecs: Sequence[str],
        deciding: Deciding,
        location: str,
        written: Written,
        depth: int = 0,
    ) -> None:
        self._content = content
        self._encoding = encoding
        self._codecs = codecs
        self._deciding = deciding
        self._location = location
        self._written = written
        self._depth = depth

    def text(self) -> str:
        written: dict[int, str] = {}
        for tag, vr, begin, end, inner, _ in self._elements():
            text = self._attribute(tag, vr, begin, end, inner)
            if text:
                written[tag] = text
        return _joined(written)

    def text_to_repeat(self) -> str:
        """The same, and have the elements remembered for the datasets that follow."""
        written: dict[int, str] = {}
        known: list[Known] = []
        at, goes_on, location = 0, True, quoted(self._location)[1:-1]
        for tag, vr, begin, end, inner, behind in self._elements():
            text = self._attribute(tag, vr, begin, end, inner)
            if text:
                written[tag] = text
            goes_on = goes_on and tag not in _PIXELS and behind <= MAX_BYTES
            if goes_on:
                is_fixed = not decides(tag) and location not in text
                known.append(Known(tag, at, behind, text, is_fixed))
            at = behind
        if is_repeatable(known):
            self._written.repeated = RepeatedElements(self._content, self._encoding, known)
        return _joined(written)

    def text_beside(self, repeated: RepeatedElements) -> str:
        """The same with what is known of the elements of another dataset.

        Returns:
            Nothing if the elements are not in their order, or only few are alike.
        """
        beside = Repeating(self._content, repeated)
        texts: list[str] = []
        last = at = anew = 0
        while True:
            at, until, text = beside.take(at)
            if until:
                texts.append(text)
                last = until
            found = next(self._elements(at), None)
            if found is None:
                return "{" + ",".join(filter(None, texts)) + "}"
            tag, behind = found[0], found[-1]
            anew += 1
            if tag <= last or anew > MAX_ANEW:
                return ""
            texts.append(self._attribute(*found[:-1]))
            beside.note(tag, at, behind)
            last, at = tag, behind

    def _attribute(self, tag: int, vr: bytes, begin: int, end: int, inner: Encoding | None) -> str:
        """What is written of an element; empty if it is left out."""
        if not tag & 0xFFFF or tag == _TRAILING_PADDING:
            return ""
        if tag == SPECIFIC_CHARACTER_SET:
            self._codecs = codecs_of(self._text(b"CS", bytes(self._content[begin:end])))
            return "" if self._depth else f'{head_of(tag, "CS")},"Value":["{UTF_8}"]}}'
        try:
            return self._element(tag, vr, begin, end, inner)
        except DatasetError:
            return ""

    def _elements(self, at: int = 0) -> Iterator[_Found]:
        """The elements from a position on."""
        content, encoding, end = self._content, self._encoding, len(self._content)
        while at + 8 <= end:
            try:
                raw, value, length, inner = element_head(content, at, end, encoding)
                tag = encoding.raw_tag(raw)
                if tag >> 16 == _DELIMITERS:
                    return
                vr, inner = self._vr(tag, at, value, length, inner)
                if length == UNDEFINED_LENGTH:
                    if tag in _PIXELS and not self._depth:  # nothing of interest comes behind
                        yield tag, vr, value, -1, None, end
                        return
                    at = skip_undefined(content, value, end, inner or encoding)
                    yield tag, vr, value, at - 8 if vr == SQ else -1, inner, at
                    continue
            except DatasetError:
                return
            at = value + length
            if at > end and tag not in _PIXELS:
                return
            yield tag, vr, value, at, inner, at

    def _vr(
        self, tag: int, at: int, value: int, length: int, inner: Encoding | None
    ) -> tuple[bytes, Encoding | None]:
        """The VR of an element, and its items' encoding if it is a sequence."""
        content, encoding, deciding = self._content, self._encoding, self._deciding
        if encoding.explicit:
            vr = bytes(content[at + 4 : at + 6])
            if tag == PIXEL_REPRESENTATION:
                deciding.learn_sign(content[value : value + 2], encoding.byteorder)
            elif tag >> 16 & 1 and not tag & 0xFF00:
                deciding.learn(tag, content[value : value + length])
            if vr not in KNOWN:
                vr, may_be_signed = left_out(tag, length)
                vr = b"SS" if may_be_signed and deciding.is_signed else vr
            if vr != UN:
                return vr, inner
            if length == UNDEFINED_LENGTH:  # a sequence in implicit VR (PS3.5 section 6.2.2)
                return SQ, inner
        elif length < INLINE_BYTES:
            deciding.learn(tag, content[value : value + length])
        vr, may_be_signed = deciding.vr_of(tag, length)
        vr = b"SS" if may_be_signed and deciding.is_signed else vr
        if length == UNDEFINED_LENGTH and tag not in _PIXELS:
            vr = SQ
        return vr, inner

    def _element(self, tag: int, vr: bytes, begin: int, end: int, inner: Encoding | None) -> str:
        name = vr.decode()
        is_bulk = tag in _PIXELS or end < 0
        if is_bulk or (vr in _BULK and end - begin > INLINE_BYTES):
            uri = quoted(f"{self._location}/{tag:08X}")
            return f'{head_of(tag, name)},"BulkDataURI":{uri}}}'
        if vr == SQ:
            return self._sequence(tag, begin, end, inner or self._encoding)
        value = bytes(self._content[begin:end])
        if len(value) > _SHORT:
            return self._scalar(tag, vr, value)
        key = (tag, vr, value, self._encoding, self._codecs)
        values = self._written.values
        text = values.get(key)
        if text is None:
            text = values[key] = self._scalar(tag, vr, value)
        return text

    def _scalar(self, tag: int, vr: bytes, value: bytes) -> str:
        name = vr.decode()
        if vr in _TEXT:
            text = self._text(vr, value)
            values = f',"Value":[{values_writer(name)(text)}]' if text else ""
            return f"{head_of(tag, name)}{values}}}"
        if self._encoding is EXPLICIT_BIG:
            value = _turned(value, WIDTH.get(vr, 1))
        form = _WHOLE.get(vr)
        if form is not None and value and len(value) % WIDTH[vr] == 0:
            numbers = ",".join([str(number) for (number,) in struct.iter_unpack(form, value)])
            return f'{head_of(tag, name)},"Value":[{numbers}]}}'
        return f'"{tag:08X}":{_dumps(element_to_json(Element(vr, value)))}'

    def _text(self, vr: bytes, value: bytes) -> str:
        codecs = self._codecs if vr in _ENCODED_TEXT else _LATIN
        text = value.decode("ascii") if value.isascii() and b"\x1b" not in value else None
        if text is None:
            text = decode(value, codecs, vr.decode())
        if vr.decode() in LEADING_SPACE_VRS:
            return text.rstrip(" \0")
        if "\\" in text and vr != b"UR":
            return "\\".join([each.strip(" \0") for each in text.split("\\")])
        return text.strip(" \0")

    def _sequence(self, tag: int, begin: int, end: int, encoding: Encoding) -> str:
        if self._depth == MAX_DEPTH:
            raise DatasetError(f"sequences nested more than {MAX_DEPTH} deep", tag)
        content = self._content[begin:end]
        items: list[str] = []
        for number, (start, stop) in enumerate(each_item(content, encoding), 1):
            deciding = Deciding()
            deciding.is_signed = self._deciding.is_signed
            location = f"{self._location}/{tag:08X}/{number}"
            item = _Dataset(
                content[start:stop],
                encoding,
                self._codecs,
                deciding,
                location,
                self._written,
                self._depth + 1,
            )
            items.append(item.text())
        values = f',"Value":[{",".join(items)}]' if items else ""
        return f"{head_of(tag, 'SQ')}{values}}}"


def _joined(written: dict[int, str]) -> str:
    """Attributes in the order of their tags."""
    return "{" + ",".join([written[tag] for tag in sorted(written)]) + "}"


def _turned(value: bytes, width: int) -> bytes:
    """Numbers in the other byte order."""
    if width == 1 or len(value) % width:
        return value
    other = bytearray(len(value))
    for at in range(width):
        other[at::width] = value[width - 1 - at :: width]
    return bytes(other)
