"""Answers /api/routes: the routes, their queues, and why a study goes or does not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from lfscp.routing.explaining import schedule_words
from lfscp.routing.given_up import MOST, GivenUp, given_up
from lfscp.routing.outcomes import StudyOutcome
from lfscp.routing.queue_rows import QueueName
from lfscp.routing.steering import QueueState
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
    condition: str = Field(description="What `when` wants, in words.")
    schedule: str = Field(description="When objects go, in words.")
    actions: list[str]
    send_to: list[str]
    mode: str
    queues: list[QueueOut]


class GivenUpOut(BaseModel):
    """Objects of one study that one queue has given up for one reason."""

    route: str
    destination: str
    study_instance_uid: str
    reason: str
    instances: int
    size: int
    queued_at: int

    @classmethod
    def of(cls, found: GivenUp) -> GivenUpOut:
        """From what the index says."""
        fields = asdict(found)
        return cls(study_instance_uid=fields.pop("study_uid"), **fields)


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
    queues = [QueueOut.of(each) for each in routes.all_queues(web)]
    return [
        RouteOut(
            **route.settings.model_dump(include={"name", "enabled", "on", "when", "mode"}),
            condition=route.condition.words,
            schedule=schedule_words(route.settings),
            actions=[action.words for action in route.actions],
            send_to=list(route.settings.send_to),
            queues=[each for each in queues if each.route == route.name],
        )
        for route in found
    ]


@router.get("/routes/queues")
def list_queues(web: Context) -> list[QueueOut]:
    """All queues, also of routes that are no longer configured but have objects left."""
    return [QueueOut.of(each) for each in routes.all_queues(web)]


@router.get("/routes/given-up")
def list_given_up(
    web: Context, limit: Annotated[int, Query(ge=1, le=10_000)] = MOST
) -> list[GivenUpOut]:
    """What could not be sent for too long: by study and reason, the newest first."""
    return [GivenUpOut.of(each) for each in given_up(web.archive.index, limit)]


@router.post("/routes/{route}/{wish}")
def steer(
    request: Request,
    web: Context,
    route: str,
    wish: routes.Wish,
    destination: Annotated[str, Query(description="A peer of the route.")],
    study: Annotated[str, Query(description="Retry or drop only what is of this study.")] = "",
    only_given_up: Annotated[bool, Query(description="Drop only what was given up.")] = False,
) -> SteeredOut:
    """Pause or resume a queue, flush it, retry what was given up, or drop all that waits."""
    name, caller = QueueName(route, destination), caller_of(request).name
    count = routes.steer(web, name, wish, caller, study, only_given_up=only_given_up)
    return SteeredOut(instances=count)


@router.get("/studies/{study_uid}/routes")
def study_routes(web: Context, study_uid: str) -> StudyRoutesOut:
    """Why a study goes, or does not; and what has become of it."""
    explained = routes.explain(web, study_uid)
    outcomes = routes.outcomes_of(web, study_uid)
    return StudyRoutesOut(
        outcomes=[StudyOutcomeOut.of(each) for each in outcomes],
        routes=[ExplainedOut.model_validate(asdict(each)) for each in explained],
    )
