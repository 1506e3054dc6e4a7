"""A-ASSOCIATE-RQ read and A-ASSOCIATE-AC written by hand: the PDUs that grow with the contexts.

pynetdicom's decoder checks each of up to 5000 UIDs with regular expressions, twice; a request with
128 contexts costs it tens of milliseconds. What is read here becomes the same primitive. The User
Information item, small and full of variants, stays pynetdicom's. Bytes only, no I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, cast

from pydicom.uid import UID
from pynetdicom.pdu_items import UserInformationItem
from pynetdicom.pdu_primitives import (
    _UI,
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext
from pynetdicom.utils import decode_bytes, set_ae

# PS3.8 table 9-11: type, reserved, length, protocol version, reserved, called, calling, reserved.
_FIXED: Final = struct.Struct(">BxIH2x16s16s32x")
_ITEM: Final = struct.Struct(">BxH")
_APPLICATION_CONTEXT: Final = 0x10
_CONTEXT_RQ: Final = 0x20
_CONTEXT_AC: Final = 0x21
_ABSTRACT_SYNTAX: Final = 0x30
_TRANSFER_SYNTAX: Final = 0x40
_USER_INFORMATION: Final = 0x50
_MAXIMUM_LENGTH: Final = 0x51
_IMPLEMENTATION_CLASS_UID: Final = 0x52
_IMPLEMENTATION_VERSION_NAME: Final = 0x55
_USER_ITEMS: Final = range(0x51, 0x5A)  # PS3.7 section D.3.3 and PS3.8 section D.1
_A_ASSOCIATE_AC: Final = 0x02
_IGNORE_VALIDITY: Final = 0


class AssociateError(Exception):
    """The bytes are no A-ASSOCIATE-RQ; the message says where it breaks."""


@lru_cache(maxsize=4096)
def intern_uid(text: str) -> UID:
    """The one UID object for a text that comes again and again: SOP classes, transfer syntaxes."""
    return UID(text, _IGNORE_VALIDITY)


@lru_cache(maxsize=4096)
def _read_uid(value: bytes) -> UID:
    try:
        text = value.decode("ascii").strip("\0 ")
    except UnicodeDecodeError:
        raise AssociateError("a UID is not ASCII") from None
    if len(text) > 64:
        raise AssociateError("a UID of more than 64 characters")
    return intern_uid(text)


@lru_cache(maxsize=1024)
def _read_ae_title(value: bytes, field: str) -> str:
    try:
        title = decode_bytes(value).strip()
        if not title:
            raise AssociateError(f"{field} AE title is empty")
        return cast(str, set_ae(title, f"{field} AE title", False, False))
    except ValueError as problem:
        raise AssociateError(str(problem)) from problem


def _items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The items of a variable field: (type, value)."""
    position, end = 0, len(data)
    while position < end:
        if end - position < _ITEM.size:
            raise AssociateError("an item's header is cut")
        kind, length = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        if length > end - position:
            raise AssociateError(f"item 0x{kind:02X} is longer than what holds it")
        yield kind, data[position : position + length]
        position += length


class AssociateRequest:
    """A decoded A-ASSOCIATE-RQ, in the shape pynetdicom's state machine takes its PDUs.

    Relied on: action AE-6 reads `protocol_version` and calls `to_primitive` (pynetdicom.fsm).

    Args:
        pdu: the whole PDU.
    Raises:
        AssociateError: it cannot be decoded.
    Source: PS3.8 section 9.3.2.
    """

    def __init__(self, pdu: bytes | bytearray) -> None:
        if len(pdu) < _FIXED.size:
            raise AssociateError("shorter than its fixed fields")
        _, _, self.protocol_version, called, calling = _FIXED.unpack_from(pdu)
        primitive = A_ASSOCIATE()
        # Relied on: A_ASSOCIATE's underscore attributes, which its setters fill after a check.
        primitive._called_ae_title = _read_ae_title(called, "called")
        primitive._calling_ae_title = _read_ae_title(calling, "calling")
        contexts = primitive._presentation_context_definition_list
        for kind, value in _items(memoryview(pdu)[_FIXED.size :]):
            if kind == _CONTEXT_RQ:
                contexts.append(_read_context(value))
            elif kind == _APPLICATION_CONTEXT:
                primitive._application_context_name = _read_uid(bytes(value))
            elif kind == _USER_INFORMATION:
                primitive._user_information = _read_user_information(value)
        self._primitive = primitive

    def to_primitive(self) -> A_ASSOCIATE:
        """The A-ASSOCIATE indication."""
        return self._primitive


def _read_context(value: memoryview) -> PresentationContext:
    """A presentation context item (PS3.8 table 9-13)."""
    if len(value) < 4:
        raise AssociateError("a presentation context item is cut")
    context = PresentationContext()
    context._context_id = value[0]
    if not value[0] % 2:
        raise AssociateError(f"presentation context ID {value[0]} is even")
    for kind, uid in _items(value[4:]):
        if kind == _ABSTRACT_SYNTAX:
            context._abstract_syntax = _read_uid(bytes(uid))
        elif kind == _TRANSFER_SYNTAX and uid:
            context._transfer_syntax.append(_read_uid(bytes(uid)))
    if not context._abstract_syntax or not context._transfer_syntax:
        raise AssociateError(f"presentation context {value[0]} lacks its syntaxes")
    return context


def _read_user_information(value: memoryview) -> list[_UI]:
    # pynetdicom refuses items of a type it does not know; they are to be skipped (PS3.8 9.3.1).
    known = b"".join(
        _item(kind, bytes(each)) for kind, each in _items(value) if kind in _USER_ITEMS
    )
    item = UserInformationItem()
    try:
        item.decode(_item(_USER_INFORMATION, known))
        return item.to_primitive()
    except Exception as problem:  # pynetdicom raises what it likes on items it cannot read
        raise AssociateError(f"user information: {problem}") from problem


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


@lru_cache(maxsize=256)
def _transfer_syntax_item(uid: str) -> bytes:
    return _item(_TRANSFER_SYNTAX, uid.encode("ascii"))


def _write_context(context: PresentationContext) -> bytes:
    """A presentation context result item (PS3.8 table 9-18)."""
    syntax = _transfer_syntax_item(context._transfer_syntax[0])
    head = struct.pack(">BxBx", context._context_id, context.result)
    return _item(_CONTEXT_AC, head + syntax)


def _write_user_information(items: list[_UI]) -> bytes:
    body = []
    for item in items:
        if isinstance(item, MaximumLengthNotification):
            body.append(_item(_MAXIMUM_LENGTH, struct.pack(">I", item.maximum_length_received)))
        elif isinstance(item, ImplementationClassUIDNotification):
            uid = cast(UID, item.implementation_class_uid)
            body.append(_item(_IMPLEMENTATION_CLASS_UID, uid.encode("ascii")))
        elif isinstance(item, ImplementationVersionNameNotification):
            name = cast(str, item.implementation_version_name)
            body.append(_item(_IMPLEMENTATION_VERSION_NAME, name.encode("ascii")))
        else:  # role selection, extended negotiation, user identity, ...
            whole = UserInformationItem()
            whole.from_primitive(items)
            return whole.encode()
    return _item(_USER_INFORMATION, b"".join(body))


def encode_accept(primitive: A_ASSOCIATE) -> bytes:
    """An A-ASSOCIATE-AC PDU.

    Args:
        primitive: the A-ASSOCIATE response, accepting.
    Source: PS3.8 section 9.3.3.
    """
    parts = [_item(_APPLICATION_CONTEXT, (primitive.application_context_name or "").encode())]
    contexts = primitive._presentation_context_definition_results_list
    parts += [_write_context(context) for context in contexts]
    parts.append(_write_user_information(primitive._user_information))
    body = b"".join(parts)
    titles = (primitive._called_ae_title, primitive._calling_ae_title)
    called, calling = (title.ljust(16).encode("ascii", "replace") for title in titles)
    return _FIXED.pack(_A_ASSOCIATE_AC, _FIXED.size - 6 + len(body), 1, called, calling) + body
