"""The rows of routes' queues: what they hold, the conditions that choose them, and what is noted.

Rules: an item is named by its key and version; one that was stored again has another version, and
stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, or_, select, tuple_, update

from lfscp.archive.index.tables.dialects import insert_if_absent, now_ms
from lfscp.archive.index.tables.route_tables import (
    GIVEN_UP,
    WAITING,
    route_item,
    route_outcome,
    route_queue,
)

_PER_STATEMENT: Final = 300  # SQLite's oldest limit is 999 parameters
_LONGEST_DELAY_MS: Final = 3_600_000
_FARTHEST_MS: Final = 2 * 86_400_000  # no setting has a longer delay before a retry
ITEM_COLUMNS: Final = tuple(
    route_item.c[name]
    for name in (
        "id",
        "sop_instance_uid",
        "study_instance_uid",
        "series_instance_uid",
        "origin",
        "version",
        "failures",
        "commitment",
        "size",
        "queued_at",
        "sent_uid",
    )
)


class QueueName(NamedTuple):
    """A route and one of its destinations."""

    route: str
    destination: str


@dataclass(frozen=True, slots=True)
class Item:
    """An object that waits to be sent."""

    id: int
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    origin: str
    version: int
    failures: int
    commitment: str
    size: int
    queued_at: int = 0
    sent_uid: str = ""


class Failure(NamedTuple):
    """Why an object was not sent.

    Args:
        is_final: it would fail again: it is put aside, until somebody asks to try again.
    """

    reason: str
    is_final: bool = False


def new_queue(one: Connection, name: QueueName) -> Any:
    """The statement that makes the row of a queue, if it is not there."""
    return insert_if_absent(route_queue, one.dialect).values(
        route=name.route, destination=name.destination
    )


def is_queue(name: QueueName) -> Any:
    """The condition of a queue's row."""
    return and_(route_queue.c.route == name.route, route_queue.c.destination == name.destination)


def is_item_of(name: QueueName) -> Any:
    """The condition of a queue's items."""
    return and_(route_item.c.route == name.route, route_item.c.destination == name.destination)


def due(name: QueueName) -> Any:
    """What of a queue is to be sent now."""
    column = route_item.c
    return select(column.id).where(
        is_item_of(name),
        column.state == WAITING,
        is_time(column.next_attempt_at),
        column.commitment == "",
    )


def is_time(next_attempt_at: Any) -> Any:
    """Whether an attempt may be made now; one that is too far off was set before a clock change."""
    return or_(next_attempt_at <= now_ms(), next_attempt_at > now_ms() + _FARTHEST_MS)


def is_same(items: Sequence[Item]) -> Any:
    """The condition of items that were not stored again since they were read."""
    keys = [(item.id, item.version) for item in items]
    return tuple_(route_item.c.id, route_item.c.version).in_(keys)


def give_up(one: Connection, name: QueueName, keep_ms: int, reason: str) -> int:
    """Give up what has waited for too long."""
    over = and_(
        is_item_of(name),
        route_item.c.state == WAITING,
        route_item.c.queued_at < now_ms() - keep_ms,
    )
    studies = list(one.execute(select(route_item.c.study_instance_uid).where(over)).scalars())
    if studies:
        changes = {"state": GIVEN_UP, "reason": storable(reason)}
        one.execute(update(route_item).where(over).values(**changes))
        count_outcome(one, name, studies, failed=1, reason=reason)
        add_given_up(one, name, len(studies))
    return len(studies)


def add_given_up(one: Connection, name: QueueName, number: int) -> None:
    """Count objects that a queue has given up."""
    if number:
        counted = route_queue.c.given_up + number
        one.execute(update(route_queue).where(is_queue(name)).values(given_up=counted))


def count_outcome(
    one: Connection,
    name: QueueName,
    study_uids: Sequence[str],
    *,
    sent: int = 0,
    failed: int = 0,
    reason: str = "",
) -> None:
    """Note what became of objects of studies."""
    for uid in dict.fromkeys(study_uids):
        number = study_uids.count(uid)
        key = {**name._asdict(), "study_instance_uid": uid}
        one.execute(insert_if_absent(route_outcome, one.dialect).values(**key))
        this = update(route_outcome).where(
            *(route_outcome.c[column] == value for column, value in key.items())
        )
        changes = {
            "sent": route_outcome.c.sent + sent * number,
            "failed": route_outcome.c.failed + failed * number,
            "last_at": now_ms(),
            "reason": storable(reason),
        }
        one.execute(this.values(**changes))


def delay_after_ms(first_ms: int, failures: int) -> int:
    """The delay before the next attempt: it doubles each time, up to an hour."""
    return int(min(first_ms * 2 ** min(failures, 30), max(first_ms, _LONGEST_DELAY_MS)))


def storable(reason: str) -> str:
    """A reason as every database takes it."""
    return reason.replace("\0", "\ufffd")  # PostgreSQL's text takes no NUL


def pieces_of(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Items in pieces that one statement takes."""
    return [items[at : at + _PER_STATEMENT] for at in range(0, len(items), _PER_STATEMENT)]
