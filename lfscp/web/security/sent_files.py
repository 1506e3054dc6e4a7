"""Sends bytes of a file as part of an answer's body without copying them (`sendfile`).

Rules: only on plain connections of our own server. The kernel takes what it has room for. If it
has none, a small piece goes into the connection's buffer, so that waiting, the slowest pace and a
client that goes away are as with all other answers. The bytes must be in the kernel's memory
already, see `FileSpan.fetch`: the event loop waits for no disk.

Built on uvicorn's `RequestResponseCycle`; `tests/unit/web/security/test_uvicorn.py` lists what is
used of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.types import Scope

from lfscp.web.security.page_cache import fetch

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

EXTENSION: Final = "lfscp.sent_files"  # of the ASGI scope
SENDER: Final = "sender"  # in it
_PIECE: Final = 1 << 15  # bytes that wait in the connection's buffer
_AT_ONCE: Final = 1 << 20  # bytes, so that other connections have their turn


class FileSpan(NamedTuple):
    """Some bytes of a file.

    Args:
        descriptor: of the file, open until they are sent.
        before: other bytes that are sent before them.
    """

    descriptor: int
    offset: int
    size: int
    before: bytes = b""

    @property
    def total(self) -> int:
        """Bytes that are sent."""
        return len(self.before) + self.size

    def fetch(self) -> None:
        """Have the kernel read the bytes from disk, if it does not hold them; for a thread.

        Raises:
            OSError: they cannot be read, or there are fewer.
        """
        fetch(self.descriptor, self.offset, self.size)


class SentFiles:
    """Sends parts of files as parts of one answer; for the event loop.

    Args:
        cycle: of the request.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport

    async def send(self, spans: Sequence[FileSpan]) -> bool:
        """Send the next bytes of the body, whose head has been sent.

        Returns:
            Whether they are sent, or the client is gone; False if a file is too short.
        Raises:
            OSError: a file cannot be read.
        """
        await self._drain()
        total, head, end = sum(each.total for each in spans), b"", b""
        if self._cycle.chunked_encoding:
            head, end = b"%x\r\n" % total, b"\r\n"
        else:
            self._cycle.expected_content_length -= total
        for span in spans:
            self._write(head + span.before)
            head = b""
            if not await self._send_file(span):
                return False
        self._write(end)
        return True

    def _write(self, content: bytes) -> None:
        if content and not self._is_gone:
            self._transport.write(content)

    async def _send_file(self, span: FileSpan) -> bool:
        at, end = span.offset, span.offset + span.size
        while at < end:
            await self._drain()
            if self._is_gone:
                return True
            count = self._send_some(span.descriptor, at, min(end - at, _AT_ONCE))
            if not count:
                return False
            at += count
        return True

    def _send_some(self, descriptor: int, at: int, most: int) -> int:
        """Hand bytes to the kernel; 0 if the file ends before them."""
        out = self._transport.get_extra_info("socket").fileno()
        try:
            return os.sendfile(out, descriptor, at, most)
        except ConnectionError:
            self._transport.abort()
            return most
        except OSError:  # no room, or a file system that cannot
            piece = os.pread(descriptor, min(most, _PIECE), at)
            self._transport.write(piece)
            return len(piece)

    @property
    def _is_gone(self) -> bool:
        """Whether the client is; asyncio warns of each write behind that."""
        return self._cycle.disconnected or self._transport.is_closing()

    async def _drain(self) -> None:
        """Wait until the connection's own buffer is empty: its bytes come first."""
        while self._transport.get_write_buffer_size() and not self._cycle.disconnected:
            self._transport.set_write_buffer_limits(0)
            await self._cycle.flow.drain()


def sent_files(scope: Scope) -> SentFiles | None:
    """What sends parts of files to the client of a request; None if nothing can."""
    extension = scope.get("extensions", {}).get(EXTENSION)
    return extension[SENDER] if extension else None
