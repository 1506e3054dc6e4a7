"""One C-FIND, C-GET or C-MOVE asked of a peer: its responses as they come, and its C-CANCEL.

Driven by the calling thread, which reads the socket; the objects of a C-GET are served in between,
by the association's handler of C-STORE. Unlike pynetdicom's `send_c_get()` it can be cancelled
between two objects, and gives each response's counters.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final, NoReturn, cast

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE, C_STORE
from pynetdicom.dsutils import encode

from lfscp.upperlayer.connection.errors import CalledOffError, ReadTimeoutError
from lfscp.upperlayer.engine.association import InlineAssociation

if TYPE_CHECKING:
    from pynetdicom.dimse_primitives import DimseServiceType
    from pynetdicom.presentation import PresentationContext

Query = C_FIND | C_GET | C_MOVE
_PENDING: Final = (0xFF00, 0xFF01)
_LOW_PRIORITY: Final = 2
CANCEL_PATIENCE_S: Final = 1.0  # for the final response after a C-CANCEL, which peers may ignore


class UnansweredError(Exception):
    """No response came; the association has ended, or is aborted.

    Args:
        reason: why, as far as it is known.
        timed_out: the peer was silent for longer than the DIMSE timeout.
    """

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. Counters are None where the peer sent none.

    Args:
        identifier: encoded in the context's transfer syntax; None without one.
    Source: PS3.7 sections 9.1.2 to 9.1.4.
    """

    status: int
    identifier: bytes | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    error_comment: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether more responses follow."""
        return self.status in _PENDING


class Operation:
    """One operation invoked on an established association.

    Args:
        assoc: nothing else goes on on it.
        kind: C_FIND, C_GET or C_MOVE of pynetdicom.
        context: the accepted presentation context to use.
        identifier: what is asked for.
        destination: the AE title that a C-MOVE's objects go to.
        wants_cancel: asked between messages; once it says yes a C-CANCEL goes out.
    """

    def __init__(
        self,
        assoc: InlineAssociation,
        kind: type[Query],
        context: PresentationContext,
        identifier: Dataset,
        *,
        destination: str | None = None,
        wants_cancel: Callable[[], bool] = lambda: False,
    ) -> None:
        self._assoc = assoc
        self._kind = kind
        self._context_id = cast(int, context.context_id)
        self._message_id = assoc.next_message_id()
        self._wants_cancel = wants_cancel
        self.is_cancelled = False
        self._patience_ends = float("inf")
        self._request = kind()
        self._request.MessageID = self._message_id
        self._request.AffectedSOPClassUID = UID(cast(str, context.abstract_syntax))
        self._request.Priority = _LOW_PRIORITY
        if isinstance(self._request, C_MOVE):
            self._request.MoveDestination = destination
        syntax = context.transfer_syntax[0]
        self.transfer_syntax_uid = str(syntax)
        encoded = encode(
            identifier, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated
        )
        if encoded is None:
            raise ValueError("the identifier cannot be encoded")
        self._request.Identifier = BytesIO(encoded)

    def answers(self) -> Iterator[Answer]:
        """Ask, and give the responses up to the final one.

        Raises:
            UnansweredError: the association broke, the peer was silent for the DIMSE timeout, or
                what it sent answers nothing.
        """
        self._assoc.dimse.send_msg(self._request, self._context_id)
        while True:
            context_id, message = self._next_response()
            if not isinstance(message, self._kind):
                self._give_up(f"a {message.msg_type} response")
            if message.MessageIDBeingRespondedTo != self._message_id:
                self._give_up(f"a response to Message ID {message.MessageIDBeingRespondedTo}")
            if context_id != self._context_id:
                self._give_up(f"a response in presentation context {context_id}")
            if message.Status is None:
                self._give_up("a response without a status")
            answer = _answer(message)
            yield answer
            if not answer.is_pending:
                return

    def look_for_cancel(self) -> None:
        """Send the C-CANCEL when it is wanted, once; called while the peer is waited for, too.

        Raises:
            CalledOffError: the peer goes on, or is silent, in spite of it.
        Source: PS3.7 section 9.3.2.3.
        """
        if not self._assoc.is_established:
            return
        if not self.is_cancelled and self._wants_cancel():
            self.is_cancelled = True
            self._patience_ends = time.monotonic() + CANCEL_PATIENCE_S
            socket = self._assoc.dul.socket
            if socket is not None and not socket.is_sending:  # not into half a message
                self._assoc.send_c_cancel(self._message_id, self._context_id)
        elif self.is_cancelled and time.monotonic() > self._patience_ends:
            reason = f"the peer went on for {CANCEL_PATIENCE_S:g} s after a C-CANCEL"
            self._assoc.record.note_end(reason)
            raise CalledOffError(reason)

    def _next_response(self) -> tuple[int, DimseServiceType]:
        """The next response; serves the objects of a C-GET, and looks for the cancel meanwhile."""
        dimse, dul = self._assoc.dimse, self._assoc.dul
        timeout_s = dimse.dimse_timeout
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                self.look_for_cancel()
            except CalledOffError as problem:
                dul.called_off(str(problem))
            if not self._assoc.is_established:
                self._note_end()
            if self._assoc.receiver.requests:
                self._serve_next()
                continue
            try:
                context_id, message = dimse.msg_queue.get_nowait()
            except queue.Empty:
                pass
            else:
                if context_id is not None and message is not None:
                    return context_id, message
            if not dul.is_alive() or not dul.to_user_queue.empty():
                self._note_end()
            left = None if deadline is None else deadline - time.monotonic()
            try:
                dul.read_pdu(None if left is None else max(left, 0.001))
            except ReadTimeoutError:
                self._assoc.abort()
                reason = f"was silent for {timeout_s:g} s"
                raise UnansweredError(reason, timed_out=True) from None

    def _serve_next(self) -> None:
        request = self._assoc.receiver.requests[0][1]
        if not (self._kind is C_GET and isinstance(request, C_STORE)):
            self._give_up(f"a {request.msg_type} request")
        del request  # who has it keeps its data set
        self._assoc.serve_next()

    def _note_end(self) -> NoReturn:
        self._assoc._handle_no_response()
        reason = self._assoc.end_reason
        if reason and self._assoc._sent_abort:
            raise UnansweredError(f"was cut off: {reason}")
        raise UnansweredError(f"ended the association{f' ({reason})' if reason else ''}")

    def _give_up(self, reason: str) -> NoReturn:
        self._assoc.dul.called_off(reason)  # without waiting for the peer to close
        self._assoc._handle_no_response()
        raise UnansweredError(f"sent what nobody asked for: {reason}")


def _answer(message: Query) -> Answer:
    identifier = message.Identifier
    return Answer(
        cast(int, message.Status),
        identifier.getvalue() if identifier is not None else None,
        getattr(message, "NumberOfRemainingSuboperations", None),
        getattr(message, "NumberOfCompletedSuboperations", None),
        getattr(message, "NumberOfFailedSuboperations", None),
        getattr(message, "NumberOfWarningSuboperations", None),
        str(message.ErrorComment or ""),
    )
