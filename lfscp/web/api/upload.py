"""/api/instances: storing what is uploaded, one DICOM file per request or several in a form.

Rules: a body goes to disk as it arrives, on the archive's volume, so memory stays bounded
whatever its size; then the archive takes the file over, as it takes a spooled C-STORE.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from lfscp.archive.archive import Received, Stored
from lfscp.archive.errors import ArchiveError, CannotUnderstand
from lfscp.archive.part10 import read_part10
from lfscp.observe import audit, metrics
from lfscp.observe.logging import get_logger
from lfscp.services.trail import patient_of
from lfscp.web.api.models import StoredOut
from lfscp.web.context import Context, Web
from lfscp.web.problems import Problem, document, of_archive

router = APIRouter(prefix="/api", tags=["archive"])
LOG: Final = get_logger("lfscp.web")
HEAD_BYTES: Final = 65_536
PIECE_BYTES: Final = 1 << 20
MAX_FILES: Final = 100  # in one form: each is in memory up to 1 MB, then an open file


@dataclass(frozen=True, slots=True)
class _Kept:
    """An uploaded object that was stored."""

    stored: Stored
    sop_instance_uid: str


@router.post(
    "/instances",
    status_code=201,
    response_model=None,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/dicom": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "files": {
                                "type": "array",
                                "items": {"type": "string", "format": "binary"},
                            }
                        },
                    }
                },
            },
        }
    },
)
async def upload(web: Context, request: Request) -> Any:
    """Store a DICOM file (the body), or several (a form); answers what became of each.

    With a body the answer is one outcome; with a form of up to 100 files, `stored` and `refused`.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await _store_form(web, request)
    try:
        return await _store_stream(web, request.stream())
    except ClientDisconnect:
        raise Problem(400, "the upload ended too early; nothing was stored") from None


async def _store_form(web: Web, request: Request) -> dict[str, Any]:
    stored: list[StoredOut] = []
    refused: list[dict[str, Any]] = []
    async with request.form(max_files=MAX_FILES) as form:
        files = [each for _, each in form.multi_items() if isinstance(each, UploadFile)]
        if not files:
            raise Problem(422, "the form holds no file")
        for file in files:
            try:
                stored.append(await _store_stream(web, _pieces(file)))
            except ArchiveError as error:
                problem = document(of_archive(error), request.url.path)
                refused.append(problem | {"file": file.filename or ""})
    return {"stored": [each.model_dump() for each in stored], "refused": refused}


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(PIECE_BYTES):
        yield piece


async def _store_stream(web: Web, stream: AsyncIterator[bytes]) -> StoredOut:
    """Write a body to disk, then store it.

    Raises:
        ArchiveError: it is no DICOM file, or the archive refuses it.
    """
    spooled = web.archive.incoming_dir / f"upload-{uuid.uuid4().hex}"
    try:
        await _spool(stream, spooled)
        kept = await run_in_threadpool(_store, web, spooled)
    finally:
        with contextlib.suppress(FileNotFoundError):
            spooled.unlink()
    return StoredOut(
        outcome=kept.stored.outcome.value,
        study_instance_uid=kept.stored.study_uid,
        series_instance_uid=kept.stored.series_uid,
        sop_instance_uid=kept.sop_instance_uid,
        size=kept.stored.size,
    )


async def _spool(stream: AsyncIterator[bytes], path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        async for piece in stream:
            if piece:
                await asyncio.to_thread(_write_all, descriptor, piece)
    except OSError as error:
        reason = f"the upload cannot be written: {error.strerror}"
        raise Problem(507, reason) from None
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _store(web: Web, spooled: Path) -> _Kept:
    with spooled.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise CannotUnderstand("the upload is empty")
    meta = read_part10(head)
    stored = web.archive.store(
        Received(
            meta.sop_class_uid,
            meta.sop_instance_uid,
            meta.transfer_syntax_uid,
            calling_ae_title="",
            spooled_path=spooled,
            dataset_offset=meta.dataset_offset,
        )
    )
    if audit.is_on():
        transfer = audit.Transfer({meta.sop_class_uid: 1}, stored.size)
        patient = patient_of(web.archive, stored.study_uid)
        audit.instances_received(audit.Peer("", ""), stored.study_uid, transfer, patient)
    metrics.RECEIVED_INSTANCES.of("upload").add()
    metrics.RECEIVED_BYTES.of("upload").add(stored.size)
    LOG.info(
        "uploaded",
        sop_class_uid=meta.sop_class_uid,
        sop_instance_uid=meta.sop_instance_uid,
        outcome=stored.outcome.value,
        bytes=stored.size,
    )
    return _Kept(stored, meta.sop_instance_uid)
