"""The command sets of the hot messages, coded by hand: C-STORE, C-ECHO and every response.

A command set is Implicit VR Little Endian, group 0000 only (PS3.7 section 6.3.1), so one pass over
(tag, length, value) reads it. What this module does not know takes pynetdicom's generic path.
No I/O, no pynetdicom.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

C_STORE_RQ: Final = 0x0001
C_STORE_RSP: Final = 0x8001
C_GET_RSP: Final = 0x8010
C_GET_RQ: Final = 0x0010
C_FIND_RQ: Final = 0x0020
C_MOVE_RQ: Final = 0x0021
C_FIND_RSP: Final = 0x8020
C_MOVE_RSP: Final = 0x8021
C_ECHO_RQ: Final = 0x0030
C_ECHO_RSP: Final = 0x8030
N_SET_RQ: Final = 0x0120
N_ACTION_RQ: Final = 0x0130
N_CREATE_RQ: Final = 0x0140
C_CANCEL_RQ: Final = 0x0FFF

NO_DATA_SET: Final = 0x0101
_DATA_SET_PRESENT: Final = 0x0001
MAX_UID_LENGTH: Final = 64
_MAX_US: Final = 0xFFFF

_AFFECTED_SOP_CLASS_UID: Final = 0x0002
_COMMAND_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO: Final = 0x0120
_MOVE_DESTINATION: Final = 0x0600
_LOW: Final = 2
_PRIORITY: Final = 0x0700
_COMMAND_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_OFFENDING_ELEMENT: Final = 0x0901
_ERROR_COMMENT: Final = 0x0902
_AFFECTED_SOP_INSTANCE_UID: Final = 0x1000
_COUNTERS: Final = {"Remaining": 0x1020, "Completed": 0x1021, "Failed": 0x1022, "Warning": 0x1023}
_MOVE_ORIGINATOR_AE_TITLE: Final = 0x1030
_MOVE_ORIGINATOR_MESSAGE_ID: Final = 0x1031

_ELEMENT = struct.Struct("<HHI")
_US_ELEMENT = struct.Struct("<HHIH")
_GROUP_LENGTH = struct.Struct("<HHII")
_RESPONSE_CORE = struct.Struct("<" + 4 * "HHIH")  # the four US elements of every response


class CommandSetError(Exception):
    """The bytes are no command set; the message says where it breaks."""


@dataclass(frozen=True, slots=True)
class SubOperationCounts:
    """The counters of a C-MOVE or C-GET response; each saturates at 65535 (they are US).

    `remaining` is None where PS3.4 section C.4.2.1.6 leaves it out, in most final responses.
    """

    completed: int
    failed: int
    warning: int
    remaining: int | None = None

    def by_name(self) -> dict[str, int]:
        """Those that are sent, each as it is sent."""
        counts = {
            "Remaining": self.remaining,
            "Completed": self.completed,
            "Failed": self.failed,
            "Warning": self.warning,
        }
        return {name: min(n, _MAX_US) for name, n in counts.items() if n is not None}


def split_command(encoded: bytes | bytearray) -> dict[int, bytes]:
    """Cut a command set into its elements.

    Args:
        encoded: the whole command set.
    Returns:
        Element number of group 0000 to value field.
    Raises:
        CommandSetError: an element does not fit, or is of another group.
    Source: PS3.7 section 6.3.1.
    """
    elements: dict[int, bytes] = {}
    position, end = 0, len(encoded)
    while position < end:
        if end - position < _ELEMENT.size:
            raise CommandSetError(f"command set ends inside an element, at byte {position}")
        group, element, length = _ELEMENT.unpack_from(encoded, position)
        position += _ELEMENT.size
        if group != 0:
            raise CommandSetError(f"element ({group:04X},{element:04X}) in a command set")
        if length > end - position:
            raise CommandSetError(f"element (0000,{element:04X}) is longer than the command set")
        elements[element] = bytes(encoded[position : position + length])
        position += length
    return elements


def unsigned_short(elements: dict[int, bytes], element: int) -> int | None:
    """The value of a US element of one value, or None when it is absent or of another length."""
    value = elements.get(element)
    return None if value is None or len(value) != 2 else int.from_bytes(value, "little")


def command_field(elements: dict[int, bytes]) -> int | None:
    """Which message this is, None when it does not say (PS3.7 section E.1)."""
    return unsigned_short(elements, _COMMAND_FIELD)


def responded_message_id(elements: dict[int, bytes]) -> int | None:
    """The Message ID Being Responded To, None when there is none."""
    return unsigned_short(elements, _MESSAGE_ID_BEING_RESPONDED_TO)


def status(elements: dict[int, bytes]) -> int | None:
    """The Status of a response, None when there is none."""
    return unsigned_short(elements, _STATUS)


def has_data_set(elements: dict[int, bytes]) -> bool:
    """Whether a data set follows: any value but 0x0101 says so (PS3.7 section E.1).

    Raises:
        CommandSetError: the Command Data Set Type is missing.
    """
    data_set_type = unsigned_short(elements, _COMMAND_DATA_SET_TYPE)
    if data_set_type is None:
        raise CommandSetError("command set without a Command Data Set Type (0000,0800)")
    return data_set_type != NO_DATA_SET


def _text(elements: dict[int, bytes], element: int) -> str | None:
    """An ASCII value without its padding; None when absent, empty or not ASCII."""
    value = elements.get(element)
    if not value:
        return None
    try:
        return value.decode("ascii").strip("\0 ") or None
    except UnicodeDecodeError:
        return None


def printable_name(value: bytes) -> str:
    """A name without its padding: no blanks around it, and nothing from a NUL on.

    Returns:
        Printable ASCII, whatever came: other bytes as `\\xNN`.
    """
    name = value.partition(b"\0")[0].strip()
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in name)


class EchoRequest(NamedTuple):
    """A C-ECHO-RQ (PS3.7 table 9.3-12)."""

    message_id: int
    sop_class_uid: str


class QueryRequest(NamedTuple):
    """A C-FIND-RQ, C-GET-RQ or C-MOVE-RQ (PS3.7 tables 9.3-3 to 9.3-8).

    A Move Destination that is missing, empty or no AE title is for the service to answer: there is
    none of that name.
    """

    message_id: int
    sop_class_uid: str
    priority: int
    move_destination: str


class StoreRequest(NamedTuple):
    """A C-STORE-RQ (PS3.7 table 9.3-1); a UID is None when it is missing or malformed."""

    message_id: int
    sop_class_uid: str | None
    sop_instance_uid: str | None
    priority: int
    move_originator_ae_title: str | None
    move_originator_message_id: int | None


class StoreResponse(NamedTuple):
    """A C-STORE-RSP (PS3.7 table 9.3-2)."""

    message_id_being_responded_to: int
    status: int
    sop_class_uid: str | None
    sop_instance_uid: str | None
    error_comment: str | None


def _uid(elements: dict[int, bytes], element: int) -> str | None:
    value = _text(elements, element)
    return None if value is None or len(value) > MAX_UID_LENGTH else value


def _priority(elements: dict[int, bytes]) -> int:
    """The priority; low where it is missing or none, since nothing here depends on it."""
    priority = unsigned_short(elements, _PRIORITY)
    return priority if priority in (0, 1, 2) else _LOW


def read_echo_request(elements: dict[int, bytes]) -> EchoRequest | None:
    """A plain C-ECHO-RQ, or None when it is unusual."""
    message_id = unsigned_short(elements, _MESSAGE_ID)
    sop_class_uid = _uid(elements, _AFFECTED_SOP_CLASS_UID)
    if message_id is None or sop_class_uid is None:
        return None
    return EchoRequest(message_id, sop_class_uid)


def cancelled_message_id(elements: dict[int, bytes]) -> int | None:
    """Which operation a C-CANCEL-RQ would end; None when this is no C-CANCEL-RQ."""
    if command_field(elements) != C_CANCEL_RQ:
        return None
    return unsigned_short(elements, _MESSAGE_ID_BEING_RESPONDED_TO)


def read_query_request(elements: dict[int, bytes]) -> QueryRequest | None:
    """A plain C-FIND-RQ, C-GET-RQ or C-MOVE-RQ, or None when it is unusual."""
    message_id = unsigned_short(elements, _MESSAGE_ID)
    sop_class_uid = _uid(elements, _AFFECTED_SOP_CLASS_UID)
    if message_id is None or sop_class_uid is None:
        return None
    destination = printable_name(elements.get(_MOVE_DESTINATION, b""))
    return QueryRequest(message_id, sop_class_uid, _priority(elements), destination)


def read_store_request(elements: dict[int, bytes]) -> StoreRequest | None:
    """A C-STORE-RQ, or None when not even its Message ID can be read."""
    message_id = unsigned_short(elements, _MESSAGE_ID)
    if message_id is None:
        return None
    return StoreRequest(
        message_id,
        _uid(elements, _AFFECTED_SOP_CLASS_UID),
        _uid(elements, _AFFECTED_SOP_INSTANCE_UID),
        _priority(elements),
        _text(elements, _MOVE_ORIGINATOR_AE_TITLE),
        unsigned_short(elements, _MOVE_ORIGINATOR_MESSAGE_ID),
    )


def read_store_response(elements: dict[int, bytes]) -> StoreResponse | None:
    """A C-STORE-RSP, or None when its status or the ID it answers cannot be read."""
    message_id = unsigned_short(elements, _MESSAGE_ID_BEING_RESPONDED_TO)
    status = unsigned_short(elements, _STATUS)
    if message_id is None or status is None:
        return None
    return StoreResponse(
        message_id,
        status,
        _uid(elements, _AFFECTED_SOP_CLASS_UID),
        _uid(elements, _AFFECTED_SOP_INSTANCE_UID),
        _text(elements, _ERROR_COMMENT),
    )


def _element(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value


def _us(number: int, value: int) -> bytes:
    return _US_ELEMENT.pack(0, number, 2, value)


def _padded(value: str, pad: bytes) -> bytes:
    encoded = value.encode("ascii", "replace")
    return encoded + pad if len(encoded) % 2 else encoded


def _uid_element(number: int, uid: str) -> bytes:
    return _element(number, _padded(uid, b"\0"))


@lru_cache(maxsize=1024)
def _sop_class_element(uid: str) -> bytes:
    return _uid_element(_AFFECTED_SOP_CLASS_UID, uid)


def _with_group_length(body: bytes) -> bytes:
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def encode_store_request(request: StoreRequest) -> bytes:
    """A C-STORE-RQ command set, a data set following.

    Raises:
        ValueError: the request lacks a UID.
    Source: PS3.7 table 9.3-1.
    """
    if request.sop_class_uid is None or request.sop_instance_uid is None:
        raise ValueError("a C-STORE request needs both its UIDs")
    parts = [
        _uid_element(_AFFECTED_SOP_CLASS_UID, request.sop_class_uid),
        _us(_COMMAND_FIELD, C_STORE_RQ),
        _us(_MESSAGE_ID, request.message_id),
        _us(_PRIORITY, request.priority),
        _us(_COMMAND_DATA_SET_TYPE, _DATA_SET_PRESENT),
        _uid_element(_AFFECTED_SOP_INSTANCE_UID, request.sop_instance_uid),
    ]
    if request.move_originator_ae_title is not None:
        title = _padded(request.move_originator_ae_title, b" ")
        parts.append(_element(_MOVE_ORIGINATOR_AE_TITLE, title))
    if request.move_originator_message_id is not None:
        parts.append(_us(_MOVE_ORIGINATOR_MESSAGE_ID, request.move_originator_message_id))
    return _with_group_length(b"".join(parts))


def encode_response(
    field: int,
    message_id: int,
    status: int,
    *,
    sop_class_uid: str | None = None,
    sop_instance_uid: str | None = None,
    data_set_follows: bool = False,
    sub_operations: SubOperationCounts | None = None,
    error_comment: str | None = None,
    offending_elements: Sequence[int] = (),
) -> bytes:
    """A response's command set.

    Args:
        field: which response, e.g. `C_STORE_RSP`.
        message_id: the Message ID being responded to.
        error_comment: cut to the 64 characters of its VR, LO.
        offending_elements: tags as 32-bit numbers.
    Source: PS3.7 sections 9.3 and C.
    """
    parts = []
    if sop_class_uid is not None:
        parts.append(_sop_class_element(sop_class_uid))
    data_set_type = _DATA_SET_PRESENT if data_set_follows else NO_DATA_SET
    parts.append(
        _RESPONSE_CORE.pack(
            *(0, _COMMAND_FIELD, 2, field),
            *(0, _MESSAGE_ID_BEING_RESPONDED_TO, 2, message_id),
            *(0, _COMMAND_DATA_SET_TYPE, 2, data_set_type),
            *(0, _STATUS, 2, status),
        )
    )
    if offending_elements:
        tags = b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in offending_elements)
        parts.append(_element(_OFFENDING_ELEMENT, tags))
    if error_comment:
        parts.append(_element(_ERROR_COMMENT, _padded(error_comment[:64], b" ")))
    if sop_instance_uid is not None:
        parts.append(_uid_element(_AFFECTED_SOP_INSTANCE_UID, sop_instance_uid))
    if sub_operations is not None:
        parts += [_us(_COUNTERS[name], n) for name, n in sub_operations.by_name().items()]
    return _with_group_length(b"".join(parts))
