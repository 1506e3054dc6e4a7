"""Counts what was stored lately, by hour, without an index of the times.

Instances get their keys in the order in which they come. So the first one of a time is found by
halving, and only the rows after it are read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import Connection, func, select

from lfscp.archive.index.tables.schema import instance

HOUR_MS: Final = 3_600_000


class StoredInHour(NamedTuple):
    """What came in one hour: how many instances, and how many bytes their files have.

    Args:
        since_ms: when the hour began, milliseconds since 1970.
    """

    since_ms: int
    instances: int
    size: int


def stored_since(connection: Connection, since_ms: int) -> list[StoredInHour]:
    """The hours in which something was stored that is still there, the oldest first.

    Args:
        since_ms: the first moment, milliseconds since 1970.
    """
    hour = instance.c.received_at - instance.c.received_at % HOUR_MS
    counted = (
        select(hour, func.count(), func.coalesce(func.sum(instance.c.file_size), 0))
        .where(instance.c.id >= _first_since(connection, since_ms))
        .where(instance.c.received_at >= since_ms)
        .group_by(hour)
        .order_by(hour)
    )
    return [StoredInHour(*map(int, row)) for row in connection.execute(counted)]


def _first_since(connection: Connection, since_ms: int) -> int:
    """A key before which nothing came at or after a time."""
    least, most = connection.execute(select(func.min(instance.c.id), func.max(instance.c.id))).one()
    low, high = int(least or 0), int(most or 0)
    while low < high:
        middle = (low + high) // 2
        after = select(instance.c.id, instance.c.received_at).where(instance.c.id >= middle)
        found = connection.execute(after.order_by(instance.c.id).limit(1)).first()
        if found is not None and found[1] < since_ms:
            low = found[0] + 1
        else:
            high = middle
    return low
