"""What a stored object is to be sent on by: the rows of the queues that come with its own row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Dialect, Insert, bindparam, case, literal_column

from lfscp.archive.index.database.statements import Statement
from lfscp.archive.index.tables.dialects import now_ms
from lfscp.archive.index.tables.route_tables import route_item

if TYPE_CHECKING:
    from lfscp.archive.store.received_objects import Received
    from lfscp.dicom.reading.header import Header

# Not parameters: a statement has those that it is given, and no others.
_NO: Final[ColumnElement[int]] = literal_column("0")
_ONE: Final[ColumnElement[int]] = literal_column("1")
_EMPTY: Final[ColumnElement[str]] = literal_column("''")
_COLUMNS: Final = (
    "route",
    "destination",
    "form",
    "study_instance_uid",
    "series_instance_uid",
    "sop_instance_uid",
    "origin",
    "state",
    "priority",
    "size",
)


class RouteItem(NamedTuple):
    """One destination of an object.

    Args:
        form: tells what is done to the object; one that waits in the same form for the same
            destination is not put there twice.
        state: `route_tables.HELD` or `WAITING`.
    """

    route: str
    destination: str
    form: str
    origin: str
    state: int
    priority: int


class Router(Protocol):
    """Says where a received object is to go on to."""

    def items(self, header: Header, received: Received) -> Sequence[RouteItem]:
        """The destinations of an object that is about to be stored."""
        ...


def insert_item(on: Dialect) -> Insert:
    """The INSERT of an item; if the object waits there already, it will go once more.

    What was given up waits again. The route is the one of now: that of before may be gone.
    """
    values: dict[str, Any] = {name: bindparam(name) for name in _COLUMNS}
    values["queued_at"] = now_ms()
    made: Any
    if on.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_in_postgresql

        made = insert_in_postgresql(route_item)
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_in_sqlite

        made = insert_in_sqlite(route_item)
    is_over = route_item.c.state > made.excluded.state
    changed = {
        "route": made.excluded.route,
        "origin": made.excluded.origin,
        "priority": made.excluded.priority,
        "version": route_item.c.version + _ONE,
        "size": made.excluded.size,
        "state": case((is_over, made.excluded.state), else_=route_item.c.state),
        "queued_at": made.excluded.queued_at,
        "commitment": _EMPTY,
        "failures": _NO,
        "next_attempt_at": _NO,
    }
    key = ["destination", "form", "sop_instance_uid"]
    inserted: Insert = made.values(values).on_conflict_do_update(index_elements=key, set_=changed)
    return inserted.inline()


class RouteItems:
    """Writes the items of stored objects, in the caller's transaction."""

    def __init__(self, on: Dialect) -> None:
        self._insert = Statement(insert_item(on), on)

    def add(self, cursor: Any, header: Header, size: int, items: Sequence[RouteItem]) -> None:
        """Write the items of one object."""
        study, series, instance = header.uids
        for item in items:
            values = [item.route, item.destination, item.form, study, series, instance]
            self._insert.run(cursor, [*values, item.origin, item.state, item.priority, size])
