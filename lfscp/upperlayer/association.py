"""An association that runs wholly in the thread that serves it, or that asks with it.

pynetdicom's Association with its reactor in line: it blocks in the socket's read, with the network
timeout, serves each message as it is complete, and ends. Other threads may abort, release, kill or
send: what they send is serialised with the rest, and the blocked read wakes.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from pynetdicom import evt
from pynetdicom._globals import MODE_REQUESTOR
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE, DimseServiceType
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, PresentationContextTuple

from lfscp.upperlayer import loggers
from lfscp.upperlayer.bindings import Bindings
from lfscp.upperlayer.errors import ReadTimeoutError
from lfscp.upperlayer.limits import NO_LIMITS, ReceiveLimits
from lfscp.upperlayer.messages import InlineMessages
from lfscp.upperlayer.provider import (
    AWAITING_ASSOCIATE_RQ,
    AWAITING_CLOSE,
    CLOSE_WAIT_S,
    ESTABLISHED,
    IDLE,
    InlineProvider,
)
from lfscp.upperlayer.receiving import operations
from lfscp.upperlayer.receiving.received import Examine, FileHeader, ReceivedStore
from lfscp.upperlayer.scp.negotiation import (
    LOCAL_LIMIT_EXCEEDED,
    InlineACSE,
    Rejection,
    SupportedContexts,
)
from lfscp.upperlayer.scp.service_classes import service_class
from lfscp.upperlayer.scu.sending import SendRequest, StoreAnswer, send_stored

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity

LOGGER = logging.getLogger(__name__)

_serials = itertools.count(1)
# How long another thread's abort waits for a send of the serving thread to end.
_ABORT_SEND_S: Final = 0.2
# What a connection that had to wait for a thread has left of its time at least.
_LEAST_TIME_TO_ASK_S: Final = 1.0
# References to a request that nobody kept: the reactor's, the callee's and getrefcount's own.
_OWN_REFERENCES: Final = 4


class InlineAssociation(Association):
    """pynetdicom's Association, driven by the calling thread.

    Relied on in Association: `_kill`, `_sent_abort`, `_sent_release`, `_is_paused`,
    `_reactor_checkpoint`, `_accepted_cx`, `_rejected_cx`, `_handlers`, `_serve_request` and
    `_handle_no_response`, which its `send_*()`, `release()` and the ACSE read and set.

    Args:
        ae: the local application entity.
        mode: "acceptor" or "requestor".
        supported: an acceptor's prepared contexts.
        admit: an acceptor's own admission policy.
        spool_dir: where large received objects go; None keeps them in memory.
        file_header: makes the head of their files.
        examine: see AcceptorSettings.
        limits: of what an acceptor receives.
        count_acceptors: how many associations its server has now, this one included.

    Attributes:
        serial: its number in this process, for the log.
        end_reason: why it ended, when that was not an orderly release.
        over_limit: what an acceptor's server rejects it with, unless it is rejected anyway.
        over_limit_as_known: gives the same for a peer that is known by this name, which may be
            None; the association is counted under that name then.
        is_worth_a_line: whether its end is to be logged; not when there are too many such ends.
        rejection: what its A-ASSOCIATE-RJ said, when it was rejected.
        was_established: whether it ever was; `is_established` says whether it is.
        takes_unknown_storage: whether private and unknown SOP classes are taken for storage.
        storage_classes: those that are storage though pynetdicom does not know them.
        trail: what its services keep of it; of no meaning here.
        started_at: monotonic time in seconds, of the connection.
    """

    dul: InlineProvider
    dimse: InlineMessages

    def __init__(
        self,
        ae: ApplicationEntity,
        mode: str,
        *,
        supported: SupportedContexts | None = None,
        admit: Callable[[InlineAssociation], Rejection | None] | None = None,
        spool_dir: Path | None = None,
        file_header: FileHeader | None = None,
        examine: Examine | None = None,
        limits: ReceiveLimits = NO_LIMITS,
        count_acceptors: Callable[[], int] | None = None,
    ) -> None:
        self.reader: int | None = None
        self.end_reason: str | None = None
        self.rejection: Rejection | None = None
        self.was_established = False
        self.trail: Any = None
        self.spool_dir = spool_dir
        self.file_header = file_header
        self.examine = examine
        self.serial = next(_serials)
        self.started_at = time.monotonic()
        self.announced_max_pdu = ae.maximum_pdu_size
        self.is_serving = False
        self._idle_since = self.started_at
        self.limits = limits
        self.over_limit: Rejection | None = None
        self.over_limit_as_known: Callable[[str], Rejection | None] | None = None
        self.is_worth_a_line = True
        self._count_acceptors = count_acceptors
        self._ended = threading.Event()
        self.takes_unknown_storage = supported is not None and supported.takes_unknown_storage
        # Taken for storage whatever pynetdicom knows of them; of a requestor, see `associate`.
        self.storage_classes = supported.storage_classes if supported is not None else frozenset()
        self._services: dict[int, operations.ContextService] = {}
        self._context_tuples: dict[int, PresentationContextTuple] = {}
        self._idle_timer: threading.Timer | None = None
        self._after_answer: list[Callable[[], None]] = []
        self._handler_results: dict[evt.EventType, Any] = {}
        super().__init__(ae, mode)
        self.dul = InlineProvider(self)
        self.dimse = InlineMessages(self)
        self.acse = InlineACSE(self, supported, admit)
        self.dul.artim_timer.timeout = self.acse_timeout
        self._is_paused = True  # the reactor never reads while a send_*() waits
        if mode == MODE_REQUESTOR:
            self.take_handlers(Bindings(()))

    # --- handlers ---

    def _bind_defaults(self) -> None:
        """Leave it to `take_handlers`: a server's table holds the defaults already."""

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

    # --- what pynetdicom's thread would answer ---

    def is_alive(self) -> bool:
        """Whether the association still lasts."""
        return self.reader is not None and not self._ended.is_set()

    @property
    def is_over(self) -> bool:
        """Whether nobody is left to answer: aborted, released or closed, as far as is known."""
        if not self.is_established or self._sent_abort or not self.dul.is_alive():
            return True
        return bool(self.dul.to_user_queue.queue)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the association has ended."""
        if self.reader is not None:
            self._ended.wait(timeout)

    @property
    def waits_to_begin_or_end(self) -> bool:
        """Whether it waits for its peer and is no association: not yet, or no more."""
        return self.dul.state in (IDLE, AWAITING_ASSOCIATE_RQ, AWAITING_CLOSE)

    def is_beginning(self) -> bool:
        """Whether it is neither established nor rejected nor aborted yet."""
        return not self.was_established and self.dul.state != AWAITING_CLOSE

    def time_to_ask_s(self) -> float | None:
        """What is left of the ACSE timeout since the peer has connected; None for no limit."""
        timeout_s = self.acse_timeout
        if timeout_s is None:
            return None
        left_s = self.started_at + timeout_s - time.monotonic()
        return max(left_s, min(timeout_s, _LEAST_TIME_TO_ASK_S))

    def idle_s(self) -> float:
        """Seconds since the last request ended; 0 while one is served or on its way."""
        if self.is_serving or self.dimse.is_receiving:
            return 0.0
        return time.monotonic() - self._idle_since

    @property
    def reads(self) -> int:
        """How often something has come from the peer."""
        return 0 if self.dul.socket is None else self.dul.socket.reads

    @property
    def bytes_taken(self) -> int:
        """How much of what was sent the peer has taken, as far as is known."""
        sock = self.dul.socket
        return 0 if sock is None else sock.bytes_acknowledged() or 0

    @property
    def takes_nothing(self) -> bool:
        """Whether nothing more can be sent until the peer has taken what was."""
        sock = self.dul.socket
        return sock is not None and not sock.takes_more()

    @property
    def is_in_mid_message(self) -> bool:
        """Whether a message has begun to come, and nothing is served."""
        return self.dimse.is_receiving and not self.is_serving

    @property
    def network_timeout(self) -> int | float | None:
        """The network timeout, in seconds; None for none. It may be set from any thread."""
        return self._network_timeout

    @network_timeout.setter
    def network_timeout(self, value: float | None) -> None:
        self._network_timeout = value
        if value is not None and self.is_established and not self.dul.reads_here():
            self._end_wait_after(value)

    def _end_wait_after(self, timeout_s: float) -> None:
        """Let a shorter timeout hold for the wait that has begun with the one before."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        left_s = max(0.0, timeout_s - self.idle_s())
        timer = threading.Timer(left_s, self._end_if_idle, (timeout_s, self._idle_since))
        timer.daemon = True
        self._idle_timer = timer
        timer.start()

    def _end_if_idle(self, timeout_s: float, since: float) -> None:
        waits_still = self._idle_since == since and self.idle_s() > 0
        if waits_still and self.is_established and self.network_timeout == timeout_s:
            self._idle_too_long()

    # --- the acceptor's life ---

    def serve(self) -> None:
        """Serve the association to its end, in the calling thread."""
        self.reader = threading.get_ident()
        try:
            self.run_reactor()
        finally:
            self._finish()

    def _finish(self) -> None:
        try:
            self.kill()
            self.dimse.discard_incoming()
        finally:
            self._ended.set()
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            if self._sent_release and not self.is_released:
                # Another thread waits for the answer to its A-RELEASE-RQ: none will come.
                self.dul.to_user_queue.put(None)

    def run_reactor(self) -> None:
        """Negotiate, serve, and see the connection closed."""
        self._started_dul = True
        self.dul.start()
        primitive = self.dul.receive_pdu(wait=True, timeout=self.time_to_ask_s())
        if not isinstance(primitive, A_ASSOCIATE):
            self._no_request()
            return
        self.requestor.primitive = primitive
        evt.trigger(self, evt.EVT_REQUESTED, {})
        # A handler may have aborted or rejected it.
        if not self.is_aborted and not self.is_rejected:
            self.acse.negotiate_association()
        if self.is_established:
            self._run_reactor()

    def _no_request(self) -> None:
        if self.dul.state == AWAITING_ASSOCIATE_RQ:
            self.end_reason = self.end_reason or "no A-ASSOCIATE-RQ within the ACSE timeout"
            self.dul.happened("Evt18")  # ARTIM expired (AA-2)
        self.kill()

    def _run_reactor(self) -> None:
        while not self._kill:
            try:
                if self._sent_release:  # by another thread, which takes the answer
                    self.dul.read_pdu(self.acse_timeout)
                    request = None
                else:
                    request = self.dimse.next_request(self.network_timeout)
            except ReadTimeoutError:
                self._idle_too_long()
                return
            if request is not None:
                self.is_serving = True
                self._serve_request(request[1], request[0])
                self._idle_since = time.monotonic()
                self.is_serving = False
                if self.is_established and self.dul.state == ESTABLISHED:
                    continue
            if self._has_ended():
                return

    def _has_ended(self) -> bool:
        if self.is_established and not self._sent_release and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            loggers.ASSOCIATION.info("Association Released")
            self.is_released = True
            self.is_established = False
            evt.trigger(self, evt.EVT_RELEASED, {})
        elif self._note_abort():
            pass
        elif self.dul.is_alive() and self.dul.state not in (IDLE, AWAITING_CLOSE):
            return False
        self.kill()
        return True

    def _note_abort(self) -> bool:
        """Whether the peer, or the provider, has aborted; if so fire EVT_ABORTED, once."""
        if self._sent_abort or self.is_released or not self.acse.is_aborted():
            return False
        by_provider = self.acse.is_aborted("a-p-abort")
        self.end_reason = self.end_reason or ("aborted by the peer" if not by_provider else None)
        loggers.ASSOCIATION.info("Association Aborted%s", " (A-P-ABORT)" if by_provider else "")
        self.dul.receive_pdu(wait=False)  # fires EVT_ACSE_RECV
        self.is_aborted = True
        self.is_established = False
        evt.trigger(self, evt.EVT_ABORTED, {})
        return True

    def _idle_too_long(self) -> None:
        loggers.ASSOCIATION.error("Network timeout reached")
        self.end_reason = "idle for longer than the network timeout"
        if self.network_timeout_response == "A-RELEASE":
            self.release()
        else:
            self.abort()
        self.kill()

    # --- ending it, from any thread ---

    def kill(self) -> None:
        """End the association; the thread that serves it sees the connection closed."""
        self._reactor_checkpoint.set()
        self._kill = True
        self.is_established = False
        self._is_paused = True
        if self.dul.reads_here():
            self.dul.close()
        else:
            self._wake_reader()

    def cut_off(self, reason: str) -> None:
        """End it without a word to the peer; the thread that serves it goes on to its end."""
        self.end_reason = self.end_reason or reason
        sock = self.dul.socket
        if sock is not None:
            sock.cut_off()

    def _wake_reader(self) -> None:
        sock = self.dul.socket
        if sock is not None:
            sock.wake_reader()

    def _abort_blocking(self, block: bool = True) -> None:
        # Association.abort() and, in handlers, its replacement both come here.
        self._abort(_ABORT_SEND_S, block=block)

    def abort_within(self, seconds: float) -> None:
        """Abort it without waiting for its end; cut it off when it cannot be told in time."""
        self._abort(seconds, block=False)

    def _abort(self, send_s: float, *, block: bool) -> None:
        if self._sent_abort or self.is_released or self._ended.is_set():
            return
        self._sent_abort = True
        self._reactor_checkpoint.set()
        loggers.ASSOCIATION.info("Aborting Association")
        sock = self.dul.socket
        with self.dul.sending(send_s) as may_send:
            if may_send and (sock is None or self.dul.reads_here() or sock.takes_more()):
                self.acse.send_abort(0x00)
            elif sock is not None:  # the peer takes nothing, perhaps in mid-PDU: no words left
                sock.cut_off()
        evt.trigger(self, evt.EVT_ABORTED, {})
        if not self.dul.reads_here():
            self._wake_reader()
            if block:
                self._ended.wait(CLOSE_WAIT_S)
        elif block:
            self.kill()

    def _abort_nonblocking(self, block: bool = False) -> None:
        self._abort_blocking(block)

    def _handle_no_response(self) -> None:
        """A `send_*()` got no answer; a requestor has no reactor that would notice why."""
        if self.reader is None and self._note_abort():
            self.kill()
        else:
            super()._handle_no_response()

    # --- serving messages ---

    def limit_rejection(self, known_as: str = "") -> Rejection | None:
        """What to reject it with when its server has more associations than it may.

        Args:
            known_as: the name of a peer that the administrator has listed, and who this is.
        """
        if self.over_limit is not None and known_as and self.over_limit_as_known is not None:
            self.over_limit = self.over_limit_as_known(known_as)
        if self.over_limit is not None or self._count_acceptors is None:
            return self.over_limit
        is_over = self._count_acceptors() > self.ae.maximum_associations
        return LOCAL_LIMIT_EXCEEDED if is_over else None

    def note_rejection(self, request: A_ASSOCIATE, rejection: Rejection) -> None:
        """The state machine itself is about to reject it."""
        self.requestor.primitive = request
        self.requestor._ae_title = request.calling_ae_title
        self.rejection, self.end_reason = rejection, rejection.reason
        self.is_rejected = True

    def set_contexts(self, contexts: Sequence[PresentationContext]) -> None:
        """Take over the result of the negotiation."""
        self._accepted_cx = {cast(int, cx.context_id): cx for cx in contexts if cx.result == 0}
        self._rejected_cx = [cx for cx in contexts if cx.result != 0]

    def context_tuple(self, context: PresentationContext) -> PresentationContextTuple:
        """The context as handlers see it, made once."""
        context_id = cast(int, context.context_id)
        found = self._context_tuples.get(context_id)
        if found is None:
            found = self._context_tuples[context_id] = context.as_tuple
        return found

    def get_handlers(self, event: evt.EventType) -> evt.HandlerArgType:
        """The handlers bound to an event; a result that was drawn already stands in for its own."""
        if self._handler_results and event in self._handler_results:
            result = self._handler_results.pop(event)
            return (lambda _event: result), None
        return super().get_handlers(event)

    def answer_with(self, event: evt.EventType, result: Any) -> None:
        """Let the next trigger of an intervention event return `result` without its handler."""
        self._handler_results[event] = result

    def _serve_request(self, msg: DimseServiceType, context_id: int) -> None:
        """Serve one request: the hot services here, the others by pynetdicom."""
        self.dimse.outstanding.served_id = msg._message_id
        try:
            self._serve(msg, context_id)
        finally:
            self._is_paused = True
            while self._after_answer:
                self._after_answer.pop(0)()
            self.dimse.outstanding.served()
            if isinstance(msg, ReceivedStore):
                msg.finish(still_referenced=sys.getrefcount(msg) > _OWN_REFERENCES)

    def _serve(self, msg: DimseServiceType, context_id: int) -> None:
        if self._sent_release:
            super()._serve_request(msg, context_id)
            return
        context = self._accepted_cx[context_id]
        serves = self._services.get(context_id)
        if serves is None:
            serves = self._services[context_id] = operations.service_of(self, context)
        if not operations.fits(msg, serves):
            refusal = operations.refusal(self, msg, context_id, serves)
            if refusal is not None:
                operations.refuse(self, msg, context_id, refusal)
                return
        service = service_class(self, msg, serves.service)
        if service is None:
            super()._serve_request(msg, context_id)
            return
        try:
            service.SCP(msg, context)
        except Exception:
            LOGGER.exception("Serving a %s failed", msg.msg_type)
            self.end_reason = f"serving a {msg.msg_type} failed, see the log"
            self.abort()

    def _c_store_scp(self, req: C_STORE) -> None:
        """Answer an object that a C-GET of ours brings (pynetdicom's `send_c_get` calls it)."""
        try:
            super()._c_store_scp(req)
        finally:
            if isinstance(req, ReceivedStore):
                req.finish(still_referenced=True)

    def after_answer(self, call: Callable[[], None]) -> None:
        """Have `call` called when the request that is being served has been answered."""
        self._after_answer.append(call)

    # --- sending objects ---

    def send_stored(self, request: SendRequest) -> StoreAnswer | None:
        """Send one object as a C-STORE sub-operation and wait for its answer.

        Returns:
            What the C-STORE response says; None when there was none, the association then being
            at its end.
        Raises:
            OSError: the file could not be opened, or is shorter than stated; nothing was sent.
        """
        return send_stored(self, request)

    def next_message_id(self) -> int:
        """A Message ID for an operation invoked on this association, 1 to 65535."""
        self._message_id = getattr(self, "_message_id", 0) % 0xFFFF + 1
        return self._message_id
