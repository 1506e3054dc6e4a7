"""The DIMSE service provider driven in line: fragments to messages, messages to P-DATA.

A C-STORE's data set goes from the socket into its sink without a PDU object in between. The command
sets of C-STORE and C-ECHO have their own codec; everything else becomes pynetdicom's message.
A request waits here for the association to serve it, responses in pynetdicom's `msg_queue` for the
`send_*()` that asked, a C-CANCEL in `cancel_req`; what comes out of turn ends the association.
"""

from __future__ import annotations

import errno
import queue
import time
from collections import deque
from collections.abc import Container, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, cast

from pynetdicom import evt
from pynetdicom.dimse import _RQ_TO_MESSAGE, _RSP_TO_MESSAGE, DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import (
    C_CANCEL,
    C_FIND,
    C_GET,
    C_MOVE,
    N_EVENT_REPORT,
    DimsePrimitiveType,
    DimseServiceType,
)
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA

from lfscp.observe import metrics
from lfscp.upperlayer import loggers
from lfscp.upperlayer.errors import ReadTimeoutError
from lfscp.upperlayer.provider import ProtocolError
from lfscp.upperlayer.receiving import primitives
from lfscp.upperlayer.receiving.batch import ForetoldReader, Outcome
from lfscp.upperlayer.receiving.incoming import FragmentBytes, Incoming, Source
from lfscp.upperlayer.receiving.operations import log_refusal
from lfscp.upperlayer.receiving.outstanding import Outstanding
from lfscp.upperlayer.receiving.received import DatasetSink, ReceivedStore, part10_header
from lfscp.upperlayer.transport import InlineSocket
from lfscp.upperlayer.wire import commands, pdata

if TYPE_CHECKING:
    from lfscp.upperlayer.association import InlineAssociation

MAX_COMMAND_SET_BYTES: Final = 1 << 16
# Fragments without a byte that one message may have: each costs work and brings nothing.
_MAX_EMPTY_FRAGMENTS: Final = 100
_UNSTATED_PDU_BYTES: Final = 16384  # every implementation takes as much
_INVALID_SOP_INSTANCE: Final = 0x0117
_NO_UIDS: Final = "Affected SOP Class or Instance UID missing or invalid"

# The look for a C-CANCEL costs a call to the kernel; a handler may ask at every match.
_LOOK_AGAIN_S: Final = 0.002

_QUERIES: Final[dict[int, type[C_FIND | C_GET | C_MOVE]]] = {
    commands.C_FIND_RQ: C_FIND,
    commands.C_GET_RQ: C_GET,
    commands.C_MOVE_RQ: C_MOVE,
}

Request = tuple[int, DimseServiceType]


def _split_command(encoded: bytes | bytearray) -> dict[int, bytes]:
    try:
        return commands.split_command(encoded)
    except commands.CommandSetError as problem:
        raise ProtocolError(str(problem)) from problem


def _generic_message(incoming: Incoming) -> DIMSEMessage:
    return primitives.generic_message(incoming.context_id, incoming.command, incoming.data)


def _is_response(primitive: DimseServiceType) -> bool:
    return getattr(primitive, "MessageIDBeingRespondedTo", None) is not None


class InlineMessages(DIMSEServiceProvider):
    """pynetdicom's DIMSE service provider, reading in the thread that asks.

    Relied on in DIMSEServiceProvider: `msg_queue`, which the state machine's actions give
    `(None, None)` at the end of an association, and the tables from primitive to message class.

    Args:
        assoc: the association it serves.

    Attributes:
        is_watched: somebody is bound to an event that sent messages must pass.
    """

    def __init__(self, assoc: InlineAssociation) -> None:
        self.outstanding = Outstanding()
        self._looked_at = 0.0
        super().__init__(assoc)
        self._inline = assoc
        self._incoming: Incoming | None = None
        self._requests: deque[Request] = deque()
        self._maximum_pdu_size: int | None = None
        self._is_shown = False  # somebody is bound to EVT_DIMSE_RECV
        self.is_watched = False

    # --- C-CANCEL ---

    @property
    def cancel_req(self) -> dict[int, C_CANCEL]:
        """The C-CANCEL of the request that is served; looks at the socket for one.

        No other thread reads it.
        """
        now = time.monotonic()
        if not self.outstanding.cancels and now - self._looked_at >= _LOOK_AGAIN_S:
            self._inline.dul.look()
            self._looked_at = now
        return self.outstanding.cancels

    @cancel_req.setter
    def cancel_req(self, value: dict[int, C_CANCEL]) -> None:
        self.outstanding.cancels = value

    def _take_cancel(self, cancel: C_CANCEL) -> None:
        waiting = self._requests[0][1].MessageID if self._requests else None
        self.outstanding.take_cancel(cancel, waiting)

    # --- receiving fragments ---

    def read_p_data(self, sock: InlineSocket, length: int) -> None:
        """Read the PDVs of one P-DATA-TF PDU from the socket.

        Args:
            sock: positioned after the PDU's header.
            length: the PDU's length field, in bytes.
        Raises:
            ProtocolError: the lengths lie, or a fragment comes out of turn.
        Source: PS3.8 section 9.3.5.
        """
        if length == 0:
            raise ProtocolError("P-DATA-TF without a PDV")
        if self._incoming is not None:
            self._check_pace(self._incoming)
        while length:
            if length < pdata.PDV_HEADER.size:
                raise ProtocolError(f"{length} bytes left in a P-DATA-TF PDU, no room for a PDV")
            pdv_length, context_id, control = sock.unpack(pdata.PDV_HEADER)
            length -= 4 + pdv_length
            if pdv_length < 2 or length < 0:
                raise ProtocolError(f"PDV length {pdv_length} does not fit its PDU")
            self._take_fragment(sock, pdv_length - 2, context_id, control)
        incoming = self._incoming
        if incoming is not None and incoming.fragment_bytes and incoming.sink is not None:
            self._read_on(sock, incoming, incoming.sink)

    def _read_on(self, sock: InlineSocket, incoming: Incoming, sink: DatasetSink) -> None:
        """Read the next PDUs of a large object, as long as each is one fragment of its data set.

        What is anything else stays in the socket for who has to judge it.
        """
        dul = self._inline.dul
        timeout_s = self._inline.network_timeout
        if sock.can_scatter and incoming.is_foretold:
            if self._read_foretold(sock, incoming, sink) is Outcome.COMPLETE:
                self._complete(incoming)
                return
            incoming.is_foretold = False
        while dul.is_alive():
            sock.begin_wait(timeout_s)
            pdu_type, length = pdata.PDU_HEADER.unpack(sock.peek(pdata.PDU_HEADER.size))
            if pdu_type != pdata.P_DATA_TF or length < pdata.PDV_HEADER.size:
                return
            _, length, pdv_length, context_id, control = pdata.HEADER.unpack(sock.peek(12))
            is_one_fragment = length == 4 + pdv_length and 2 < pdv_length <= dul.longest_p_data
            if not is_one_fragment or context_id != incoming.context_id or control & pdata.COMMAND:
                return
            sock.skip(12)
            self._fill(incoming, sink, sock, pdv_length - 2)
            self._check_pace(incoming)
            if control & pdata.LAST:
                self._complete(incoming)
                return

    def _read_foretold(self, sock: InlineSocket, incoming: Incoming, sink: DatasetSink) -> Outcome:
        """Read those of the next PDUs that are cut like the first one."""
        timeout_s = self._inline.network_timeout

        def before_each() -> None:
            self._check_pace(incoming)
            sock.begin_wait(timeout_s)

        limit = self._inline.limits.max_object_bytes
        reader = ForetoldReader(
            sock, sink, incoming.context_id, incoming.fragment_bytes, before_each
        )
        return reader.read(limit - sink.size if limit else None)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a P-DATA indication from the state machine (the path that events can watch)."""
        try:
            for context_id, data in primitive.presentation_data_value_list:
                # pynetdicom's decoder has refused a PDV without a message control header.
                self._take_fragment(FragmentBytes(data[1:]), len(data) - 1, context_id, data[0])
        except ProtocolError as problem:
            self._inline.end_reason = self._inline.end_reason or str(problem)
            self.discard_requests()
            self.dul.event_queue.put("Evt19")

    def _take_fragment(self, source: Source, size: int, context_id: int, control: int) -> None:
        incoming = self._incoming
        if incoming is None:
            context = self._inline._accepted_cx.get(context_id)
            if context is None:
                self._take_stray(source, size, context_id, control)
                return
            timeout_s = self._inline.network_timeout
            incoming = self._incoming = Incoming(context_id, context, timeout_s)
        elif incoming.context_id != context_id:
            raise ProtocolError(
                f"fragment in context {context_id} inside a message in {incoming.context_id}"
            )
        if size == 0 and not control & pdata.LAST:
            self._check_empty(incoming)
        if control & pdata.COMMAND:
            self._take_command(incoming, source, size, last=bool(control & pdata.LAST))
        else:
            self._take_data(incoming, source, size, last=bool(control & pdata.LAST))

    @staticmethod
    def _check_empty(incoming: Incoming) -> None:
        incoming.empty_fragments += 1
        if incoming.empty_fragments > _MAX_EMPTY_FRAGMENTS:
            raise ProtocolError(f"more than {_MAX_EMPTY_FRAGMENTS} empty fragments in a message")

    def _take_stray(self, source: Source, size: int, context_id: int, control: int) -> None:
        """Take a fragment in a context that was not accepted: a C-CANCEL, or the end.

        A C-CANCEL names its operation by the Message ID alone, and pynetdicom takes it in any
        context.
        """
        if control & pdata.COMMAND and control & pdata.LAST and size <= MAX_COMMAND_SET_BYTES:
            elements = _split_command(source.read_exactly(size))
            message_id = commands.cancelled_message_id(elements)
            if message_id is not None:
                cancel = C_CANCEL()
                cancel.MessageIDBeingRespondedTo = message_id
                self._take_cancel(cancel)
                return
        loggers.ASSOCIATION.info(
            "Received DIMSE message with invalid or rejected context ID: %d", context_id
        )
        loggers.ASSOCIATION.info("Aborting Association")
        raise ProtocolError(f"presentation context {context_id} was not accepted")

    def _take_command(self, incoming: Incoming, source: Source, size: int, *, last: bool) -> None:
        if incoming.elements is not None:
            raise ProtocolError("command fragment where a data set was announced")
        if len(incoming.command) + size > MAX_COMMAND_SET_BYTES:
            raise ProtocolError(f"command set larger than {MAX_COMMAND_SET_BYTES} bytes")
        fragment = source.read_exactly(size)
        if last and not incoming.command:
            incoming.command = fragment
        else:
            incoming.command += fragment
        if not last:
            return
        elements = incoming.elements = _split_command(incoming.command)
        self.outstanding.admit(elements, waits=bool(self._requests))
        incoming.field = commands.command_field(elements)
        try:
            has_data_set = commands.has_data_set(elements)
        except commands.CommandSetError as problem:
            raise ProtocolError(str(problem)) from problem
        if incoming.field == commands.C_STORE_RQ:
            incoming.store = commands.read_store_request(elements)
            if incoming.store is not None:
                incoming.sink = self._sink(incoming, incoming.store)
        if not has_data_set:
            self._complete(incoming)

    def _sink(self, incoming: Incoming, store: commands.StoreRequest) -> DatasetSink:
        file_header = self._inline.file_header

        def header() -> bytes:
            uids = (store.sop_class_uid or "", store.sop_instance_uid or "")
            syntax = str(incoming.context.transfer_syntax[0])
            if file_header is None:
                return part10_header(*uids, syntax)
            return file_header(*uids, syntax, self._inline.requestor.ae_title.strip())

        return DatasetSink(
            self._inline.spool_dir,
            header,
            shortage=self._inline.limits.shortage,
        )

    def _take_data(self, incoming: Incoming, source: Source, size: int, *, last: bool) -> None:
        if incoming.elements is None:
            raise ProtocolError("data set fragment before its command set")
        sink = incoming.sink
        if sink is None:
            self._check_message_size(len(incoming.data) + size)
            incoming.data += source.read_exactly(size)
        else:
            self._fill(incoming, sink, source, size)
            if not last:
                incoming.fragment_bytes = size
                self._examine(incoming, sink)
        if last:
            self._complete(incoming)

    def _fill(self, incoming: Incoming, sink: DatasetSink, source: Source, size: int) -> None:
        """Put one fragment into the sink."""
        self._check_size(sink, size)
        while size:
            taken = source.read_some(sink.reserve(size))
            sink.commit(taken)
            size -= taken
            if size:
                self._check_pace(incoming)

    def _check_pace(self, incoming: Incoming) -> None:
        """End the association of a peer whose message lasts too long for what has come of it."""
        now = time.monotonic()
        if now < incoming.look_at:
            return
        incoming.look_at = now + 1.0
        rate, elapsed_s = self._inline.limits.min_bytes_per_s, now - incoming.began
        if incoming.received < rate * elapsed_s:
            raise ProtocolError(
                f"peer too slow: {incoming.received} bytes of a message in {elapsed_s:.0f} s, "
                f"expected {rate} a second"
            )

    def _check_message_size(self, size: int) -> None:
        limits = self._inline.limits
        limit = limits.max_response_bytes or limits.max_message_bytes
        if size > limit:
            metrics.OVERSIZE_MESSAGES.add()
            raise ProtocolError(f"data set of a message larger than {limit} bytes")

    def _check_size(self, sink: DatasetSink, size: int) -> None:
        """Keep nothing of an object that is larger than allowed; it is answered at its end."""
        limit = self._inline.limits.max_object_bytes
        if limit and sink.size + size > limit and sink.error is None:
            text = f"object larger than {limit / 1e6:g} MB"
            sink.give_up(OSError(errno.EFBIG, text))

    def _examine(self, incoming: Incoming, sink: DatasetSink) -> None:
        """Let the server look at the first bytes, once, while the peer sends the rest."""
        examine = self._inline.examine
        if examine is None or incoming.is_examined:
            return
        incoming.is_examined = True
        if sink.has_beginning:  # not when the first fragment was so large that it went to a file
            syntax = str(incoming.context.transfer_syntax[0])
            incoming.examined = examine(sink.beginning(), syntax)

    def discard_incoming(self) -> None:
        """The association ends: a message that is not complete leaves nothing behind."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None and incoming.sink is not None:
            incoming.sink.discard_file()
            incoming.sink.give_back()
        self.discard_requests()

    def discard_requests(self) -> None:
        """Nobody is left to answer what waits to be served."""
        while self._requests:
            _, request = self._requests.popleft()
            if isinstance(request, ReceivedStore):
                request.finish(still_referenced=False)

    # --- complete messages ---

    def _complete(self, incoming: Incoming) -> None:
        self._incoming = None
        if self._is_shown:
            self._show(incoming)
        primitive = self._plain_primitive(incoming)
        if primitive is None:
            return
        context_id = incoming.context_id
        if isinstance(primitive, C_CANCEL):
            self._take_cancel(primitive)
        elif _is_response(primitive):
            self.msg_queue.put((context_id, primitive))
        elif not primitive.is_valid_request:
            # Without a Message ID, for one, there is no way to answer; the peer would wait.
            raise ProtocolError(f"{primitive.msg_type} request without what it must have")
        else:
            self._requests.append((context_id, primitive))

    def _plain_primitive(self, incoming: Incoming) -> DimsePrimitiveType | None:
        """The primitive of a complete message; None when it has been answered already."""
        elements = cast("dict[int, bytes]", incoming.elements)
        if incoming.store is not None and incoming.sink is not None:
            return self._received_store(incoming, incoming.store, incoming.sink)
        if incoming.field == commands.C_ECHO_RQ:
            echo = commands.read_echo_request(elements)
            if echo is not None:
                return primitives.echo_request(echo, incoming.context_id)
        if incoming.field == commands.C_STORE_RSP:
            response = commands.read_store_response(elements)
            if response is not None:
                return primitives.store_response(response, incoming.context_id)
        primitive_class = _QUERIES.get(incoming.field or 0)
        if primitive_class is not None and incoming.data:
            query = commands.read_query_request(elements)
            if query is not None:
                return primitives.query_request(
                    primitive_class, query, incoming.context_id, incoming.data
                )
        return primitives.generic_primitive(_generic_message(incoming))

    def _received_store(
        self, incoming: Incoming, store: commands.StoreRequest, sink: DatasetSink
    ) -> ReceivedStore | None:
        request = ReceivedStore(store, incoming.context_id, sink)
        request.examined = incoming.examined
        if store.sop_class_uid is not None and store.sop_instance_uid is not None:
            return request
        log_refusal(self._inline, request, _INVALID_SOP_INSTANCE, _NO_UIDS)
        request.finish(still_referenced=False)
        self.send_encoded(
            incoming.context_id,
            commands.encode_response(
                commands.C_STORE_RSP,
                store.message_id,
                _INVALID_SOP_INSTANCE,
                error_comment=_NO_UIDS,
            ),
        )
        return None

    def _show(self, incoming: Incoming) -> None:
        """Fire EVT_DIMSE_RECV, with the message as pynetdicom builds it."""
        message = _generic_message(incoming)
        if incoming.sink is not None:
            view = incoming.sink.finish()
            message.data_set = BytesIO(b"" if view is None else bytes(view))
        evt.trigger(self.assoc, evt.EVT_DIMSE_RECV, {"message": message})

    @property
    def is_receiving(self) -> bool:
        """Whether a message is on its way in, or waits to be served."""
        return self._incoming is not None or bool(self._requests)

    # --- waiting for messages ---

    def next_request(self, timeout_s: float | None) -> Request | None:
        """The next request to serve; None when something else wants attention.

        Raises:
            ReadTimeoutError: the association was idle for `timeout_s`.
        """
        dul = self._inline.dul
        while not self._requests:
            if not dul.is_alive() or dul.to_user_queue.queue:
                return None
            dul.read_pdu(timeout_s)
        return self._requests.popleft()

    def get_msg(self, block: bool = False) -> tuple[int, DimseServiceType] | tuple[None, None]:
        """The response that a `send_*()` waits for, or `(None, None)` when none comes.

        In the thread that serves the association it reads the socket; any other waits until that
        thread has read it. An N-EVENT-REPORT that comes first is served on the way.
        """
        dul = self._inline.dul
        if not block or not dul.reads_here():
            return super().get_msg(block)
        timeout_s = self.dimse_timeout
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                return self.msg_queue.get_nowait()
            except queue.Empty:
                self._serve_event_reports()
            if not dul.is_alive() or not dul.to_user_queue.empty():
                return None, None
            if self._requests and self._inline.is_requestor:
                return self._requests.popleft()  # an object of the C-GET that is waited for
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None, None
            try:
                dul.read_pdu(left)
            except ReadTimeoutError:
                return None, None

    def _serve_event_reports(self) -> None:
        while self._requests and isinstance(self._requests[0][1], N_EVENT_REPORT):
            context_id, request = self._requests.popleft()
            self._inline._serve_request(request, context_id)

    # --- sending ---

    def note_handlers(self, handlers: Container[evt.EventType]) -> None:
        """Handlers were bound or unbound: see whether messages must pass any of them."""
        self._is_shown = evt.EVT_DIMSE_RECV in handlers
        self.is_watched = evt.EVT_DIMSE_SENT in handlers or self._inline.dul.is_watched

    @property
    def maximum_pdu_size(self) -> int:
        """The peer's Maximum Length Received, in bytes; it is known once negotiation is over."""
        if self._maximum_pdu_size is None:
            # None when the peer left the item out, which is mandatory (PS3.8 section D.1).
            stated = cast("int | None", super().maximum_pdu_size)
            size = _UNSTATED_PDU_BYTES if stated is None else stated
            if not self._inline.is_established:
                return size
            self._maximum_pdu_size = size
        return self._maximum_pdu_size

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
        self.send_buffers(self.pack(context_id, command, data_set))

    def send_buffers(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send P-DATA-TF PDUs that `pack` has made."""
        self._inline.dul.send_p_data(buffers)

    def pack(
        self, context_id: int, command: bytes, data_set: bytes | memoryview | None = None
    ) -> Sequence[bytes | memoryview]:
        """The P-DATA-TF PDUs of an encoded message, as large as the peer takes."""
        limit = self.maximum_pdu_size
        buffers = pdata.pack(context_id, command, pdata.COMMAND, limit)
        if data_set:
            buffers += pdata.pack(context_id, data_set, 0, limit)
        return buffers
