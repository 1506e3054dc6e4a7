"""A message on its way in: what of it has come so far, and where its fragments come from."""

from __future__ import annotations

import math
import time
from typing import Protocol

from pynetdicom.presentation import PresentationContext

from lfscp.upperlayer.receiving.received import DatasetSink
from lfscp.upperlayer.wire import commands


class Source(Protocol):
    """Where the bytes of a fragment come from: the socket, or what was read already."""

    def read_some(self, view: memoryview) -> int:
        """Some bytes into `view`; how many."""
        ...

    def read_exactly(self, size: int) -> bytes:
        """The next `size` bytes, copied."""
        ...


class FragmentBytes:
    """A fragment that is already in memory."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def read_some(self, view: memoryview) -> int:
        """As much as the view holds."""
        size = len(view)
        view[:] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def read_exactly(self, size: int) -> bytes:
        """The next `size` bytes, copied."""
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return data


class Incoming:
    """One message on its way in.

    Args:
        context_id: of the presentation context it comes in.
        timeout_s: after how long its pace is looked at; None for never.

    Attributes:
        began: monotonic time of its first fragment, in seconds.
        look_at: when its pace is looked at next.
        fragment_bytes: of the last fragment of its data set that was not the last one.
        empty_fragments: how many came that had no byte and were not the last.
        is_foretold: its PDUs have been cut alike so far.
    """

    __slots__ = (
        "began",
        "command",
        "context",
        "context_id",
        "data",
        "elements",
        "empty_fragments",
        "examined",
        "field",
        "fragment_bytes",
        "is_examined",
        "is_foretold",
        "look_at",
        "sink",
        "store",
    )

    def __init__(
        self, context_id: int, context: PresentationContext, timeout_s: float | None
    ) -> None:
        self.began = time.monotonic()
        self.look_at = self.began + timeout_s if timeout_s is not None else math.inf
        self.context_id = context_id
        self.context = context
        self.command: bytes | bytearray = bytearray()
        self.elements: dict[int, bytes] | None = None
        self.field: int | None = None
        self.store: commands.StoreRequest | None = None
        self.sink: DatasetSink | None = None
        self.fragment_bytes = 0
        self.empty_fragments = 0
        self.is_foretold = True
        self.is_examined = False
        self.examined: object = None
        self.data = bytearray()

    @property
    def received(self) -> int:
        """Bytes of it so far."""
        sink = 0 if self.sink is None else self.sink.size
        return len(self.command) + len(self.data) + sink
