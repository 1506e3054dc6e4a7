"""Messages as pynetdicom's primitives: by hand where it is hot, else by its own codec.

The functions by hand fill DIMSEPrimitive's underscore attributes (pynetdicom.dimse_primitives), as
the checked setters would: the values come from a command set that was checked when it was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final, cast

from pydicom.uid import UID
from pynetdicom.dimse import _RSP_TO_MESSAGE
from pynetdicom.dimse_messages import _MESSAGE_TYPES, DIMSEMessage
from pynetdicom.dimse_primitives import (
    C_ECHO,
    C_FIND,
    C_GET,
    C_MOVE,
    C_STORE,
    DimsePrimitiveType,
    DimseServiceType,
)
from pynetdicom.dsutils import decode

from lfscp.upperlayer.connection import loggers
from lfscp.upperlayer.connection.errors import ProtocolError
from lfscp.upperlayer.receiving.incoming import Incoming
from lfscp.upperlayer.wire import commands
from lfscp.upperlayer.wire.names import intern_uid

_QUERIES: Final[dict[int, type[C_FIND | C_GET | C_MOVE]]] = {
    commands.C_FIND_RQ: C_FIND,
    commands.C_GET_RQ: C_GET,
    commands.C_MOVE_RQ: C_MOVE,
}


def of_message(incoming: Incoming) -> DimsePrimitiveType:
    """The primitive of a complete message other than a C-STORE request that can be read.

    Raises:
        ProtocolError: it cannot be decoded, or lacks what it must have.
    """
    elements = cast("dict[int, bytes]", incoming.elements)
    context_id = incoming.context_id
    if incoming.field == commands.C_ECHO_RQ:
        echo = commands.read_echo_request(elements)
        if echo is not None:
            return echo_request(echo, context_id)
    if incoming.field == commands.C_STORE_RSP:
        response = commands.read_store_response(elements)
        if response is not None:
            return store_response(response, context_id)
    primitive_class = _QUERIES.get(incoming.field or 0)
    if primitive_class is not None and incoming.data:
        query = commands.read_query_request(elements)
        if query is not None:
            return query_request(primitive_class, query, context_id, incoming.data)
    return generic_primitive(generic_message(incoming))


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


def generic_message(incoming: Incoming) -> DIMSEMessage:
    """pynetdicom's message object, as its own `decode_msg` would build it.

    Raises:
        ProtocolError: the command set cannot be decoded.
    """
    message = DIMSEMessage()
    message.context_id = incoming.context_id
    message.encoded_command_set = BytesIO(incoming.command)
    message.data_set = BytesIO(incoming.data)
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


def is_response(primitive: DimsePrimitiveType) -> bool:
    """Whether it is one, rather than a request."""
    return getattr(primitive, "MessageIDBeingRespondedTo", None) is not None


def kind_of(primitive: object) -> Any:
    """The primitive's class in pynetdicom; a request received by hand is of a subclass."""
    return next(each for each in type(primitive).__mro__ if each in _RSP_TO_MESSAGE)


def response_to(
    request: Any,
    status: int,
    *,
    data_set: bytes | None = None,
    sub_operations: commands.SubOperationCounts | None = None,
    error_comment: str | None = None,
    offending_elements: Sequence[int] = (),
) -> DimseServiceType:
    """A response of the request's kind, whatever the kind; see `commands.encode_response`."""
    response = kind_of(request)()
    response.MessageIDBeingRespondedTo = request.MessageID
    response.Status = status
    for attribute in ("SOPClassUID", "SOPInstanceUID"):
        value = getattr(request, f"Affected{attribute}", None)
        if value is None:
            value = getattr(request, f"Requested{attribute}", None)
        if value and hasattr(response, f"Affected{attribute}"):
            setattr(response, f"Affected{attribute}", value)
    if error_comment and "ErrorComment" in response.STATUS_OPTIONAL_KEYWORDS:
        response.ErrorComment = error_comment[:64]
    if offending_elements:
        response.OffendingElement = list(offending_elements)
    if sub_operations is not None:
        for name, count in sub_operations.by_name().items():
            setattr(response, f"NumberOf{name}Suboperations", count)
    if data_set is not None:
        response.Identifier = BytesIO(data_set)
    return cast(DimseServiceType, response)
