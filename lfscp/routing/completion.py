"""Tells plug-ins of studies that are complete, whether or not there are routes.

Rules: a study is complete once nothing of it has come for `plugins.study_quiet_s`, by the clock of
the database. The index notes that it was told, so one process of all nodes tells it, once. If more
comes, it is told again after that has come. What became complete while no node ran is told if it
is less than a day old.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy import Connection, delete, func, select, update

from lfscp.archive.index.tables.dialects import insert_if_absent, now_ms
from lfscp.archive.index.tables.route_tables import study_completion
from lfscp.archive.index.tables.schema import instance, series, study

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

HOOK: Final = "study_complete"
_LOOK_EVERY_S: Final = 2.0
_NOTE_EVERY_S: Final = 60.0
_DAY_MS: Final = 86_400_000
_REMEMBERED_MS: Final = 30 * _DAY_MS
_ROUNDING_MS: Final = 60_000  # study.updated_at is behind by some seconds
_LOOKED: Final = ""  # the row that says until when


class Told(Protocol):
    """The plug-ins."""

    def hears(self, hook: str) -> bool:
        """Whether one has a hook."""
        ...

    def notify_study_complete(self, study_uid: str) -> None:
        """Tell of a study."""
        ...


class StudyCompletion:
    """Looks for complete studies; for one thread.

    Args:
        began_at: when objects could come first, by `time.monotonic`. The very first look at an
            index tells what has come since, and since when a plug-in wants to hear.
    """

    def __init__(self, index: Index, plugins: Told, began_at: float) -> None:
        self._index = index
        self._plugins = plugins
        self._began_at = began_at
        self._since: int | None = None
        self._looked_at = self._noted_at = float("-inf")

    @property
    def is_wanted(self) -> bool:
        """Whether a plug-in wants to hear."""
        return self._plugins.hears(HOOK)

    def look(self, quiet_s: float) -> int:
        """Tell of the studies that have become complete.

        Args:
            quiet_s: how long nothing of a study has come.
        Returns:
            How many.
        Raises:
            ArchiveError: the index cannot be used.
        """
        every_s = min(_LOOK_EVERY_S, quiet_s / 2)
        if not self.is_wanted:
            self._began_at = time.monotonic()
            return 0
        if time.monotonic() - self._looked_at < every_s:
            return 0
        self._looked_at = time.monotonic()
        quiet_ms = int(quiet_s * 1000)
        told = 0
        with self._index.doing("look for complete studies"):
            with self._index.engine.connect() as connection:
                now = connection.execute(select(now_ms())).scalar_one()
                until = now - quiet_ms
                if self._since is None:
                    began = now - int((time.monotonic() - self._began_at) * 1000)
                    self._since = _first(connection, until, began)
                found = _candidates(connection, self._since - _ROUNDING_MS, until)
            for uid, last_at in found:
                if last_at <= until and self._index.transact(lambda one: _claim(one, uid, last_at)):  # noqa: B023 - called at once
                    self._plugins.notify_study_complete(uid)
                    told += 1
            self._since = max(self._since, until)
            self._note(self._since)
        return told

    def _note(self, since: int) -> None:
        """Note now and then until when was looked, for the next start."""
        if time.monotonic() - self._noted_at < _NOTE_EVERY_S:
            return
        self._noted_at = time.monotonic()
        old = study_completion.c.last_at < since - _REMEMBERED_MS
        forgotten = delete(study_completion).where(
            old, study_completion.c.study_instance_uid != _LOOKED
        )

        def work(one: Connection) -> None:
            _claim(one, _LOOKED, since)
            one.execute(forgotten)

        self._index.transact(work)


def _first(connection: Connection, until: int, began: int) -> int:
    """From when on to look: where the last look ended, but not before a day ago.

    The very first look tells of nothing that was complete before the node began.
    """
    looked = select(study_completion.c.last_at).where(
        study_completion.c.study_instance_uid == _LOOKED
    )
    before = connection.execute(looked).scalar()
    if before is None:
        return min(until, began) + _ROUNDING_MS
    return max(int(before), until - _DAY_MS)


def _candidates(connection: Connection, since: int, until: int) -> list[tuple[str, int]]:
    """Studies to which something came in a time, and when the last came; not those of before."""
    last_at = func.max(instance.c.received_at)
    uid = study.c.study_instance_uid
    lately = select(uid).where(study.c.updated_at >= since, study.c.updated_at <= until)
    told_at = (
        select(func.coalesce(func.max(study_completion.c.last_at), 0))
        .where(study_completion.c.study_instance_uid == uid)
        .scalar_subquery()
    )
    found = (
        select(uid, last_at)
        .select_from(instance.join(series).join(study))
        .where(uid.in_(lately))
        .group_by(uid)
        .having(last_at > told_at, last_at >= since)
        .order_by(last_at)
    )
    return [(str(row[0]), int(row[1])) for row in connection.execute(found)]


def _claim(one: Connection, uid: str, last_at: int) -> bool:
    """Note that a study is complete; False if another node was faster."""
    one.execute(insert_if_absent(study_completion, one.dialect).values(study_instance_uid=uid))
    column = study_completion.c
    later = update(study_completion).where(
        column.study_instance_uid == uid, column.last_at < last_at
    )
    return bool(one.execute(later.values(last_at=last_at)).rowcount)
