"""The DICOM Upper Layer service provider without a thread: the caller drives it.

pynetdicom's state machine (PS3.8 section 9.2) stays in charge. Sending a primitive runs it at once;
waiting for one reads the socket until there is something to return. P-DATA in an open association
changes no state, so it goes straight to the DIMSE provider unless somebody is bound to an event
that wants to see it on its way. What a second thread sends is serialised with the rest by a lock.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from pynetdicom import evt
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import (
    A_ABORT,
    A_ASSOCIATE,
    A_P_ABORT,
    A_RELEASE,
    P_DATA,
)

from lfscp.upperlayer import loggers
from lfscp.upperlayer.errors import CalledOffError, ConnectionLostError, ReadTimeoutError
from lfscp.upperlayer.scp.negotiation import PROTOCOL_VERSION_NOT_SUPPORTED
from lfscp.upperlayer.scu.acceptance import fault_of_acceptance
from lfscp.upperlayer.transport import InlineSocket
from lfscp.upperlayer.wire.associate_pdus import (
    AssociateError,
    AssociateRequest,
    encode_accept,
    forgiven_accept,
)
from lfscp.upperlayer.wire.pdata import P_DATA_TF, PDU_HEADER, SMALLEST_MAXIMUM_LENGTH

if TYPE_CHECKING:
    from lfscp.upperlayer.association import InlineAssociation

LOGGER = logging.getLogger(__name__)

_PDU_TYPES: Final = range(0x01, 0x08)
_A_ASSOCIATE_RQ: Final = 0x01
_A_ASSOCIATE_AC: Final = 0x02
_A_ABORT: Final = 0x07
_ABORT_BYTES: Final = 10
_BY_USER: Final = 0
_BY_PROVIDER: Final = 2
_PROVIDER_REASONS: Final = (0, 1, 2, 4, 5, 6)
# An A-ASSOCIATE-RQ of 128 contexts with 40 transfer syntaxes each is about 370 KB.
MAX_ACSE_PDU_BYTES: Final = 1 << 20
# Some peers count the PDU's or the PDV's header into the limit they were told.
_TOLERATED_EXCESS_BYTES: Final = 64
# So that whoever sends C-CANCELs without end does not keep the operation at hand from going on.
_PDUS_IN_A_LOOK: Final = 16
_SLOW_PATH_PDU_BYTES: Final = 1 << 28
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
ESTABLISHED: Final = "Sta6"
AWAITING_CLOSE: Final = "Sta13"
# Relied on: the names of the actions that answer a PDU out of turn with an A-ABORT.
_OUT_OF_TURN: Final = ("AA-1", "AA-8")

_SEEING_P_DATA: Final = (
    evt.EVT_DATA_RECV,
    evt.EVT_PDU_RECV,
    evt.EVT_DATA_SENT,
    evt.EVT_PDU_SENT,
    evt.EVT_FSM_TRANSITION,
)

_Primitive = A_ASSOCIATE | A_RELEASE | A_ABORT | A_P_ABORT


class ProtocolError(Exception):
    """The peer broke PS3.7 or PS3.8; the association is aborted. The message says how."""


def _forgiven(pdu: bytearray) -> bytearray:
    """A PDU without what means nothing, but would be refused.

    An A-ABORT with a reserved source or reason ends the association in any case (PS3.8 table 9-26);
    what an A-ASSOCIATE-AC says of its sender need not be understood.
    """
    if pdu[0] == _A_ASSOCIATE_AC:
        return bytearray(forgiven_accept(pdu))
    if pdu[0] == _A_ABORT and len(pdu) == _ABORT_BYTES:
        source, reason = pdu[8], pdu[9]
        if source not in (_BY_USER, _BY_PROVIDER):
            pdu[8] = _BY_USER
        elif source == _BY_PROVIDER and reason not in _PROVIDER_REASONS:
            pdu[9] = 0
    return pdu


def _giving(primitive: Any) -> Any:
    return lambda: primitive


class _InlineStateMachine(StateMachine):
    """pynetdicom's state machine; an acceptance nobody watches is encoded by hand."""

    dul: InlineProvider

    def do_action(self, event: str) -> None:
        """Perform the action of an event in the current state (PS3.8 table 9-10)."""
        accepts = event == "Evt7" and self.current_state == AWAITING_LOCAL_RESPONSE
        if not accepts or self.dul.is_watched:
            super().do_action(event)
            return
        self.dul.send_accept()  # AE-7
        self.transition(ESTABLISHED)


class InlineProvider(DULServiceProvider):
    """pynetdicom's DUL service provider, run by whoever calls it.

    Relied on in DULServiceProvider: `event_queue`, `to_provider_queue`, `to_user_queue` and
    `_recv_pdu` hold what the state machine's actions take and give; `_process_recv_primitive` turns
    a primitive into its event; `_decode_pdu` a PDU into object and event; `_kill_thread` ends it.

    Args:
        assoc: the association it serves.

    Attributes:
        is_watched: somebody is bound to an event that P-DATA must pass.
        request: the A-ASSOCIATE-RQ that was received, if any.
    """

    socket: InlineSocket | None

    def __init__(self, assoc: InlineAssociation) -> None:
        super().__init__(assoc)
        self._inline = assoc
        self._lock = threading.RLock()
        self._running_events = False
        self.is_watched = False
        self.request: AssociateRequest | None = None
        self.state_machine = _InlineStateMachine(self)

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

    def note_handlers(self, handlers: Container[evt.EventType]) -> None:
        """Handlers were bound or unbound: see whether P-DATA must pass any of them."""
        self.is_watched = any(event in handlers for event in _SEEING_P_DATA)

    @contextlib.contextmanager
    def sending(self, timeout_s: float = -1) -> Iterator[bool]:
        """Keep other threads from sending; gives False when one of them does for so long."""
        locked = self._lock.acquire(timeout=timeout_s)
        try:
            yield locked
        finally:
            if locked:
                self._lock.release()

    def send_pdu(self, primitive: _Primitive | P_DATA) -> None:
        """Give a primitive to the state machine, which sends it before this returns."""
        if isinstance(primitive, _Primitive):
            evt.trigger(self.assoc, evt.EVT_ACSE_SENT, {"primitive": primitive})
        with self._lock:
            self.to_provider_queue.put(primitive)
            self.run_events()

    def send_p_data(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send encoded P-DATA-TF PDUs, when the association is open; else they are dropped."""
        with self._lock:
            if self.state != ESTABLISHED or self.socket is None:
                return
            try:
                self.socket.send_all(buffers)
            except ConnectionLostError as problem:
                self.connection_lost(str(problem))

    def send_p_data_file(self, fd: int, offset: int, size: int, before: bytes) -> None:
        """Send one P-DATA-TF PDU, its header(s) in `before`, its fragment from a file.

        Raises:
            OSError: the file could not be read.
        """
        with self._lock:
            if self.state != ESTABLISHED or self.socket is None:
                return
            try:
                self.socket.send_file(fd, offset, size, before)
            except ConnectionLostError as problem:
                self.connection_lost(str(problem))

    def send_accept(self) -> None:
        """Send the A-ASSOCIATE-AC that waits as a primitive."""
        primitive = cast(A_ASSOCIATE, self.to_provider_queue.get_nowait())
        try:
            cast(InlineSocket, self.socket).send_all([self._encoded_accept(primitive)])
        except ConnectionLostError:
            self.event_queue.put("Evt17")

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

    # --- the state machine ---

    def run_events(self) -> None:
        """Run every event that is due, in order. Not re-entered: an action may cause events."""
        with self._lock:
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
        with self._lock:
            self.event_queue.put(event)
            self.run_events()

    def connection_lost(self, reason: str) -> None:
        """The transport connection has closed (Evt17)."""
        LOGGER.debug("Connection closed: %s", reason)
        with self._lock:
            if self.state not in (IDLE, AWAITING_CLOSE):
                self._inline.end_reason = self._inline.end_reason or f"connection lost: {reason}"
            if self.socket is not None and self.socket._is_connected:
                self.socket.close()  # puts Evt17 on the queue itself
                self.run_events()
            elif self.state not in (IDLE, AWAITING_CLOSE):
                self.happened("Evt17")

    def called_off(self, reason: str) -> None:
        """Whoever waits for the peer does no longer: A-ABORT, and the connection is closed."""
        if self.socket is not None and not self.socket.is_sending:  # not into half a PDU
            with contextlib.suppress(ConnectionLostError):
                self.socket.send_all([_ABORTED_BY_USER])
        self.connection_lost(reason)

    def protocol_error(self, reason: str) -> None:
        """The peer sent what it must not (Evt19): A-ABORT, and the reason in the log."""
        self._inline.end_reason = self._inline.end_reason or reason
        LOGGER.debug("Protocol error: %s", reason)
        self._inline.dimse.discard_requests()
        self.happened("Evt19")

    # --- receiving ---

    def reads_here(self) -> bool:
        """Whether the calling thread is the one that reads the socket."""
        reader = self._inline.reader
        return reader is None or reader == threading.get_ident()

    def read_pdu(self, timeout_s: float | None) -> None:
        """Wait for one PDU, read it, and run what follows from it.

        Args:
            timeout_s: for its first byte; after that the network timeout is for the rest.
        Raises:
            ReadTimeoutError: no PDU began in time.
        """
        sock = self.socket
        if sock is None or self._kill_thread:
            self._kill_thread = True
            return
        try:
            sock.await_request(timeout_s)
            self._read_begun_pdu(sock)
        except CalledOffError as problem:
            self.called_off(str(problem))
        except ConnectionLostError as problem:
            if sock.is_woken and self.state == AWAITING_CLOSE:  # another thread has aborted
                self.close()
            else:
                self.connection_lost(str(problem))
        except ProtocolError as problem:
            self.protocol_error(str(problem))

    def _read_begun_pdu(self, sock: InlineSocket) -> None:
        timeout_s = self.assoc.network_timeout
        if self.state == AWAITING_ASSOCIATE_RQ:
            timeout_s = self._inline.time_to_ask_s()  # for all of it: half of one holds nobody up
        sock.begin_wait(timeout_s)
        try:
            pdu_type, length = PDU_HEADER.unpack(sock.peek(6))
            self._check_header(pdu_type, length)
            if pdu_type == P_DATA_TF and self.state == ESTABLISHED and not self.is_watched:
                sock.unpack(PDU_HEADER)
                self._inline.dimse.read_p_data(sock, length)
            else:
                self._read_whole_pdu(sock, length, timeout_s)
        except ReadTimeoutError:
            self._stalled()

    @property
    def longest_p_data(self) -> int:
        """The largest length of a P-DATA-TF PDU that is taken, in bytes."""
        announced = self._inline.announced_max_pdu
        return announced + _TOLERATED_EXCESS_BYTES if announced else _SLOW_PATH_PDU_BYTES

    def _check_header(self, pdu_type: int, length: int) -> None:
        if pdu_type not in _PDU_TYPES:
            loggers.DUL.error("Unknown PDU type received '0x%02X'", pdu_type)
            raise ProtocolError(f"unknown PDU type 0x{pdu_type:02X}")
        limit = MAX_ACSE_PDU_BYTES
        if pdu_type == P_DATA_TF and self.state != AWAITING_ASSOCIATE_RQ:
            limit = self.longest_p_data
        if length > limit:
            raise ProtocolError(f"PDU type 0x{pdu_type:02X} of {length} bytes, at most {limit}")

    def _read_whole_pdu(self, sock: InlineSocket, length: int, timeout_s: float | None) -> None:
        if self.state == AWAITING_ASSOCIATE_RQ:
            pdu_bytes = sock.read(6 + length)
        else:
            pdu_bytes = sock.read(6 + length, timeout_s)
        pdu: Any
        if pdu_bytes[0] == _A_ASSOCIATE_RQ:
            pdu, event = self._read_request(pdu_bytes), "Evt6"
        else:
            pdu, event = self._decoded(pdu_bytes)
        with self._lock:
            if TRANSITION_TABLE.get((event, self.state)) in _OUT_OF_TURN:
                reason = f"PDU type 0x{pdu_bytes[0]:02X} out of turn, in {self.state}"
                self._inline.end_reason = self._inline.end_reason or reason
            self._recv_pdu.put(pdu)
            self.happened(event)

    def _read_request(self, pdu_bytes: bytearray) -> AssociateRequest:
        """An A-ASSOCIATE-RQ, by hand: pynetdicom's decoder refuses some that can be answered."""
        if self.is_watched:
            # Those who watch get what pynetdicom makes of it, if anything.
            with contextlib.suppress(Exception):
                self._decode_pdu(pdu_bytes)
        try:
            request = AssociateRequest(pdu_bytes)
        except AssociateError as problem:
            loggers.DUL.error("Unable to decode the received PDU data")
            raise ProtocolError(f"A-ASSOCIATE-RQ cannot be decoded: {problem}") from problem
        if self.state == AWAITING_ASSOCIATE_RQ:
            self.request = request
            if not request.protocol_version & 1:
                self._inline.note_rejection(request.to_primitive(), PROTOCOL_VERSION_NOT_SUPPORTED)
        return request

    def _decoded(self, pdu_bytes: bytearray) -> tuple[Any, str]:
        """Another PDU, and the event it is."""
        pdu: Any
        try:
            pdu, event = self._decode_pdu(_forgiven(pdu_bytes))
            # Here, where a value that has no meaning is the peer's fault, not in the action.
            primitive = pdu.to_primitive()
            pdu.to_primitive = _giving(primitive)
        except Exception as problem:
            loggers.DUL.error("Unable to decode the received PDU data")
            reason = f"PDU type 0x{pdu_bytes[0]:02X} cannot be decoded: {problem}"
            raise ProtocolError(reason) from problem
        if pdu_bytes[0] == _A_ASSOCIATE_AC and self._inline.is_requestor:
            self._check_acceptance(primitive)
        return pdu, event

    def _check_acceptance(self, answer: A_ASSOCIATE) -> None:
        largest = answer.maximum_length_received
        fault = fault_of_acceptance(self._inline.requestor.requested_contexts, answer)
        if largest and largest < SMALLEST_MAXIMUM_LENGTH:
            fault = f"a Maximum Length of {largest} bytes leaves no room for a fragment"
        if fault:
            raise ProtocolError(f"A-ASSOCIATE-AC: {fault}")

    def _stalled(self) -> None:
        """The peer stopped in mid-PDU."""
        reason = "peer stopped in mid-PDU"
        self._inline.end_reason = self._inline.end_reason or reason
        LOGGER.debug("Network timeout reached: %s", reason)
        if self.state == AWAITING_ASSOCIATE_RQ:
            self.happened("Evt18")  # ARTIM expired: close without a word (AA-2)
        else:
            self.happened("Evt19")

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> _Primitive | None:
        """The next ACSE primitive from the peer; the thread that reads waits in the socket.

        Args:
            wait: block for it.
            timeout: seconds, None for no limit.
        """
        if wait and self.reads_here():
            self._read_until_primitive(timeout)
            wait = False
        return cast("_Primitive | None", super().receive_pdu(wait, timeout))

    def _read_until_primitive(self, timeout_s: float | None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.to_user_queue.empty() and not self._kill_thread:
            if self.state == AWAITING_CLOSE:
                return  # what still comes is dropped; AA-7 would answer each piece of garbage
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            try:
                self.read_pdu(left)
            except ReadTimeoutError:
                return

    def peek_next_pdu(self) -> _Primitive | None:
        """The next ACSE primitive, if it has already arrived; looks at the socket itself."""
        if self.to_user_queue.empty():
            self.look()
        return cast("_Primitive | None", super().peek_next_pdu())

    def look(self) -> None:
        """Read the PDUs that are there now, without waiting for more."""
        if not self.reads_here():
            return
        for _ in range(_PDUS_IN_A_LOOK):
            if self.to_user_queue.queue or self._kill_thread or self.state != ESTABLISHED:
                return
            if self.socket is None or not self.socket.has_data():
                return
            try:
                self.read_pdu(self.assoc.network_timeout)
            except ReadTimeoutError:
                return

    # --- the end ---

    def close(self) -> None:
        """Let the peer close first, for a while, then close (Sta13, AR-5)."""
        sock = self.socket
        if sock is not None and sock.socket is not None:
            if self.state == AWAITING_CLOSE:
                artim_s = self.assoc.acse_timeout
                most_s = _REQUESTOR_CLOSE_WAIT_S if self._inline.is_requestor else CLOSE_WAIT_S
                sock.drain(most_s if artim_s is None else min(artim_s, most_s))
            self.connection_lost("ended here")
        self._kill_thread = True
