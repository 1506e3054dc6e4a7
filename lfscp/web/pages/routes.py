"""The page of routes: their queues with buttons, what was given up, and why a study goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse

from lfscp.archive.index.browsing.named_studies import named_studies
from lfscp.routing.explaining import Explained, schedule_words
from lfscp.routing.given_up import MOST, given_up
from lfscp.routing.outcomes import StudyOutcome
from lfscp.routing.queue_rows import QueueName
from lfscp.routing.routes import Route
from lfscp.routing.schedule import is_open
from lfscp.routing.steering import QueueState
from lfscp.web.actions import routes
from lfscp.web.context import Context, Web, caller_of
from lfscp.web.pages.answers import render, say
from lfscp.web.status.queue_rates import NONE, QueueRate

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
_MODES: Final = {"all": "to all of", "failover": "to the first that answers of"}
_DONE: Final = {
    "pause": "The queue to {} is paused.",
    "resume": "The queue to {} goes on.",
    "flush": "{} to be sent now.",
    "retry": "{} to be tried again.",
    "drop": "{} forgotten. The archive keeps them.",
}


@dataclass(frozen=True, slots=True)
class ShownQueue:
    """One queue as the page shows it.

    Args:
        state: what the index says.
        rate: of the last minute.
        word: what it does now; `look` is the colour of that.
    """

    state: QueueState
    rate: QueueRate
    word: str
    look: str


@dataclass(frozen=True, slots=True)
class ShownRoute:
    """One route as the page shows it; the texts are empty if the settings have it no longer.

    Args:
        matched: how often an object was put into one of its queues, without what was dropped.
        is_open: whether objects may be sent now, by its days and hours.
    """

    name: str
    queues: list[ShownQueue]
    condition: str = ""
    schedule: str = ""
    peers: str = ""
    actions: str = ""
    is_enabled: bool = True
    is_open: bool = True
    is_configured: bool = True

    @property
    def matched(self) -> int:
        """See above."""
        each = [queue.state for queue in self.queues]
        return sum(one.sent + one.waiting + one.held + one.given_up for one in each)


@router.get("/routes")
def show(request: Request, web: Context) -> Response:
    """Show the routes with their queues, and what was given up."""
    return render(request, "routes.html", **_shown(web))


@router.get("/routes/queues")
def queues(request: Request, web: Context) -> Response:
    """Show the same alone, as it is now."""
    return render(request, "route_queues.html", **_shown(web))


@router.post("/routes/{route}/{wish}")
def steer(
    request: Request,
    web: Context,
    route: str,
    wish: routes.Wish,
    destination: Annotated[str, Form()] = "",
    study: Annotated[str, Form()] = "",
    only_given_up: Annotated[bool, Form()] = False,
) -> Response:
    """Do what a button of a queue says, and show the routes again."""
    name, caller = QueueName(route, destination), caller_of(request).name
    count = routes.steer(web, name, wish, caller, study, only_given_up=only_given_up)
    objects = "1 object is" if count == 1 else f"{count:,} objects are"
    said = _DONE[wish].format(destination if wish in ("pause", "resume") else objects)
    return say(render(request, "route_queues.html", **_shown(web)), said)


@router.get("/studies/{study_uid}/routes")
def study(request: Request, web: Context, study_uid: str) -> Response:
    """Show why a study goes by each route, or does not, and what has become of it."""
    explained = routes.explain(web, study_uid)
    outcomes = routes.outcomes_of(web, study_uid)
    shown = _by_route(explained, outcomes)
    return render(request, "study_routes.html", shown=shown, explained=explained)


def _by_route(
    explained: list[Explained], outcomes: list[StudyOutcome]
) -> list[tuple[str, Explained | None, list[StudyOutcome]]]:
    """Each route with what it says and what it did; those that are gone have done something."""
    said = {each.route: each for each in explained}
    names = [*said, *sorted({each.route for each in outcomes} - said.keys())]
    return [
        (name, said.get(name), [each for each in outcomes if each.route == name]) for name in names
    ]


def _shown(web: Web) -> dict[str, Any]:
    states = routes.all_queues(web)
    rates = web.queue_rates.of(states)
    over = given_up(web.archive.index)
    with web.index() as connection:
        named = named_studies(connection, {each.study_uid for each in over})
    found = routes.routes_of(web)
    return {
        "routes": [
            *(_route(each, states, rates) for each in found),
            *_gone(states, {each.name for each in found}),
        ],
        "given_up": over,
        "has_more": len(over) == MOST,
        "named": named,
    }


def _route(route: Route, states: list[QueueState], rates: dict[QueueName, QueueRate]) -> ShownRoute:
    settings = route.settings
    may_send = is_open(settings, datetime.now())  # noqa: DTZ005 - hours of routes are local
    queues = [
        _queue(each, rates.get(QueueName(each.route, each.destination), NONE), may_send)
        for each in states
        if each.route == route.name
    ]
    mode = _MODES.get(settings.mode, f"to {settings.copies} of")
    to = "to" if len(settings.send_to) == 1 else mode
    return ShownRoute(
        route.name,
        queues,
        condition=route.condition.words,
        schedule=schedule_words(settings),
        peers=f"{to} {', '.join(settings.send_to)}",
        actions=", then ".join(next(iter(action)) for action in settings.actions),
        is_enabled=settings.enabled,
        is_open=may_send,
    )


def _gone(states: list[QueueState], configured: set[str]) -> list[ShownRoute]:
    """Routes that the settings have no longer, while some of their queues have objects left."""
    names = dict.fromkeys(
        each.route
        for each in states
        if each.route not in configured and each.waiting + each.held + each.given_up
    )
    return [
        ShownRoute(
            name,
            [_queue(each, NONE, may_send=False) for each in states if each.route == name],
            is_configured=False,
        )
        for name in names
    ]


def _queue(state: QueueState, rate: QueueRate, may_send: bool) -> ShownQueue:
    return ShownQueue(state, rate, *_word(state, may_send))


def _word(state: QueueState, may_send: bool) -> tuple[str, str]:
    if state.is_paused:
        return "paused", "paused"
    if not state.is_configured:
        return "no longer configured", "failed" if state.waiting else ""
    if not may_send:
        return "waits for its hours", "sleeping" if state.waiting else ""
    if state.waiting and state.retry_in_s:
        return "tries again", "failed"
    if state.waiting:
        return ("sending", "active") if state.is_served else ("waiting", "sleeping")
    return "nothing to send", "done"
