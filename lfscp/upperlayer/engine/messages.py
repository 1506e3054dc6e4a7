"""The DIMSE service provider driven in line: what is sent, and what a `send_*()` waits for.

Messages that come are put together by the receiver (`lfscp.upperlayer.receiving`). Those that go
out are encoded by hand where they are hot; what somebody wants to see on its way takes
pynetdicom's own path.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Container, Sequence
from typing import Any, Final, cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import _RQ_TO_MESSAGE, _RSP_TO_MESSAGE, DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import (
    C_CANCEL,
    N_EVENT_REPORT,
    DimsePrimitiveType,
    DimseServiceType,
)
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA

from lfscp.upperlayer.connection.errors import ProtocolError, ReadTimeoutError
from lfscp.upperlayer.connection.record import ConnectionRecord
from lfscp.upperlayer.engine.provider import InlineProvider
from lfscp.upperlayer.receiving import primitives
from lfscp.upperlayer.receiving.incoming import FragmentBytes
from lfscp.upperlayer.receiving.receiver import MessageReceiver
from lfscp.upperlayer.wire import commands, pdata

_UNSTATED_PDU_BYTES: Final = 16384  # every implementation takes as much
# The look for a C-CANCEL costs a call to the kernel; a handler may ask at every match.
_LOOK_AGAIN_S: Final = 0.002


class InlineMessages(DIMSEServiceProvider):
    """pynetdicom's DIMSE service provider, reading in the thread that asks.

    Relied on in DIMSEServiceProvider: what its constructor sets, which is not called; `msg_queue`,
    which the state machine's actions give `(None, None)` at the end of an association; and the
    tables from primitive to message class.

    Args:
        assoc: the association it serves.
        record: says which thread reads.
        provider: the association's.
        receiver: the association's.

    Attributes:
        is_watched: somebody is bound to an event that sent messages must pass.
        outstanding: what each side has asked and not yet got.
    """

    def __init__(
        self,
        assoc: Association,
        record: ConnectionRecord,
        provider: InlineProvider,
        receiver: MessageReceiver,
    ) -> None:
        self.outstanding = receiver.outstanding
        self._looked_at = 0.0
        self._assoc = assoc
        self.message = None
        self._record = record
        self._provider = provider
        self._receiver = receiver
        self.msg_queue: Any = receiver.responses
        self._maximum_pdu_size: int | None = None
        self.is_watched = False

    def note_handlers(self, handlers: Container[evt.EventType]) -> None:
        """Handlers were bound or unbound: see whether messages must pass any of them."""
        self._receiver.show = self._show if evt.EVT_DIMSE_RECV in handlers else None
        self.is_watched = evt.EVT_DIMSE_SENT in handlers or self._provider.is_watched

    def _show(self, message: DIMSEMessage) -> None:
        evt.trigger(self.assoc, evt.EVT_DIMSE_RECV, {"message": message})

    # --- receiving ---

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a P-DATA indication from the state machine (the path that events can watch)."""
        try:
            for context_id, data in primitive.presentation_data_value_list:
                # pynetdicom's decoder has refused a PDV without a message control header.
                fragment = FragmentBytes(data[1:])
                self._receiver.take_fragment(fragment, len(data) - 1, context_id, data[0])
        except ProtocolError as problem:
            self._provider.note_fault(str(problem))
            self._provider.event_queue.put("Evt19")

    @property
    def cancel_req(self) -> dict[int, C_CANCEL]:
        """The C-CANCEL of the request that is served; looks at the socket for one.

        No other thread reads it.
        """
        now = time.monotonic()
        if not self.outstanding.cancels and now - self._looked_at >= _LOOK_AGAIN_S:
            self._provider.look()
            self._looked_at = now
        return self.outstanding.cancels

    @cancel_req.setter
    def cancel_req(self, value: dict[int, C_CANCEL]) -> None:
        self.outstanding.cancels = value

    def get_msg(self, block: bool = False) -> tuple[int, DimseServiceType] | tuple[None, None]:
        """The response that a `send_*()` waits for, or `(None, None)` when none comes.

        In the thread that serves the association it reads the socket; any other waits until that
        thread has read it. An N-EVENT-REPORT that comes first is served on the way.
        """
        provider, requests = self._provider, self._receiver.requests
        if not block or not self._record.reads_here():
            return super().get_msg(block)
        timeout_s = self.dimse_timeout
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                return self._receiver.responses.get_nowait()
            except queue.Empty:
                self._serve_event_reports()
            if not provider.is_alive() or not provider.to_user_queue.empty():
                return None, None
            if requests and self.assoc.is_requestor:
                return requests.popleft()  # an object of the C-GET that is waited for
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None, None
            try:
                provider.read_pdu(left)
            except ReadTimeoutError:
                return None, None

    def _serve_event_reports(self) -> None:
        requests = self._receiver.requests
        while requests and isinstance(requests[0][1], N_EVENT_REPORT):
            context_id, request = requests.popleft()
            self.assoc._serve_request(request, context_id)

    # --- sending ---

    @property
    def maximum_pdu_size(self) -> int:
        """The peer's Maximum Length Received, in bytes; it is known once negotiation is over."""
        if self._maximum_pdu_size is None:
            # None when the peer left the item out, which is mandatory (PS3.8 section D.1).
            stated = cast("int | None", super().maximum_pdu_size)
            size = _UNSTATED_PDU_BYTES if stated is None else stated
            if not self.assoc.is_established:
                return size
            self._maximum_pdu_size = size
        return self._maximum_pdu_size

    def send_response(
        self,
        field: int,
        request: DimseServiceType,
        context_id: int,
        status: int,
        *,
        data_set: bytes | None = None,
        sub_operations: commands.SubOperationCounts | None = None,
        error_comment: str | None = None,
        offending_elements: Sequence[int] = (),
    ) -> None:
        """Answer a C-ECHO, C-STORE, C-FIND, C-MOVE or C-GET; see `commands.encode_response`."""
        if self.is_watched:
            response = primitives.response_to(
                request,
                status,
                data_set=data_set,
                sub_operations=sub_operations,
                error_comment=error_comment,
                offending_elements=offending_elements,
            )
            self.send_msg(response, context_id)
            return
        self.outstanding.note_status(status)
        command = commands.encode_response(
            field,
            cast(int, request.MessageID),
            status,
            sop_class_uid=request._affected_sop_class_uid,
            sop_instance_uid=request._affected_sop_instance_uid,
            data_set_follows=data_set is not None,
            sub_operations=sub_operations,
            error_comment=error_comment,
            offending_elements=offending_elements,
        )
        self.send_encoded(context_id, command, data_set)

    def send_msg(self, primitive: DimsePrimitiveType, context_id: int) -> None:
        """Encode and send a message, in one call to the kernel where it can be."""
        self.outstanding.note_sent(primitive)
        if self.is_watched or getattr(primitive, "_dataset_path", None) is not None:
            super().send_msg(primitive, context_id)
            return
        is_request = primitive.MessageIDBeingRespondedTo is None
        message_classes: dict[type[Any], type[DIMSEMessage]] = (
            _RQ_TO_MESSAGE if is_request else _RSP_TO_MESSAGE
        )
        message = message_classes[type(primitive)]()
        message.primitive_to_message(primitive)
        command = cast(bytes, encode(message.command_set, True, True))
        data_set = message.data_set
        self.send_encoded(context_id, command, data_set.getvalue() if data_set else None)

    def send_encoded(
        self, context_id: int, command: bytes, data_set: bytes | memoryview | None = None
    ) -> None:
        """Send a message that is already encoded. Nobody may be bound to the sent events.

        Args:
            command: its command set.
            data_set: its data set, or None.
        """
        self.send_packed(self.pack(context_id, command, data_set))

    def send_packed(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send P-DATA-TF PDUs that `pack` has made."""
        self._provider.send_p_data(buffers)

    def pack(
        self, context_id: int, command: bytes, data_set: bytes | memoryview | None = None
    ) -> Sequence[bytes | memoryview]:
        """The P-DATA-TF PDUs of an encoded message, as large as the peer takes."""
        limit = self.maximum_pdu_size
        buffers = pdata.pack(context_id, command, pdata.COMMAND, limit)
        if data_set:
            buffers += pdata.pack(context_id, data_set, 0, limit)
        return buffers
