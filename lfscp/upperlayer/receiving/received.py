"""A received C-STORE request, as handlers see it, and its data set.

The data set lies in a buffer that the next object will use. A handler may keep its event, or the
request, and read it later, as pynetdicom lets it: then the data set is copied before the buffer is
used again. Whether it was kept is asked of a weak reference, once nobody here holds the request.
"""

from __future__ import annotations

import contextlib
import weakref
from io import BytesIO
from pathlib import Path

from pydicom.uid import UID
from pynetdicom import _config
from pynetdicom.dimse_primitives import C_STORE

from lfscp.upperlayer.receiving.sink import DatasetSink, SpooledDataset
from lfscp.upperlayer.wire.commands import StoreRequest
from lfscp.upperlayer.wire.names import intern_uid


class ReceivedDataset:
    """The data set of a received C-STORE, in memory, in a file, or in both.

    Args:
        sink: where it went.
        request: the request that handlers see.

    Attributes:
        view: its bytes, only while the handler runs; None when in the file alone.
        spooled: the file it went to as it arrived, or None; with write-behind, besides `view`.
        error: why it could not be kept, or None.
    """

    def __init__(self, sink: DatasetSink, request: ReceivedStore) -> None:
        self._sink = sink
        self._request = weakref.ref(request)
        self._stream: BytesIO | None = None
        self._temporary: Path | None = None
        self.view: memoryview | None = sink.finish()
        self.spooled: SpooledDataset | None = sink.spooled_file()
        self.error: OSError | None = sink.error

    @property
    def size(self) -> int:
        """Bytes of the data set."""
        return self._sink.size if self.view is None else len(self.view)

    @property
    def stream(self) -> BytesIO | None:
        """A copy of it, made when it is first asked for; by any thread."""
        view = self.view
        if self._stream is None and view is not None:
            with contextlib.suppress(ValueError):  # taken back just now: who kept it has a copy
                self._stream = BytesIO(view)
        if self._stream is None and self.spooled is not None:
            with open(self.spooled.path, "rb") as file:
                file.seek(self.spooled.dataset_offset)
                self._stream = BytesIO(file.read())
        return self._stream

    @stream.setter
    def stream(self, value: BytesIO | None) -> None:
        self._stream = value

    @property
    def path(self) -> Path | None:
        """The spooled file, or one made where it is asked for."""
        if self.view is None and self.spooled is not None:
            return self.spooled.path
        if not _config.STORE_RECV_CHUNKED_DATASET or self.view is None:
            return self._temporary
        if self._temporary is None:
            self._temporary = self._sink.copy_to_file()
        return self._temporary

    def take_back(self) -> None:
        """End the handler's time: the buffer goes back, a file nobody took is deleted.

        Whoever has kept the request keeps a copy: so the caller has let go of it before.
        """
        self._sink.discard_file()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
        view = self.view
        if view is not None:
            if self._stream is None and self._request() is not None:
                self._stream = BytesIO(view)
            self.view = None
            try:
                view.release()
            except BufferError:
                return  # in use at this moment, by another thread: the buffer is theirs
        self._sink.return_buffer()


class ReceivedStore(C_STORE):
    """A received C-STORE request: pynetdicom's primitive, its data set not yet copied.

    Args:
        request: the decoded command set; a UID that is missing is empty here.
        context_id: of the presentation context it came in.
        sink: where its data set went.
        examined: what the server's `examine` made of its first bytes, or None.

    Attributes:
        received: the data set.
    """

    # The base class's __init__ runs a dozen checked setters; a received request was checked when
    # its command set was read. What is relied on: DIMSEPrimitive's underscore attributes
    # (pynetdicom.dimse_primitives), which the setters would fill with the same values.
    def __init__(
        self, request: StoreRequest, context_id: int, sink: DatasetSink, examined: object = None
    ) -> None:
        self._context_id = context_id
        self._message_id = request.message_id
        self._priority = request.priority
        self._affected_sop_class_uid = intern_uid(request.sop_class_uid or "")
        self._affected_sop_instance_uid = UID(request.sop_instance_uid or "", 0)
        self._move_originator_application_entity_title = request.move_originator_ae_title
        self._move_originator_message_id = request.move_originator_message_id
        self.OffendingElement = None
        self.ErrorComment = None
        self.examined = examined
        self.received = ReceivedDataset(sink, self)

    @property
    def dataset(self) -> memoryview | None:
        """The data set's bytes, only while the handler runs; None when in the file alone."""
        return self.received.view

    @property
    def spooled(self) -> SpooledDataset | None:
        """The file it went to as it arrived, or None; with write-behind, besides `dataset`."""
        return self.received.spooled

    @property
    def size(self) -> int:
        """Bytes of the data set."""
        return self.received.size

    @property
    def is_valid_request(self) -> bool:
        """Whether it names an object: both its UIDs are there."""
        return bool(self._affected_sop_class_uid and self._affected_sop_instance_uid)

    @property
    def _dataset_path(self) -> Path | None:  # type: ignore[override] # an attribute there
        """What `event.dataset_path` gives."""
        return self.received.path

    @property
    def DataSet(self) -> BytesIO | None:  # noqa: N802 - pynetdicom's name
        """The data set as pynetdicom gives it."""
        return self.received.stream

    @DataSet.setter
    def DataSet(self, value: BytesIO | None) -> None:  # noqa: N802 - pynetdicom's name
        self.received.stream = value
