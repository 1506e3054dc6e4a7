"""Shows and steers the queues of routes: for the API, and for the page."""

from __future__ import annotations

from typing import Final, Literal

from lfscp.dicom.values.attributes import Level
from lfscp.observe.logging import get_logger
from lfscp.routing import steering
from lfscp.routing.errors import UnknownQueueError
from lfscp.routing.explaining import Explained, explain_study
from lfscp.routing.queues import QueueName
from lfscp.routing.reading import read_routes
from lfscp.routing.routes import Route
from lfscp.routing.stored_subjects import stored_subject
from lfscp.web.actions.studies import study_row
from lfscp.web.context import Web
from lfscp.web.problems import Problem

LOG: Final = get_logger("lfscp.web")
Wish = Literal["pause", "resume", "flush", "retry", "drop"]
_MOST_READ: Final = 200  # objects of a study that are read to explain it


def routes_of(web: Web) -> tuple[Route, ...]:
    """The routes of the settings as they are now."""
    return read_routes(web.settings)


def steer(web: Web, route: str, destination: str, wish: Wish, caller: str) -> int:
    """Do to a queue what a user wishes.

    Args:
        caller: who wishes it, for the log.
    Returns:
        How many objects it concerns; 0 of a pause.
    Raises:
        Problem: 404, there is no such queue.
    """
    index, name = web.archive.index, QueueName(route, destination)
    try:
        steering.require_queue(index, routes_of(web), name)
    except UnknownQueueError as error:
        raise Problem(404, str(error)) from None
    do = {
        "pause": steering.pause,
        "resume": steering.resume,
        "flush": steering.flush,
        "retry": steering.retry,
        "drop": steering.drop,
    }[wish]
    count = do(index, name) or 0
    LOG.info(
        "queue of a route steered",
        wish=wish,
        route=route,
        destination=destination,
        instances=count,
        user=caller,
    )
    return count


def explain(web: Web, study_uid: str) -> list[Explained]:
    """What the routes do with a study of the archive, and why.

    Raises:
        Problem: 404, there is no such study.
    """
    study_row(web, study_uid)
    instances = web.archive.select(Level.STUDY, {Level.STUDY: [study_uid]})
    step = max(1, len(instances) // _MOST_READ)
    subjects = [stored_subject(web.archive.index, instance) for instance in list(instances)[::step]]
    return explain_study(routes_of(web), subjects, study_uid) if subjects else []
