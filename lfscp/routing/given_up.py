"""Lists what routes have given up: objects that could not be sent for too long, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from lfscp.archive.index.tables.route_tables import GIVEN_UP, route_item

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

MOST: Final = 200  # rows of one answer


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Objects of one study that one queue has given up for one reason.

    Args:
        instances: how many.
        size: their bytes.
        queued_at: when the oldest was put into the queue, in milliseconds since 1970.
    """

    route: str
    destination: str
    study_uid: str
    reason: str
    instances: int
    size: int
    queued_at: int


def given_up(index: Index, limit: int = MOST) -> list[GivenUp]:
    """What all queues have given up, the newest first.

    Args:
        limit: the most rows.
    Raises:
        ArchiveError: the index cannot be read.
    """
    column = route_item.c
    names = (column.route, column.destination, column.study_instance_uid, column.reason)
    wanted = (
        select(*names, func.count(), func.sum(column.size), func.min(column.queued_at))
        .where(column.state == GIVEN_UP)
        .group_by(*names)
        .order_by(func.max(column.id).desc())
        .limit(limit)
    )
    with index.doing("read the queues of routes"), index.engine.connect() as connection:
        return [
            GivenUp(route, destination, uid, reason, int(count), int(size), int(queued_at))
            for route, destination, uid, reason, count, size, queued_at in connection.execute(
                wanted
            )
        ]
