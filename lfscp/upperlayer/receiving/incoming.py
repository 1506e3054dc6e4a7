"""A message on its way in: what of it has come so far, and where its fragments come from."""

from __future__ import annotations

import math
import time
from typing import Final, Protocol

from pynetdicom.presentation import PresentationContext

from lfscp.upperlayer.connection.errors import ProtocolError
from lfscp.upperlayer.connection.record import ConnectionRecord
from lfscp.upperlayer.receiving.sink import DatasetSink
from lfscp.upperlayer.wire import commands

# Fragments without a byte that one message may have: each costs work and brings nothing.
_MAX_EMPTY_FRAGMENTS: Final = 100


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
        record: its slowest pace, and after how long that is looked at.

    Attributes:
        began: monotonic time of its first fragment, in seconds.
        look_at: when its pace is looked at next.
        limit_bytes: the most that its sink takes; 0 is no limit.
        fragment_bytes: of the last fragment of its data set that was not the last one.
        empty_fragments: how many came that had no byte and were not the last.
        comes_alike: its PDUs have been cut alike so far.
    """

    __slots__ = (
        "_min_bytes_per_s",
        "began",
        "comes_alike",
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
        "limit_bytes",
        "look_at",
        "sink",
        "store",
    )

    def __init__(
        self, context_id: int, context: PresentationContext, record: ConnectionRecord
    ) -> None:
        timeout_s = record.network_timeout_s
        self._min_bytes_per_s = record.limits.min_bytes_per_s
        self.began = time.monotonic()
        self.look_at = self.began + timeout_s if timeout_s is not None else math.inf
        self.context_id = context_id
        self.context = context
        self.command: bytes | bytearray = bytearray()
        self.elements: dict[int, bytes] | None = None
        self.field: int | None = None
        self.store: commands.StoreRequest | None = None
        self.sink: DatasetSink | None = None
        self.limit_bytes = 0
        self.fragment_bytes = 0
        self.empty_fragments = 0
        self.comes_alike = True
        self.is_examined = False
        self.examined: object = None
        self.data: bytes | bytearray = bytearray()

    @property
    def received(self) -> int:
        """Bytes of it so far."""
        sink = 0 if self.sink is None else self.sink.size
        return len(self.command) + len(self.data) + sink

    @property
    def transfer_syntax_uid(self) -> str:
        """Of its data set."""
        return str(self.context.transfer_syntax[0])

    def count_empty(self) -> None:
        """A fragment without a byte came, and it was not the last.

        Raises:
            ProtocolError: there are too many of them.
        """
        self.empty_fragments += 1
        if self.empty_fragments > _MAX_EMPTY_FRAGMENTS:
            raise ProtocolError(f"more than {_MAX_EMPTY_FRAGMENTS} empty fragments in a message")

    def check_pace(self) -> None:
        """End the association of a peer whose message lasts too long for what has come of it.

        Raises:
            ProtocolError: it is slower than that.
        """
        now = time.monotonic()
        if now < self.look_at:
            return
        self.look_at = now + 1.0
        elapsed_s = now - self.began
        if self.received < self._min_bytes_per_s * elapsed_s:
            raise ProtocolError(
                f"peer too slow: {self.received} bytes of a message in {elapsed_s:.0f} s, "
                f"expected {self._min_bytes_per_s} a second"
            )
