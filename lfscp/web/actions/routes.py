"""Shows and steers the queues of routes: for the API, and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Final, Literal

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.values.attributes import Level
from lfscp.observe.logging import get_logger
from lfscp.routing import steering
from lfscp.routing.errors import UnknownQueueError
from lfscp.routing.explaining import Explained, explain_study
from lfscp.routing.outcomes import StudyOutcome, study_outcomes
from lfscp.routing.queue_rows import QueueName
from lfscp.routing.reading import read_routes
from lfscp.routing.routes import Route
from lfscp.routing.steering import QueueState
from lfscp.routing.stored_subjects import stored_subject
from lfscp.rules.conditions.subject import Subject
from lfscp.web.actions.studies import study_row
from lfscp.web.context import Web
from lfscp.web.problems import Problem

LOG: Final = get_logger("lfscp.web")
Wish = Literal["pause", "resume", "flush", "retry", "drop"]
_MOST_READ: Final = 200  # objects of a study that are read to explain it
_WHOLE: Final = {"pause": steering.pause, "resume": steering.resume, "flush": steering.flush}


def routes_of(web: Web) -> tuple[Route, ...]:
    """The routes of the settings as they are now."""
    return read_routes(web.settings)


def all_queues(web: Web) -> list[QueueState]:
    """All queues, also of routes that are no longer configured but have objects left."""
    return steering.queue_states(web.archive.index, routes_of(web))


def steer(
    web: Web,
    name: QueueName,
    wish: Wish,
    caller: str,
    study_uid: str = "",
    *,
    only_given_up: bool = False,
) -> int:
    """Do to a queue what a user wishes.

    Args:
        caller: who wishes it, for the log.
        study_uid: whose objects are tried again, or dropped; empty for all.
        only_given_up: drop only what could not be sent for too long.
    Returns:
        How many objects it concerns; 0 of a pause.
    Raises:
        Problem: there is no such queue (404), or the wish is not for one study (422).
    """
    index = web.archive.index
    if study_uid and wish not in ("retry", "drop"):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{wish} is for a whole queue, not a study")
    try:
        steering.require_queue(index, routes_of(web), name)
    except UnknownQueueError as error:
        raise Problem(HTTPStatus.NOT_FOUND, str(error)) from None
    if wish == "drop":
        count = steering.drop(index, name, study_uid, only_given_up=only_given_up)
    elif wish == "retry":
        count = steering.retry(index, name, study_uid)
    else:
        count = _WHOLE[wish](index, name) or 0
    of_study = {"study_instance_uid": study_uid} if study_uid else {}
    LOG.info(
        "queue of a route steered",
        wish=wish,
        route=name.route,
        destination=name.destination,
        instances=count,
        user=caller,
        **of_study,
    )
    return count


def explain(web: Web, study_uid: str) -> list[Explained]:
    """What the routes do with a study of the archive, and why.

    Raises:
        Problem: there is no such study (404), or none of its objects can be read (503).
    """
    study_row(web, study_uid)
    found = routes_of(web)
    instances = list(web.archive.select(Level.STUDY, {Level.STUDY: [study_uid]})) if found else []
    step = -(-len(instances) // _MOST_READ) or 1
    subjects = [*_subjects(web, instances[::step])]
    if instances and not subjects:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "no object of this study can be read; see the log"
        )
    return explain_study(found, subjects, study_uid) if subjects else []


def _subjects(web: Web, instances: Iterable[StoredInstance]) -> Iterator[Subject]:
    """Objects as conditions see them, without those that cannot be read."""
    for instance in instances:
        try:
            yield stored_subject(web.archive.index, instance)
        except (DatasetError, OSError, ValueError) as error:
            LOG.warning(
                "an object cannot be read to explain its routes",
                sop_instance_uid=instance.sop_instance_uid,
                reason=str(error),
            )


def outcomes_of(web: Web, study_uid: str) -> list[StudyOutcome]:
    """What has become of a study in each queue that it is or was in."""
    return study_outcomes(web.archive.index, study_uid)
