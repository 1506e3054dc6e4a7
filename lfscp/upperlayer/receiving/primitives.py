"""Received messages as pynetdicom's primitives: by hand where it is hot, else by its own codec.

The functions by hand fill DIMSEPrimitive's underscore attributes (pynetdicom.dimse_primitives), as
the checked setters would: the values come from a command set that was checked when it was read.
"""

from __future__ import annotations

from io import BytesIO

from pydicom.uid import UID
from pynetdicom.dimse_messages import _MESSAGE_TYPES, DIMSEMessage
from pynetdicom.dimse_primitives import (
    C_ECHO,
    C_FIND,
    C_GET,
    C_MOVE,
    C_STORE,
    DimsePrimitiveType,
)
from pynetdicom.dsutils import decode

from lfscp.upperlayer import loggers
from lfscp.upperlayer.provider import ProtocolError
from lfscp.upperlayer.wire import commands
from lfscp.upperlayer.wire.names import intern_uid


def echo_request(echo: commands.EchoRequest, context_id: int) -> C_ECHO:
    """A C-ECHO request."""
    primitive = C_ECHO()
    primitive._context_id = context_id
    primitive._message_id = echo.message_id
    primitive._affected_sop_class_uid = intern_uid(echo.sop_class_uid)
    return primitive


def query_request(
    primitive_class: type[C_FIND | C_GET | C_MOVE],
    query: commands.QueryRequest,
    context_id: int,
    identifier: bytes | bytearray,
) -> C_FIND | C_GET | C_MOVE:
    """A C-FIND, C-GET or C-MOVE request."""
    primitive = primitive_class()
    primitive._context_id = context_id
    primitive._message_id = query.message_id
    primitive._priority = query.priority
    primitive._affected_sop_class_uid = intern_uid(query.sop_class_uid)
    primitive._dataset = BytesIO(identifier)
    if isinstance(primitive, C_MOVE):
        primitive._move_destination = query.move_destination
    return primitive


def store_response(response: commands.StoreResponse, context_id: int) -> C_STORE:
    """A C-STORE response."""
    primitive = C_STORE()
    primitive._context_id = context_id
    primitive._message_id_being_responded_to = response.message_id_being_responded_to
    primitive._status = response.status
    if response.sop_class_uid is not None:
        primitive._affected_sop_class_uid = intern_uid(response.sop_class_uid)
    if response.sop_instance_uid is not None:
        primitive._affected_sop_instance_uid = UID(response.sop_instance_uid, 0)
    primitive.ErrorComment = response.error_comment  # type: ignore[assignment] # declared as None
    return primitive


def generic_message(
    context_id: int, command: bytes | bytearray, data_set: bytes | bytearray
) -> DIMSEMessage:
    """pynetdicom's message object, as its own `decode_msg` would build it.

    Raises:
        ProtocolError: the command set cannot be decoded.
    """
    message = DIMSEMessage()
    message.context_id = context_id
    message.encoded_command_set = BytesIO(command)
    message.data_set = BytesIO(data_set)
    try:
        message.command_set = decode(message.encoded_command_set, True, True)
        field = message.command_set.get("CommandField")
    except Exception as problem:
        loggers.DIMSE.error("Received an invalid DIMSE message")
        raise ProtocolError(f"command set cannot be decoded: {problem}") from problem
    if not isinstance(field, int):
        loggers.DIMSE.error("Received an invalid DIMSE message")
        raise ProtocolError("command set without a Command Field (0000,0100)")
    if field not in _MESSAGE_TYPES:
        loggers.DIMSE.error("Received an invalid DIMSE message")
        raise ProtocolError(f"unknown Command Field 0x{field:04X}")
    # Relied on: a DIMSEMessage becomes its subclass by the Command Field.
    message.__class__ = _MESSAGE_TYPES[field][1]
    return message


def generic_primitive(message: DIMSEMessage) -> DimsePrimitiveType:
    """The primitive of a message.

    Raises:
        ProtocolError: it lacks what it must have.
    """
    try:
        return message.message_to_primitive()
    except Exception as problem:
        loggers.DIMSE.error("Received an invalid DIMSE message")
        name = type(message).__name__.replace("_", "-")
        raise ProtocolError(f"invalid {name}: {problem}") from problem
