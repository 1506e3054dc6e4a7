"""Deletes whole studies, the oldest first, when the archive holds more than its limits allow.

Rules: the oldest study is the one that received its last instance the longest ago. Protected
studies stay, and those that have just received something. Each study is deleted in a transaction of
its own, which looks at it once more: so stores go on in between, and a study that was protected or
added to meanwhile stays. By a clock that is not trusted no study becomes old; see clock.py.

The sizes of the whole index are summed only when they may be too much. In between, what came is
added to the last sum. To sum rarely, retention deletes a little more than it must.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, func, literal, select, tuple_

from lfscp.archive.deletions import Deletion
from lfscp.archive.index.clock import Clock
from lfscp.archive.index.clock_readings import MAX_OFF_MS, wall_ms
from lfscp.archive.index.kept_objects import kept_size
from lfscp.archive.index.protection import (
    is_committed,
    is_of_committed,
    is_of_protected,
    is_on_its_way,
    locked_study,
)
from lfscp.archive.index.removal import delete_entity
from lfscp.archive.index.tables.schema import instance, series, study
from lfscp.dicom.values.attributes import Level

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

GIGABYTE: Final = 1_000_000_000
_BELOW: Final = 0.99  # of a limit in bytes is where recycling stops
_STUDIES: Final = 50  # looked for at a time
_EVER_MS: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What the archive may hold; 0 is no limit.

    Args:
        quiet_ms: how long a study must have received nothing before it can go.
        committed_ms: how long a study stays after the node has committed to one of its instances.
    """

    max_bytes: int = 0
    max_age_ms: int = 0
    max_studies: int = 0
    quiet_ms: int = 300_000
    committed_ms: int = 0

    @property
    def is_any(self) -> bool:
        """Whether anything is limited."""
        return bool(self.max_bytes or self.max_age_ms or self.max_studies)


def most_off_ms(limits: Limits) -> int:
    """How long the machine may be off until its clock is doubted; see clock.look_at."""
    return min(MAX_OFF_MS, limits.max_age_ms // 2) if limits.max_age_ms else MAX_OFF_MS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study that may go.

    Args:
        key: of its row.
        updated_at: when its last instance was received, to some seconds, in ms since 1970.
        reason: which limit it goes for.
    """

    key: int
    study_uid: str
    updated_at: int
    instances: int
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """How much there is, and the newest instance that was counted."""

    bytes: int
    studies: int
    last_key: int


def usage(connection: Connection, known: Usage | None = None) -> Usage:
    """Count everything; reads all instances of the index, or those that came since a count.

    Args:
        known: an earlier count; what was removed since is counted still.
    """
    before = known or Usage(0, 0, 0)
    counted = select(func.coalesce(func.sum(instance.c.file_size), 0), func.max(instance.c.id))
    size, last = connection.execute(counted.where(instance.c.id > before.last_key)).one()
    if known is None:
        size += kept_size(connection)
    studies = count_studies(connection)
    return Usage(before.bytes + int(size), studies, last or before.last_key)


def count_studies(connection: Connection) -> int:
    """How many studies there are."""
    return connection.execute(select(func.count()).select_from(study)).scalar_one()


def candidates(
    connection: Connection, limits: Limits, used: Usage, now_ms: int, old_ms: int | None = None
) -> Iterator[Candidate]:
    """The studies that have to go now, the oldest first; nothing is changed.

    Args:
        used: what there is; each candidate is taken to be gone when the next one is drawn.
        now_ms: ms since 1970.
        old_ms: the time by which a study is old, when the clock is not trusted; see clock.py.
    """
    old_ms = now_ms if old_ms is None else min(old_ms, now_ms)
    remaining_bytes, remaining_studies = used.bytes, used.studies
    target = limits.max_bytes
    if target and remaining_bytes > target:
        target = int(target * _BELOW)
    committed_after_ms = old_ms - limits.committed_ms if limits.committed_ms else _EVER_MS
    for key, uid, updated_at in _oldest(connection, now_ms - limits.quiet_ms, committed_after_ms):
        reason = ""
        if limits.max_age_ms and updated_at < old_ms - limits.max_age_ms:
            reason = "age"
        elif limits.max_studies and remaining_studies > limits.max_studies:
            reason = "studies"
        elif limits.max_bytes and remaining_bytes > target:
            reason = "bytes"
        else:
            return
        instances, size = _size_of(connection, key)
        remaining_studies -= 1
        remaining_bytes -= size
        yield Candidate(key, uid, updated_at, instances, size, reason)


def _oldest(
    connection: Connection, before_ms: int, committed_after_ms: int
) -> Iterator[tuple[int, str, int]]:
    """Studies that may go, by the time of their last instance; a few rows at a time."""
    order = (study.c.updated_at, study.c.id)
    uid = study.c.study_instance_uid
    wanted = (
        select(study.c.id, uid, study.c.updated_at)
        .where(study.c.updated_at < before_ms, ~is_of_protected(uid), ~is_on_its_way(uid))
        .order_by(*order)
        .limit(_STUDIES)
    )
    if committed_after_ms < _EVER_MS:
        wanted = wanted.where(~is_of_committed(uid, committed_after_ms))
    piece = wanted
    while rows := connection.execute(piece).all():
        yield from map(tuple, rows)
        last = rows[-1]
        piece = wanted.where(tuple_(*order) > tuple_(last[2], last[0]))


def _size_of(connection: Connection, study_key: int) -> tuple[int, int]:
    """The number of a study's instances, and the bytes of their files."""
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(instance.c.file_size), 0))
        .select_from(instance.join(series))
        .where(series.c.study_fk == study_key)
    ).one()
    return int(row[0]), int(row[1])


def recycle(
    archive: Archive, candidate: Candidate, limits: Limits, now_ms: int, old_ms: int | None = None
) -> int:
    """Delete a study unless it was protected, added to or committed to since it was looked for.

    Args:
        now_ms, old_ms: as `candidates` takes them.
    Returns:
        The number of instances deleted.
    """
    archive.require_present("delete a study")
    which = (Level.STUDY, candidate.study_uid, candidate.key)
    deletion = Deletion(archive.index, *which)
    with archive.index.writing() as connection:
        row = connection.execute(locked_study(*which[1:])).one_or_none()
        if row is None or row[1] or row[0] >= now_ms - limits.quiet_ms:
            return 0
        committed_after_ms = (now_ms if old_ms is None else old_ms) - limits.committed_ms
        # Asked for once the study is held, as those who commit hold it too.
        if limits.committed_ms and is_committed(connection, which[1], committed_after_ms):
            return 0
        if connection.execute(select(is_on_its_way(literal(which[1])))).scalar_one():
            return 0
        removed = delete_entity(connection, *which)
    deletion.happened()
    archive.remove_files(removed.paths)
    return removed.instances


class Retention:
    """Holds an archive within its limits; for one thread of one process.

    Args:
        tell: called after each study that has gone.
    """

    def __init__(
        self,
        archive: Archive,
        limits: Limits,
        tell: Callable[[Candidate, int], None],
        clock: Clock | None = None,
    ) -> None:
        self._archive = archive
        self._limits = limits
        self._tell = tell
        self._clock = clock or archive.clock()
        self._known: Usage | None = None

    def run(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Delete the studies over the limits; how many.

        Raises:
            SQLAlchemyError, OSError: the index cannot be read or written to.
            ArchiveError: the objects' volume is not there.
        """
        limits = self._limits
        self._archive.require_present("delete studies")
        old_ms = self._clock.look(most_off_ms(limits))
        now = wall_ms()
        gone = 0
        with self._archive.index.engine.connect() as connection:
            found = list(candidates(connection, limits, self._used(connection), now, old_ms))
        for candidate in found:
            if is_stopping():
                break
            deleted = recycle(self._archive, candidate, limits, now, old_ms)
            if not deleted:
                continue
            gone += 1
            if self._known is not None:
                left = self._known.bytes - candidate.bytes
                self._known = Usage(left, self._known.studies - 1, self._known.last_key)
            self._tell(candidate, deleted)
        return gone

    def _used(self, connection: Connection) -> Usage:
        """What there is; the whole index is read at first, and when it seems too much."""
        if not self._limits.max_bytes:
            return Usage(0, count_studies(connection), 0)
        if self._known is not None:
            self._known = usage(connection, self._known)
            if self._known.bytes <= self._limits.max_bytes:
                return self._known
        self._known = usage(connection)
        return self._known
