"""The data set of a request that is no C-STORE and may be long, such as a list of all images.

It came through a sink: what is large of it was in a file until now. To be read it has to be in
memory as a whole, and its elements take many times its size. So a process serves one long data set
at a time, and whoever brings the next one waits for it.
"""

from __future__ import annotations

import threading
from typing import Final

from lfscp.upperlayer.receiving.sink import DatasetSink

_ALONE_ABOVE_BYTES: Final = 1_000_000
_alone: Final = threading.Semaphore()


class LongDataset:
    """Of one request, from its last fragment until it was served.

    Args:
        sink: where it went; given back here.

    Attributes:
        data: its bytes; none when it could not be kept.
        error: why it could not be kept, or None.
    """

    def __init__(self, sink: DatasetSink) -> None:
        self._is_alone = sink.size > _ALONE_ABOVE_BYTES
        if self._is_alone:
            _alone.acquire()
        try:
            self.data = _read(sink)
            self.error = sink.error
        except OSError as problem:
            self.data, self.error = b"", problem
        finally:
            sink.discard_file()
            sink.return_buffer()

    def take_back(self) -> None:
        """The request was served: the next one may be."""
        self.data = b""
        if self._is_alone:
            self._is_alone = False
            _alone.release()

    def __del__(self) -> None:
        self.take_back()  # when nobody served it


def _read(sink: DatasetSink) -> bytes:
    view = sink.finish()
    if view is not None:
        return bytes(view)
    spooled = sink.spooled_file()
    if sink.error is not None or spooled is None:
        return b""
    with open(spooled.path, "rb") as file:
        return file.read()
