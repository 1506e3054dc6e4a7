"""Decides whether the time of day can be trusted, so that a wrong clock deletes nothing.

At each look the index keeps the time of day, and the time since the machine was started, which
nobody sets. If the two disagree at a later look, somebody has set the clock, while the node ran or
was stopped, and it is not trusted. After a restart of the machine only the time of day says how
long it was off. If that is longer than usual, the clock is not trusted either.

Rules: while the clock is not trusted, nothing is older than it was at the last trusted time, plus
the time that has passed for certain. So retention goes on, only later. The clock is trusted again
after an hour without a jump, if NTP synchronises it as the kernel says, or else after a week; when
the administrator confirms it; and at once, when it is set to the right time. An index without any
look goes by its newest object. Where nodes share an index, the database's clock is asked too.

`clock_readings.look_at` decides, without a clock or an index.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from lfscp.archive.index.clock_readings import (
    JUMP_MS,
    MAX_OFF_MS,
    Kept,
    Reading,
    is_synchronised,
    look_at,
    read_kept,
    task_of,
    up_s,
)
from lfscp.archive.index.tables.dialects import now_ms as database_now_ms
from lfscp.archive.index.tables.maintenance_tables import maintenance
from lfscp.archive.index.tables.schema import instance
from lfscp.observe import metrics
from lfscp.observe.logging import get_logger
from lfscp.observe.processes import boot_id_of_machine

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

LOG: Final = get_logger("lfscp.archive")


class Clock:
    """Tells the time by which something is old. One thread at a time may use it.

    Args:
        time_of_day: seconds since 1970; `elapsed`: seconds of a clock that nobody sets.
        synchronised: whether the time of day follows a time server.
        index: keeps the looks; None to keep them here.
        node: which of those that share the index this is.
    """

    def __init__(
        self,
        time_of_day: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = up_s,
        synchronised: Callable[[], bool] = is_synchronised,
        *,
        index: Index | None = None,
        node: str = "",
    ) -> None:
        self._time_of_day = time_of_day
        self._elapsed = elapsed
        self._synchronised = synchronised
        self._index = index
        self._task = task_of(node)
        self._boot = boot_id_of_machine() if index is not None else "here"
        self._kept = self._new()
        self._has_said_differs = False

    def look(self, most_off_ms: int = MAX_OFF_MS) -> int:
        """The time of day by which something is old, in ms since 1970; never later than it is.

        Args:
            most_off_ms: as `look_at` takes it.
        Raises:
            SQLAlchemyError, OSError: the index cannot be read or written to.
        """
        if self._index is None:
            before, others_ms = self._kept, None
            kept = self._kept = self._look(before, most_off_ms)
        else:
            with self._index.writing() as connection:
                before, others_ms = self._read(connection), self._others_ms(connection)
                kept = self._look(before, most_off_ms)
                self._write(connection, kept)
        self._tell(before, kept, others_ms)
        return _earliest(kept, others_ms)

    def peek(self) -> int:
        """The same without keeping that it was looked at.

        Raises:
            SQLAlchemyError, OSError: the index cannot be read.
        """
        if self._index is None:
            return _earliest(self._look(self._kept, MAX_OFF_MS), None)
        with self._index.engine.connect() as connection:
            kept = self._look(self._read(connection), MAX_OFF_MS)
            return _earliest(kept, self._others_ms(connection))

    def confirm(self) -> None:
        """Trust the clock as it is, since the administrator says that it is right.

        Raises:
            SQLAlchemyError, OSError: the index cannot be written to.
        """
        self._kept = self._new()
        if self._index is not None:
            with self._index.writing() as connection:
                self._write(connection, self._kept)

    def _look(self, before: Kept, most_off_ms: int) -> Kept:
        return look_at(before, self._reading(), most_off_ms, is_synchronised=self._synchronised())

    def _reading(self) -> Reading:
        return Reading(int(self._time_of_day() * 1000), self._boot, int(self._elapsed() * 1000))

    def _new(self) -> Kept:
        now = self._reading()
        return Kept(now, now.day_ms)

    def _read(self, connection: Connection) -> Kept:
        kept = read_kept(connection, self._task)
        if kept is not None:
            return kept
        newest = select(instance.c.received_at).order_by(instance.c.id.desc()).limit(1)
        at = connection.execute(newest).scalar()
        return self._new() if at is None else Kept(Reading(at), at)

    def _write(self, connection: Connection, kept: Kept) -> None:
        seen = kept.seen
        said = {"boot": seen.boot, "up_ms": seen.up_ms, "trusted_ms": kept.trusted_ms}
        values = {
            "position": seen.day_ms,
            "held_until": kept.steady_since_ms,
            "holder": json.dumps(said),
        }
        row = maintenance.c.task == self._task
        if not connection.execute(update(maintenance).where(row).values(values)).rowcount:
            with suppress(IntegrityError), connection.begin_nested():
                connection.execute(insert(maintenance).values(task=self._task, **values))

    def _others_ms(self, connection: Connection) -> int | None:
        """The time by the clock of the database's machine, where nodes share it."""
        if self._index is None or not self._index.is_shared:
            return None
        return int(connection.execute(select(database_now_ms())).scalar_one())

    def _tell(self, before: Kept, kept: Kept, others_ms: int | None) -> None:
        differs_ms = kept.seen.day_ms - (others_ms or kept.seen.day_ms)
        is_doubted = bool(kept.steady_since_ms) or abs(differs_ms) > JUMP_MS
        metrics.CLOCK_DOUBTED.set(int(is_doubted))
        if kept.steady_since_ms and kept.steady_since_ms != before.steady_since_ms:
            by_ms = kept.seen.day_ms - before.seen.day_ms
            if kept.seen.boot == before.seen.boot:
                by_ms -= kept.seen.up_ms - before.seen.up_ms
            LOG.warning(
                "the clock has jumped and is not trusted",
                by_s=round(by_ms / 1000),
                # An older index, or a new clock's row: how long it was idle is not known.
                since="the last look" if before.seen.up_ms else "the newest object came",
                effect="studies and jobs are deleted later",
                hint="set the clock; if it is right, run: lfscp retention --clock-is-right",
            )
        elif before.steady_since_ms and not kept.steady_since_ms:
            LOG.info("the clock is trusted again")
        differs = abs(differs_ms) > JUMP_MS
        if differs and not self._has_said_differs:
            LOG.warning(
                "the node's clock and the database's differ",
                by_s=round(differs_ms / 1000),
                effect="studies and jobs are deleted by the earlier one",
            )
        self._has_said_differs = differs


def _earliest(kept: Kept, others_ms: int | None) -> int:
    return min(kept.seen.day_ms, kept.trusted_ms, others_ms or kept.seen.day_ms)
