"""Shows the queues of routes, and steers them: pause, resume, flush, retry, drop.

Any process may do this, on any node: what it writes to the index is seen by the node that serves
the queue within a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import Connection, and_, case, delete, func, select, update

from lfscp.archive.index.browsing.named_studies import NamedStudy, named_studies
from lfscp.archive.index.tables.dialects import insert_if_absent, now_ms
from lfscp.archive.index.tables.route_tables import (
    GIVEN_UP,
    HELD,
    WAITING,
    route_item,
    route_queue,
)
from lfscp.observe import audit
from lfscp.observe.audit.message import Patient
from lfscp.routing.errors import UnknownQueueError
from lfscp.routing.queue_rows import QueueName
from lfscp.routing.routes import Route

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

Result = TypeVar("Result")
_STUDY: Final = route_item.c.study_instance_uid
_READ: Final = "read the queues of routes"
_WRITE: Final = "use the queues of routes"


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue as it is now.

    Args:
        waiting: objects that are to be sent.
        held: objects whose series or study is not complete yet.
        given_up: objects that could not be sent for too long.
        size: bytes of all these.
        oldest_s: for how long the oldest object that is to be sent has waited, in seconds.
        is_served: whether a node sends from it, or looks for more.
        failures: attempts to reach the destination that failed in a row.
        retry_in_s: until the next attempt, in seconds; 0 if it may be made now.
        reason: of the last failure to reach the destination, or else of one to send an object that
            still waits.
        sent: objects that the destination got, ever; `sent_bytes` their bytes.
        last_sent_at: when it got the last one, in milliseconds since 1970; 0 for never.
        is_configured: whether the settings still have this route with this destination.
        given_up_reason: why the last object was given up that still is; empty if none is.
    """

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
    given_up_reason: str = ""


def queue_states(index: Index, routes: Sequence[Route]) -> list[QueueState]:
    """All queues: those of the settings, in their order, then those of routes that are gone."""
    configured = [
        QueueName(route.name, peer)
        for route in routes
        for peer in (
            route.settings.send_to[:1]
            if route.settings.mode == "failover"
            else route.settings.send_to
        )
    ]
    with index.doing(_READ), index.engine.connect() as connection:
        items = {QueueName(row.route, row.destination): row for row in connection.execute(_items())}
        queues = {
            QueueName(row.route, row.destination): row for row in connection.execute(_queues())
        }
        reasons = {
            QueueName(row.route, row.destination): str(row.reason)
            for row in connection.execute(_given_up())
        }
    names = [*configured, *sorted((items.keys() | queues.keys()) - set(configured))]
    known = {route.name: route for route in routes}
    return [
        _state(
            name,
            items.get(name),
            queues.get(name),
            is_configured=_is_configured(name, known),
            given_up_reason=reasons.get(name, ""),
        )
        for name in names
    ]


def _is_configured(name: QueueName, routes: dict[str, Route]) -> bool:
    route = routes.get(name.route)
    return route is not None and name.destination in route.settings.send_to


def _items() -> Any:
    column = route_item.c

    def number(state: int) -> Any:
        return func.sum(case((column.state == state, 1), else_=0))

    is_waiting = column.state == WAITING
    oldest = func.min(case((is_waiting, column.queued_at)))
    return select(
        column.route,
        column.destination,
        number(WAITING).label("waiting"),
        number(HELD).label("held"),
        number(GIVEN_UP).label("given_up"),
        func.sum(column.size).label("size"),
        (now_ms() - oldest).label("oldest_ms"),
        (func.min(case((is_waiting, column.next_attempt_at))) - now_ms()).label("retry_in_ms"),
        func.max(case((is_waiting, column.reason))).label("reason"),
    ).group_by(column.route, column.destination)


def _given_up() -> Any:
    """The last object of each queue that was given up."""
    column = route_item.c
    last = (
        select(func.max(column.id))
        .where(column.state == GIVEN_UP)
        .group_by(column.route, column.destination)
    )
    return select(column.route, column.destination, column.reason).where(column.id.in_(last))


def _queues() -> Any:
    column = route_queue.c
    return select(
        route_queue,
        (column.held_until > now_ms()).label("is_served"),
        (column.next_attempt_at - now_ms()).label("retry_in_ms"),
    )


def _state(
    name: QueueName, items: Any, queue: Any, *, is_configured: bool, given_up_reason: str
) -> QueueState:
    return QueueState(
        *name,
        waiting=int(items.waiting) if items else 0,
        held=int(items.held) if items else 0,
        given_up=int(items.given_up) if items else 0,
        size=int(items.size) if items else 0,
        oldest_s=max(0, items.oldest_ms or 0) / 1000 if items else 0.0,
        is_paused=bool(queue and queue.is_paused),
        is_served=bool(queue and queue.is_served),
        failures=int(queue.failures) if queue else 0,
        retry_in_s=max([0, *(each.retry_in_ms or 0 for each in (items, queue) if each)]) / 1000,
        reason=next((str(each.reason) for each in (queue, items) if each and each.reason), ""),
        sent=int(queue.sent) if queue else 0,
        sent_bytes=int(queue.sent_bytes) if queue else 0,
        last_sent_at=int(queue.last_sent_at) if queue else 0,
        is_configured=is_configured,
        given_up_reason=given_up_reason,
    )


def pause(index: Index, name: QueueName) -> None:
    """Send nothing from a queue until `resume`. What comes waits in it."""

    def work(one: Connection) -> None:
        values = name._asdict()
        one.execute(insert_if_absent(route_queue, one.dialect).values(**values))
        one.execute(update(route_queue).where(_this(name)).values(is_paused=1))

    _write(index, work)


def resume(index: Index, name: QueueName) -> None:
    """Send from a queue that was paused."""
    again = update(route_queue).where(_this(name)).values(is_paused=0)
    _write(index, lambda one: one.execute(again))


def flush(index: Index, name: QueueName) -> int:
    """Send all now: without a wait for series and studies that are not complete, or for a retry.

    Returns:
        How many objects are to be sent.
    """
    held = and_(_of(name), route_item.c.state.in_([HELD, WAITING]))

    def work(one: Connection) -> int:
        let_go = update(route_item).where(held).values(state=WAITING, next_attempt_at=0)
        count = one.execute(let_go).rowcount
        _ask_now(one, name)
        return count

    return _write(index, work)


def retry(index: Index, name: QueueName, study_uid: str = "") -> int:
    """Try again what was given up, of all studies or of one; how many objects."""
    over = and_(_of(name, study_uid), route_item.c.state == GIVEN_UP)

    def work(one: Connection) -> int:
        again = {"state": WAITING, "next_attempt_at": 0, "failures": 0, "queued_at": now_ms()}
        count = one.execute(update(route_item).where(over).values(**again)).rowcount
        _ask_now(one, name)
        return count

    return _write(index, work)


def drop(index: Index, name: QueueName, study_uid: str = "", *, only_given_up: bool = False) -> int:
    """Forget what waits in a queue: it is not sent. The objects stay in the archive.

    The audit trail has a record of each study.

    Args:
        study_uid: empty for all studies.
    Returns:
        How many objects were forgotten.
    """
    gone = _of(name, study_uid)
    if only_given_up:
        gone = and_(gone, route_item.c.state == GIVEN_UP)

    def work(one: Connection) -> tuple[Counter[str], dict[str, NamedStudy]]:
        uids = one.execute(delete(route_item).where(gone).returning(_STUDY)).scalars()
        dropped = Counter(uids)
        return dropped, named_studies(one, dropped) if audit.is_on() else {}

    dropped, named = _write(index, work)
    for uid, count in dropped.items():
        _record_dropped(name, uid, count, named.get(uid))
    return dropped.total()


def _record_dropped(name: QueueName, study_uid: str, count: int, whose: NamedStudy | None) -> None:
    patient = whose and Patient(whose.patient_id, whose.patient_name)
    details = {"what": "dropped from a queue", **name._asdict(), "objects": count}
    audit.changed(study_uid, details, patient)


def require_queue(index: Index, routes: Sequence[Route], name: QueueName) -> None:
    """Refuse the name of a queue that is neither in the settings nor in the index.

    Raises:
        UnknownQueueError: there is none.
    """
    known = {QueueName(each.route, each.destination) for each in queue_states(index, routes)}
    if name not in known:
        raise UnknownQueueError(*name)


def _ask_now(one: Connection, name: QueueName) -> None:
    now = {"failures": 0, "next_attempt_at": 0}
    one.execute(update(route_queue).where(_this(name)).values(**now))


def _write(index: Index, work: Callable[[Connection], Result]) -> Result:
    with index.doing(_WRITE):
        return index.transact(work)


def _this(name: QueueName) -> Any:
    return and_(route_queue.c.route == name.route, route_queue.c.destination == name.destination)


def _of(name: QueueName, study_uid: str = "") -> Any:
    column = route_item.c
    of_queue = and_(column.route == name.route, column.destination == name.destination)
    return and_(of_queue, column.study_instance_uid == study_uid) if study_uid else of_queue
