"""Answers /api/routes: the routes, their queues, and why a study goes or does not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from lfscp.routing.steering import QueueState, StudyOutcome, queue_states, study_outcomes
from lfscp.web.actions import routes
from lfscp.web.context import Context, caller_of

router = APIRouter(prefix="/api", tags=["routes"])


class QueueOut(BaseModel):
    """One queue: what of a route waits for one destination."""

    route: str
    destination: str
    waiting: int
    held: int
    given_up: int
    size: int
    oldest_s: float
    is_paused: bool
    is_served: bool
    failures: int
    retry_in_s: float
    reason: str
    sent: int
    sent_bytes: int
    last_sent_at: int
    is_configured: bool
    given_up_reason: str

    @classmethod
    def of(cls, state: QueueState) -> QueueOut:
        """From what the index says."""
        return cls.model_validate(asdict(state))


class RouteOut(BaseModel):
    """One route of the configuration, with its queues."""

    name: str
    enabled: bool
    on: str
    when: dict[str, object]
    actions: list[str]
    send_to: list[str]
    mode: str
    queues: list[QueueOut]


class SteeredOut(BaseModel):
    """How many objects a wish concerned."""

    instances: int


class StudyOutcomeOut(BaseModel):
    """What became of the objects of a study in one queue."""

    route: str
    destination: str
    sent: int
    failed: int
    waiting: int
    held: int
    given_up: int
    last_at: int
    reason: str

    @classmethod
    def of(cls, outcome: StudyOutcome) -> StudyOutcomeOut:
        """From what the index says."""
        return cls.model_validate(asdict(outcome))


class ExplainedOut(BaseModel):
    """What a route does with a study, and why."""

    route: str
    goes: bool
    reason: str
    destinations: list[str]
    when: str


class StudyRoutesOut(BaseModel):
    """Where a study has gone, and where it goes by the routes of now."""

    outcomes: list[StudyOutcomeOut]
    routes: list[ExplainedOut]


@router.get("/routes")
def list_routes(web: Context) -> list[RouteOut]:
    """The routes of the configuration, with their queues."""
    found = routes.routes_of(web)
    queues = [QueueOut.of(each) for each in queue_states(web.archive.index, found)]
    return [
        RouteOut(
            **route.settings.model_dump(include={"name", "enabled", "on", "when", "mode"}),
            actions=[action.words for action in route.actions],
            send_to=list(route.settings.send_to),
            queues=[each for each in queues if each.route == route.name],
        )
        for route in found
    ]


@router.get("/routes/queues")
def list_queues(web: Context) -> list[QueueOut]:
    """All queues, also of routes that are no longer configured but have objects left."""
    found = routes.routes_of(web)
    return [QueueOut.of(each) for each in queue_states(web.archive.index, found)]


@router.post("/routes/{route}/{wish}")
def steer(
    request: Request,
    web: Context,
    route: str,
    wish: routes.Wish,
    destination: Annotated[str, Query(description="A peer of the route.")],
) -> SteeredOut:
    """Pause or resume a queue, flush it, retry what was given up, or drop all that waits."""
    caller = caller_of(request).name
    return SteeredOut(instances=routes.steer(web, route, destination, wish, caller))


@router.get("/studies/{study_uid}/routes")
def study_routes(web: Context, study_uid: str) -> StudyRoutesOut:
    """Why a study goes, or does not; and what has become of it."""
    explained = routes.explain(web, study_uid)
    outcomes = study_outcomes(web.archive.index, study_uid)
    return StudyRoutesOut(
        outcomes=[StudyOutcomeOut.of(each) for each in outcomes],
        routes=[ExplainedOut.model_validate(asdict(each)) for each in explained],
    )
