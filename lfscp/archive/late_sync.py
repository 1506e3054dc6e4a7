"""Syncs the files of small objects together, a second later. Until then the index has their bytes.

A store of a small object would wait twice for the disk, for its file and for its row. Instead its
row is committed with the bytes of its file, in the table `unsynced_object`: what is committed can
be written again. One call then syncs all files of the second, and their bytes leave the index.

Rules: a process takes only bytes out of the index that it has put there itself, and only after a
sync of what was written before it looked. After it a new file must get to the disk: an old Linux
says of a file system without its journal that it is synced. Where a sync fails, the bytes stay, and
the process syncs each file as it stores it from then on. The next start writes files again whatever
they look like: after a failed sync, what is read need not be what is on disk. It does so only if no
command is at work, which may just delete or replace them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.durability import sync_file_system
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.tables.maintenance_tables import writer_name
from lfscp.archive.store.digest import algorithm_of, digest_of
from lfscp.archive.store.files import ObjectFiles, instance_of
from lfscp.observe.logging import get_logger
from lfscp.processes.forks import follow_forks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lfscp.archive.index.index import Index
    from lfscp.archive.store.object_store import ObjectStore

MAX_SIZE: Final = 16 << 10  # bytes of a file: more cost the disk more than a sync of their own
LOG: Final = get_logger("lfscp.archive")
_MAX_KEPT_BYTES: Final = 32 << 20  # a disk that is slow to sync must not fill the index
_DELAY_S: Final = 1.0
_STOP_S: Final = 10.0  # a disk that hangs must not hold the end of a node

_LAST: Final = "SELECT max(id) FROM unsynced_object WHERE writer = ?"
_SYNCED: Final = "DELETE FROM unsynced_object WHERE writer = ? AND id <= ?"
_KEPT: Final = "SELECT id, writer, path FROM unsynced_object ORDER BY id"
_CONTENT: Final = "SELECT content FROM unsynced_object WHERE id = ? AND path = ?"
_RESTORED: Final = "DELETE FROM unsynced_object WHERE id = ? AND writer = ? AND path = ?"
_SAID: Final = (
    "SELECT dataset_offset, digest FROM instance WHERE sop_instance_uid = ? AND path = ?"
    " UNION ALL SELECT dataset_offset, digest FROM kept_object WHERE path = ?"
)


class LateSync:
    """The files that this process still has to sync. Any thread may call any method."""

    def __init__(self, index: Index, files: ObjectStore) -> None:
        self._index = index
        is_local = isinstance(files, ObjectFiles) and not index.is_shared
        self._files = files if is_local and isinstance(files, ObjectFiles) else None
        self._reset()
        follow_forks(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._noted = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._descriptor = -1  # of the objects folder, from before the first file was written
        self._has_failed = False
        self._kept_bytes = 0  # about

    def takes(self, size: int) -> bool:
        """Whether a file of so many bytes, which is written now, may be synced later."""
        files = self._files
        if files is None or size > MAX_SIZE or self._has_failed or not files.may_sync_later:
            return False
        if self._kept_bytes > _MAX_KEPT_BYTES:
            return False
        self._kept_bytes += size
        if self._thread is None:
            self._start(files)
        return True

    def _start(self, files: ObjectFiles) -> None:
        with self._lock:
            if self._thread is None:
                self._descriptor = os.open(files.root, os.O_RDONLY | os.O_CLOEXEC)
                self._thread = threading.Thread(target=self._run, name="lfscp-sync", daemon=True)
                self._thread.start()

    def note(self) -> None:
        """Have a file synced whose row is committed with its bytes."""
        if not self._noted.is_set():
            self._noted.set()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._noted.wait()
            self._ending.wait(_DELAY_S)
            self._noted.clear()
            try:
                self._sync()
            except (sqlite3.Error, SQLAlchemyError):
                self._noted.set()  # the index is busy or its disk full: again in a second
            except BaseException:
                self._has_failed = True
                raise

    def _sync(self) -> None:
        """Sync what was noted, and take its bytes out of the index."""
        writer = writer_name()
        with self._index.reading() as cursor:
            ((last,),) = cursor.execute(_LAST, (writer,)).fetchall()
        if self._has_failed:
            return
        if last is None:  # the stores have failed, or were committed already
            self._kept_bytes = 0
            return
        try:
            self._sync_files()
        except OSError as error:
            self._has_failed = True
            LOG.error("files not synced", reason=error.strerror or str(error))  # noqa: TRY400 - our own logger
            return
        with self._index.transaction() as cursor:
            cursor.execute(_SYNCED, (writer, last))
        self._kept_bytes = 0

    def _sync_files(self) -> None:
        files = self._files
        assert files is not None  # noqa: S101 - else nothing is noted
        if os.fstat(self._descriptor).st_dev != files.root.stat().st_dev:
            raise OSError(f"{files.root} is on another volume than before")
        sync_file_system(self._descriptor)
        files.require_journal()

    def close(self) -> None:
        """Sync now, and end the thread."""
        thread = self._thread
        if thread is None:
            return
        self._ending.set()
        self._noted.set()
        thread.join(_STOP_S)
        if not thread.is_alive():
            os.close(self._descriptor)
            self._thread, self._descriptor = None, -1
            self._files = None  # closed


def restore(index: Index, files: ObjectStore) -> None:
    """Write the files again that a power cut may have kept from the disk, at a start.

    Raises:
        ArchiveError: they cannot be written.
    """
    if index.is_shared or not isinstance(files, ObjectFiles):
        return
    with index.reading() as cursor:
        kept = cursor.execute(_KEPT).fetchall()
        if not kept:
            return
        with _synced(files):
            count = sum(_restore_one(cursor, key, path, files) for key, _, path in kept)
    with suppress(index.error), index.transaction() as cursor:  # else again at the next start
        cursor.executemany(_RESTORED, kept)
    LOG.info("files of the last seconds written again", files=count)


def restore_from(connection: sqlite3.Connection, files: ObjectFiles) -> None:
    """The same from an index that is to be built anew; what cannot be read of it is left out.

    Raises:
        ArchiveError: as `restore`.
    """
    with _synced(files), suppress(sqlite3.Error):
        for key, _, path in connection.execute(_KEPT).fetchall():
            with suppress(sqlite3.Error):
                _restore_one(connection.cursor(), key, path, files)


def _restore_one(cursor: Any, key: int, path: str, files: ObjectFiles) -> bool:
    """Write a file again, unless its name is another object's by now, or nobody's; whether."""
    said = cursor.execute(_SAID, (instance_of(path), path, path)).fetchall()
    for (content,) in cursor.execute(_CONTENT, (key, path)).fetchall():
        if any(_is_of(content, offset, digest) for offset, digest in said):
            files.write_again(path, content)
            return True
    return False


def _is_of(content: bytes, offset: int, digest: str) -> bool:
    """Whether bytes are those of an object."""
    algorithm = algorithm_of(digest)
    return bool(algorithm) and digest_of(memoryview(content)[offset:], algorithm) == digest


@contextmanager
def _synced(files: ObjectFiles) -> Iterator[None]:
    """Have what is written meanwhile on disk; it is told of losses since the beginning.

    Raises:
        ArchiveError: something could not be written.
    """
    try:
        descriptor = os.open(files.root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield
            sync_file_system(descriptor)
            files.require_journal()
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArchiveError("write files again", reason, "look at the objects' disk") from None
