"""Answers /api/jobs: submit jobs, watch, cancel, pause, resume, retry and forget them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lfscp.jobs.model import Job, UnknownJobError, WrongStateError, is_result_apart
from lfscp.web.actions import cursors
from lfscp.web.actions.jobs import act, job_of, shown, submit
from lfscp.web.actions.packages import zip_answer
from lfscp.web.actions.peers import peer_given
from lfscp.web.api.models import CollectIn, EchoIn, ExportIn, FindIn, RetrieveIn, SendIn
from lfscp.web.client_watch import Watch
from lfscp.web.context import Context, Web, caller_of, visitor_of
from lfscp.web.problems import Problem, respond
from lfscp.web.security.refusals import note_refusal

router = APIRouter(prefix="/api", tags=["jobs"])

_Asked = EchoIn | FindIn | RetrieveIn | SendIn | CollectIn
StateName = Literal["sleeping", "active", "paused", "done", "failed", "cancelled"]


@router.post("/echo", status_code=202)
def echo(request: Request, web: Context, asked: EchoIn, response: Response) -> dict[str, Any]:
    """Verify that a peer answers (C-ECHO, or a DICOMweb search)."""
    return _submit(request, web, "echo", asked, response)


@router.post("/find", status_code=202)
def find(request: Request, web: Context, asked: FindIn, response: Response) -> dict[str, Any]:
    """Search a peer (C-FIND or QIDO-RS); the matches are in the job's `result`."""
    return _submit(request, web, "find", asked, response)


@router.post("/retrieve", status_code=202)
def retrieve(
    request: Request, web: Context, asked: RetrieveIn, response: Response
) -> dict[str, Any]:
    """Retrieve objects from a peer (C-GET; C-MOVE if it has no C-GET; WADO-RS)."""
    return _submit(request, web, "retrieve", asked, response)


@router.post("/send", status_code=202)
def send(request: Request, web: Context, asked: SendIn, response: Response) -> dict[str, Any]:
    """Send studies of the archive, or files, to a peer (C-STORE or STOW-RS)."""
    return _submit(request, web, "send", asked, response)


@router.post("/export", status_code=202)
def export(request: Request, web: Context, asked: ExportIn, response: Response) -> dict[str, Any]:
    """Write studies of the archive as files into a folder below web.roots."""
    parameters = {**asked.model_dump(), "user": caller_of(request).name}
    job = submit(web, "export", [], parameters)
    response.headers["Location"] = f"/api/jobs/{job.id}"
    return job.to_json()


@router.post("/collect", status_code=202)
def collect(request: Request, web: Context, asked: CollectIn, response: Response) -> dict[str, Any]:
    """Retrieve matching studies from several peers; `/zip` below the job is their ZIP."""
    return _submit(request, web, "collect", asked, response)


def _submit(
    request: Request, web: Web, kind: str, asked: _Asked, response: Response
) -> dict[str, Any]:
    """Submit a job for the peer of a request, or for its peers."""
    parameters = asked.model_dump(exclude={"peer", "peers"}, exclude_none=True)
    if isinstance(asked, CollectIn):
        peer = [
            peer_given(request, web, each, f"/peers/{at}") for at, each in enumerate(asked.peers)
        ]
    else:
        peer = peer_given(request, web, asked.peer)
    job = submit(web, kind, peer, parameters)
    response.headers["Location"] = f"/api/jobs/{job.id}"
    return job.to_json()


@router.get("/jobs")
def jobs(
    request: Request,
    web: Context,
    state: Annotated[list[StateName] | None, Query(description="Only these states.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=cursors.MAX)] = 0,
) -> list[dict[str, Any]]:
    """Jobs, newest first. A long `result` is null here; ask for the job to get it."""
    role = caller_of(request).role
    return [shown(job, role) for job in web.jobs.jobs(state, limit, offset)]


@router.get("/jobs/{job_id}", response_model=dict[str, Any])
def job(request: Request, web: Context, job_id: str) -> dict[str, Any] | StreamingResponse:
    """One job."""
    found = job_of(web, job_id)
    if is_result_apart(found):
        return StreamingResponse(_with_result(web, found), media_type="application/json")
    return shown(found, caller_of(request).role)


def _with_result(web: Web, found: Job) -> Iterator[str]:
    """A job as JSON in pieces: its result is too large for the memory."""
    facts = found.to_json()
    del facts["result"]
    yield json.dumps(facts)[:-1] + ', "result": '
    empty = True
    for piece in web.jobs.result(found):
        empty = False
        yield piece
    yield "null}" if empty else "}"


@router.get("/jobs/{job_id}/zip", response_class=StreamingResponse)
def job_zip(web: Context, watch: Watch, job_id: str) -> StreamingResponse:
    """The studies of a collect or retrieve job, as a ZIP with a DICOMDIR."""
    try:
        answer = zip_answer(lambda: web.jobs.package(job_id, watch.look), f"studies-{job_id[:8]}")
    except UnknownJobError as error:
        raise Problem(404, str(error)) from None
    except WrongStateError as error:
        raise Problem(409, str(error)) from None
    for study_uid in job_of(web, job_id).result["studies"]:
        web.views.note(study_uid, "ZIP")
    return answer


@router.post("/jobs/{job_id}/{wish}")
def wish(
    request: Request,
    web: Context,
    job_id: str,
    wish: Literal["cancel", "pause", "resume", "retry"],
) -> dict[str, Any]:
    """Cancel, pause, resume or retry a job. A correction needs the role `admin`."""
    role = caller_of(request).role
    return shown(act(web, job_id, wish, role), role)


@router.delete("/jobs/{job_id}", status_code=204)
def forget(request: Request, web: Context, job_id: str) -> None:
    """Remove an ended job from the list. A correction needs the role `admin`."""
    act(web, job_id, "forget", caller_of(request).role)


@router.get("/events", tags=["node"], response_class=StreamingResponse)
async def events(web: Context, request: Request) -> StreamingResponse:
    """Server-sent events: `job` for each change of a job, `node` for each change of the node."""
    return EventStream(web, request)


class EventStream(StreamingResponse):
    """The live view of one visitor, who may open a limited number of them."""

    def __init__(self, web: Web, request: Request) -> None:
        super().__init__(
            web.events.stream(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._share = web.event_streams
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, or refuse them if too many live views are open."""
        visitor = visitor_of(self._request)
        if shortage := self._share.take(visitor):
            note_refusal("event_streams", visitor)
            status = HTTPStatus.TOO_MANY_REQUESTS if shortage == "each" else 503
            detail = "too many live views are open (web.max_event_streams)"
            problem = Problem(status, detail, headers={"Retry-After": "10"})
            await respond(self._request, problem)(scope, receive, send)
            return
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._share.give(visitor)
