"""Answers requests from threads of their own, and streams answers of any size in bounded memory.

Rules: at most 32 threads work at once, so that the page keeps its own, and each visitor has some
requests served at once, fewer if they are for pictures; the others wait in order. The first piece
of an answer is made before its head goes out: what fails until then has the right status. If the
client goes away, the work for it ends, and what is open is closed. An answer that cannot be
completed breaks off, so that no client takes it for the whole.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final, cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lfscp.archive.errors import ArchiveError
from lfscp.dicom.errors import DatasetError
from lfscp.observe.logging import get_logger
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.stored_frames import NoFrameError, NoPixelsError
from lfscp.web.client_watch import ClientWatch
from lfscp.web.context import Web, visitor_of, web_of
from lfscp.web.dicomweb.pieces import Sent, reason_of, send_piece
from lfscp.web.dicomweb.threads import threads
from lfscp.web.imaging.errors import MISSING, NoPictureError
from lfscp.web.problems import KNOWN, Problem, answer_of
from lfscp.web.security.sent_files import sent_files

LOG: Final = get_logger("lfscp.web")
_FAILURES: Final = (OSError, ArchiveError, DatasetError, DecodingError, NoPictureError, Problem)


class Asked(ClientWatch):
    """A request and what is needed to answer it; for the thread that does.

    Args:
        loop: as `ClientWatch` takes it.
    """

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(request, loop)
        self.web: Web = web_of(request)

    @property
    def path(self) -> Mapping[str, str]:
        """The parts of the path by their names."""
        return cast(Mapping[str, str], self.request.path_params)

    def parameter(self, name: str) -> str | None:
        """A parameter of the query."""
        return self.request.query_params.get(name)

    def require_changed(self, version: str) -> dict[str, str]:
        """The headers of an answer with this version, unless the client has it already.

        Args:
            version: names the content and its form.
        Raises:
            NotModified: it has.
        Source: RFC 9110 sections 8.8.3 and 13.1.2.
        """
        digest = hashlib.blake2b(version.encode(), digest_size=12).hexdigest()
        return self.require_other(f'"{digest}"')

    def require_other(self, tag: str) -> dict[str, str]:
        """The headers of an answer with this ETag; raises as `require_changed`."""
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept"}
        known = [
            each.strip().removeprefix("W/")
            for line in self.request.headers.getlist("if-none-match")
            for each in line.split(",")
        ]
        if tag in known or "*" in known:
            raise NotModified(headers)
        return headers


class NotModified(Exception):  # noqa: N818 - the name of RFC 9110
    """The client has this already."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__("not modified")
        self.headers = headers


class FileMissing(Problem):
    """The file that a row of the index names is not there: missing, or replaced since."""


Handler = Callable[[Asked], Response]
Again = Callable[[Asked], Response | None]


class Endpoint:
    """A route that is served by a function in a thread (ASGI).

    Args:
        handler: makes the answer; it may raise what `problems` knows.
        draws: whether it has the renderer work for a request.
        again: makes the answer without waiting for anything, if it was made lately. The event loop
            asks it: to hand a request to a thread and back costs more than to answer it.
    """

    def __init__(
        self,
        handler: Handler,
        draws: Callable[[Request], bool] = lambda _: False,
        again: Again = lambda _: None,
    ) -> None:
        self._handler = handler
        self._again = again
        self._draws = draws
        self.__name__ = handler.__name__
        self.__doc__ = handler.__doc__

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        web = web_of(request)
        turns = web.picture_turns if self._draws(request) else web.turns
        async with turns.of(visitor_of(request)) as has_waited:
            if has_waited and await request.is_disconnected():
                return
            await self._serve(Asked(request, asyncio.get_running_loop()), receive, send)

    async def _serve(self, asked: Asked, receive: Receive, send: Send) -> None:
        try:
            response = self._again(asked)
            if response is None:
                response = await threads().run(self._made, asked)
        except NotModified as found:
            response = Response(status_code=HTTPStatus.NOT_MODIFIED, headers=found.headers)
        except KNOWN as error:
            response = answer_of(asked.request, error)
        await response(asked.request.scope, receive, send)

    def _made(self, asked: Asked) -> Response:
        """The answer; of an object that was replaced just now, by the row that there is now."""
        try:
            return self._handler(asked)
        except FileMissing:
            return self._handler(asked)


class Streamed(Response):
    """An answer that is made while it is sent. Its first piece is made at once.

    Args:
        pieces: a generator; closed whatever happens, in a thread.
        what: is sent, for the log line if it breaks off; no patient data.
        size: bytes of all pieces, if that is known.
    """

    background = None
    _has_failed = False
    _is_over = False  # all pieces are drawn: nothing is open

    def __init__(  # noqa: PLR0913, RUF100 - as Response
        self,
        asked: Asked,
        pieces: Generator[Sent, None, None],
        media_type: str,
        headers: Mapping[str, str] | None = None,
        *,
        what: str,
        size: int | None = None,
        status_code: int = HTTPStatus.OK,
    ) -> None:
        self._asked = asked
        self._what = what
        self._pieces = pieces
        try:
            self._first: Sent | None = next(pieces, None)
            self._is_over = self._first is None
        except BaseException:
            pieces.close()
            raise
        sized = {} if size is None else {"Content-Length": str(size)}
        self.status_code = status_code
        # As a header: a document in XML names its own charset.
        self.init_headers({"Content-Type": media_type, **(headers or {}), **sized})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            if await self._send(scope, receive, send):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if not self._is_over:
                await threads().run(self._pieces.close)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Send all but the end; False if it came to nothing."""
        request = self._asked.request = Request(scope, receive)
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        piece, self._first = self._first, None
        if scope["method"] == "HEAD":
            return True
        files = sent_files(scope)
        while piece is not None:
            if not await send_piece(piece, files, send):
                return False
            if self._asked.is_time_to_look() and await request.is_disconnected():
                return False
            piece = await threads().run(self._next)
        return not self._has_failed

    def _next(self) -> Sent | None:
        try:
            piece = next(self._pieces, None)
        except ClientDisconnect:
            pass
        except _FAILURES as error:
            LOG.warning("answer broken off", what=self._what, reason=reason_of(error))
        else:
            self._is_over = piece is None
            return piece
        self._has_failed = True
        return None


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Answer for an object that cannot be read or decoded before the answer has begun.

    Raises:
        Problem: instead of their errors.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileMissing(HTTPStatus.GONE, MISSING) from None
    except (NoPixelsError, NoFrameError) as error:
        raise Problem(HTTPStatus.NOT_FOUND, str(error)) from None
    except (DecodingError, DatasetError) as error:
        detail = f"{what}: {reason_of(error)}"
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, detail) from None
    except OSError as error:
        raise ArchiveError("read the object", reason_of(error)) from None
