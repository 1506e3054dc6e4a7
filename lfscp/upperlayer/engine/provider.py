"""The DICOM Upper Layer service provider: what is read of the peer, and its P-DATA.

Waiting for a primitive reads the socket until there is something to return. P-DATA in an open
association changes no state, so it goes straight to the receiver, unless somebody is bound to an
event that wants to see it on its way.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any, Final, cast

from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.pdu_primitives import A_ASSOCIATE

from lfscp.upperlayer.connection import loggers
from lfscp.upperlayer.connection.errors import (
    CalledOffError,
    ConnectionLostError,
    ProtocolError,
    ReadTimeoutError,
)
from lfscp.upperlayer.connection.transport import InlineSocket
from lfscp.upperlayer.engine.state_machine import (
    AWAITING_ASSOCIATE_RQ,
    AWAITING_CLOSE,
    ESTABLISHED,
    Primitive,
)
from lfscp.upperlayer.engine.unwatched import UnwatchedProvider
from lfscp.upperlayer.wire.acceptance import fault_of_acceptance
from lfscp.upperlayer.wire.associate_pdus import (
    MAX_ACSE_PDU_BYTES,
    AssociateError,
    AssociateRequest,
    forgiven_accept,
)
from lfscp.upperlayer.wire.pdata import P_DATA_TF, PDU_HEADER, SMALLEST_MAXIMUM_LENGTH
from lfscp.upperlayer.wire.rejections import PROTOCOL_VERSION_NOT_SUPPORTED, Rejection

LOGGER = logging.getLogger(__name__)

_PDU_TYPES: Final = range(0x01, 0x08)
_A_ASSOCIATE_RQ: Final = 0x01
_A_ASSOCIATE_AC: Final = 0x02
_A_RELEASE_RQ: Final = bytes((5, 0, 0, 0, 0, 4))  # and four bytes that mean nothing
_A_ABORT: Final = 0x07
_ABORT_BYTES: Final = 10
_BY_USER: Final = 0
_BY_PROVIDER: Final = 2
_PROVIDER_REASONS: Final = (0, 1, 2, 4, 5, 6)
# So that whoever sends C-CANCELs without end does not keep the operation at hand from going on.
_PDUS_IN_A_LOOK: Final = 16
# Relied on: the names of the actions that answer a PDU out of turn with an A-ABORT.
_OUT_OF_TURN: Final = ("AA-1", "AA-8")


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


class InlineProvider(UnwatchedProvider):
    """pynetdicom's DUL service provider, reading in the thread that asks.

    Relied on in DULServiceProvider: `_recv_pdu` holds what the state machine's actions take, and
    `_decode_pdu` turns a PDU into object and event.
    """

    # --- P-DATA ---

    def read_until_request(self, timeout_s: float | None) -> bool:
        """Read until a request waits to be served; False when something else wants attention.

        Raises:
            ReadTimeoutError: the association was idle for `timeout_s`.
        """
        while not self._receiver.requests:
            if self._kill_thread or self.to_user_queue.queue:
                return False
            self.read_pdu(timeout_s)
        return True

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
            sock.await_request(timeout_s, awake=self.may_wait_awake)
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

    @property
    def may_wait_awake(self) -> bool:
        """Whether to spend a processor on being there at once when the next request comes.

        For small ones, of which being woken is half the cost, and while no other association is
        served.
        """
        return self._receiver.has_been_small and self._record.is_alone

    def _read_begun_pdu(self, sock: InlineSocket) -> None:
        timeout_s = self._record.network_timeout_s
        if self.state == AWAITING_ASSOCIATE_RQ:
            # For all of it: half of one holds nobody up.
            timeout_s = self._record.time_to_ask_s(self.assoc.acse_timeout)
        sock.begin_wait(timeout_s)
        try:
            pdu_type, length = PDU_HEADER.unpack(sock.peek(6))
            self._check_header(pdu_type, length)
            if pdu_type == P_DATA_TF and self.state == ESTABLISHED and not self.is_watched:
                sock.unpack(PDU_HEADER)
                self._receiver.read_p_data(sock, length)
            else:
                self._read_whole_pdu(sock, length, timeout_s)
        except ReadTimeoutError:
            self._stalled()

    def _check_header(self, pdu_type: int, length: int) -> None:
        if pdu_type not in _PDU_TYPES:
            loggers.DUL.error("Unknown PDU type received '0x%02X'", pdu_type)
            raise ProtocolError(f"unknown PDU type 0x{pdu_type:02X}")
        limit = MAX_ACSE_PDU_BYTES
        if pdu_type == P_DATA_TF and self.state != AWAITING_ASSOCIATE_RQ:
            limit = self._receiver.longest_p_data
        if length > limit:
            raise ProtocolError(f"PDU type 0x{pdu_type:02X} of {length} bytes, at most {limit}")

    def send_p_data(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send encoded P-DATA-TF PDUs, when the association is open; else they are dropped."""
        with self.lock:
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
        with self.lock:
            if self.state != ESTABLISHED or self.socket is None:
                return
            try:
                self.socket.send_file(fd, offset, size, before)
            except ConnectionLostError as problem:
                self.connection_lost(str(problem))

    # --- other PDUs, and primitives ---

    def _read_whole_pdu(self, sock: InlineSocket, length: int, timeout_s: float | None) -> None:
        if self.state == AWAITING_ASSOCIATE_RQ:
            pdu_bytes = sock.read(6 + length)
        else:
            pdu_bytes = sock.read(6 + length, timeout_s)
        pdu: Any
        if pdu_bytes[0] == _A_ASSOCIATE_RQ:
            pdu, event = self._read_request(pdu_bytes), "Evt6"
            if self.indicate_association(pdu):
                return
        elif pdu_bytes[:6] == _A_RELEASE_RQ and self.indicate_release():
            return
        else:
            pdu, event = self._decoded(pdu_bytes)
        with self.lock:
            if TRANSITION_TABLE.get((event, self.state)) in _OUT_OF_TURN:
                reason = f"PDU type 0x{pdu_bytes[0]:02X} out of turn, in {self.state}"
                self._record.note_end(reason)
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
                self._note_rejection(request.to_primitive(), PROTOCOL_VERSION_NOT_SUPPORTED)
        return request

    def _note_rejection(self, request: A_ASSOCIATE, rejection: Rejection) -> None:
        """The state machine itself is about to reject it."""
        requestor = self.assoc.requestor
        requestor.primitive = request
        # Relied on: `_ae_title`, which the setter would fill with an AE title only.
        requestor._ae_title = request.calling_ae_title
        self._record.rejection, self._record.end_reason = rejection, rejection.reason
        self.assoc.is_rejected = True

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
        if pdu_bytes[0] == _A_ASSOCIATE_AC and self.assoc.is_requestor:
            self._check_acceptance(primitive)
        return pdu, event

    def _check_acceptance(self, answer: A_ASSOCIATE) -> None:
        largest = answer.maximum_length_received
        fault = fault_of_acceptance(self.assoc.requestor.requested_contexts, answer)
        if largest and largest < SMALLEST_MAXIMUM_LENGTH:
            fault = f"a Maximum Length of {largest} bytes leaves no room for a fragment"
        if fault:
            raise ProtocolError(f"A-ASSOCIATE-AC: {fault}")

    def _stalled(self) -> None:
        """The peer stopped in mid-PDU."""
        reason = "peer stopped in mid-PDU"
        self._record.note_end(reason)
        LOGGER.debug("Network timeout reached: %s", reason)
        if self.state == AWAITING_ASSOCIATE_RQ:
            self.happened("Evt18")  # ARTIM expired: close without a word (AA-2)
        else:
            self.happened("Evt19")

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Primitive | None:
        """The next ACSE primitive from the peer; the thread that reads waits in the socket.

        Args:
            wait: block for it.
            timeout: seconds, None for no limit.
        """
        if wait and self._record.reads_here():
            self._read_until_primitive(timeout)
            wait = False
        return cast("Primitive | None", super().receive_pdu(wait, timeout))

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

    def peek_next_pdu(self) -> Primitive | None:
        """The next ACSE primitive, if it has already arrived; looks at the socket itself."""
        if self.to_user_queue.empty():
            self.look()
        return cast("Primitive | None", super().peek_next_pdu())

    def look(self) -> None:
        """Read the PDUs that are there now, without waiting for more."""
        if not self._record.reads_here():
            return
        for _ in range(_PDUS_IN_A_LOOK):
            if self.to_user_queue.queue or self._kill_thread or self.state != ESTABLISHED:
                return
            if self.socket is None or not self.socket.has_data():
                return
            try:
                self.read_pdu(self._record.network_timeout_s)
            except ReadTimeoutError:
                return
