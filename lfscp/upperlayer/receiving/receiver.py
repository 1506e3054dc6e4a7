"""Puts messages together from the P-DATA that comes in.

A C-STORE's data set goes from the socket into its sink without a PDU object in between. A request
waits here for the association to serve it, and a response for the `send_*()` that asked. What comes
out of turn, or is larger or slower than it may be, is a ProtocolError, which ends the association.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, cast

from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import (
    C_CANCEL,
    N_EVENT_REPORT,
    DimsePrimitiveType,
    DimseServiceType,
)
from pynetdicom.presentation import PresentationContext

from lfscp.observe import metrics
from lfscp.upperlayer.connection import loggers
from lfscp.upperlayer.connection.errors import ProtocolError
from lfscp.upperlayer.connection.record import ConnectionRecord
from lfscp.upperlayer.connection.transport import InlineSocket
from lfscp.upperlayer.connection.waiting import LazyQueue
from lfscp.upperlayer.receiving import primitives
from lfscp.upperlayer.receiving.batch import BatchEnd, BatchReader
from lfscp.upperlayer.receiving.incoming import Incoming, Source
from lfscp.upperlayer.receiving.long_dataset import LongDataset
from lfscp.upperlayer.receiving.outstanding import Outstanding
from lfscp.upperlayer.receiving.received import ReceivedStore
from lfscp.upperlayer.receiving.sink import DatasetSink, FileHeader, part10_header
from lfscp.upperlayer.wire import commands, pdata

MAX_COMMAND_SET_BYTES: Final = 1 << 16
# Some peers count the PDU's or the PDV's header into the limit they were told.
_TOLERATED_EXCESS_BYTES: Final = 64
_UNLIMITED_PDU_BYTES: Final = 1 << 28
# Whose data sets name each image of a study.
_WORKFLOW: Final = (commands.N_SET_RQ, commands.N_ACTION_RQ, commands.N_CREATE_RQ)

# (first bytes of a data set, transfer syntax UID) to whatever the handler makes of it.
Examine = Callable[[memoryview, str], object]


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What becomes of the objects that come.

    Args:
        spool_dir: where large ones go; None keeps them in memory.
        file_header: makes the head of such a file; given, smaller objects are written behind.
        examine: called with the first bytes of a data set and its transfer syntax when more is to
            come; what it returns is the request's `examined`.
    """

    spool_dir: Path | None = None
    file_header: FileHeader | None = None
    examine: Examine | None = None


def _split_command(encoded: bytes | bytearray) -> dict[int, bytes]:
    try:
        return commands.split_command(encoded)
    except commands.CommandSetError as problem:
        raise ProtocolError(str(problem)) from problem


class MessageReceiver:
    """Of one association.

    Args:
        record: its limits and times.
        accepted: gives the accepted presentation contexts, by their IDs.
        sender: gives the AE title of whoever sends, for the head of a file.

    Attributes:
        requests: complete ones that wait to be served, each with its context ID.
        responses: those that somebody waits for.
        report_answers: those to our N-EVENT-REPORTs, by Message ID; None until it comes. One that
            is not waited for any longer stays here, so that its answer is known when it comes.
        options: what becomes of objects.
        show: called with each complete message, when somebody wants to see them.
        has_been_small: the last message received was a command set alone.
    """

    def __init__(
        self,
        record: ConnectionRecord,
        accepted: Callable[[], Mapping[int, PresentationContext]],
        sender: Callable[[], str],
        options: StoreOptions,
    ) -> None:
        self._record = record
        self._accepted = accepted
        self._sender = sender
        self.options = options
        self._incoming: Incoming | None = None
        self.outstanding = Outstanding()
        self.requests: deque[tuple[int, DimseServiceType]] = deque()
        self.responses: LazyQueue[tuple[None, None] | tuple[int, DimseServiceType]] = LazyQueue()
        self.report_answers: dict[int, N_EVENT_REPORT | None] = {}
        self.show: Callable[[DIMSEMessage], object] | None = None
        self.has_been_small = False

    @property
    def is_receiving(self) -> bool:
        """Whether a message is on its way in, or waits to be served."""
        return self._incoming is not None or bool(self.requests)

    @property
    def longest_p_data(self) -> int:
        """The largest length of a P-DATA-TF PDU that is taken, in bytes."""
        announced = self._record.announced_max_pdu
        return announced + _TOLERATED_EXCESS_BYTES if announced else _UNLIMITED_PDU_BYTES

    # --- fragments ---

    def read_p_data(self, sock: InlineSocket, length: int) -> None:
        """Read the PDVs of one P-DATA-TF PDU from the socket, and of those that go on with it.

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
            self._incoming.check_pace()
        while length:
            if length < pdata.PDV_HEADER.size:
                raise ProtocolError(f"{length} bytes left in a P-DATA-TF PDU, no room for a PDV")
            pdv_length, context_id, control = sock.unpack(pdata.PDV_HEADER)
            length -= 4 + pdv_length
            if pdv_length < 2 or length < 0:
                raise ProtocolError(f"PDV length {pdv_length} does not fit its PDU")
            self.take_fragment(sock, pdv_length - 2, context_id, control)
        incoming = self._incoming
        if incoming is not None and incoming.fragment_bytes and incoming.sink is not None:
            self._read_on(sock, incoming, incoming.sink)

    def _read_on(self, sock: InlineSocket, incoming: Incoming, sink: DatasetSink) -> None:
        """Read the next PDUs of a large object, as long as each is one fragment of its data set.

        What is anything else stays in the socket for who has to judge it.
        """
        if sock.can_scatter and incoming.comes_alike:
            if self._read_batch(sock, incoming, sink) is BatchEnd.COMPLETE:
                self._message_ends(incoming)
                return
            incoming.comes_alike = False
        longest, timeout_s = self.longest_p_data, self._record.network_timeout_s
        while True:
            sock.begin_wait(timeout_s)
            pdu_type, length = pdata.PDU_HEADER.unpack(sock.peek(pdata.PDU_HEADER.size))
            if pdu_type != pdata.P_DATA_TF or length < pdata.PDV_HEADER.size:
                return
            _, length, pdv_length, context_id, control = pdata.HEADER.unpack(sock.peek(12))
            is_one_fragment = length == 4 + pdv_length and 2 < pdv_length <= longest
            if not is_one_fragment or context_id != incoming.context_id or control & pdata.COMMAND:
                return
            sock.skip(12)
            self._fill(incoming, sink, sock, pdv_length - 2)
            incoming.check_pace()
            if control & pdata.LAST:
                self._message_ends(incoming)
                return
            sink.fragment_ends()

    def _read_batch(self, sock: InlineSocket, incoming: Incoming, sink: DatasetSink) -> BatchEnd:
        """Read those of the next PDUs that are cut like the first one."""
        timeout_s = self._record.network_timeout_s

        def before_each() -> None:
            incoming.check_pace()
            sock.begin_wait(timeout_s)

        limit = incoming.limit_bytes
        reader = BatchReader(sock, sink, incoming.context_id, incoming.fragment_bytes, before_each)
        return reader.read(limit - sink.size if limit else None)

    def take_fragment(self, source: Source, size: int, context_id: int, control: int) -> None:
        """Take one fragment of a command set or data set.

        Args:
            source: gives its bytes.
            control: its message control header.
        Raises:
            ProtocolError: it comes out of turn, is too large or too slow.
        """
        incoming = self._incoming
        if incoming is None:
            context = self._accepted().get(context_id)
            if context is None:
                self._take_stray(source, size, context_id, control)
                return
            incoming = self._incoming = Incoming(context_id, context, self._record)
        elif incoming.context_id != context_id:
            raise ProtocolError(
                f"fragment in context {context_id} inside a message in {incoming.context_id}"
            )
        if size == 0 and not control & pdata.LAST:
            incoming.count_empty()
        if control & pdata.COMMAND:
            self._take_command(incoming, source, size, last=bool(control & pdata.LAST))
        else:
            self._take_data(incoming, source, size, last=bool(control & pdata.LAST))

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
        if last:
            self._read_command(incoming)

    def _read_command(self, incoming: Incoming) -> None:
        """The command set is complete: judge it, and make ready for a data set."""
        elements = incoming.elements = _split_command(incoming.command)
        self.outstanding.admit(elements, waits=bool(self.requests))
        incoming.field = commands.command_field(elements)
        try:
            has_data_set = commands.has_data_set(elements)
        except commands.CommandSetError as problem:
            raise ProtocolError(str(problem)) from problem
        if incoming.field == commands.C_STORE_RQ:
            incoming.store = commands.read_store_request(elements)
            if incoming.store is not None:
                incoming.sink = self._sink(incoming, incoming.store)
                incoming.limit_bytes = self._record.limits.max_object_bytes
        elif has_data_set and incoming.field in _WORKFLOW:
            self._expect_long_dataset(incoming)
        self.has_been_small = not has_data_set
        if not has_data_set:
            self._message_ends(incoming)

    def _expect_long_dataset(self, incoming: Incoming) -> None:
        """Have the data set go to a sink, where it may be longer than that of other messages."""
        limits = self._record.limits
        if limits.max_workflow_bytes:
            incoming.sink = DatasetSink(self.options.spool_dir, bytes, shortage=limits.shortage)
            incoming.limit_bytes = max(limits.max_workflow_bytes, limits.max_message_bytes)
            incoming.is_examined = True  # it is no object

    def _sink(self, incoming: Incoming, store: commands.StoreRequest) -> DatasetSink:
        file_header = self.options.file_header

        def header() -> bytes:
            uids = (store.sop_class_uid or "", store.sop_instance_uid or "")
            if file_header is None:
                return part10_header(*uids, incoming.transfer_syntax_uid)
            return file_header(*uids, incoming.transfer_syntax_uid, self._sender())

        return DatasetSink(
            self.options.spool_dir,
            header,
            write_behind=file_header is not None,
            shortage=self._record.limits.shortage,
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
                sink.fragment_ends()
        if last:
            self._message_ends(incoming)

    def _fill(self, incoming: Incoming, sink: DatasetSink, source: Source, size: int) -> None:
        """Put one fragment into the sink."""
        self._check_sink_size(incoming, sink, size)
        while size:
            taken = source.read_some(sink.reserve(size))
            sink.commit(taken)
            size -= taken
            if size:
                incoming.check_pace()

    def _examine(self, incoming: Incoming, sink: DatasetSink) -> None:
        """Let the server look at the first bytes, once, while the peer sends the rest."""
        examine = self.options.examine
        if examine is None or incoming.is_examined:
            return
        incoming.is_examined = True
        if sink.has_beginning:  # not when the first fragment was so large that it went to a file
            incoming.examined = examine(sink.beginning(), incoming.transfer_syntax_uid)

    # --- limits ---

    def _check_message_size(self, size: int) -> None:
        limits = self._record.limits
        self._require_within(size, limits.max_response_bytes or limits.max_message_bytes)

    @staticmethod
    def _require_within(size: int, limit: int) -> None:
        if size > limit:
            metrics.OVERSIZE_MESSAGES.add()
            raise ProtocolError(f"data set of a message larger than {limit} bytes")

    def _check_sink_size(self, incoming: Incoming, sink: DatasetSink, size: int) -> None:
        """Keep nothing of an object that is larger than allowed; it is answered at its end."""
        limit = incoming.limit_bytes
        if not limit or sink.size + size <= limit:
            return
        if incoming.store is None:
            self._require_within(sink.size + size, limit)
        elif sink.error is None:
            sink.give_up(OSError(errno.EFBIG, f"object larger than {limit / 1e6:g} MB"))

    # --- complete messages ---

    def _message_ends(self, incoming: Incoming) -> None:
        self._incoming = None
        if incoming.store is None and incoming.sink is not None:
            self._long_message_ends(incoming, incoming.sink)
            return
        if self.show is not None:
            self._show_message(incoming, self.show)
        context_id = incoming.context_id
        if incoming.store is not None and incoming.sink is not None:
            request = ReceivedStore(incoming.store, context_id, incoming.sink, incoming.examined)
            self.requests.append((context_id, request))
            return
        self._take_message(context_id, primitives.of_message(incoming))

    def _long_message_ends(self, incoming: Incoming, sink: DatasetSink) -> None:
        """A message is complete whose data set went to a sink though it is no object."""
        received = LongDataset(sink)
        incoming.sink = None
        incoming.data = received.data
        if self.show is not None:
            self._show_message(incoming, self.show)
        primitive: Any = primitives.of_message(incoming)
        primitive.received = received
        self._take_message(incoming.context_id, primitive)

    def _take_message(self, context_id: int, primitive: DimsePrimitiveType) -> None:
        if isinstance(primitive, C_CANCEL):
            self._take_cancel(primitive)
        elif primitives.is_response(primitive):
            if self.report_answers and self._answers_report(primitive):
                return
            self.responses.put((context_id, primitive))
        elif primitive.is_valid_request:
            self.requests.append((context_id, primitive))
        else:
            # Without a Message ID, for one, there is no way to answer; the peer would wait.
            raise ProtocolError(f"{primitive.msg_type} request without what it must have")

    def _answers_report(self, response: DimseServiceType) -> bool:
        message_id = cast(int, response.MessageIDBeingRespondedTo)
        if not isinstance(response, N_EVENT_REPORT) or message_id not in self.report_answers:
            return False
        self.report_answers[message_id] = response
        return True

    @staticmethod
    def _show_message(incoming: Incoming, show: Callable[[DIMSEMessage], object]) -> None:
        message = primitives.generic_message(incoming)
        if incoming.sink is not None:
            view = incoming.sink.finish()
            message.data_set = BytesIO(b"" if view is None else bytes(view))
        show(message)

    def _take_cancel(self, cancel: C_CANCEL) -> None:
        waiting = self.requests[0][1].MessageID if self.requests else None
        self.outstanding.take_cancel(cancel, waiting)

    # --- the end ---

    def discard(self) -> None:
        """The association ends: a message that is not complete leaves nothing behind."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None and incoming.sink is not None:
            incoming.sink.discard_file()
            incoming.sink.return_buffer()
        self.discard_requests()

    def let_go(self) -> None:
        """Nothing comes any more: the association is not asked again."""
        self._accepted, self._sender = dict, str

    def discard_requests(self) -> None:
        """Nobody is left to answer what waits to be served."""
        while self.requests:
            request = self.requests.popleft()[1]
            received = getattr(request, "received", None)
            del request
            if received is not None:
                received.take_back()
