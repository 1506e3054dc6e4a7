"""Encodes the rows of a query's statement as identifiers of C-FIND responses.

Rules: everything that is the same for all rows is prepared once and kept for the next query of
the same keys: the order of the elements, the constant ones, headers by length. Specific
Character Set is always there: the request's when the row's text can be written in it, otherwise
ISO_IR 192 (UTF-8). A key without a value is answered with zero length. Nothing is read back or
checked per row.
Source: PS3.5 sections 6.2, 7.1; PS3.4 section C.4.1.1.3.2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lfscp.archive.query.computed import GATHERED, GATHERED_DELIMITER
from lfscp.archive.query.keys import Items, stored_items
from lfscp.archive.query.object_attributes import ObjectAttribute, swapped
from lfscp.archive.query.query import (
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    Key,
    Query,
)
from lfscp.dicom.encoding.deflate import deflate
from lfscp.dicom.encoding.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.dicom.encoding.value_representations import LONG_FORM
from lfscp.dicom.values.attributes import SPECIFIC_CHARACTER_SET
from lfscp.dicom.values.charset import UTF_8, Encoder, encoder

_LONG_VRS: Final = frozenset(vr.decode() for vr in LONG_FORM)  # four bytes of length
_MAX_SHORT: Final = 0xFFFE
_ITEM: Final = 0xFFFEE000
_KEPT_LENGTH: Final = 130  # bytes; the headers of longer values are not kept
_KEPT_ENCODERS: Final = 64
_KEPT_FIELDS: Final = 100  # the encoders of more are made anew: each field keeps headers


@dataclass(frozen=True, slots=True)
class Syntax:
    """What of a transfer syntax shows in an element's header."""

    explicit: bool
    order: str  # struct's sign: "<" little endian, ">" big endian

    @classmethod
    def of(cls, transfer_syntax_uid: str) -> Syntax:
        """The syntax of a dataset without pixel data; unknown ones are explicit, little endian."""
        return cls(
            transfer_syntax_uid != IMPLICIT_VR_LITTLE_ENDIAN,
            ">" if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else "<",
        )

    def header(self, tag: int, vr: str, length: int) -> bytes:
        """Tag, VR and length of an element; a short VR with too long a value becomes UN."""
        group, element = tag >> 16, tag & 0xFFFF
        if not self.explicit or tag == _ITEM:
            return struct.pack(f"{self.order}HHL", group, element, length)
        if vr not in _LONG_VRS and length > _MAX_SHORT:
            vr = "UN"
        name = vr.encode("ascii")
        if vr in _LONG_VRS:
            return struct.pack(f"{self.order}HH2sxxL", group, element, name, length)
        return struct.pack(f"{self.order}HH2sH", group, element, name, length)

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """A whole element, its value padded to even length."""
        if len(value) & 1:
            value += _padding(vr)
        return self.header(tag, vr, len(value)) + value


def _padding(vr: str) -> bytes:
    return b"\0" if vr in {"OB", "UI", "UN"} else b" "


@dataclass(frozen=True, slots=True)
class _Field:
    """One key's element: how to encode its column, and its headers by length as they come up."""

    column: int
    encode: Callable[[Any], bytes]
    padding: bytes
    before: bytes  # constant elements that stand between the field before and this one
    headers: dict[int, bytes]  # each begins with `before`
    tag: int
    vr: str  # empty when what is encoded is a whole element


class _Layout:
    """The elements of one response in one character set."""

    def __init__(
        self, query: Query, retrieve_ae_title: str, syntax: Syntax, character_set: str
    ) -> None:
        self._syntax = syntax
        name, encode_text = encoder(character_set)
        constants = dict(_constants(query, retrieve_ae_title, name, syntax))
        keys = {key.attribute.tag: (at, key) for at, key in enumerate(query.keys)}
        of_objects = {key.tag: at for at, key in enumerate(query.object_keys, len(query.keys))}
        fields: list[_Field] = []
        pending = b""
        for tag in sorted(constants.keys() | keys.keys() | of_objects.keys()):
            if tag in constants:
                pending += constants[tag]
                continue
            if tag in of_objects:
                fields.append(self._object_field(of_objects[tag], tag, pending, encode_text))
            else:
                fields.append(self._field(*keys[tag], pending, encode_text))
            pending = b""
        self._fields = tuple(fields)
        self._end = pending

    def _field(self, column: int, key: Key, before: bytes, encode_text: Encoder) -> _Field:
        tag, vr = key.attribute.tag, key.attribute.vr
        encode = _value_encoder(key, self._syntax, encode_text)
        return _Field(column, encode, _padding(vr), before, {}, tag, vr)

    def _object_field(self, column: int, tag: int, before: bytes, encode_text: Encoder) -> _Field:
        def encode(element: ObjectAttribute) -> bytes:
            return _encode_element(element, self._syntax, encode_text)

        return _Field(column, encode, b"", before, {}, tag, "")

    def encode(self, row: Sequence[Any]) -> bytes:
        """One row; UnicodeEncodeError when it does not go into the character set."""
        parts: list[bytes] = []
        append = parts.append
        for field in self._fields:
            stored = row[field.column]
            value = field.encode(stored) if stored or stored == 0 else b""
            length = len(value)
            if length & 1:
                value += field.padding
                length += 1
            append(field.headers.get(length) or self._header(field, length))
            append(value)
        append(self._end)
        return b"".join(parts)

    def _header(self, field: _Field, length: int) -> bytes:
        header = field.before
        if field.vr:
            header += self._syntax.header(field.tag, field.vr, length)
        if length < _KEPT_LENGTH:
            field.headers[length] = header
        return header


def _constants(
    query: Query, retrieve_ae_title: str, character_set: str, syntax: Syntax
) -> Iterator[tuple[int, bytes]]:
    values = [
        (SPECIFIC_CHARACTER_SET, "CS", character_set),
        (QUERY_RETRIEVE_LEVEL, "CS", query.level.value),
        (RETRIEVE_AE_TITLE, "AE", retrieve_ae_title),
    ]
    if query.wants_availability:
        values.append((INSTANCE_AVAILABILITY, "CS", "ONLINE"))
    for tag, vr, text in values:
        yield tag, syntax.element(tag, vr, text.encode("ascii", "replace"))


def _value_encoder(key: Key, syntax: Syntax, encode_text: Encoder) -> Callable[[Any], bytes]:
    attribute = key.attribute
    if attribute.keyword in GATHERED:
        return _encode_gathered
    if attribute.vr == "SQ":
        return _sequence_encoder(key, syntax, encode_text)
    return _scalar_encoder(attribute.vr, syntax, encode_text)


def _scalar_encoder(vr: str, syntax: Syntax, encode_text: Encoder) -> Callable[[Any], bytes]:
    if vr == "US":
        return lambda stored: _encode_unsigned_short(stored, syntax)
    if vr == "IS":
        return lambda stored: encode_text(str(stored))
    return encode_text  # also what should be ASCII: a CS of other letters comes back as it is


def _encode_gathered(stored: str) -> bytes:
    return "\\".join(sorted(stored.split(GATHERED_DELIMITER))).encode("ascii", "replace")


def _encode_unsigned_short(stored: str, syntax: Syntax) -> bytes:
    try:
        return struct.pack(f"{syntax.order}H", int(stored))
    except (ValueError, struct.error):  # several values, or what is no number: no value
        return b""


def _sequence_encoder(key: Key, syntax: Syntax, encode_text: Encoder) -> Callable[[str], bytes]:
    kept = sorted(map(key.attribute.item_attribute, key.items), key=lambda one: one.tag)
    encoders = [
        (one.keyword, one.tag, one.vr, _scalar_encoder(one.vr, syntax, encode_text)) for one in kept
    ]

    def encode_item(item: dict[str, str]) -> bytes:
        elements = b"".join(
            syntax.element(tag, vr, encode(item.get(keyword, "")))
            for keyword, tag, vr, encode in encoders
        )
        return syntax.header(_ITEM, "", len(elements)) + elements

    match = key.match
    if isinstance(match, Items):  # the matching items only (PS3.4 section C.2.2.2.6)
        fits = match.accepts_item
        return lambda stored: b"".join(encode_item(i) for i in stored_items(stored) if fits(i))
    return lambda stored: b"".join(encode_item(item) for item in stored_items(stored))


def _encode_element(element: ObjectAttribute, syntax: Syntax, encode_text: Encoder) -> bytes:
    """A whole element as it was read from an object."""
    value = element.value
    if isinstance(value, str):
        return syntax.element(element.tag, element.vr, encode_text(value))
    if isinstance(value, bytes):
        raw = swapped(value, element.vr) if syntax.order == ">" else value
        return syntax.element(element.tag, element.vr, raw)
    items = [
        b"".join([_encode_element(each, syntax, encode_text) for each in item]) for item in value
    ]
    raw = b"".join([syntax.header(_ITEM, "", len(item)) + item for item in items])
    return syntax.element(element.tag, element.vr, raw)


def response_encoder(
    query: Query, *, transfer_syntax_uid: str, retrieve_ae_title: str
) -> Callable[[Sequence[Any]], bytes]:
    """Prepare the encoding of a query's responses.

    Args:
        query: whose rows hold one column per key, in the order of its keys, then one Element
            per object key.
        transfer_syntax_uid: of the presentation context the responses go out in.
        retrieve_ae_title: where the objects can be retrieved from.
    Returns:
        A function from a row to the encoded identifier; any thread may call it.
    """
    if len(query.keys) + len(query.object_keys) > _KEPT_FIELDS:
        return _prepare(query, transfer_syntax_uid, retrieve_ae_title)
    for key in query.keys:
        if key.items and isinstance(key.match, Items):  # such an encoder knows what is asked for
            return _prepare(query, transfer_syntax_uid, retrieve_ae_title)
    keys = tuple([(key.attribute.tag, key.items) for key in query.keys])
    asked = (query.level, query.wants_availability, query.character_set)
    shape = (keys, query.object_keys, asked, transfer_syntax_uid, retrieve_ae_title)
    encode = _kept.get(shape)
    if encode is None:
        encode = _prepare(query, transfer_syntax_uid, retrieve_ae_title)
        if len(_kept) >= _KEPT_ENCODERS:
            _kept.clear()
        _kept[shape] = encode
    return encode


_kept: dict[tuple[Any, ...], Callable[[Sequence[Any]], bytes]] = {}


def _prepare(
    query: Query, transfer_syntax_uid: str, retrieve_ae_title: str
) -> Callable[[Sequence[Any]], bytes]:
    syntax = Syntax.of(transfer_syntax_uid)
    in_utf_8 = _Layout(query, retrieve_ae_title, syntax, UTF_8).encode
    asked, _ = encoder(query.character_set)
    if asked == UTF_8:
        encode = in_utf_8
    else:
        as_asked = _Layout(query, retrieve_ae_title, syntax, asked).encode

        def encode(row: Sequence[Any]) -> bytes:
            try:
                return as_asked(row)
            except UnicodeEncodeError:
                return in_utf_8(row)

    if transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return lambda row: deflate(encode(row))
    return encode
