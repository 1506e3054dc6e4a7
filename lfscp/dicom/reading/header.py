"""Reads from a dataset the few dozen attributes that the index keeps, and nothing else.

Rules: values are skipped, not parsed; reading stops at the first bulk value behind the last
wanted group; text is decoded when asked for. Whatever a dataset contains, the outcome is a
header or DatasetError. Fast because it is on the path of each C-STORE: one loop over a
copied window of the first bytes, tags compared as they stand in the stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

from lfscp.dicom.encoding.deflate import inflate, pieces_of
from lfscp.dicom.encoding.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    element_head,
    elements,
    items_of,
    long_form,
    skip_undefined,
)
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.errors import DatasetError, named
from lfscp.dicom.reading.header_cache import Found, Layouts
from lfscp.dicom.values.attributes import (
    ATTRIBUTES,
    BY_TAG,
    LEADING_SPACE_VRS,
    SPECIFIC_CHARACTER_SET,
    Attribute,
)
from lfscp.dicom.values.charset import codecs_of, decode
from lfscp.dicom.values.temporal import without_delimiters

SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E

# Deflated Explicit VR Little Endian; JPIP Referenced Deflate; JPIP HTJ2K Referenced Deflate
DEFLATED: Final = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)

_WINDOW: Final = 32_768  # bytes; most headers without pixel data are shorter
_MAX_INFLATED: Final = 16 << 20  # bytes of a deflated dataset that may come before its bulk data
_MAX_VALUE: Final = 65_534  # bytes of one value that the index keeps
_LAST_GROUP: Final = max(attribute.tag for attribute in ATTRIBUTES) >> 16
_NOT_OF_DATASETS: Final = frozenset({0x0000, 0x0002})
_MAX_UID: Final = 64
_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_TEMPORAL: Final = frozenset({"DA", "TM"})
_WANTED: Final = frozenset([*BY_TAG, SPECIFIC_CHARACTER_SET])
_VR: Final = {tag: dictionary_VR(tag) for tag in _WANTED}
# What makes a value need more than its padding taken away, where that is the rule.
_UNUSUAL: Final = {
    **{tag: b"." for tag, vr in _VR.items() if vr == "DA"},
    **{tag: b":" for tag, vr in _VR.items() if vr == "TM"},
    **{
        tag: b"\x1b"
        for tag, vr in _VR.items()
        if vr in {"AS", "CS", "DS", "DT", "IS", "LO", "PN", "SH", "UI"}
    },
}
_SHORT_TAGS: Final = frozenset(tag for tag, vr in _VR.items() if vr == "US")
_RAW_TAGS: Final = {
    encoding: {tag: encoding.raw_tag(tag) for tag in _WANTED}
    for encoding in (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
}
_WANTED_RAW: Final = {
    encoding: frozenset(raw_tags.values()) for encoding, raw_tags in _RAW_TAGS.items()
}
_LAYOUTS: Final = {
    encoding: Layouts(encoding, wanted, _LAST_GROUP) for encoding, wanted in _WANTED_RAW.items()
}
_ITEM_KEYWORDS: Final = {
    attribute.tag: {tag_for_keyword(keyword): keyword for keyword in attribute.items}
    for attribute in ATTRIBUTES
    if attribute.items
}


class Header:
    """The indexed attributes of one dataset, decoded when asked for.

    Args:
        found: raw tag to the value's bytes, padding and all.
        encoding: how the dataset is laid out.
        items: raw tag to the encoding of a sequence's items, where it is not the dataset's.
        needed: bytes that the dataset must have for its bulk data to be whole, as far as is known.
    """

    def __init__(
        self,
        found: dict[int, bytes],
        encoding: Encoding,
        items: dict[int, Encoding],
        needed: int = 0,
    ) -> None:
        self.needed = needed
        self._found = found
        self._encoding = encoding
        self._raw_tags = _RAW_TAGS[encoding]
        self._items = items
        character_set = found.get(encoding.raw_tag(SPECIFIC_CHARACTER_SET), b"")
        self.specific_character_set: str = character_set.decode("latin_1").strip(" \0")
        self._codecs = codecs_of(self.specific_character_set)
        self.sop_class_uid = self._uid(SOP_CLASS_UID)
        self.sop_instance_uid = self._uid(SOP_INSTANCE_UID)
        self.study_instance_uid = self._uid(STUDY_INSTANCE_UID)
        self.series_instance_uid = self._uid(SERIES_INSTANCE_UID)

    @property
    def uids(self) -> tuple[str, str, str]:
        """Study, Series and SOP Instance UID."""
        return self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid

    def text(self, tag: int) -> str:
        """The value of one attribute as text; empty when it is absent.

        Returns:
            Decoded, without padding, several values joined by backslashes; binary numbers in
            decimal; a sequence as JSON, a list of {keyword: value}.
        """
        raw = self._raw_tags.get(tag, 0)
        value = self._found.get(raw)
        if not value:
            return ""
        vr = _VR[tag]
        if vr == "SQ":
            return self._sequence(BY_TAG[tag], value, self._items.get(raw, self._encoding))
        return _decoded(value, vr, self._encoding, self._codecs)

    def raw(self, tags: Iterable[int]) -> tuple[bytes | None, ...]:
        """The values of some attributes as they stand in the dataset; None for an absent one."""
        found, raw_tags = self._found, self._raw_tags
        return tuple([found.get(raw_tags[tag]) for tag in tags])

    @cached_property
    def values(self) -> Mapping[int, str]:
        """Every attribute that is present, as `text` gives it."""
        present = (self._encoding.raw_tag(raw) for raw in self._found)
        return {tag: self.text(tag) for tag in sorted(present)}

    def texts(self, tags: Iterable[int]) -> list[str]:
        """What `text` gives for each of the tags: the values of a row, all at once."""
        found, raw_tags, codec = self._found, self._raw_tags, self._codecs[0]
        texts: list[str] = []
        for tag in tags:
            value = found.get(raw_tags[tag])
            if not value:
                texts.append("")
            elif tag in _UNUSUAL and _UNUSUAL[tag] not in value:
                texts.append(value.decode(codec, "replace").strip(" \0"))
            elif tag in _SHORT_TAGS and len(value) == 2:
                texts.append(str(int.from_bytes(value, self._encoding.byteorder)))
            else:
                texts.append(self.text(tag))
        return texts

    def _uid(self, tag: int) -> str:
        value = self._found.get(self._raw_tags[tag])
        if not value:
            raise DatasetError(f"{named(tag)} is missing", tag)
        uid = _uid_of(value)
        if not uid:
            raise DatasetError(f"{named(tag)} is no valid UID", tag)
        return uid

    def _sequence(self, attribute: Attribute, value: bytes, encoding: Encoding) -> str:
        """A sequence's items as JSON; what of it cannot be read is left out."""
        keywords = _ITEM_KEYWORDS[attribute.tag]
        items: list[dict[str, str]] = []
        try:
            for begin, end in items_of(value, encoding):
                item: dict[str, str] = {}
                items.append(item)
                codecs = self._codecs
                for tag, at, until, inner in elements(value, begin, end, encoding):
                    if inner is not None and encoding.explicit:
                        continue
                    if tag == SPECIFIC_CHARACTER_SET:  # the item's own (PS3.5 section 7.5.3)
                        own = value[at:until].decode("latin_1").strip(" \0")
                        codecs = codecs_of(own) if own else codecs
                    elif tag in keywords:
                        vr = dictionary_VR(tag)
                        item[keywords[tag]] = _decoded(value[at:until], vr, encoding, codecs)
        except DatasetError:
            pass  # the outer length held, so the rest of the dataset is sound; keep what was read
        return json.dumps(items, ensure_ascii=False)


def _decoded(value: bytes, vr: str, encoding: Encoding, codecs: Sequence[str]) -> str:
    if vr == "US":
        shorts = range(0, len(value) - 1, 2)
        return "\\".join(str(encoding.unpack_short(value, at)[0]) for at in shorts)
    text = decode(value, codecs, vr)
    if vr in LEADING_SPACE_VRS:
        return text.rstrip(" \0")
    text = text.strip(" \0")
    return without_delimiters(text, vr) if vr in _TEMPORAL else text


@lru_cache(maxsize=256)  # of the four, only the instance's is new with each object
def _uid_of(value: bytes) -> str:
    """A UID without its padding; empty when it is none."""
    uid = value.decode("latin_1").strip(" \0")
    return uid if is_uid(uid) else ""


def is_uid(text: str) -> bool:
    """Whether a text is a UID; leading zeros in its components are let pass."""
    return len(text) <= _MAX_UID and _UID.fullmatch(text) is not None


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """How datasets of a transfer syntax are laid out once they are inflated.

    Source: PS3.5 annex A: all but two are explicit VR little endian.
    """
    if transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else EXPLICIT_LITTLE


def read_header(dataset: Buffer, transfer_syntax_uid: str) -> Header:
    """Read the indexed attributes of an encoded dataset.

    Args:
        dataset: the bytes without preamble and file meta information; a memory map will do.
        transfer_syntax_uid: how they are encoded. An unknown one is taken for explicit VR little
            endian, as all encapsulated and private ones are.
    Raises:
        DatasetError: the encoding is broken, a length points past the end, or SOP Class,
            SOP Instance, Study or Series Instance UID is missing or no valid UID.
    Source: PS3.5 section 7.1 and annex A.
    """
    if transfer_syntax_uid in DEFLATED:
        return _read_deflated(dataset)
    encoding = encoding_of(transfer_syntax_uid)
    total = len(dataset)
    header = _read(bytes(dataset[:_WINDOW]), encoding, total)
    return header or _complete(_read(dataset, encoding, total))


def read_first(beginning: Buffer, transfer_syntax_uid: str) -> Header | None:
    """Read the header of a dataset that is still on its way.

    Args:
        beginning: its first bytes.
    Returns:
        The header, whose `needed` tells how long the dataset must become; None when the first
        bytes do not reach its bulk data, or are no sound dataset: then the whole must be read.
    """
    if transfer_syntax_uid in DEFLATED or transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN:
        return None
    try:
        return _read(bytes(beginning[:_WINDOW]), encoding_of(transfer_syntax_uid), None)
    except DatasetError:
        return None


def _complete(header: Header | None) -> Header:
    if header is None:
        raise DatasetError("the dataset ends inside an element")
    return header


def _read_deflated(dataset: Buffer) -> Header:
    """Inflate piece by piece, only as far as the header goes."""
    inflated = bytearray()
    next_reading = _WINDOW
    for piece in inflate(pieces_of(dataset)):
        inflated += piece
        if len(inflated) >= next_reading:
            header = _read_inflated(inflated, None)
            if header is not None:
                return header
            if len(inflated) > _MAX_INFLATED:
                limit = _MAX_INFLATED >> 20
                raise DatasetError(f"no end of the header in {limit} MB of inflated bytes")
            next_reading = 2 * len(inflated)  # so that reading again stays linear
    return _complete(_read_inflated(inflated, len(inflated)))


def _read_inflated(inflated: bytearray, total: int | None) -> Header | None:
    """Read it where it is: a copy would take as much again, for each association."""
    if len(inflated) <= _WINDOW:
        return _read(bytes(inflated), EXPLICIT_LITTLE, total)
    with memoryview(inflated) as view:
        return _read(view, EXPLICIT_LITTLE, total)


def _read(buffer: Buffer, encoding: Encoding, total: int | None) -> Header | None:
    """Read from a dataset's first bytes; None when they do not reach far enough.

    `total` is the dataset's length; None when it is not known (deflated).
    """
    known = _LAYOUTS[encoding].read(buffer) if type(buffer) is bytes else None
    if known is not None and _is_whole(known.end, total):
        return Header(known.values, encoding, known.items, needed=max(0, -known.end))
    _require_dataset(buffer, encoding)
    found: dict[int, bytes | memoryview] = {}
    items: dict[int, Encoding] = {}
    walk = _walk_explicit if encoding.explicit else _walk_implicit
    whole = total == len(buffer)
    try:
        end = walk(buffer, encoding, found, items, total)
    except DatasetError:
        found.clear()  # the traceback must not keep views of the caller's buffer alive
        if whole:
            raise
        return None  # may be cut by the window; the second reading decides
    if end >= 0 and end != total:
        if not whole:
            return None
        if end > len(buffer) or any(buffer[end:]):  # zeros behind the last element do no harm
            raise DatasetError(f"the dataset ends inside an element, at byte {end}")
    values = {raw: bytes(value) for raw, value in found.items()}
    found.clear()  # likewise, when a UID turns out to be missing
    if type(buffer) is bytes and len(buffer) <= _WINDOW:  # a deflated header may be of any size
        _LAYOUTS[encoding].learn(buffer, Found(values, items, end))
    return Header(values, encoding, items, needed=max(0, -end))


def _require_dataset(buffer: Buffer, encoding: Encoding) -> None:
    """Refuse what begins with a group that belongs to a command or to file meta information.

    Stored behind file meta information, it would be taken for more of that by some readers. A
    layout that was learned has passed here.

    Source: PS3.5 section 7.1: no dataset has groups 0000, 0002, 0004 and 0006.
    """
    if len(buffer) < 4:
        return
    tag = encoding.raw_tag(encoding.unpack_length(buffer, 0)[0])
    if tag >> 16 in _NOT_OF_DATASETS:
        raise DatasetError(f"it begins with {named(tag)}, which no dataset may have", tag)


def invalid_start(dataset: Buffer, transfer_syntax_uid: str) -> int:
    """The bytes before a dataset's first element that a dataset may have; nearly always 0.

    An older version stored objects that `read_header` refuses; they are read from here on.
    """
    if transfer_syntax_uid in DEFLATED:
        return 0
    encoding = encoding_of(transfer_syntax_uid)
    at, end = 0, len(dataset)
    while at + 8 <= end:
        raw, value, length, _ = element_head(dataset, at, end, encoding)
        if encoding.raw_tag(raw) >> 16 not in _NOT_OF_DATASETS or value + length > end:
            break
        at = value + length
    return at


def _is_whole(end: int, total: int | None) -> bool:
    """Whether all is there that a walk to `end` (see `_walk_explicit`) has met."""
    return end == total if end >= 0 else total is None or -end <= total


def _walk_explicit(
    buffer: Buffer,
    encoding: Encoding,
    found: dict[int, bytes | memoryview],
    items: dict[int, Encoding],
    total: int | None,
) -> int:
    """Collect the wanted values; the position reached, or minus the end of bulk data met."""
    unpack, short_vrs, wanted = encoding.unpack, encoding.short_vrs, _WANTED_RAW[encoding]
    at, end = 0, len(buffer)
    last = end - 8
    while at <= last:
        raw, vr, length = unpack(buffer, at)
        if vr in short_vrs:
            at += 8
            if raw in wanted:
                found[raw] = buffer[at : at + length]
            at += length
            continue
        value, length = long_form(buffer, at, vr, end, encoding)
        if (raw >> encoding.group_shift) & 0xFFFF > _LAST_GROUP:
            needed = value if length == UNDEFINED_LENGTH else value + length
            if total is not None and needed > total:
                raise DatasetError(
                    f"{length} bytes of value, {total - value} are there", encoding.raw_tag(raw)
                )
            return -needed
        inner = IMPLICIT_LITTLE if vr == encoding.vr_un else encoding
        if length == UNDEFINED_LENGTH:
            at = skip_undefined(buffer, value, end, inner)
            until = at - 8
        else:
            at = until = value + length
        if raw in wanted:
            found[raw] = buffer[value : min(until, value + _MAX_VALUE)]
            if inner is not encoding:
                items[raw] = inner
    return at


def _walk_implicit(
    buffer: Buffer,
    encoding: Encoding,
    found: dict[int, bytes | memoryview],
    items: dict[int, Encoding],  # noqa: ARG001 - all items are implicit as well
    total: int | None,  # noqa: ARG001 - the position reached says whether a length lied
) -> int:
    """As `_walk_explicit`; a bulk value of defined length is stepped over instead."""
    unpack, wanted = encoding.unpack, _WANTED_RAW[encoding]
    at, end = 0, len(buffer)
    last = end - 8
    while at <= last:
        raw, length = unpack(buffer, at)
        at += 8
        if length != UNDEFINED_LENGTH:
            if raw in wanted:
                found[raw] = buffer[at : at + min(length, _MAX_VALUE)]
            at += length
            continue
        if raw & 0xFFFF > _LAST_GROUP:
            return -at
        value = at
        at = skip_undefined(buffer, value, end, encoding)
        if raw in wanted:
            found[raw] = buffer[value : min(at - 8, value + _MAX_VALUE)]
    return at
