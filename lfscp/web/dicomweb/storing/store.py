"""Answers STOW-RS: POST of objects to /studies and /studies/{study}.

Rules: a body is read in blocks, and each block is worked on in a thread, so that a request of any
size takes little memory and the event loop waits for no disk. Where it can, the thread receives the
blocks itself. What is whole is stored at once. If the body then breaks off, the answer still says
what was stored; if nothing was, it is an error.
Source: PS3.18 section 10.5.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from lfscp.dicomweb.content_type import ContentType
from lfscp.dicomweb.errors import BodyError
from lfscp.dicomweb.media_types import DICOM
from lfscp.dicomweb.multipart_reader import MultipartReader, Parts
from lfscp.observe.logging import get_logger
from lfscp.web.context import Context, Web, visitor_of
from lfscp.web.dicomweb.accept import MULTIPART
from lfscp.web.dicomweb.addresses import PREFIX, UID, base_url
from lfscp.web.dicomweb.storing import metadata
from lfscp.web.dicomweb.storing.answer import JSON, XML, answer_of, answer_type
from lfscp.web.dicomweb.storing.outcome import Outcome
from lfscp.web.dicomweb.storing.parts import ReceivedParts, Root
from lfscp.web.problems import Problem
from lfscp.web.security.received_bodies import received_body

router = APIRouter(prefix=PREFIX, include_in_schema=False)
LOG: Final = get_logger("lfscp.web")
BLOCK_BYTES: Final = 512 << 10  # of which two are in memory: one is worked on
_ROOTS: Final = frozenset({DICOM, *metadata.MEDIA_TYPES})
_TAKEN: Final = f"{MULTIPART} with a type of {DICOM}, {JSON} or {XML}, or one of these alone"


@router.post("/studies")
async def store(web: Context, request: Request) -> Response:
    """Store the objects of a request."""
    async with web.turns.of(visitor_of(request)):
        return await _store(web, request)


@router.post("/studies/{study}")
async def store_in_study(web: Context, request: Request, study: UID) -> Response:
    """Store the objects of a request, if they belong to this study."""
    async with web.turns.of(visitor_of(request)):
        return await _store(web, request, study)


class _WholeBody:
    """Reads a body that is one part."""

    def __init__(self, media_type: str, parts: Parts) -> None:
        parts.begin({"content-type": media_type})
        self._parts = parts
        self._is_empty = True

    def feed(self, block: bytes | memoryview) -> None:
        """Take the next bytes of the body."""
        self._is_empty = False
        self._parts.data(memoryview(block))

    def close(self) -> None:
        """Take note that the body has ended."""
        if self._is_empty:
            raise BodyError("the body is empty")
        self._parts.end()


_Reader = MultipartReader | _WholeBody


class _Work:
    """What threads do for one request: one thing at a time, and nothing behind the end.

    A task that is called off waits for no thread: while the server stops, one may be at work still.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_over = False

    def do(self, act: Callable[[], None]) -> None:
        """Do this, unless all is over.

        Raises:
            ClientDisconnect: it is.
        """
        with self._lock:
            if self._is_over:
                raise ClientDisconnect
            act()

    def end(self, act: Callable[[], None]) -> None:
        """Do the last thing, once."""
        with self._lock:
            if not self._is_over:
                self._is_over = True
                act()


async def _store(web: Web, request: Request, study_uid: str = "") -> Response:
    wanted = answer_type(request)
    content_type = _content_type(request)
    address = request.client.host if request.client else ""
    outcome = Outcome(web, base_url(request), address)
    root = Root(_root_type(content_type), content_type.parameters.get("start", ""))
    parts = ReceivedParts(web, outcome, root, visitor_of(request), study_uid)
    work = _Work()
    try:
        reader = await run_in_threadpool(_reader, content_type, parts)
        await _read(request, reader, work)
        await run_in_threadpool(work.do, partial(_finish, reader, parts))
    except BodyError as error:
        await run_in_threadpool(work.do, parts.settle)
        if not outcome.stored:
            LOG.warning("request refused", peer=address, reason=error.reason)
            raise Problem(error.status, error.reason) from None
        await run_in_threadpool(work.do, partial(parts.break_off, error))
    except ClientDisconnect:
        await run_in_threadpool(work.do, parts.settle)
        detail = "the body ended too early; what was not whole was not stored"
        LOG.warning("request broke off", peer=address, stored=outcome.stored)
        raise Problem(HTTPStatus.BAD_REQUEST, detail) from None
    finally:
        await _end(work, partial(_close, parts, outcome))
    return await run_in_threadpool(answer_of, outcome, wanted)


def _reader(content_type: ContentType, parts: Parts) -> _Reader:
    if content_type.media_type == MULTIPART:
        boundary = content_type.parameters.get("boundary", "")
        return MultipartReader(boundary.encode("latin_1"), parts)
    return _WholeBody(content_type.media_type, parts)


async def _read(request: Request, reader: _Reader, work: _Work) -> None:
    """Read the body: in a thread, or else the next block comes while a thread works on one."""
    body = received_body(request)
    if body is not None:
        await body.feed_to(lambda block: work.do(partial(reader.feed, block)))
        return
    task: asyncio.Task[None] | None = None
    try:
        async with aclosing(_blocks(request)) as blocks:
            async for block in blocks:
                if task is not None:
                    await task
                task = asyncio.create_task(
                    run_in_threadpool(work.do, partial(_feed, reader, block))
                )
    finally:
        if task is not None:
            await task


def _feed(reader: _Reader, block: list[bytes]) -> None:
    for piece in block:
        reader.feed(piece)


async def _blocks(request: Request) -> AsyncGenerator[list[bytes], None]:
    """The pieces of the body in blocks that are worth a change of threads."""
    pieces: list[bytes] = []
    size = 0
    async with aclosing(request.stream()) as stream:
        async for piece in stream:
            pieces.append(piece)
            size += len(piece)
            if size >= BLOCK_BYTES:
                yield pieces
                pieces, size = [], 0
    if size:
        yield pieces


def _finish(reader: _Reader, parts: ReceivedParts) -> None:
    try:
        reader.close()
    finally:
        parts.finish()


async def _end(work: _Work, last: Callable[[], None]) -> None:
    try:
        await run_in_threadpool(work.end, last)
    except asyncio.CancelledError:  # the server stops: nobody waits for its event loop any more
        work.end(last)
        raise


def _close(parts: ReceivedParts, outcome: Outcome) -> None:
    try:
        parts.close()
    finally:
        outcome.record()


def _content_type(request: Request) -> ContentType:
    """What the body is.

    Raises:
        Problem: nothing that is stored (415).
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        detail = "a body with a Content-Encoding is not taken"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    found = ContentType.read(request.headers.get("content-type", ""))
    if found.media_type == MULTIPART:
        if found.parameters.get("type", DICOM).lower() in _ROOTS:
            return found
    elif found.media_type in _ROOTS:
        return found
    raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Type must be {_TAKEN}")


def _root_type(content_type: ContentType) -> str:
    if content_type.media_type == MULTIPART:
        return content_type.parameters.get("type", DICOM).lower()
    return content_type.media_type
