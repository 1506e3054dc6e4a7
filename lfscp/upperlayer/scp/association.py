"""An association that a peer has asked for: negotiated, served and closed by one thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, cast

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from lfscp.upperlayer.connection import loggers
from lfscp.upperlayer.connection.errors import ReadTimeoutError
from lfscp.upperlayer.connection.limits import ReceiveLimits
from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.engine.construction import loosen
from lfscp.upperlayer.engine.state_machine import (
    AWAITING_ASSOCIATE_RQ,
    AWAITING_CLOSE,
    ESTABLISHED,
    IDLE,
)
from lfscp.upperlayer.receiving.receiver import StoreOptions
from lfscp.upperlayer.scp.idle_calls import IdleCalls
from lfscp.upperlayer.wire.rejections import LOCAL_LIMIT_EXCEEDED, Rejection

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity

LOGGER = logging.getLogger(__name__)

_BEGINNING: Final = (IDLE, AWAITING_ASSOCIATE_RQ)


class AcceptorAssociation(InlineAssociation):
    """The acceptor's side of an association.

    Args:
        ae: the local application entity.
        limits: of what is received.
        options: what becomes of objects that are received.
        count_acceptors: how many associations its server has now, this one included.

    Attributes:
        over_limit: what its server rejects it with, unless it is rejected anyway.
        over_limit_as_known: gives the same for a peer that is known by this name, which may be
            None; the association is counted under that name then.
        is_worth_a_line: whether its end is to be logged; not when there are too many such ends.
    """

    def __init__(
        self,
        ae: ApplicationEntity,
        *,
        limits: ReceiveLimits,
        options: StoreOptions,
        count_acceptors: Callable[[], int],
    ) -> None:
        self.over_limit: Rejection | None = None
        self.over_limit_as_known: Callable[[str], Rejection | None] | None = None
        self.is_worth_a_line = True
        self._count_acceptors = count_acceptors
        self._is_limit_asked = False
        self._is_usual_end = False  # the peer has released it
        self._idle_timer: threading.Timer | None = None
        self._calls: IdleCalls | None = None
        super().__init__(ae, MODE_ACCEPTOR, limits=limits, options=options)

    # --- its life ---

    def serve(self) -> None:
        """Serve the association to its end, in the calling thread."""
        self.record.begin_serving()
        try:
            self.run_reactor()
        finally:
            self.record.end_serving()
            self._finish()

    def _finish(self) -> None:
        try:
            self.kill()
            self.receiver.discard()
        finally:
            self._ended.set()
            if self._is_usual_end:
                self._let_go()
            if self._calls is not None:
                self._calls.end()
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            if self._sent_release and not self.is_released:
                # Another thread waits for the answer to its A-RELEASE-RQ: none will come.
                self.dul.to_user_queue.put(None)

    def _let_go(self) -> None:
        """Have nothing that belongs to it point at it: no other thread deals with it."""
        loosen(self)
        self.dispatch = None
        self.receiver.let_go()

    def run_reactor(self) -> None:
        """Negotiate, serve, and see the connection closed."""
        self._started_dul = True
        self.dul.start()
        if self.dul.socket is not None:
            self.dul.socket.take_what_is_there()  # the whole request, as a rule
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
            self.record.note_end("no A-ASSOCIATE-RQ within the ACSE timeout")
            self.dul.happened("Evt18")  # ARTIM expired (AA-2)
        self.kill()

    def _run_reactor(self) -> None:
        while not self._kill:
            try:
                is_request = self._await_request()
            except ReadTimeoutError:
                self._idle_too_long()
                return
            if is_request:
                self.serve_next()
                if self.is_established and self.dul.state == ESTABLISHED:
                    continue
            if self._has_ended():
                return

    def _await_request(self) -> bool:
        if self._sent_release:  # by another thread, which takes the answer
            self.dul.read_pdu(self.acse_timeout)
            return False
        if self._calls is not None:
            self._make_calls(self._calls)
        return self.dul.read_until_request(self.record.network_timeout_s)

    def _has_ended(self) -> bool:
        if self.is_established and not self._sent_release and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            loggers.ASSOCIATION.info("Association Released")
            self.is_released = self._is_usual_end = True
            self.is_established = False
            evt.trigger(self, evt.EVT_RELEASED, {})
        elif self._note_abort():
            pass
        elif self.dul.is_alive() and self.dul.state not in (IDLE, AWAITING_CLOSE):
            return False
        self.kill()
        return True

    # --- calls of other threads ---

    def expect_call(self) -> None:
        """Be ready for a `call_when_idle` of another thread; for the thread that serves it."""
        if self._calls is None:
            self._calls = IdleCalls()
        self._calls.expect()

    def call_when_idle(self, call: Callable[[], object]) -> bool:
        """Have the thread that serves the association make a call that it expects.

        It is made while no request is served, or when the association has ended.

        Returns:
            Whether it will be: not when the association has ended already.
        """
        return self._calls is not None and self._calls.ask(call)

    def _make_calls(self, calls: IdleCalls) -> None:
        """Make the calls that come before the peer's next request."""
        while calls.are_expected and not self.receiver.requests and not self.is_over:
            sock = self.dul.socket
            call = None if sock is None else calls.await_peer(sock, self.record.network_timeout_s)
            if call is None:
                return
            self.is_serving = True
            try:
                call()
            except Exception:
                LOGGER.exception("A call of the association failed")
                self.end_reason = "a call of the association failed, see the log"
                self.abort()
            finally:
                self._idle_since = time.monotonic()
                self.is_serving = False

    # --- silence ---

    def _idle_too_long(self) -> None:
        loggers.ASSOCIATION.error("Network timeout reached")
        self.end_reason = "idle for longer than the network timeout"
        if self.network_timeout_response == "A-RELEASE":
            self.release()
        else:
            self.abort()
        self.kill()

    @property
    def network_timeout(self) -> int | float | None:
        """The network timeout, in seconds; None for none. It may be set from any thread."""
        return self.record.network_timeout_s

    @network_timeout.setter
    def network_timeout(self, value: float | None) -> None:
        self.record.network_timeout_s = value
        if value is not None and self.is_established and not self.record.reads_here():
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

    # --- what the negotiation decides ---

    def limit_rejection(self, known_as: Callable[[], str] = str) -> Rejection | None:
        """What to reject it with when its server has more associations than it may.

        Once it was asked, the answer is the same.

        Args:
            known_as: gives the name of a peer that the administrator has listed, when this is one;
                asked only where that makes a difference.
        """
        if self._is_limit_asked:
            return self.over_limit
        self._is_limit_asked = True
        if self.over_limit is not None and self.over_limit_as_known is not None:
            name = known_as()
            if name:
                self.over_limit = self.over_limit_as_known(name)
        is_over = self._count_acceptors() > self.ae.maximum_associations
        if self.over_limit is None and is_over:
            self.over_limit = LOCAL_LIMIT_EXCEEDED
        return self.over_limit

    def set_contexts(self, contexts: Sequence[PresentationContext]) -> None:
        """Take over the result of the negotiation."""
        self._accepted_cx = {cast(int, cx.context_id): cx for cx in contexts if cx.result == 0}
        self._rejected_cx = [cx for cx in contexts if cx.result != 0]

    # --- what its server asks ---

    @property
    def waits_to_begin_or_end(self) -> bool:
        """Whether it waits for its peer and is no association: not yet, or no more."""
        return self.dul.state in (*_BEGINNING, AWAITING_CLOSE)

    def is_beginning(self) -> bool:
        """Whether it is neither established nor rejected nor aborted yet."""
        return not self.was_established and self.dul.state != AWAITING_CLOSE

    def time_to_ask_s(self) -> float | None:
        """What is left of the ACSE timeout since the peer has connected; None for no limit."""
        return self.record.time_to_ask_s(self.acse_timeout)

    def idle_s(self) -> float:
        """Seconds since the last request ended; 0 while one is served or on its way."""
        if self.is_serving or self.receiver.is_receiving:
            return 0.0
        return time.monotonic() - self._idle_since

    @property
    def is_in_mid_message(self) -> bool:
        """Whether a message has begun to come, and nothing is served."""
        return self.receiver.is_receiving and not self.is_serving

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
