"""Makes a copy of a whole archive in a folder, also while its node runs.

Rules: the index is copied first, at one moment, with its jobs; then the objects that this copy
names, and those that are kept as they were before a change. An object deleted in the meantime
loses its row in the copy, so that the two agree. The
manifest is written last and names the copy of the index: without it, or with another index, a
folder is no backup. Another backup into the same folder brings new objects, and at the end drops
those that the archive has dropped. It refuses to drop another archive's objects, or most of the
backup, unless that is asked for: a wrong data folder or a lost index must not cost the backup too.

It takes no lock of the node. It handles an SQLite index and objects in files only; PostgreSQL and
object stores bring their own backups.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from lfscp.archive.archive_id import archive_id
from lfscp.archive.durability import PART, sync_file, sync_folder, write_whole
from lfscp.archive.errors import ArchiveError, ArchiveInUseError
from lfscp.archive.index.database.database import reason_of
from lfscp.archive.index.objects_identity import known_by_file
from lfscp.archive.store.digest import DEFAULT_ALGORITHM, algorithm_of, digest_of_file
from lfscp.archive.store.files import ObjectFiles, instance_of
from lfscp.archive.store.identity import IDENTITY_FOLDER, FolderPlace
from lfscp.archive.store.stored_head import fault_in_file
from lfscp.archive.upkeep.copying import Brought, Copier
from lfscp.archive.upkeep.index_copy import (
    Kept,
    Row,
    connect,
    copy_index,
    drop_empty_rows,
    kept_of,
    rows_of,
)
from lfscp.archive.upkeep.manifest import FORMAT, MANIFEST, OBJECTS, Manifest
from lfscp.dicom.part10.file_head import Expected

_LOCK: Final = "backup.lock"
_MISSING: Final = "missing"
_TURNS: Final = 5  # with objects that were replaced while they were brought
_FEW: Final = 10  # objects that may be dropped even if they are most of a backup
_JUST_NOW_S: Final = 2.0  # before the index was copied: coarser than any file system's times


@dataclass(frozen=True, slots=True)
class Report:
    """What a backup did: its manifest, and how many objects were linked, copied, kept, dropped."""

    manifest: Manifest
    counts: Counter[str]


def backup(
    index: Path,
    objects: Path,
    target: Path,
    *,
    copy: bool = False,
    verify: bool = False,
    replace: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Copy an archive into a folder, or bring the backup that is there up to date.

    Args:
        index: the SQLite file.
        objects: the folder of the objects.
        target: made when missing.
        copy: never link, so that a disk that damages a file cannot damage both.
        verify: read every object of the backup and compare its digest.
        replace: drop what is in the folder, though it is another archive's or most of it.
        tell: called with a line for each object that is missing or damaged.
    Raises:
        ArchiveInUseError: another backup into the folder is running.
        ArchiveError: it cannot be made, or would replace another archive's; what was complete
            before is complete still.
    """
    if not index.is_file():
        raise ArchiveError("back up", f"there is no index {index}", "check data_dir and index.url")
    if target.resolve().is_relative_to(objects.resolve()):
        raise ArchiveError("back up", f"{target} is inside the objects folder", "choose another")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _lock(target):
            return _Backup(index, objects, target, copy, tell).run(verify=verify, replace=replace)
    except (sqlite3.Error, OSError) as error:
        name = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise ArchiveError("back up", f"{reason}{name}", "run it again to go on") from None


class _Backup:
    def __init__(
        self,
        index: Path,
        objects: Path,
        target: Path,
        copy: bool,  # noqa: FBT001, RUF100 - made in one place
        tell: Callable[[str], None],
    ) -> None:
        self._index = index
        self._source = objects
        self._target = target
        self._objects = target / OBJECTS
        self._copier = Copier(may_link=not copy)
        self._tell = tell
        self._counts: Counter[str] = Counter()
        self._problems: set[str] = set()

    def run(self, *, verify: bool, replace: bool) -> Report:
        for left_over in self._target.glob(f"*{PART}*"):
            left_over.unlink()
        name = self._new_name()
        part = self._target / f"{name}{PART}"
        for turn in range(1, _TURNS + 1):
            started = time.time()
            copy_index(self._index, part)
            if turn == 1:
                self._require_objects(part)
            if turn == 1 and not replace:
                self._require_kept(part)
            self._bring_kept(part)
            if not self._bring_all(part, started, is_last=turn == _TURNS):
                break
        if verify:
            self._verify(part)
        manifest = self._commit(part, self._target / name, started)
        self._drop(self._target / name)
        return Report(manifest, self._counts)

    def _require_objects(self, copied: Path) -> None:
        """Refuse another folder, or the one below a volume that is not mounted."""
        identity = known_by_file(copied)
        if identity and FolderPlace(self._source).read() != identity:
            copied.unlink()
            raise ArchiveError(
                "back up",
                f"{self._source} is not the folder of this index's objects: {IDENTITY_FOLDER} is "
                "missing or another's",
                "see that its volume is mounted, or start the node, which says more",
            )

    def _require_kept(self, copied: Path) -> None:
        """Refuse to drop what is another archive's, or most of what the backup has."""
        with closing(sqlite3.connect(copied)) as connection:
            theirs, mine = _archive_of(self._manifest), archive_id(connection)
            there = dropped = 0
            known = "SELECT 1 FROM instance WHERE sop_instance_uid = ?"
            kept = {each.path for each in kept_of(connection)}
            for path in ObjectFiles(self._objects).walk():
                there += 1
                if path not in kept:
                    dropped += connection.execute(known, (instance_of(path),)).fetchone() is None
        is_other = bool(theirs and mine and theirs != mine)
        if not dropped or not (is_other or (dropped > _FEW and 2 * dropped > there)):
            return
        copied.unlink()
        what = "holds another archive" if is_other else "would lose most of what it has"
        raise ArchiveError(
            "back up",
            f"{self._target} {what}: {dropped} of its {there} objects would be dropped",
            "check data_dir, or let them go with --replace",
        )

    def _new_name(self) -> str:
        """A name for the index that the backup before does not have."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        names = (f"index-{stamp}{'-' * bool(at)}{at or ''}.sqlite" for at in itertools.count())
        return next(name for name in names if not (self._target / name).exists())

    # Bringing objects

    def _bring_all(self, copied: Path, started: float, *, is_last: bool) -> int:
        """Bring the objects that a copy of the index names; how many were replaced meanwhile."""
        replaced = 0
        with closing(sqlite3.connect(copied)) as rows:
            vanished: list[int] = []
            for row in rows_of(rows):
                problem = self._bring(row.path, partial(_problem_of, row=row, started=started))
                if not problem:
                    continue
                live = self._live(row)
                if live is None:
                    vanished.append(row.id)
                elif live != (row.path, row.digest) and not is_last:
                    replaced += 1
                else:
                    self._complain(row.path, problem)
            with rows:
                keys = ((key,) for key in vanished)
                rows.executemany("DELETE FROM instance WHERE id = ?", keys)
        if vanished:
            drop_empty_rows(copied)
        self._copier.sync()
        return replaced

    def _bring_kept(self, copied: Path) -> None:
        """Bring the objects as they were before a change; those that are gone lose their rows."""
        with closing(sqlite3.connect(copied)) as rows:
            vanished = []
            for kept in kept_of(rows):
                problem = self._bring(kept.path, partial(_fault_of_kept, kept=kept))
                if problem == _MISSING and not self._is_kept(kept):
                    vanished.append((kept.id,))
                elif problem:
                    self._complain(kept.path, problem)
            with rows:
                rows.executemany("DELETE FROM kept_object WHERE id = ?", vanished)

    def _is_kept(self, kept: Kept) -> bool:
        """Whether the archive keeps an object still."""
        with closing(connect(self._index)) as live:
            return any(each.id == kept.id for each in kept_of(live))

    def _bring(self, path: str, problem_of: Callable[[Path], str]) -> str:
        """Bring one object; the problem with it, or nothing."""
        source, target = self._source / path, self._objects / path
        try:
            problem = problem_of(source)
            if self._copier.is_there(source, target):
                self._counts[Brought.KEPT.value] += 1
                return problem
            if target.exists():  # of the backup before, which this one is about to break
                self._manifest.unlink(missing_ok=True)
                sync_folder(self._target)
            self._counts[self._copier.bring(source, target).value] += 1
        except FileNotFoundError:
            return _MISSING
        return problem

    def _live(self, row: Row) -> tuple[str, str] | None:
        """Path and digest that the archive has of an object now; None when it was deleted."""
        with closing(connect(self._index)) as live:
            wanted = "SELECT path, digest FROM instance WHERE sop_instance_uid = ?"
            found = live.execute(wanted, (row.sop_instance_uid,)).fetchone()
        return found and tuple(found)

    def _complain(self, path: str, what: str) -> None:
        if path not in self._problems:
            self._problems.add(path)
            self._tell(f"{path}: {what}")

    def _verify(self, copied: Path) -> None:
        with closing(sqlite3.connect(copied)) as rows:
            for row in rows_of(rows):
                if row.path in self._problems:
                    continue
                problem = _difference(self._objects / row.path, row)
                if problem:
                    self._complain(row.path, problem)
            for kept in kept_of(rows):
                if kept.path not in self._problems:
                    problem = _other_digest(self._objects / kept.path, kept)
                    if problem:
                        self._complain(kept.path, problem)

    # Ending

    @property
    def _manifest(self) -> Path:
        return self._target / MANIFEST

    def _commit(self, part: Path, index: Path, started: float) -> Manifest:
        """Write the manifest: until then the folder holds the old backup, from then on the new."""
        with closing(sqlite3.connect(part)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")  # a file that stands for itself
            objects, size = connection.execute(
                "SELECT count(*), coalesce(sum(file_size), 0) FROM instance"
            ).fetchone()
            identity = archive_id(connection)
        sync_file(part)
        part.replace(index)
        manifest = Manifest(
            format=FORMAT,
            made_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            index=index.name,
            index_digest=digest_of_file(index, 0, DEFAULT_ALGORITHM),
            objects=objects,
            bytes=size,
            problems=len(self._problems),
            archive=identity,
        )
        write_whole(self._manifest, json.dumps(asdict(manifest), indent=2) + "\n")
        return manifest

    def _drop(self, index: Path) -> None:
        """Remove what only earlier backups in this folder named."""
        for other in self._target.glob("index-*.sqlite"):
            if other != index:
                other.unlink()
        files = ObjectFiles(self._objects)
        with closing(sqlite3.connect(index)) as connection:
            wanted = "SELECT 1 FROM instance WHERE sop_instance_uid = ? AND path = ?"
            kept = {each.path for each in kept_of(connection)}
            for path in files.walk():
                known = connection.execute(wanted, (instance_of(path), path)).fetchone()
                if known is None and path not in kept:
                    files.remove(path)
                    self._counts["dropped"] += 1
        with suppress(OSError):
            files.incoming.rmdir()


def _archive_of(manifest: Path) -> str:
    """Whose backup a manifest is of; empty when it does not say or cannot be read."""
    with suppress(OSError, ValueError, AttributeError):
        return str(json.loads(manifest.read_text(encoding="utf-8")).get("archive", ""))
    return ""


def _problem_of(source: Path, row: Row, started: float) -> str:
    """How an object differs from its row."""
    found = source.stat()
    if found.st_size != row.file_size:
        return f"{found.st_size} bytes, the index says {row.file_size}"
    # One that is as new as the copy of the index may be another one under the same name.
    return _difference(source, row) if found.st_mtime > started - _JUST_NOW_S else ""


def _fault_of_kept(source: Path, kept: Kept) -> str:
    """How a kept object differs from its row."""
    size = source.stat().st_size
    return "" if size == kept.file_size else f"{size} bytes, the index says {kept.file_size}"


def _difference(file: Path, row: Row) -> str:
    """How an object's head or digest differs from its row."""
    return fault_in_file(file, Expected.of(row)) or _other_digest(file, row)


def _other_digest(file: Path, row: Row | Kept) -> str:
    """The digest of an object, if its row has another one."""
    if not row.digest:
        return ""
    actual = digest_of_file(file, row.dataset_offset, algorithm_of(row.digest))
    return "" if actual == row.digest else f"{actual}, the index says {row.digest}"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ArchiveInUseError("back up", f"another backup into {folder} is running") from None
    finally:
        os.close(descriptor)
