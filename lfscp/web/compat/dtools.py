"""Answers the JSON messages of dtools, so that its page works with this node.

Rules: field names are those of dtools, also the misspelt ones. A port is a number or its text.
Unknown fields are ignored. /c-echo and /c-find wait for their job; the others answer its id at
once, and /jobs lists it. Folders must be below web.roots.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import anyio
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from lfscp.jobs.model import Job, State
from lfscp.web.actions import folders
from lfscp.web.actions.jobs import submit
from lfscp.web.actions.peers import DICOMwebIn, PeerIn, peer_given, peer_of
from lfscp.web.context import Context, Web
from lfscp.web.problems import Problem

Message = TypeVar("Message", bound=BaseModel)
router = APIRouter(tags=["dtools"])
WAIT_S: Final = 300.0  # a job may sleep before it runs
_WAITING: Final = anyio.CapacityLimiter(200)  # threads of their own, so that pages go on
_KEYS: Final = {
    "StudyInstanceUID": "StudyInstanceUID",
    "PatientName": "PatientName",
    "PatientID": "PatientID",
    "AccessionNumber": "AccessionNumber",
    "PatienDateOfBirth": "PatientBirthDate",
    "StudyDate": "StudyDate",
}
_FIELDS: Final = {
    "ae_title": "ServerAE_Title",
    "host": "Address",
    "url": "Address",
    "port": "Port",
    "calling_ae_title": "ClientAE_Title",
}


def _port(value: object) -> object:
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) <= 5):
        raise ValueError("expected a number from 1 to 65535, or its text")
    return int(text)


class DtoolsServer(BaseModel):
    """The server to ask, and our AE title: dtools' EchoReq and ServerSet."""

    Address: str = Field(min_length=1)
    Port: Annotated[int, BeforeValidator(_port), Field(ge=1, le=65535)]
    ServerAE_Title: str = Field(min_length=1)
    ClientAE_Title: str = ""

    def peer(self, request: Request, web: Web) -> Any:
        """The peer, as the client side takes it; a URL as the address is a DICOMweb server."""
        try:
            if self.Address.lower().startswith(("http://", "https://")):
                return peer_given(request, web, DICOMwebIn(url=self.Address), "/Address")
            asked = PeerIn(
                ae_title=self.ServerAE_Title,
                host=self.Address,
                port=self.Port,
                calling_ae_title=self.ClientAE_Title or None,
            )
            return peer_of(web, asked)
        except ValidationError as error:
            first = error.errors()[0]
            name = _FIELDS[str(first["loc"][0])]
            reason = f"expected {first['msg'].removeprefix('Value error, ')}"
            errors = [{"pointer": f"/{name}", "detail": reason}]
            raise Problem(422, f"{name}: {reason}", errors=errors) from None


class Find(BaseModel):
    """dtools' FindReq."""

    ServerSet: DtoolsServer
    StudyInstanceUID: str = ""
    PatientName: str = ""
    PatientID: str = ""
    AccessionNumber: str = ""
    PatienDateOfBirth: str = ""
    StudyDate: str = ""

    def keys(self) -> dict[str, str]:
        """The DICOM keys; a lone * means any value, like an empty text."""
        given = {key: str(getattr(self, name)).strip() for name, key in _KEYS.items()}
        return {key: "" if value == "*" else value for key, value in given.items()}


class Get(BaseModel):
    """dtools' CGetReq."""

    FindReq: Find
    Folder: str = ""


class Store(BaseModel):
    """dtools' CStorReq; a folder in `File` is sent with all its files."""

    ServerSet: DtoolsServer
    File: str = Field(min_length=1)


class ChangeFolder(BaseModel):
    """dtools' request to list a folder: `New` inside `CurDir`."""

    New: str = ""
    CurDir: str = ""


def _read(model: type[Message]) -> Callable[[Request], Awaitable[Message]]:
    """Read a body as JSON whatever its Content-Type, as dtools does.

    Raises:
        RequestValidationError: it is not JSON, or a field is wrong.
    """

    async def read(request: Request) -> Message:
        try:
            return model.model_validate_json(await request.body())
        except ValidationError as error:
            found = error.errors(include_url=False)
            for each in found:
                each["loc"] = ("body", *each["loc"])
            raise RequestValidationError(found) from None

    return read


def _described(model: type[BaseModel]) -> dict[str, Any]:
    """The message for the OpenAPI document, which cannot see what `_read` reads."""
    schema = model.model_json_schema()
    text = json.dumps(schema)
    for _ in schema.get("$defs", {}):  # a definition may name another
        for name, definition in schema["$defs"].items():
            reference = json.dumps({"$ref": f"#/$defs/{name}"})
            text = text.replace(reference, json.dumps(definition))
    schema = json.loads(text)
    schema.pop("$defs", None)
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


@router.post("/c-echo", openapi_extra=_described(DtoolsServer))
async def c_echo(
    request: Request, web: Context, asked: Annotated[DtoolsServer, Depends(_read(DtoolsServer))]
) -> dict[str, bool]:
    """Ping a server."""
    peer = asked.peer(request, web)
    job = await _wait(lambda: _ended(web, "echo", peer, {"retries": 0}))
    return {"IsAlive": job.state is State.DONE}


@router.post("/c-find", openapi_extra=_described(Find))
async def c_find(
    request: Request, web: Context, asked: Annotated[Find, Depends(_read(Find))]
) -> list[dict[str, str]]:
    """Search a server for studies."""
    peer, parameters = asked.ServerSet.peer(request, web), {"keys": asked.keys(), "retries": 0}
    job = await _wait(lambda: _ended(web, "find", peer, parameters))
    if job.state is not State.DONE:
        raise Problem(502, f"error: {job.reason}")
    return [
        {name: str(match.get(key) or "") for name, key in _KEYS.items()}
        for match in web.jobs.matches(job)
    ]


@router.post("/c-get", openapi_extra=_described(Get))
def c_get(request: Request, web: Context, asked: Annotated[Get, Depends(_read(Get))]) -> str:
    """Retrieve matching studies into the archive, and as files into `Folder` if it is given.

    Answers the job's id, a JSON string.
    """
    keys = {key: value for key, value in asked.FindReq.keys().items() if value}
    if not keys:
        raise Problem(422, "FindReq: give at least one key, or all studies would be retrieved")
    parameters: dict[str, Any] = {"keys": keys}
    if asked.Folder:
        parameters["folder"] = str(_folder(web, asked.Folder))
    peer = asked.FindReq.ServerSet.peer(request, web)
    return submit(web, "retrieve", peer, parameters).id


@router.post("/c-ctore", openapi_extra=_described(Store))
def c_store(request: Request, web: Context, asked: Annotated[Store, Depends(_read(Store))]) -> str:
    """Send a file or a folder to a server; answers the job's id, a JSON string."""
    path = folders.resolve(web.settings.web.roots, asked.File, "File")
    return submit(web, "send", asked.ServerSet.peer(request, web), {"paths": [str(path)]}).id


@router.post("/chd", openapi_extra=_described(ChangeFolder))
def chd(
    web: Context, asked: Annotated[ChangeFolder, Depends(_read(ChangeFolder))]
) -> dict[str, Any]:
    """List a folder; ".." leads up, but not out of web.roots."""
    roots = web.settings.web.roots
    path = asked.New if asked.New.startswith("/") else ""
    if not path and asked.CurDir:
        path = str(Path(asked.CurDir) / asked.New)
        if asked.New == ".." and any(Path(asked.CurDir) == root for root in roots):
            path = ""
    if not path and len(roots) == 1:
        path = str(roots[0])
    found = folders.listing(roots, path)
    files = [
        {"Name": entry.name, "Path": entry.path, "IsDir": entry.is_folder, "Size": entry.size}
        for entry in found.entries
    ]
    return {"Files": files, "CurDir": found.path}


@router.api_route("/jobs", methods=["POST"])
def jobs(web: Context) -> list[str]:
    """The active and the sleeping jobs, one line each."""
    found = web.jobs.jobs([State.ACTIVE, State.SLEEPING], limit=1000)
    found.sort(key=lambda job: (job.state is not State.ACTIVE, job.created_at))
    return [job.description for job in found]


async def _wait(work: Callable[[], Job]) -> Job:
    return await anyio.to_thread.run_sync(work, limiter=_WAITING)


def _ended(web: Web, kind: str, peer: Any, parameters: dict[str, Any]) -> Job:
    """Submit a job and wait for its end.

    Raises:
        Problem: it takes too long; it goes on, and /jobs lists it.
    """
    with web.jobs.subscribe() as news:
        job = submit(web, kind, peer, parameters)
        until = time.monotonic() + WAIT_S
        while not job.state.is_end:
            if news.is_closed:
                raise Problem(503, "the node is stopping")
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise Problem(504, f"job {job.id} is still running; /jobs lists it")
            changed = news.next(left_s)
            if changed is not None and changed.id == job.id:
                job = changed
            elif changed is None:
                job = web.jobs.job(job.id)
    return job


def _folder(web: Web, text: str) -> Path:
    folder = folders.resolve(web.settings.web.roots, text, "Folder")
    if not folder.is_dir():
        raise Problem(422, f"Folder: {text} is not a folder")
    return folder
