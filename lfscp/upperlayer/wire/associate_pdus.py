"""A-ASSOCIATE-RQ read and A-ASSOCIATE-AC written by hand: the PDUs that grow with the contexts.

pynetdicom's decoder checks each of up to 5000 UIDs with regular expressions, twice; a request with
128 contexts costs it tens of milliseconds. What is read here becomes the same primitive.

Only bytes that fall into no items are an error. Names and values that are none are kept, or left
out: whether they matter is for the negotiation to decide. Bytes only, no I/O.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from typing import Any, Final, cast

from pynetdicom.pdu_items import UserInformationItem
from pynetdicom.pdu_primitives import (
    _UI,
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext

from lfscp.upperlayer.wire import user_information
from lfscp.upperlayer.wire.names import readable, uid_of
from lfscp.upperlayer.wire.proposals import PROPOSALS
from lfscp.upperlayer.wire.user_information import UnreadableItemError, read_user_item

# An A-ASSOCIATE-RQ of 128 contexts with 40 transfer syntaxes each is about 370 KB.
MAX_ACSE_PDU_BYTES: Final = 1 << 20
# PS3.8 table 9-11: type, reserved, length, protocol version, reserved, called, calling, reserved.
_FIXED: Final = struct.Struct(">BxIH2x16s16s32x")
_ITEM: Final = struct.Struct(">BxH")
_APPLICATION_CONTEXT: Final = 0x10
_CONTEXT_RQ: Final = 0x20
_CONTEXT_AC: Final = 0x21
_ABSTRACT_SYNTAX: Final = 0x30
_TRANSFER_SYNTAX: Final = 0x40
_USER_INFORMATION: Final = 0x50
_A_ASSOCIATE_AC: Final = 0x02
_ACCEPT_HEAD: Final = struct.Struct(">BxIH2x")
VERSION_1: Final = 0x0001
_NO_UID: Final = uid_of(b"")
# 128 contexts with 64 transfer syntaxes each are fewer. More means nothing, and costs time.
_MAX_ITEMS: Final = 10_000
_ECHOED: Final = slice(10, 74)  # bytes 11 to 74 of the PDU, counted from 1


class AssociateError(Exception):
    """The bytes are no A-ASSOCIATE-RQ; the message says where it breaks."""


def _items(
    data: memoryview, counted: Iterator[int] | None = None
) -> Iterator[tuple[int, memoryview]]:
    """The items of a variable field: (type, value).

    Args:
        counted: gives how many items the PDU has had so far; by default nobody counts.
    """
    position, end = 0, len(data)
    while position < end:
        if counted is not None and next(counted) >= _MAX_ITEMS:
            raise AssociateError(f"more than {_MAX_ITEMS} items")
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
    Attributes:
        protocol_version: as received, but 1 whenever bit 0 says that version 1 will do.
        echoed: both AE titles and the reserved field behind them, which the A-ASSOCIATE-AC repeats.
        user_identity_fault: why the user identity item cannot be read; empty when it can, or when
            there is none.
    Raises:
        AssociateError: it cannot be decoded.
    Source: PS3.8 section 9.3.2; table 9-11 for the version: "shall only test that bit 0 is set".
    """

    def __init__(self, pdu: bytes | bytearray) -> None:
        if len(pdu) < _FIXED.size:
            raise AssociateError("shorter than its fixed fields")
        _, _, version, called, calling = _FIXED.unpack_from(pdu)
        self.protocol_version = VERSION_1 if version & VERSION_1 else version
        self.echoed = bytes(pdu[_ECHOED])
        self.user_identity_fault = ""
        primitive = A_ASSOCIATE()
        # Relied on: A_ASSOCIATE's underscore attributes, which its setters fill after a check.
        primitive._called_ae_title = readable(called)
        primitive._calling_ae_title = readable(calling)
        self._primitive = primitive
        proposal = bytes(pdu[_FIXED.size :])
        if not PROPOSALS.put_into(primitive, proposal):
            self._read_items(memoryview(proposal))
            if not self.user_identity_fault:  # else the next one would be let in as nobody
                PROPOSALS.keep(proposal, primitive)

    def _read_items(self, proposal: memoryview) -> None:
        primitive = self._primitive
        contexts = primitive._presentation_context_definition_list
        items = count()
        for kind, value in _items(proposal, items):
            if kind == _CONTEXT_RQ:
                contexts.append(_read_context(value, items))
            elif kind == _APPLICATION_CONTEXT:
                primitive._application_context_name = uid_of(bytes(value))
            elif kind == _USER_INFORMATION:
                self._read_user_information(value, primitive._user_information, items)

    def _read_user_information(
        self, value: memoryview, items: list[_UI], counted: Iterator[int]
    ) -> None:
        for kind, each in _items(value, counted):
            try:
                item = read_user_item(kind, bytes(each))
            except UnreadableItemError as problem:
                if kind == user_information.USER_IDENTITY:
                    self.user_identity_fault = str(problem)
                continue
            if item is not None:
                items.append(item)

    def to_primitive(self) -> A_ASSOCIATE:
        """The A-ASSOCIATE indication."""
        return self._primitive


def forgiven_accept(pdu: bytes | bytearray) -> bytes:
    """An A-ASSOCIATE-AC without what pynetdicom's decoder refuses and nobody needs.

    Items of a type nobody knows, and user items that cannot be read, are left out; a version name
    is made one.

    Raises:
        AssociateError: its bytes fall into no items.
    Source: PS3.8 sections 9.3.1 and 9.3.3.
    """
    if len(pdu) < _FIXED.size:
        raise AssociateError("shorter than its fixed fields")
    parts = [bytes(pdu[6 : _FIXED.size])]
    for kind, value in _items(memoryview(pdu)[_FIXED.size :]):
        if kind == _USER_INFORMATION:
            parts.append(_item(kind, b"".join(_forgiven_user_items(value))))
        elif kind == _APPLICATION_CONTEXT:
            parts.append(_uid_item(kind, value))
        elif kind == _CONTEXT_AC:
            syntaxes = (_uid_item(each, uid) for each, uid in _items(value[4:]))
            parts.append(_item(kind, bytes(value[:4]) + b"".join(syntaxes)))
    body = b"".join(parts)
    return struct.pack(">BxI", _A_ASSOCIATE_AC, len(body)) + body


def _uid_item(kind: int, value: memoryview) -> bytes:
    return _item(kind, uid_of(bytes(value)).encode("ascii"))


def _forgiven_user_items(value: memoryview) -> Iterator[bytes]:
    for kind, each in _items(value):
        encoded = bytes(each)
        with contextlib.suppress(UnreadableItemError):
            item = read_user_item(kind, encoded)
            if isinstance(item, ImplementationVersionNameNotification):
                name = cast(str, item.implementation_version_name)
                encoded = name.replace("\\", "?").encode()
            if item is not None or kind == user_information.USER_IDENTITY_RESPONSE:
                yield _item(kind, encoded)


def _read_context(value: memoryview, counted: Iterator[int]) -> PresentationContext:
    """A presentation context item (PS3.8 table 9-13); without the syntaxes that are no UIDs."""
    if len(value) < 4:
        raise AssociateError("a presentation context item is cut")
    context = PresentationContext()
    context._context_id = value[0]
    context._abstract_syntax = _NO_UID
    for kind, uid in _items(value[4:], counted):
        if kind == _ABSTRACT_SYNTAX:
            context._abstract_syntax = uid_of(bytes(uid))
        elif kind == _TRANSFER_SYNTAX:
            syntax = uid_of(bytes(uid))
            if syntax:
                context._transfer_syntax.append(syntax)
    return context


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


@lru_cache(maxsize=4096)
def _result_item(context_id: int, result: int, transfer_syntax: str) -> bytes:
    """A presentation context result item (PS3.8 table 9-18)."""
    syntax = _item(_TRANSFER_SYNTAX, transfer_syntax.encode("ascii"))
    return _item(_CONTEXT_AC, struct.pack(">BxBx", context_id, result) + syntax)


@lru_cache(maxsize=8)
def _application_context_item(name: str) -> bytes:
    return _item(_APPLICATION_CONTEXT, name.encode())


@lru_cache(maxsize=64)
def _own_information_item(maximum_length: int, class_uid: str, version_name: str | None) -> bytes:
    """What nearly every acceptor says of itself (PS3.8 annex D.1, PS3.7 annex D.3.3.2)."""
    body = _item(user_information.MAXIMUM_LENGTH, struct.pack(">I", maximum_length))
    body += _item(user_information.IMPLEMENTATION_CLASS_UID, class_uid.encode("ascii"))
    if version_name is not None:
        name = version_name.encode("ascii")
        body += _item(user_information.IMPLEMENTATION_VERSION_NAME, name)
    return _item(_USER_INFORMATION, body)


_OWN: Final = (
    MaximumLengthNotification,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
)


def _write_user_information(items: list[_UI]) -> bytes:
    kinds = tuple(map(type, items))
    if kinds == _OWN or kinds == _OWN[:2]:
        said: list[Any] = [*items, None]
        name = None if said[2] is None else said[2]._implementation_version_name
        return _own_information_item(
            said[0]._maximum_length, said[1]._implementation_class_uid, name
        )
    whole = UserInformationItem()  # role selection, extended negotiation, user identity, ...
    whole.from_primitive(items)
    return whole.encode()


def encode_accept(primitive: A_ASSOCIATE, echoed: bytes | None = None) -> bytes:
    """An A-ASSOCIATE-AC PDU.

    Args:
        primitive: the A-ASSOCIATE response, accepting.
        echoed: bytes 11 to 74 of the A-ASSOCIATE-RQ; None makes them of the primitive's AE titles.
    Source: PS3.8 section 9.3.3, table 9-17: what is echoed is "identical to the value received".
    """
    parts = [_application_context_item(primitive._application_context_name or "")]
    parts += [
        _result_item(cast(int, each._context_id), cast(int, each.result), each._transfer_syntax[0])
        for each in primitive._presentation_context_definition_results_list
    ]
    parts.append(_write_user_information(primitive._user_information))
    body = b"".join(parts)
    if echoed is None:
        titles = (primitive._called_ae_title, primitive._calling_ae_title)
        echoed = b"".join(title.ljust(16)[:16].encode("ascii", "replace") for title in titles)
        echoed = echoed.ljust(64, b"\0")
    head = _ACCEPT_HEAD.pack(_A_ASSOCIATE_AC, _FIXED.size - 6 + len(body), VERSION_1)
    return head + echoed + body
