"""Writes the metadata of a stored dataset as DICOM JSON, from its bytes in place.

Rules: pixel data, and binary values longer than INLINE_BYTES, are URIs of bulk data; shorter ones
are in base 64, little endian. Text is UTF-8 and says so. What does not follow its VR is written as
`json_writer` does it. An attribute that is broken inside, or nested too deep, is left out; the
dataset ends where it is cut.
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


Written = dict[tuple[int, bytes, bytes, Encoding, Sequence[str]], str]


def metadata_of(
    content: Buffer, encoding: Encoding, location: str, written: Written | None = None
) -> str:
    """The metadata of one dataset, an object of JSON.

    Args:
        content: the encoded dataset, without file meta information.
        location: the URL of the instance, or what shall stand for it.
        written: what is written of short values; the instances of a series, which have most of
            them alike, share it.
    """
    known = {} if written is None else written
    if len(known) > _MAX_WRITTEN:
        known.clear()
    deciding, where = Deciding(), f"{location}/bulkdata"
    return _Dataset(content, encoding, codecs_of(""), deciding, where, known).text()


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
        last, in_order = -1, True
        for tag, vr, begin, end, inner in self._elements():
            if not tag & 0xFFFF or tag == _TRAILING_PADDING:
                continue
            in_order, last = in_order and tag > last, tag
            if tag == SPECIFIC_CHARACTER_SET:
                self._codecs = codecs_of(self._text(b"CS", bytes(self._content[begin:end])))
                if not self._depth:
                    written[tag] = f'{head_of(tag, "CS")},"Value":["{UTF_8}"]}}'
                continue
            try:
                written[tag] = self._element(tag, vr, begin, end, inner)
            except DatasetError:
                continue
        tags = written if in_order else sorted(written)
        return "{" + ",".join([written[tag] for tag in tags]) + "}"

    def _elements(self) -> Iterator[tuple[int, bytes, int, int, Encoding | None]]:
        """Tag, VR, begin and end of each value, and the encoding of its items if it has some.

        The end is negative where the value is in fragments.
        """
        content, encoding, end = self._content, self._encoding, len(self._content)
        at = 0
        while at + 8 <= end:
            try:
                raw, value, length, inner = element_head(content, at, end, encoding)
                tag = encoding.raw_tag(raw)
                if tag >> 16 == _DELIMITERS:
                    return
                vr, inner = self._vr(tag, at, value, length, inner)
                if length == UNDEFINED_LENGTH:
                    if tag in _PIXELS and not self._depth:  # nothing of interest comes behind
                        yield tag, vr, value, -1, None
                        return
                    at = skip_undefined(content, value, end, inner or encoding)
                    yield tag, vr, value, at - 8 if vr == SQ else -1, inner
                    continue
            except DatasetError:
                return
            at = value + length
            if at > end and tag not in _PIXELS:
                return
            yield tag, vr, value, at, inner

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
        text = self._written.get(key)
        if text is None:
            text = self._written[key] = self._scalar(tag, vr, value)
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


def _turned(value: bytes, width: int) -> bytes:
    """Numbers in the other byte order."""
    if width == 1 or len(value) % width:
        return value
    other = bytearray(len(value))
    for at in range(width):
        other[at::width] = value[width - 1 - at :: width]
    return bytes(other)
