"""/api: jobs at other application entities: ask for one, watch it, cancel, pause, try again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lfscp.jobs.model import (
    Job,
    UnknownJobError,
    WrongStateError,
    is_result_apart,
)
from lfscp.jobs.package import PackageError
from lfscp.web.actions import cursors
from lfscp.web.actions.jobs import act, job_of, submit
from lfscp.web.actions.peers import peer_of
from lfscp.web.api.models import CollectIn, EchoIn, FindIn, RetrieveIn, SendIn
from lfscp.web.context import Context, Web, visitor_of
from lfscp.web.problems import Problem, respond
from lfscp.web.security.refusals import note_refusal

router = APIRouter(prefix="/api", tags=["jobs"])

StateName = Literal["sleeping", "active", "paused", "done", "failed", "cancelled"]


@router.post("/echo", status_code=202)
def echo(web: Context, asked: EchoIn, response: Response) -> dict[str, Any]:
    """Verify that a peer answers (C-ECHO)."""
    peer = peer_of(web, asked.peer)
    return _accepted(submit(web, "echo", peer, {"retries": asked.retries}), response)


@router.post("/find", status_code=202)
def find(web: Context, asked: FindIn, response: Response) -> dict[str, Any]:
    """Search a peer (C-FIND); the matches are in the job's `result`."""
    parameters = asked.model_dump(exclude={"peer"}, exclude_none=True)
    return _accepted(submit(web, "find", peer_of(web, asked.peer), parameters), response)


@router.post("/retrieve", status_code=202)
def retrieve(web: Context, asked: RetrieveIn, response: Response) -> dict[str, Any]:
    """Bring objects from a peer (C-GET, or C-MOVE when it has none)."""
    parameters = asked.model_dump(exclude={"peer"}, exclude_none=True)
    return _accepted(submit(web, "retrieve", peer_of(web, asked.peer), parameters), response)


@router.post("/send", status_code=202)
def send(web: Context, asked: SendIn, response: Response) -> dict[str, Any]:
    """Send studies of the archive, or files, to a peer (C-STORE)."""
    parameters = asked.model_dump(exclude={"peer"}, exclude_none=True)
    return _accepted(submit(web, "send", peer_of(web, asked.peer), parameters), response)


@router.post("/collect", status_code=202)
def collect(web: Context, asked: CollectIn, response: Response) -> dict[str, Any]:
    """Bring what matches from several peers together; the job's ZIP is at `/zip` below it."""
    peers = [peer_of(web, each, f"/peers/{at}") for at, each in enumerate(asked.peers)]
    parameters = asked.model_dump(exclude={"peers"}, exclude_none=True)
    return _accepted(submit(web, "collect", peers, parameters), response)


@router.get("/jobs")
def jobs(
    web: Context,
    state: Annotated[list[StateName] | None, Query(description="Only those.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=cursors.MAX)] = 0,
) -> list[dict[str, Any]]:
    """Jobs, the newest first; a long `result` is null here, and comes with the job alone."""
    return [job.to_json() for job in web.jobs.jobs(state, limit, offset)]


@router.get("/jobs/{job_id}", response_model=dict[str, Any])
def job(web: Context, job_id: str) -> dict[str, Any] | StreamingResponse:
    """One job as it is now."""
    found = job_of(web, job_id)
    if is_result_apart(found):
        return StreamingResponse(_with_result(web, found), media_type="application/json")
    return found.to_json()


def _with_result(web: Web, found: Job) -> Iterator[str]:
    """A job as JSON in pieces, with a result that is too large to be held."""
    facts = found.to_json()
    del facts["result"]
    yield json.dumps(facts)[:-1] + ', "result": '
    empty = True
    for piece in web.jobs.result(found):
        empty = False
        yield piece
    yield "null}" if empty else "}"


@router.get("/jobs/{job_id}/zip", response_class=StreamingResponse)
def job_zip(web: Context, job_id: str) -> StreamingResponse:
    """The studies of a collect or retrieve job as a ZIP with a DICOMDIR."""
    try:
        pieces = web.jobs.package(job_id)
    except UnknownJobError as error:
        raise Problem(404, str(error)) from None
    except WrongStateError as error:
        raise Problem(409, str(error)) from None
    except PackageError as error:
        raise Problem(503 if error.passing else 413, str(error)) from None
    for study_uid in job_of(web, job_id).result["studies"]:
        web.views.note(study_uid, "ZIP")
    name = f"studies-{job_id[:8]}.zip"
    return StreamingResponse(
        pieces,
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.post("/jobs/{job_id}/{wish}")
def wish(
    web: Context, job_id: str, wish: Literal["cancel", "pause", "resume", "retry"]
) -> dict[str, Any]:
    """Change what becomes of a job."""
    return act(web, job_id, wish).to_json()


@router.delete("/jobs/{job_id}", status_code=204)
def forget(web: Context, job_id: str) -> None:
    """Drop a job that has ended from the list."""
    act(web, job_id, "forget")


@router.get("/events", tags=["node"], response_class=StreamingResponse)
async def events(web: Context, request: Request) -> StreamingResponse:
    """Server-sent events: `job` with each change of a job, `node` with the pool's state."""
    return EventStream(web, request)


class EventStream(StreamingResponse):
    """The live view of one visitor, who has only so many."""

    def __init__(self, web: Web, request: Request) -> None:
        super().__init__(
            web.events.stream(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._share = web.event_streams
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or say that there are too many; its place is free again when it ends."""
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


def _accepted(job: Job, response: Response) -> dict[str, Any]:
    response.headers["Location"] = f"/api/jobs/{job.id}"
    return job.to_json()
