"""Sends the pieces of answers: bytes, and bytes of files that are sent without copying them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from http import HTTPStatus
from typing import IO, Final, Self

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lfscp.archive.errors import ArchiveError
from lfscp.dicom.errors import DatasetError
from lfscp.dicomweb.multipart_writer import Bytes
from lfscp.observe.logging import get_logger
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.web.security.sent_files import FileSpan, SentFiles, sent_files

LOG: Final = get_logger("lfscp.web")
Piece = Bytes | FileSpan
Spans = tuple[FileSpan, ...]
Sent = Bytes | Spans
GATHERED: Final = 1 << 19  # bytes sent at a time
_UNREADABLE: Final = (OSError, ArchiveError, DatasetError, DecodingError)
AT_ONCE: Final = 8 << 20  # bytes of files that are fetched before they are sent
MAX_FILES: Final = 9  # open for one answer


def reason_of(error: Exception) -> str:
    """What an error of reading or decoding says, for people."""
    if isinstance(error, DatasetError):
        return error.reason
    if isinstance(error, OSError):
        return error.strerror or "the file cannot be read"
    return str(error)


def gathered(pieces: Iterable[Bytes]) -> Generator[Bytes, None, None]:
    """The same bytes with small pieces put together; a generator in it is closed with this one."""
    held: list[Bytes] = []
    size = 0
    try:
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= GATHERED:
                yield b"".join(held) if len(held) > 1 else piece
                held.clear()
                size = 0
        if held:
            yield b"".join(held)
    finally:
        close(pieces)


def spliced(pieces: Iterable[Piece], files: list[IO[bytes]]) -> Generator[Sent, None, None]:
    """The same with bytes of files, which are fetched, and sent without copying them.

    Args:
        files: that the spans are of, in their order; closed when they are sent. The last one is
            kept, since its next span may follow.
    """
    spans: list[FileSpan] = []
    held: list[Bytes] = []
    size = 0
    try:
        for piece in pieces:
            if not isinstance(piece, FileSpan):
                held.append(piece)
                size += len(piece)
                if size < GATHERED:
                    continue
            else:
                piece.fetch()
                spans.append(piece._replace(before=b"".join(held)))
                held.clear()
                size = 0
                if sum(each.size for each in spans) < AT_ONCE and len(files) < MAX_FILES:
                    continue
            yield from _taken(spans, held)
            size = 0
            _close_all(files, but=1)
        yield from _taken(spans, held)
    except _UNREADABLE:
        yield from _taken(spans, [])  # what was made before is sent; the bytes behind are a head
        raise
    finally:
        close(pieces)
        _close_all(files)


def _taken(spans: list[FileSpan], held: list[Bytes]) -> Iterator[Sent]:
    """What is ready, which is taken away: spans, and the bytes behind them."""
    if spans:
        yield tuple(spans)
        spans.clear()
    if held:
        yield b"".join(held)
        held.clear()


def _close_all(files: list[IO[bytes]], but: int = 0) -> None:
    while len(files) > but:
        files.pop(0).close()


def kept(pieces: Iterator[Bytes], opened: ExitStack) -> Generator[Bytes, None, None]:
    """Pieces of a file that stays open for as long as they are drawn."""
    with opened:
        yield from gathered(pieces)


def close(pieces: object) -> None:
    """Close a generator; of other iterables nothing is open."""
    if isinstance(pieces, Generator):
        pieces.close()


async def send_piece(piece: Bytes | Spans, files: SentFiles | None, send: Send) -> bool:
    """Send a part of a body; False if it is in a file that is too short now."""
    if not isinstance(piece, tuple):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        return True
    try:
        return files is not None and await files.send(piece)
    except OSError as error:
        LOG.warning("answer broken off", what="a file", reason=reason_of(error))
        return False


class AtOnce(Response):
    """An answer that is known as a whole, with bytes of files in it.

    Args:
        spans: of files, in the order in which they are sent.
        end: what is sent behind them.
        headers: with the length of all, their names in lower case.
        opened: closed when it is sent.
    """

    background = None

    def __init__(
        self, spans: Spans, end: bytes, headers: Iterable[tuple[bytes, bytes]], opened: ExitStack
    ) -> None:
        self.spans = spans
        self.end = end
        self._opened = opened
        self.status_code = HTTPStatus.OK
        self.raw_headers = list(headers)

    @classmethod
    def made(
        cls,
        spans: Spans,
        end: bytes,
        media_type: str,
        headers: Mapping[str, str],
        opened: ExitStack,
    ) -> Self:
        """The same with its length and type among the headers, which are text."""
        size = str(sum(each.total for each in spans) + len(end))
        all_of_them = {**headers, "Content-Length": size, "Content-Type": media_type}
        raw = ((name.lower().encode(), all_of_them[name].encode()) for name in all_of_them)
        return cls(spans, end, raw, opened)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send it."""
        with self._opened:
            start = {"type": "http.response.start", "status": self.status_code}
            await send({**start, "headers": self.raw_headers})
            is_whole = scope["method"] == "HEAD"
            if not is_whole and not await send_piece(self.spans, sent_files(scope), send):
                return
            await send({"type": "http.response.body", "body": self.end, "more_body": False})
