"""Makes the index anew from the objects, when it is lost or damaged and there is no backup.

Rules: the new index is made beside the old one and takes its place when it is complete; the old
one is kept under another name. An object counts as received when its file was written. From the
old index the rebuild takes what is readable of the archive's name, unfinished removals, protected
studies, workflow, corrections and queues of routes; jobs are lost. Of several files of one
instance, in whatever studies, the newest is taken, the others go to the quarantine, but for those
that are kept as they were before a change.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import groupby
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, select, update

from lfscp.archive.archive import Archive
from lfscp.archive.archive_id import archive_id, keep_name
from lfscp.archive.durability import sync_file, sync_folder
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.index.correction_states import CorrectionState
from lfscp.archive.index.tables.correction_tables import correction, kept_object
from lfscp.archive.index.tables.schema import instance, series, study
from lfscp.archive.late_sync import restore_from
from lfscp.archive.store.files import ObjectFiles, instance_of
from lfscp.archive.store.object_store import ObjectStore
from lfscp.archive.upkeep.carried_over import carry_over
from lfscp.archive.upkeep.check import Difference, Finding, fault_of_file, index_again
from lfscp.archive.upkeep.index_copy import connect
from lfscp.archive.upkeep.quarantine import put_aside

_SUFFIXES: Final = ("-wal", "-shm", "-journal")
_NEW: Final = ".rebuilt"


def rebuild(index: Path, open_with: Callable[[Path], Archive]) -> Iterator[Finding | Path]:
    """Make a new SQLite index in the place of the old one.

    Args:
        index: where it belongs; the old one may be damaged or missing.
        open_with: opens the archive with another file for its index.
    Yields:
        Each file that cannot be indexed, and at the end where the old index is now, if there
        was one.
    Raises:
        ArchiveError: it cannot be done; the old index is where it was.
    """
    new = index.with_name(index.name + _NEW)
    _remove(new)
    old = _Old(index)
    with open_with(new) as archive:
        _restore(index, archive.files)
        yield from _index_all(archive, old)
        archive.index.prune()  # what an older file of an instance belonged to
        _set_times(archive)
        with archive.index.writing() as connection:
            keep_name(connection, old.archive_id)
            carry_over(index, connection)
            _settle_corrections(connection)
        archive.index.close()
        aside = _put_in_place(new, index)
    if aside is not None:
        yield aside


def _restore(index: Path, files: ObjectStore) -> None:
    """Write what only the old index has, if there was a power cut and no start since."""
    if isinstance(files, ObjectFiles):
        with suppress(sqlite3.Error), closing(connect(index)) as old:
            restore_from(old, files)


class _Old:
    """Readable parts of a damaged index."""

    def __init__(self, index: Path) -> None:
        self.removed: set[str] = set()
        self.kept: dict[str, str] = {}  # SOP Instance UID of what was made of each file
        self.archive_id = ""
        with suppress(sqlite3.Error), closing(connect(index)) as old:
            self.archive_id = archive_id(old)
            with suppress(sqlite3.Error):
                # A name that was given free may be another object's by now.
                wanted = "SELECT path FROM removal WHERE path NOT IN (SELECT path FROM instance)"
                self.removed = {path for (path,) in old.execute(wanted)}
            with suppress(sqlite3.Error):
                wanted = (
                    "SELECT path, sop_instance_uid FROM kept_object"
                    " WHERE path NOT IN (SELECT path FROM instance)"
                )
                self.kept = dict(old.execute(wanted).fetchall())


def _index_all(archive: Archive, old: _Old) -> Iterator[Finding]:
    for _, paths in groupby(archive.files.walk(), lambda path: path.rpartition("/")[0]):
        written = {path: _written_ms(archive, path) for path in paths}
        done: list[dict[str, object]] = []
        for path in sorted(written, key=lambda path: -written[path]):
            if path in old.removed:
                archive.files.remove(path)
                continue
            if path in old.kept:
                continue
            yield from _set_older_aside(archive, path, written[path])
            action = index_again(archive, path)
            if action != "indexed again":
                yield Finding(Difference.LEFT_OVER, path, "", action, repaired=True)
                continue
            done.append({"uid": instance_of(path), "at": written[path]})
        if done:
            statement = update(instance).values(received_at=bindparam("at"))
            statement = statement.where(instance.c.sop_instance_uid == bindparam("uid"))
            with archive.index.writing() as connection:
                connection.execute(statement, done)
    for path, uid in old.kept.items():
        if archive.index.find(uid) is None and archive.files.exists(path):
            action = index_again(archive, path)  # what was made of it is lost
            yield Finding(Difference.LEFT_OVER, path, "", action, repaired=True)


def _settle_corrections(connection: Connection) -> None:
    """Nothing is kept that is an instance's now; and no job goes on with a correction."""
    taken = kept_object.c.path.in_(select(instance.c.path))
    connection.execute(delete(kept_object).where(taken))
    running = update(correction).where(correction.c.state == CorrectionState.RUNNING)
    connection.execute(running.values(state=CorrectionState.TO_CONFIRM))


def _set_older_aside(archive: Archive, path: str, written_ms: int) -> Iterator[Finding]:
    """Make room for a file when an older one of its instance was indexed, from another folder."""
    row = archive.index.find(instance_of(path))
    if row is None or _written_ms(archive, row.path) >= written_ms or fault_of_file(archive, path):
        return
    archive.index.forget(instance_of(path), row.path)
    action = f"moved to {put_aside(archive, row.path)}, the instance is in a newer file"
    yield Finding(Difference.LEFT_OVER, row.path, "", action, repaired=True)


def _written_ms(archive: Archive, path: str) -> int:
    try:
        return archive.files.path(path).stat().st_mtime_ns // 1_000_000
    except OSError:
        return wall_ms()


def _set_times(archive: Archive) -> None:
    """Studies and series were received when their instances were."""
    below = select(func.min(instance.c.received_at)).where(instance.c.series_fk == series.c.id)
    of_study = instance.join(series)
    within = select(func.max(instance.c.received_at)).select_from(of_study)
    first = select(func.min(instance.c.received_at)).select_from(of_study)
    with archive.index.writing() as connection:
        connection.execute(update(series).values(received_at=below.scalar_subquery()))
        connection.execute(
            update(study).values(
                received_at=first.where(series.c.study_fk == study.c.id).scalar_subquery(),
                updated_at=within.where(series.c.study_fk == study.c.id).scalar_subquery(),
            )
        )


def _put_in_place(new: Path, index: Path) -> Path | None:
    """Give the new index its name; where the old one is now."""
    try:
        with closing(sqlite3.connect(new)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sync_file(new)
        aside = None
        if index.exists():
            aside = index.with_name(
                f"{index.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            )
            for end in ("", *_SUFFIXES):
                with suppress(FileNotFoundError):
                    Path(f"{index}{end}").rename(f"{aside}{end}")
        new.replace(index)
        sync_folder(index.parent)
        _remove(new)
    except (OSError, sqlite3.Error) as error:
        raise ArchiveError("put the new index in place", str(error)) from None
    return aside


def _remove(index: Path) -> None:
    for end in ("", *_SUFFIXES, ".lock"):
        Path(f"{index}{end}").unlink(missing_ok=True)
