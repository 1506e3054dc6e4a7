"""An association that runs wholly in the thread that serves it, or that asks with it.

pynetdicom's Association with its reactor in line: it blocks in the socket's read, with the network
timeout, and serves a request as soon as it is complete. Other threads may abort, release, kill or
send: what they send is serialised with the rest, and the blocked read wakes.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE, DimseServiceType
from pynetdicom.presentation import PresentationContext, PresentationContextTuple

from lfscp.upperlayer.connection import loggers
from lfscp.upperlayer.connection.limits import NO_LIMITS, ReceiveLimits
from lfscp.upperlayer.connection.record import ConnectionRecord
from lfscp.upperlayer.connection.waiting import LazyEvent
from lfscp.upperlayer.engine.bindings import Bindings
from lfscp.upperlayer.engine.construction import NoThread, prepare_association
from lfscp.upperlayer.engine.messages import InlineMessages
from lfscp.upperlayer.engine.provider import InlineProvider
from lfscp.upperlayer.engine.state_machine import CLOSE_WAIT_S
from lfscp.upperlayer.receiving.received import ReceivedStore
from lfscp.upperlayer.receiving.receiver import MessageReceiver, StoreOptions

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity

    from lfscp.upperlayer.wire.rejections import Rejection

LOGGER = logging.getLogger(__name__)

_serials = itertools.count(1)
# How long another thread's abort waits for a send of the serving thread to end.
_ABORT_SEND_S: Final = 0.2
_NO_OPTIONS: Final = StoreOptions()


class InlineAssociation(NoThread, Association):
    """pynetdicom's Association, driven by the calling thread.

    Relied on in Association: `_kill`, `_sent_abort`, `_sent_release`, `_is_paused`,
    `_reactor_checkpoint`, `_accepted_cx`, `_rejected_cx`, `_handlers`, `_serve_request` and
    `_handle_no_response`, which its `send_*()`, `release()` and the ACSE read and set.

    Args:
        ae: the local application entity.
        mode: "acceptor" or "requestor".
        limits: of what is received.
        options: what becomes of objects that are received.

    Attributes:
        record: what its parts share.
        receiver: puts together what comes.
        dispatch: serves a request that came in a presentation context; without it pynetdicom does.
        serial: its number in this process, for the log.
        was_established: whether it ever was; `is_established` says whether it is.
        is_serving: whether a request is served.
        trail: what its services keep of it; of no meaning here.
    """

    dul: InlineProvider
    dimse: InlineMessages

    def __init__(
        self,
        ae: ApplicationEntity,
        mode: str,
        *,
        limits: ReceiveLimits = NO_LIMITS,
        options: StoreOptions = _NO_OPTIONS,
    ) -> None:
        self.record = ConnectionRecord(limits, ae.maximum_pdu_size)
        self.serial = next(_serials)
        self.was_established = False
        self.is_serving = False
        self.trail: Any = None
        self._idle_since = self.started_at
        self._ended = LazyEvent()
        self._context_tuples: dict[int, PresentationContextTuple] = {}
        self._after_answer: list[Callable[[], None]] = []
        prepare_association(self, ae, mode)
        self.dispatch: Callable[[DimseServiceType, int], object] | None = None
        self.receiver = MessageReceiver(
            self.record, lambda: self._accepted_cx, lambda: self.requestor.ae_title.strip(), options
        )
        self.dul = InlineProvider(self, self.record, self.receiver)
        self.dimse = InlineMessages(self, self.record, self.dul, self.receiver)
        self.dul.artim_timer.timeout = self.acse_timeout
        self.network_timeout = ae.network_timeout
        self._is_paused = True  # the reactor never reads while a send_*() waits

    # --- what its parts know ---

    @property
    def started_at(self) -> float:
        """Monotonic time in seconds, of the connection."""
        return self.record.started_at

    @property
    def end_reason(self) -> str | None:
        """Why it ended, when that was not an orderly release."""
        return self.record.end_reason

    @end_reason.setter
    def end_reason(self, reason: str | None) -> None:
        self.record.end_reason = reason

    @property
    def rejection(self) -> Rejection | None:
        """What its A-ASSOCIATE-RJ said, when it was rejected."""
        return self.record.rejection

    @property
    def network_timeout(self) -> int | float | None:
        """The network timeout, in seconds; None for none. It may be set from any thread."""
        return self.record.network_timeout_s

    @network_timeout.setter
    def network_timeout(self, value: float | None) -> None:
        self.record.network_timeout_s = value

    @property
    def is_over(self) -> bool:
        """Whether nobody is left to answer: aborted, released or closed, as far as is known."""
        if not self.is_established or self._sent_abort or not self.dul.is_alive():
            return True
        return bool(self.dul.to_user_queue.queue)

    def context_tuple(self, context: PresentationContext) -> PresentationContextTuple:
        """The context as handlers see it, made once."""
        context_id = cast(int, context.context_id)
        found = self._context_tuples.get(context_id)
        if found is None:
            found = self._context_tuples[context_id] = context.as_tuple
        return found

    def next_message_id(self) -> int:
        """A Message ID for an operation invoked on this association, 1 to 65535."""
        self._message_id = getattr(self, "_message_id", 0) % 0xFFFF + 1
        return self._message_id

    # --- handlers ---

    def take_handlers(self, bindings: Bindings) -> None:
        """Use a copy of these handlers from now on."""
        self._handlers = bindings.copy()
        self._note_handlers()

    def bind(
        self, event: evt.EventType, handler: Callable[..., Any], args: list[Any] | None = None
    ) -> None:
        """Bind a handler to an event; takes effect with the next PDU."""
        super().bind(event, handler, args)
        self._note_handlers()

    def unbind(self, event: evt.EventType, handler: Callable[..., Any]) -> None:
        """Unbind a handler."""
        super().unbind(event, handler)
        self._note_handlers()

    def _note_handlers(self) -> None:
        self.dul.note_handlers(self._handlers)
        self.dimse.note_handlers(self._handlers)

    # --- serving requests ---

    def serve_next(self) -> None:
        """Serve the request that has waited longest."""
        context_id, request = self.receiver.requests.popleft()
        received = getattr(request, "received", None)  # of a C-STORE, or a long data set
        self.is_serving = True
        try:
            self._serve_request(request, context_id)
        finally:
            self._idle_since = time.monotonic()
            self.is_serving = False
            del request  # who still has it keeps its data set
            if received is not None:
                received.take_back()

    def _serve_request(self, msg: DimseServiceType, context_id: int) -> None:
        self.dimse.outstanding.served_id = msg._message_id
        try:
            if self._sent_release or self.dispatch is None:
                super()._serve_request(msg, context_id)
            else:
                self.dispatch(msg, context_id)
        except Exception:
            LOGGER.exception("Serving a %s failed", msg.msg_type)
            self.end_reason = f"serving a {msg.msg_type} failed, see the log"
            self.abort()
        finally:
            self._is_paused = True
            while self._after_answer:
                self._after_answer.pop(0)()
            self.dimse.outstanding.served()

    def _c_store_scp(self, req: C_STORE) -> None:
        """Answer an object that a C-GET of ours brings (pynetdicom's `send_c_get` calls it)."""
        try:
            self._serve_request(req, cast(int, req._context_id))
        finally:
            if isinstance(req, ReceivedStore):
                req.received.take_back()

    def after_answer(self, call: Callable[[], None]) -> None:
        """Have `call` called when the request that is being served has been answered."""
        self._after_answer.append(call)

    # --- what pynetdicom's thread would answer ---

    def is_alive(self) -> bool:
        """Whether the association still lasts."""
        return self.record.reader is not None and not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the association has ended."""
        if self.record.reader is not None:
            self._ended.wait(timeout)

    # --- ending it, from any thread ---

    def kill(self) -> None:
        """End the association; the thread that serves it sees the connection closed."""
        self._reactor_checkpoint.set()
        self._kill = True
        self.is_established = False
        self._is_paused = True
        if not self.record.reads_here():
            self._wake_reader()
        elif self.dul.is_alive() or self.dul.socket is not None:
            self.dul.close()

    def cut_off(self, reason: str) -> None:
        """End it without a word to the peer; the thread that serves it goes on to its end."""
        self.record.note_end(reason)
        sock = self.dul.socket
        if sock is not None:
            sock.cut_off()

    def _wake_reader(self) -> None:
        sock = self.dul.socket
        if sock is not None:
            sock.wake_reader()

    def abort(self, block: bool | None = None) -> None:
        """Abort it.

        Args:
            block: wait for its end; by default as pynetdicom does: unless a request is served.
        """
        self._abort_blocking(block)

    # pynetdicom puts these two in place of `abort` around the handlers that it calls.

    def _abort_blocking(self, block: bool | None = None) -> None:
        self._abort(_ABORT_SEND_S, block=not self.is_serving if block is None else block)

    def _abort_nonblocking(self, block: bool = False) -> None:
        self._abort(_ABORT_SEND_S, block=block)

    def abort_within(self, seconds: float, reason: str = "") -> None:
        """Abort it without waiting for its end; cut it off when it cannot be told in time.

        Args:
            reason: for `end_reason`, unless it has one.
        """
        self._abort(seconds, block=False, reason=reason)

    def _abort(self, send_s: float, *, block: bool, reason: str = "") -> None:
        if self._sent_abort or self.is_released or self._ended.is_set():
            return
        self._sent_abort = True
        if reason:
            self.record.note_end(reason)
        self._reactor_checkpoint.set()
        loggers.ASSOCIATION.info("Aborting Association")
        sock = self.dul.socket
        with self.dul.sending(send_s) as may_send:
            if may_send and (sock is None or self.record.reads_here() or sock.takes_more()):
                self.acse.send_abort(0x00)
            elif sock is not None:  # the peer takes nothing, perhaps in mid-PDU: no words left
                sock.cut_off()
        evt.trigger(self, evt.EVT_ABORTED, {})
        if not self.record.reads_here():
            self._wake_reader()
            if block:
                self._ended.wait(CLOSE_WAIT_S)
        elif block:
            self.kill()

    def _note_abort(self) -> bool:
        """Whether the peer, or the provider, has aborted; if so fire EVT_ABORTED, once."""
        if self._sent_abort or self.is_released or not self.acse.is_aborted():
            return False
        by_provider = self.acse.is_aborted("a-p-abort")
        if not by_provider:
            self.record.note_end("aborted by the peer")
        loggers.ASSOCIATION.info("Association Aborted%s", " (A-P-ABORT)" if by_provider else "")
        self.dul.receive_pdu(wait=False)  # fires EVT_ACSE_RECV
        self.is_aborted = True
        self.is_established = False
        evt.trigger(self, evt.EVT_ABORTED, {})
        return True

    def _handle_no_response(self) -> None:
        """A `send_*()` got no answer; a requestor has no reactor that would notice why."""
        if self.record.reader is None and self._note_abort():
            self.kill()
        else:
            super()._handle_no_response()
