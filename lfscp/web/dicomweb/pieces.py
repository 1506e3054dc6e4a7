"""Sends the pieces of answers: bytes, and bytes of files that are sent without copying them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lfscp.dicom.errors import DatasetError
from lfscp.dicomweb.multipart_writer import Bytes
from lfscp.observe.logging import get_logger
from lfscp.web.security.sent_files import FileSpan, SentFiles, sent_files

LOG: Final = get_logger("lfscp.web")
Piece = Bytes | FileSpan
GATHERED: Final = 1 << 19  # bytes sent at a time


def reason_of(error: Exception) -> str:
    """What an error of reading or decoding says, for people."""
    if isinstance(error, DatasetError):
        return error.reason
    if isinstance(error, OSError):
        return error.strerror or "the file cannot be read"
    return str(error)


def gathered(pieces: Iterable[Piece]) -> Generator[Piece, None, None]:
    """The same bytes with small pieces put together; a generator in it is closed with this one.

    Bytes of files are fetched when they are drawn, and have the small pieces before them.
    """
    held: list[Bytes] = []
    size = 0
    try:
        for piece in pieces:
            if isinstance(piece, FileSpan):
                piece.fetch()
                yield piece._replace(before=b"".join((*held, piece.before)))
                held.clear()
                size = 0
                continue
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


def kept(pieces: Iterator[Piece], opened: ExitStack) -> Generator[Piece, None, None]:
    """Pieces of a file that stays open for as long as they are drawn."""
    with opened:
        yield from gathered(pieces)


def close(pieces: object) -> None:
    """Close a generator; of other iterables nothing is open."""
    if isinstance(pieces, Generator):
        pieces.close()


async def send_piece(piece: Piece, files: SentFiles | None, send: Send) -> bool:
    """Send a part of a body; False if it is in a file that is too short now."""
    if not isinstance(piece, FileSpan):
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
        opened: closed when it is sent.
    """

    background = None

    def __init__(
        self,
        spans: Sequence[FileSpan],
        end: bytes,
        media_type: str,
        headers: Mapping[str, str],
        opened: ExitStack,
    ) -> None:
        self._spans = spans
        self._end = end
        self._opened = opened
        self.status_code = HTTPStatus.OK
        size = str(sum(each.total for each in spans) + len(end))
        self.init_headers({**headers, "Content-Length": size, "Content-Type": media_type})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._opened:
            start = {"type": "http.response.start", "status": self.status_code}
            await send({**start, "headers": self.raw_headers})
            files = sent_files(Request(scope, receive))
            is_whole = scope["method"] == "HEAD"
            for span in () if is_whole else self._spans:
                is_whole = await send_piece(span, files, send)
                if not is_whole:
                    return
            await send({"type": "http.response.body", "body": self._end, "more_body": False})
