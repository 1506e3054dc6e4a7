"""Tells what has become of a study by routes: in each queue that it is or was in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from lfscp.archive.index.tables.route_tables import (
    GIVEN_UP,
    HELD,
    WAITING,
    route_item,
    route_outcome,
)
from lfscp.routing.queue_rows import QueueName

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index


@dataclass(frozen=True, slots=True)
class StudyOutcome:
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


def study_outcomes(index: Index, study_uid: str) -> list[StudyOutcome]:
    """What became of a study: in each queue that it is or was in."""
    column, outcome = route_item.c, route_outcome.c
    counted = (
        select(
            column.route,
            column.destination,
            column.state,
            func.count().label("number"),
            func.max(column.reason).label("reason"),
        )
        .where(column.study_instance_uid == study_uid)
        .group_by(column.route, column.destination, column.state)
    )
    done = select(route_outcome).where(outcome.study_instance_uid == study_uid)
    with index.doing("read the queues of routes"), index.engine.connect() as connection:
        here: dict[QueueName, dict[int, tuple[int, str]]] = {}
        for row in connection.execute(counted):
            name = QueueName(row.route, row.destination)
            here.setdefault(name, {})[row.state] = (row.number, row.reason)
        before = {QueueName(row.route, row.destination): row for row in connection.execute(done)}
    return [
        _outcome(name, before.get(name), here.get(name, {}))
        for name in sorted(before.keys() | here.keys())
    ]


def _outcome(name: QueueName, done: Any, here: dict[int, tuple[int, str]]) -> StudyOutcome:
    reasons = [here[state][1] for state in (GIVEN_UP, WAITING) if state in here]
    reasons.append(done.reason if done is not None else "")
    return StudyOutcome(
        *name,
        sent=done.sent if done is not None else 0,
        failed=done.failed if done is not None else 0,
        waiting=here.get(WAITING, (0, ""))[0],
        held=here.get(HELD, (0, ""))[0],
        given_up=here.get(GIVEN_UP, (0, ""))[0],
        last_at=done.last_at if done is not None else 0,
        reason=next(filter(None, reasons), ""),
    )
