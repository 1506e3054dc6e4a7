"""Lets series and studies go once nothing of them has come for a while.

Rules: what is held stands in the index, so that a restart changes nothing. A series or study is
complete when its last object is older than the route's quiet time, whichever way that object came.
Then it goes as a whole: the objects that met the condition, and all others of it that have not gone
before. What comes later goes in the same way, without what has gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, and_, delete, func, select, update

from lfscp.archive.index.route_items import insert_item
from lfscp.archive.index.tables.dialects import insert_if_absent, now_ms
from lfscp.archive.index.tables.route_tables import (
    HELD,
    WAITING,
    route_item,
    route_made,
    route_release,
)
from lfscp.archive.index.tables.schema import instance, series, study
from lfscp.routing.routes import Route

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

_REMEMBERED_MS: Final = 400 * 86_400_000  # after which a study that grows goes as a whole again


def release_complete(index: Index, routes: Sequence[Route]) -> list[tuple[str, str, int]]:
    """Let go what is complete.

    Returns:
        (route, UID of the series or study, objects) of each.
    Raises:
        ArchiveError: the index cannot be used.
    """
    released = []
    with index.doing("use the queues of routes"):
        for route in routes:
            if route.settings.on == "instance":
                continue
            with index.engine.connect() as connection:
                waiting = connection.execute(_held(route)).scalars().all()
            for uid in waiting:
                count = index.transact(partial(_release, route=route, uid=uid))
                if count:
                    released.append((route.name, uid, count))
    return released


def release_unknown(index: Index, routes: Sequence[Route]) -> int:
    """Let go what is held for a route that is no longer there, or no longer waits."""
    names = [route.name for route in routes if route.settings.on != "instance"]
    gone = and_(route_item.c.state == HELD, route_item.c.route.not_in(names))
    with index.doing("use the queues of routes"):
        with index.engine.connect() as connection:
            if connection.execute(select(route_item.c.id).where(gone).limit(1)).first() is None:
                return 0
        let_go = update(route_item).where(gone).values(state=WAITING)
        return index.transact(lambda one: one.execute(let_go).rowcount)


def forget_releases(index: Index) -> None:
    """Forget up to where studies have gone that nothing was added to for a year."""
    old = delete(route_release).where(route_release.c.released_at < now_ms() - _REMEMBERED_MS)
    with index.doing("use the queues of routes"):
        index.transact(lambda one: one.execute(old))


def forget_made(index: Index) -> None:
    """Forget UIDs that actions gave more than a year ago."""
    old = delete(route_made).where(route_made.c.made_at < now_ms() - _REMEMBERED_MS)
    with index.doing("use the queues of routes"):
        index.transact(lambda one: one.execute(old))


def _unit(route: Route) -> Any:
    """The column that says to which series or study an item belongs."""
    is_series = route.settings.on == "series"
    return route_item.c.series_instance_uid if is_series else route_item.c.study_instance_uid


def _held(route: Route) -> Any:
    """What of a route may be complete: its last matching object is old enough.

    Or it came much later than it is now, by a clock that was put back since. Another node's clock
    may also be a little ahead: that makes nothing old.
    """
    quiet_ms = int(route.settings.quiet_s * 1000)
    unit = _unit(route)
    last_at = func.max(route_item.c.queued_at)
    return (
        select(unit)
        .where(route_item.c.route == route.name, route_item.c.state == HELD)
        .group_by(unit)
        .having(func.abs(now_ms() - last_at) >= quiet_ms)
    )


def _release(one: Connection, route: Route, uid: str) -> int:
    """Let one series or study go, if it is complete; how many objects go."""
    unit = (
        series.c.series_instance_uid
        if route.settings.on == "series"
        else (study.c.study_instance_uid)
    )
    of_unit = instance.join(series).join(study)
    newest = select(func.max(instance.c.received_at), func.max(instance.c.id))
    last_at, up_to = one.execute(newest.select_from(of_unit).where(unit == uid)).one()
    now = one.execute(select(now_ms())).scalar_one()
    quiet_ms = int(route.settings.quiet_s * 1000)
    if last_at is not None and abs(now - last_at) < quiet_ms:
        return 0  # an object that meets no condition came since
    held = and_(route_item.c.route == route.name, route_item.c.state == HELD, _unit(route) == uid)
    count = one.execute(update(route_item).where(held).values(state=WAITING)).rowcount
    if not count:
        return 0  # another node was faster
    key = {"route": route.name, "uid": uid}
    one.execute(insert_if_absent(route_release, one.dialect).values(**key))
    this = and_(*(route_release.c[name] == value for name, value in key.items()))
    before = one.execute(select(route_release.c.up_to).where(this)).scalar_one()
    columns = (
        instance.c.sop_instance_uid,
        series.c.series_instance_uid,
        study.c.study_instance_uid,
        instance.c.size,
        instance.c.calling_ae_title,
    )
    already = select(route_item.c.sop_instance_uid).where(
        route_item.c.route == route.name, _unit(route) == uid
    )
    others = (
        select(*columns)
        .select_from(of_unit)
        .where(unit == uid, instance.c.id > before, instance.c.id <= (up_to or 0))
        .where(instance.c.sop_instance_uid.not_in(already))
        .order_by(instance.c.id)
    )
    rows = [
        {
            "route": route.name,
            "destination": item.destination,
            "form": item.form,
            "study_instance_uid": row.study_instance_uid,
            "series_instance_uid": row.series_instance_uid,
            "sop_instance_uid": row.sop_instance_uid,
            "origin": item.origin,
            "state": WAITING,
            "priority": item.priority,
            "size": row.size,
        }
        for row in one.execute(others)
        for item in route.items(row.calling_ae_title, row.study_instance_uid)
    ]
    if rows:
        one.execute(insert_item(one.dialect), rows)
    done = update(route_release).where(this)
    one.execute(done.values(up_to=up_to or before, released_at=now_ms()))
    return count + len(rows)
