"""Submits jobs, finds them, and cancels, pauses, resumes or retries them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from lfscp.config.roles import Role
from lfscp.jobs.balancer import TerminatedError
from lfscp.jobs.model import Job, JobKind, TooManyJobsError, UnknownJobError, WrongStateError
from lfscp.jobs.peers.described import JobPeer
from lfscp.jobs.request import InvalidRequestError, JobRequest
from lfscp.web.context import Web
from lfscp.web.problems import Problem, pointer_to


def submit(web: Web, kind: str, peer: JobPeer | list[JobPeer], parameters: dict[str, Any]) -> Job:
    """Hand a job to the balancer.

    Raises:
        Problem: a parameter is wrong, the node is stopping, or too many jobs are waiting.
    """
    try:
        return web.jobs.submit(JobRequest(kind, peer, parameters))
    except InvalidRequestError as error:
        path = [] if error.field == "parameters" else error.field.split(".", 2)
        pointer = pointer_to(part for part in path if part != "parameters")
        errors = [{"pointer": pointer, "detail": error.reason}]
        detail = f"{pointer}: {error.reason}" if pointer else error.reason
        raise Problem(422, detail, errors=errors) from None
    except (TerminatedError, TooManyJobsError) as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None


def job_of(web: Web, job_id: str) -> Job:
    """One job.

    Raises:
        Problem: it does not exist.
    """
    try:
        return web.jobs.job(job_id)
    except UnknownJobError as error:
        raise Problem(404, str(error)) from None


def shown(job: Job, role: Role) -> dict[str, Any]:
    """A job as JSON; who may only look does not see what a correction changes."""
    return job.to_json(with_changes=role.may(Role.WORK))


def act(web: Web, job_id: str, wish: str, role: Role) -> Job:
    """Cancel, pause, resume, retry or forget a job.

    Args:
        role: of who wishes it; a correction needs that of who may begin one.
    Raises:
        Problem: it does not exist, the role is too low, or its state does not allow that.
    """
    job = job_of(web, job_id)
    if job.kind is JobKind.CORRECT and not role.may(Role.ADMIN):
        detail = f"your login has the role {role}; a correction needs the role {Role.ADMIN}"
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    try:
        return getattr(web.jobs, wish)(job_id) or job
    except UnknownJobError as error:
        raise Problem(404, str(error)) from None
    except WrongStateError as error:
        raise Problem(409, str(error)) from None
