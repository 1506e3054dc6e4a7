"""The User Information item of an A-ASSOCIATE-RQ: its sub-items, each read for itself.

A sub-item that cannot be read costs itself, not the association: what it says then counts as not
said. So do sub-items of a type nobody knows (PS3.8 section 9.3.1). One is different: an unreadable
user identity must not let its user in as nobody, so it is told to whoever decides. Bytes only, no
I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from pydicom.uid import UID
from pynetdicom.pdu_primitives import (
    _UI,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from lfscp.upperlayer.wire.names import readable, uid_of

MAXIMUM_LENGTH: Final = 0x51
IMPLEMENTATION_CLASS_UID: Final = 0x52
ASYNCHRONOUS_OPERATIONS: Final = 0x53
ROLE_SELECTION: Final = 0x54
IMPLEMENTATION_VERSION_NAME: Final = 0x55
SOP_CLASS_EXTENDED: Final = 0x56
SOP_CLASS_COMMON_EXTENDED: Final = 0x57
USER_IDENTITY: Final = 0x58
USER_IDENTITY_RESPONSE: Final = 0x59

_VERSION_NAME_LENGTH: Final = 16  # PS3.7 table D.3-3
_TWO_NUMBERS: Final = struct.Struct(">HH")


class UnreadableItemError(ValueError):
    """A sub-item's value is not what its type asks for."""


# Relied on below: the primitives' underscore attributes, which their setters fill after a check.


def _field(value: bytes, start: int) -> tuple[bytes, int]:
    """A field behind its 16-bit length, and where the next one begins."""
    end = start + 2 + int.from_bytes(value[start : start + 2])
    if len(value) < start + 2 or len(value) < end:
        raise UnreadableItemError("a field is longer than its item")
    return value[start + 2 : end], end


def _maximum_length(value: bytes) -> MaximumLengthNotification:
    if len(value) != 4:
        raise UnreadableItemError("not of 4 bytes")
    item = MaximumLengthNotification()
    item.maximum_length_received = int.from_bytes(value)
    return item


def _implementation_class_uid(value: bytes) -> ImplementationClassUIDNotification:
    uid = uid_of(value)
    if not uid:
        raise UnreadableItemError("no UID")
    item = ImplementationClassUIDNotification()
    item._implementation_class_uid = uid
    return item


def _implementation_version_name(value: bytes) -> ImplementationVersionNameNotification:
    name = readable(value)[:_VERSION_NAME_LENGTH].strip()
    if not name:
        raise UnreadableItemError("empty")
    item = ImplementationVersionNameNotification()
    item._implementation_version_name = name
    return item


def _asynchronous_operations(value: bytes) -> AsynchronousOperationsWindowNegotiation:
    if len(value) != _TWO_NUMBERS.size:
        raise UnreadableItemError("not of 4 bytes")
    item = AsynchronousOperationsWindowNegotiation()
    invoked, performed = _TWO_NUMBERS.unpack(value)
    item._maximum_number_operations_invoked = invoked
    item._maximum_number_operations_performed = performed
    return item


def _role_selection(value: bytes) -> SCP_SCU_RoleSelectionNegotiation:
    uid, end = _field(value, 0)
    roles = value[end:]
    sop_class_uid = uid_of(uid)
    if not sop_class_uid or len(roles) != 2 or not set(roles) <= {0, 1}:
        raise UnreadableItemError("no UID with two roles")
    item = SCP_SCU_RoleSelectionNegotiation()
    item._sop_class_uid = sop_class_uid
    item._scu_role, item._scp_role = bool(roles[0]), bool(roles[1])
    return item


def _sop_class_extended(value: bytes) -> SOPClassExtendedNegotiation:
    uid, end = _field(value, 0)
    sop_class_uid = uid_of(uid)
    if not sop_class_uid:
        raise UnreadableItemError("no UID")
    item = SOPClassExtendedNegotiation()
    item._sop_class_uid = sop_class_uid
    item._service_class_application_information = value[end:]
    return item


def _sop_class_common_extended(value: bytes) -> SOPClassCommonExtendedNegotiation:
    sop_class, end = _field(value, 0)
    service_class, end = _field(value, end)
    related, _ = _field(value, end)
    item = SOPClassCommonExtendedNegotiation()
    item._sop_class_uid, item._service_class_uid = uid_of(sop_class), uid_of(service_class)
    if not item._sop_class_uid or not item._service_class_uid:
        raise UnreadableItemError("no UIDs")
    item._related_general_sop_class_identification = _uids(related)
    return item


def _uids(value: bytes) -> list[UID]:
    """UIDs, each behind its length; pynetdicom takes ten times as long to check them."""
    uids, end = [], 0
    while end < len(value):
        field, end = _field(value, end)
        uids.append(uid_of(field))
    return uids


def _user_identity(value: bytes) -> UserIdentityNegotiation:
    primary, end = _field(value, 2)
    secondary = _field(value, end)[0] if end < len(value) else b""
    item = UserIdentityNegotiation()
    item._user_identity_type = value[0]
    item._positive_response_requested = bool(value[1])
    item._primary_field = primary
    item._secondary_field = secondary
    return item


_READERS: Final[dict[int, Callable[[bytes], _UI]]] = {
    MAXIMUM_LENGTH: _maximum_length,
    IMPLEMENTATION_CLASS_UID: _implementation_class_uid,
    ASYNCHRONOUS_OPERATIONS: _asynchronous_operations,
    ROLE_SELECTION: _role_selection,
    IMPLEMENTATION_VERSION_NAME: _implementation_version_name,
    SOP_CLASS_EXTENDED: _sop_class_extended,
    SOP_CLASS_COMMON_EXTENDED: _sop_class_common_extended,
    USER_IDENTITY: _user_identity,
}


def read_user_item(kind: int, value: bytes) -> _UI | None:
    """One sub-item as pynetdicom's primitive; None when nobody knows its type.

    Raises:
        UnreadableItemError: its value cannot be read.
    Source: PS3.7 section D.3.3, PS3.8 section D.1.
    """
    reader = _READERS.get(kind)
    return None if reader is None else reader(value)
