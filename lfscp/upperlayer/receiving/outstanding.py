"""The outstanding operations of an association: the peer's one, and our own.

Nobody negotiates an asynchronous operations window here, so each side invokes one operation at a
time (PS3.7 section D.3.3.3). A request that is read before the final response to the one before it
has gone out, and a response that nobody awaits, end the association: nothing of the kind is kept.
A C-CANCEL may come at any time; only one that names the operation at hand is kept. Whoever sends
them without end gets fewer turns of the interpreter.
"""

from __future__ import annotations

import time
from typing import Final, cast

from pynetdicom.dimse import _RSP_TO_MESSAGE
from pynetdicom.dimse_messages import _MESSAGE_TYPES
from pynetdicom.dimse_primitives import C_CANCEL, DimsePrimitiveType

from lfscp.observe import metrics
from lfscp.upperlayer.connection.errors import ProtocolError
from lfscp.upperlayer.wire import commands

_RESPONSE: Final = 0x8000  # the bit of a Command Field that says so (PS3.7 section E.1)
# Of an operation, or since its end; for each one more its sender waits a moment, and others go on.
_CANCELS_AT_ONCE: Final = 100
_MOMENT_S: Final = 0.0001
_PENDING: Final = (0xFF00, 0xFF01)
_WARNING: Final = 0xB  # of a C-FIND, after which more may follow
# Relied on: `_MESSAGE_TYPES`, from Command Field to name and class of message.
_FIELDS: Final = {message: field for field, (_, message) in _MESSAGE_TYPES.items()}
_RESPONSE_FIELDS: Final = {
    primitive: _FIELDS[message] for primitive, message in _RSP_TO_MESSAGE.items()
}


class Outstanding:
    """What each side of an association has asked of the other and not yet got.

    Attributes:
        served_id: Message ID of the peer's request that is served; None when its final response is
            on its way, or when there is none.
        cancels: C-CANCELs of it, by Message ID; at most one, since others are dropped.
    """

    __slots__ = ("_awaited", "_cancels_in_a_row", "cancels", "served_id")

    def __init__(self) -> None:
        self.served_id: int | None = None
        self.cancels: dict[int, C_CANCEL] = {}
        self._cancels_in_a_row = 0
        self._awaited: dict[int, int] = {}  # our Message ID to the Command Field of its response

    def served(self) -> None:
        """The peer's request has ended: what would have cancelled it must not cancel the next."""
        self.served_id = None
        if self.cancels:
            self.cancels = {}

    def await_response(self, message_id: int, response_field: int) -> None:
        """A request of ours goes out."""
        self._awaited[message_id] = response_field

    def note_sent(self, primitive: DimsePrimitiveType) -> None:
        """A message goes out: a request awaits its response, a final response ends a request."""
        if isinstance(primitive, C_CANCEL):
            return
        if primitive.MessageIDBeingRespondedTo is None:
            message_id = cast(int, primitive.MessageID)
            self._awaited[message_id] = _RESPONSE_FIELDS[type(primitive)]
        else:
            self.note_status(cast(int, primitive.Status))

    def note_status(self, status: int) -> None:
        """A response goes out: a final one ends the peer's request."""
        if status not in _PENDING and status >> 12 != _WARNING:
            self.served_id = None

    def admit(self, elements: dict[int, bytes], *, waits: bool) -> None:
        """Judge a message that comes, by its command set.

        Args:
            waits: a request waits to be served already.
        Raises:
            ProtocolError: it is out of turn.
        """
        field = commands.command_field(elements)
        if field is None or field == commands.C_CANCEL_RQ:
            return
        if field & _RESPONSE:
            self._admit_response(elements, field)
        elif waits or self.served_id is not None:
            metrics.OUT_OF_TURN.of("request").add()
            raise ProtocolError(
                f"a second request (0x{field:04X}) while one is served, and no asynchronous "
                "operations window was negotiated"
            )
        else:
            self._cancels_in_a_row = 0

    def _admit_response(self, elements: dict[int, bytes], field: int) -> None:
        message_id = commands.responded_message_id(elements)
        if message_id is None or self._awaited.get(message_id) != field:
            metrics.OUT_OF_TURN.of("response").add()
            of = "none" if message_id is None else message_id
            raise ProtocolError(f"a response (0x{field:04X} to Message ID {of}) that nobody awaits")
        if commands.status(elements) not in _PENDING:
            del self._awaited[message_id]

    def take_cancel(self, cancel: C_CANCEL, waiting: int | None) -> None:
        """Keep a C-CANCEL of the operation at hand; any other means nothing.

        Args:
            waiting: Message ID of a request that waits to be served.
        """
        self._cancels_in_a_row += 1
        if self._cancels_in_a_row > _CANCELS_AT_ONCE:
            time.sleep(_MOMENT_S)
        message_id = cancel.MessageIDBeingRespondedTo
        if message_id is not None and message_id in (self.served_id, waiting):
            self.cancels[message_id] = cancel
