"""Stores uploads at /api/instances: one DICOM file per request, or several in a form or ZIP.

Rules: a body goes to disk as it arrives, on the archive's volume, so its size needs no memory. Then
the archive takes the file over, like a spooled C-STORE. The files of a ZIP are
unpacked one by one. If a body fills the disk, it is refused when the reserve is reached.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from lfscp.archive.store.spool import write_all
from lfscp.archive.zip_files import entries, is_zip
from lfscp.errors import OperationError
from lfscp.observe import audit
from lfscp.services.audit_events import patient_of
from lfscp.web.actions.storing import UPLOAD, notes_of, store_spooled
from lfscp.web.api.models import StoredOut
from lfscp.web.api.upload_outcome import UploadOutcome
from lfscp.web.context import Context, Web, visitor_of
from lfscp.web.problems import Problem
from lfscp.web.security.forms import MAX_FILES, FormParser
from lfscp.web.security.received_bodies import Feed, received_body
from lfscp.web.security.refusals import note_refusal

router = APIRouter(prefix="/api", tags=["archive"])
MEGABYTE: Final = 1_000_000
PIECE_BYTES: Final = 1 << 20
MAX_FORMS: Final = 16  # forms and ZIPs at once, if enough files may be open
MAX_FORMS_OF_VISITOR: Final = 2
OPEN_FILES_OF_FORM: Final = MAX_FILES
_LOOK_AT_SPACE_BYTES: Final = 16 << 20
_BINARY: Final = {"type": "string", "format": "binary"}
_FORM: Final = {"type": "object", "properties": {"files": {"type": "array", "items": _BINARY}}}
_CONTENT: Final = {
    "application/dicom": {"schema": _BINARY},
    "application/zip": {"schema": _BINARY},
    "multipart/form-data": {"schema": _FORM},
}


def most_forms(connections: int) -> int:
    """How many forms and ZIPs may be read at once.

    Args:
        connections: their limit; as many files of forms may be open.
    """
    return max(1, min(MAX_FORMS, connections // OPEN_FILES_OF_FORM))


@router.post(
    "/instances",
    status_code=201,
    response_model=None,
    openapi_extra={"requestBody": {"required": True, "content": _CONTENT}},
)
async def upload(web: Context, request: Request) -> Any:
    """Store a DICOM file (the body) or several (a form, a ZIP), and answer the outcome of each.

    For one file, the answer is its outcome. For a form of up to 100 files, or a ZIP, the answer has
    the lists `stored` and `refused`.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await _store_form(web, request)
    outcome = UploadOutcome(request.url.path)
    receive = partial(_receive, request)
    try:
        stored = await _store_body(web, receive, outcome, visitor=visitor_of(request))
    except ClientDisconnect:
        raise Problem(400, "the upload ended too early; nothing was stored") from None
    return stored or outcome.response()


async def _receive(request: Request, feed: Feed) -> None:
    """Hand the body of a request on: where it can, a thread receives it."""
    body = received_body(request)
    if body is not None:
        await body.feed_to(feed)
        return
    async with aclosing(request.stream()) as stream:
        async for piece in stream:
            await run_in_threadpool(feed, memoryview(piece))


async def _store_form(web: Web, request: Request) -> Response:
    outcome = UploadOutcome(request.url.path)
    with _place(web, visitor_of(request)):
        form = await _form(web, request)
        try:
            files = [each for _, each in form.multi_items() if isinstance(each, UploadFile)]
            if not files:
                raise Problem(422, "the form has no file")
            for file in files:
                name = file.filename or ""
                if outcome.is_full:
                    outcome.refuse_rest(name)
                    break
                try:
                    stored = await _store_body(web, partial(_read, file), outcome, name)
                except OperationError as error:
                    outcome.refuse(name, error)
                else:
                    if stored is not None:
                        outcome.store(stored)
        finally:
            await form.close()
    return outcome.response()


async def _form(web: Web, request: Request) -> FormData:
    """Read a form.

    Raises:
        Problem: it is not a form, has too many parts, or the disk is full.
    """
    async with (
        aclosing(request.stream()) as body,
        aclosing(_while_there_is_space(web, body)) as stream,
    ):
        try:
            return await FormParser(request.headers, stream, web.archive.incoming_dir).parse()
        except MultiPartException as error:
            raise Problem(400, f"the form cannot be read: {error.message}") from None
        except ClientDisconnect:
            raise Problem(400, "the upload ended too early; nothing was stored") from None
        except OSError as error:
            raise _not_written(error) from None


async def _while_there_is_space(
    web: Web, stream: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """The pieces of a body; raises as `_SpaceWatch.note`."""
    space = _SpaceWatch(web)
    async for piece in stream:
        yield piece
        space.note(len(piece))


class _SpaceWatch:
    """Looks now and then whether the disk has room while a body is written."""

    def __init__(self, web: Web) -> None:
        self._space = web.archive.space
        self._unchecked = 0

    def note(self, count: int) -> None:
        """So many bytes are written.

        Raises:
            OperationError: the disk has less than its reserve.
        """
        self._unchecked += count
        if self._unchecked >= _LOOK_AT_SPACE_BYTES:
            self._unchecked = 0
            self._space.require_for(0)


def _not_written(error: OSError) -> Problem:
    return Problem(507, f"the upload cannot be written: {error.strerror}")


@contextmanager
def _place(web: Web, visitor: str) -> Iterator[None]:
    """A place among the forms and ZIPs that are read at once.

    Raises:
        Problem: all places are taken.
    """
    if web.forms.take(visitor):
        note_refusal("forms", visitor)
        detail = "too many forms and ZIPs at once; try again later, or upload single files"
        raise Problem(503, detail, headers={"Retry-After": "5"})
    try:
        yield
    finally:
        web.forms.give(visitor)


async def _read(file: UploadFile, feed: Feed) -> None:
    """Hand a file of a form on."""
    while piece := await file.read(PIECE_BYTES):
        await run_in_threadpool(feed, memoryview(piece))


async def _store_body(
    web: Web,
    hand_on: Callable[[Feed], Awaitable[None]],
    outcome: UploadOutcome,
    name: str = "",
    visitor: str = "",
) -> StoredOut | None:
    """Write a body to disk, then store it, or the files in it.

    Args:
        hand_on: hands all of the body on, in blocks.
        outcome: notes each file of a ZIP.
        name: of the ZIP, put before the names of its files.
        visitor: takes a place for a ZIP; "" has one already.
    Returns:
        What was stored; None for a ZIP.
    Raises:
        OperationError: it is no DICOM file, or the archive refuses it.
    """
    spooled = web.archive.incoming_dir / f"upload-{uuid.uuid4().hex}"
    try:
        await _spool(web, hand_on, spooled)
        return await run_in_threadpool(_store_spooled, web, spooled, outcome, name, visitor)
    finally:
        with contextlib.suppress(FileNotFoundError):
            spooled.unlink()


async def _spool(web: Web, hand_on: Callable[[Feed], Awaitable[None]], path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    space = _SpaceWatch(web)
    try:
        with open(descriptor, "wb", buffering=0) as file:

            def write(block: memoryview) -> None:
                write_all(file, block)
                space.note(len(block))

            await hand_on(write)
    except OSError as error:
        raise _not_written(error) from None


def _store_spooled(
    web: Web, spooled: Path, outcome: UploadOutcome, name: str, visitor: str
) -> StoredOut | None:
    with spooled.open("rb") as file:
        beginning = file.read(132)
    if not is_zip(beginning):
        return _store(web, spooled)
    with _place(web, visitor) if visitor else contextlib.nullcontext():
        _store_zip(web, spooled, outcome, f"{name}/" if name else "")
    return None


def _store_zip(web: Web, spooled: Path, outcome: UploadOutcome, folder: str) -> None:
    """Store the files of a ZIP; a file that is refused does not stop the others."""
    max_bytes = web.settings.storage.max_object_mb * MEGABYTE
    for entry in entries(spooled, web.archive, max_bytes):
        if outcome.is_full:
            outcome.refuse_rest(folder + entry.name)
            return
        try:
            if entry.problem is not None:
                outcome.refuse(folder + entry.name, entry.problem)
            elif entry.path is not None:
                outcome.store(_store(web, entry.path))
        except OperationError as error:
            outcome.refuse(folder + entry.name, error)


def _store(web: Web, spooled: Path) -> StoredOut:
    found = store_spooled(web, spooled, UPLOAD)
    stored = found.stored
    if audit.is_on():
        transfer = audit.Transfer({found.sop_class_uid: 1}, stored.size)
        patient = patient_of(web.archive, stored)
        audit.instances_received(audit.AuditedPeer("", ""), stored.study_uid, transfer, patient)
    return StoredOut(
        outcome=stored.outcome.value,
        study_instance_uid=stored.study_uid,
        series_instance_uid=stored.series_uid,
        sop_instance_uid=found.sop_instance_uid,
        size=stored.size,
        notes=notes_of(found),
    )
