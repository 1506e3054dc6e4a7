"""Gives each task of the archive to one node of a shared index, and keeps how far the task is.

Rules: a node holds a task for some minutes and renews that while it works. When it dies, another
node goes on after that time. Each node goes by its own clock; one whose clock is far ahead holds a
task no longer than a turn lasts.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.index.tables.maintenance_tables import maintenance
from lfscp.archive.node_id import node_id

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

_TURN_MS: Final = 600_000


class Turn:
    """One task and this node.

    Args:
        task: its name in the table.
    """

    def __init__(self, archive: Archive, task: str) -> None:
        self._archive = archive
        self._task = task
        # One node has a data folder at a time, and so its successor goes on without waiting.
        self._holder = node_id(archive.data_dir)

    def take(self) -> int | None:
        """Begin or go on: where the task stopped; None while it is another node's.

        Raises:
            SQLAlchemyError, OSError: the index cannot be written to.
        """
        with suppress(IntegrityError), self._archive.index.writing() as connection:
            known = select(maintenance.c.task).where(maintenance.c.task == self._task)
            if connection.execute(known).first() is None:
                connection.execute(insert(maintenance).values(task=self._task))
        now = wall_ms()
        is_free = or_(
            maintenance.c.holder.in_((self._holder, "")),
            maintenance.c.held_until < now,
            maintenance.c.held_until > now + 2 * _TURN_MS,  # by a clock that was put back
        )
        with self._archive.index.writing() as connection:
            taken = connection.execute(
                update(maintenance)
                .where(maintenance.c.task == self._task, is_free)
                .values(holder=self._holder, held_until=now + _TURN_MS)
            )
            if not taken.rowcount:
                return None
            position = select(maintenance.c.position).where(maintenance.c.task == self._task)
            return int(connection.execute(position).scalar_one())

    def keep(self, position: int = 0) -> None:
        """Note how far the task is, and hold it for some more minutes.

        Raises:
            SQLAlchemyError, OSError: the index cannot be written to.
        """
        self._note(position=position, held_until=wall_ms() + _TURN_MS)

    def give_up(self, position: int = 0) -> None:
        """Let another node go on from here.

        Raises:
            SQLAlchemyError, OSError: the index cannot be written to.
        """
        self._note(position=position, holder="", held_until=0)

    def _note(self, **values: int | str) -> None:
        is_mine = (maintenance.c.task == self._task, maintenance.c.holder == self._holder)
        with self._archive.index.writing() as connection:
            connection.execute(update(maintenance).where(*is_mine).values(values))
