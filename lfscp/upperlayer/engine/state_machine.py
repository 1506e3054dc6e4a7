"""pynetdicom's state machine without a thread: the caller drives it (PS3.8 section 9.2).

Sending a primitive runs it at once. What a second thread sends is serialised with the rest by a
lock.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE, P_DATA

from lfscp.upperlayer.connection.errors import ConnectionLostError
from lfscp.upperlayer.connection.record import ConnectionRecord
from lfscp.upperlayer.connection.transport import InlineSocket
from lfscp.upperlayer.engine.construction import NoThread, prepare_provider
from lfscp.upperlayer.receiving.receiver import MessageReceiver
from lfscp.upperlayer.wire.associate_pdus import AssociateRequest, encode_accept

LOGGER = logging.getLogger(__name__)

_ABORTED_BY_USER: Final = bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0))  # A-ABORT (PS3.8 table 9-26)
# How long a peer may take to close after A-RELEASE-RP, A-ASSOCIATE-RJ or A-ABORT: the ARTIM timer
# (PS3.8 section 9.1.5), but no thread of the pool is lent for longer than this.
CLOSE_WAIT_S: Final = 5.0
# Of a requestor, who has ended it and wants to go on.
_REQUESTOR_CLOSE_WAIT_S: Final = 1.0

# Relied on: the names of pynetdicom's states, which are the standard's (PS3.8 table 9-10).
IDLE: Final = "Sta1"
AWAITING_ASSOCIATE_RQ: Final = "Sta2"
AWAITING_LOCAL_RESPONSE: Final = "Sta3"
AWAITING_CONNECTION: Final = "Sta4"
ESTABLISHED: Final = "Sta6"
RELEASE_ASKED: Final = "Sta8"
AWAITING_CLOSE: Final = "Sta13"
LOST: Final = "Evt17"  # the transport connection has closed

_SEEING_P_DATA: Final = frozenset(
    {
        evt.EVT_DATA_RECV,
        evt.EVT_PDU_RECV,
        evt.EVT_DATA_SENT,
        evt.EVT_PDU_SENT,
        evt.EVT_FSM_TRANSITION,
    }
)

Primitive = A_ASSOCIATE | A_RELEASE | A_ABORT | A_P_ABORT


class StateProvider(NoThread, DULServiceProvider):
    """pynetdicom's DUL service provider, its state machine run by whoever calls it.

    Relied on in DULServiceProvider: `event_queue`, `to_provider_queue`, `to_user_queue` and
    `_recv_pdu` hold what the state machine's actions take and give; `_process_recv_primitive` turns
    a primitive into its event; `_kill_thread` ends it.

    Args:
        assoc: the association it serves.
        record: its limits and times.
        receiver: takes the P-DATA that comes.

    Attributes:
        lock: held by whoever sends, or changes the state.
        is_watched: somebody is bound to an event that P-DATA must pass.
        request: the A-ASSOCIATE-RQ that was received, if any.
    """

    socket: InlineSocket | None

    def __init__(
        self, assoc: Association, record: ConnectionRecord, receiver: MessageReceiver
    ) -> None:
        prepare_provider(self, assoc)
        self._record = record
        self._receiver = receiver
        self.lock = threading.RLock()
        self._running_events = False
        self.is_watched = False
        self.request: AssociateRequest | None = None
        self.state_machine = StateMachine(self)

    # --- what pynetdicom asks of the thread that is not there ---

    def start(self) -> None:
        """Mark the provider ready; process what the transport has already told."""
        self.assoc._dul_ready.set()
        self.run_events()

    def is_alive(self) -> bool:
        """Whether the provider still serves the association."""
        return not self._kill_thread

    def stop_dul(self) -> bool:
        """Stop at once; whoever kills the association has seen to the connection."""
        self._kill_thread = True
        return True

    @property
    def state(self) -> str:
        """The state machine's state."""
        return self.state_machine.current_state

    # --- sending ---

    def note_handlers(self, handlers: Iterable[evt.EventType]) -> None:
        """Handlers were bound or unbound: see whether P-DATA must pass any of them."""
        self.is_watched = not _SEEING_P_DATA.isdisjoint(handlers)

    @contextlib.contextmanager
    def sending(self, timeout_s: float = -1) -> Iterator[bool]:
        """Keep other threads from sending; gives False when one of them does for so long."""
        locked = self.lock.acquire(timeout=timeout_s)
        try:
            yield locked
        finally:
            if locked:
                self.lock.release()

    def send_pdu(self, primitive: Primitive | P_DATA) -> None:
        """Give a primitive to the state machine, which sends it before this returns."""
        if evt.EVT_ACSE_SENT in self.assoc._handlers and isinstance(primitive, Primitive):
            evt.trigger(self.assoc, evt.EVT_ACSE_SENT, {"primitive": primitive})
        with self.lock:
            self._give(primitive)

    def _give(self, primitive: Primitive | P_DATA) -> None:
        """Have the state machine send a primitive; lock held."""
        self.to_provider_queue.put(primitive)
        self.run_events()

    def _encoded_accept(self, primitive: A_ASSOCIATE) -> bytes:
        return encode_accept(primitive, None if self.request is None else self.request.echoed)

    def _send(self, pdu: Any) -> None:
        """Send a PDU of the state machine's: an acceptance with what it must echo."""
        primitive = self.assoc.acceptor.primitive
        if not isinstance(pdu, A_ASSOCIATE_AC) or primitive is None or self.socket is None:
            super()._send(pdu)
            return
        self.socket.send(self._encoded_accept(primitive))
        evt.trigger(self.assoc, evt.EVT_PDU_SENT, {"pdu": pdu})

    # --- events ---

    def run_events(self) -> None:
        """Run every event that is due, in order. Not re-entered: an action may cause events."""
        with self.lock:
            if self._running_events:
                return
            self._running_events = True
            try:
                while self._next_event():
                    pass
            finally:
                self._running_events = False

    def _next_event(self) -> bool:
        if self.event_queue.empty() and not self._process_recv_primitive():
            return False
        event = self.event_queue.get_nowait()
        if event == LOST and self.state not in (IDLE, AWAITING_CONNECTION, AWAITING_CLOSE):
            self._record.note_end("connection lost")  # as by a send that failed
        if (event, self.state) in TRANSITION_TABLE:
            self.state_machine.do_action(event)
        else:
            # A local abort or release when the connection is already closing or closed, or a close
            # noticed twice: PS3.8 has no such event, and there is nobody left to tell.
            LOGGER.debug("Ignoring %s in %s", event, self.state)
            self._drop_primitive(event)
        return True

    def _drop_primitive(self, event: str) -> None:
        if event in ("Evt1", "Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"):
            try:
                self.to_provider_queue.get_nowait()
            except queue.Empty:
                return

    def happened(self, event: str) -> None:
        """Tell the state machine of an event, and run it."""
        with self.lock:
            self.event_queue.put(event)
            self.run_events()

    # --- the end ---

    def connection_lost(self, reason: str) -> None:
        """The transport connection has closed (Evt17)."""
        LOGGER.debug("Connection closed: %s", reason)
        with self.lock:
            if self.state not in (IDLE, AWAITING_CLOSE):
                self._record.note_end(f"connection lost: {reason}")
            if self.socket is not None and self.socket._is_connected:
                self.socket.close()  # puts Evt17 on the queue itself
                self.run_events()
            elif self.state not in (IDLE, AWAITING_CLOSE):
                self.happened(LOST)

    def called_off(self, reason: str) -> None:
        """Whoever waits for the peer does no longer: A-ABORT, and the connection is closed."""
        if self.socket is not None and not self.socket.is_sending:  # not into half a PDU
            with contextlib.suppress(ConnectionLostError):
                self.socket.send_all([_ABORTED_BY_USER])
        self.connection_lost(reason)

    def protocol_error(self, reason: str) -> None:
        """The peer sent what it must not (Evt19): A-ABORT, and the reason in the log."""
        LOGGER.debug("Protocol error: %s", reason)
        self.note_fault(reason)
        self.happened("Evt19")

    def note_fault(self, reason: str) -> None:
        """The peer is at fault, and the association will end for it."""
        self._record.note_end(reason)
        self._receiver.discard_requests()

    def close(self) -> None:
        """Let the peer close first, for a while, then close (Sta13, AR-5)."""
        sock = self.socket
        if sock is not None and sock.socket is not None:
            if self.state == AWAITING_CLOSE:
                artim_s = self.assoc.acse_timeout
                most_s = _REQUESTOR_CLOSE_WAIT_S if self.assoc.is_requestor else CLOSE_WAIT_S
                sock.drain(most_s if artim_s is None else min(artim_s, most_s))
            self.connection_lost("ended here")
        self._kill_thread = True
