"""The archive: stores objects durably, finds and selects them, deletes them.

`opening` opens it, `storing` stores into it. Any thread may call any method of an open archive;
workers forked from its process may as well.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from lfscp.archive.arrival import Arrival
from lfscp.archive.deletions import Deletion
from lfscp.archive.durability import Durability
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.clock import Clock
from lfscp.archive.index.clock_readings import doubt_of, read_kept, task_of
from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.index.protection import protect, unprotect
from lfscp.archive.index.removal import forget_removals, pending_removals
from lfscp.archive.index.route_items import Router
from lfscp.archive.interceptor import Interceptor
from lfscp.archive.left_overs import remove_unused
from lfscp.archive.opening import INDEX_FILE, OBJECTS, Opened, OpenOptions, opened
from lfscp.archive.query.find import find
from lfscp.archive.query.ordered import Found, OrderedQueries
from lfscp.archive.query.prepared import PreparedQueries, finds_one
from lfscp.archive.query.query import Query
from lfscp.archive.query.selection import PACKED, Selection
from lfscp.archive.reindexing import place_studies
from lfscp.archive.store.file_systems import is_of_this_machine
from lfscp.archive.store.kept_beside import forget_objects
from lfscp.archive.store.received_objects import (
    Duplicates,
    Received,
    Statistics,
    Stored,
    StoredInstance,
    StoreOutcome,
)
from lfscp.archive.storing import Storing
from lfscp.dicom.values.attributes import LEVELS, Level

__all__ = [
    "INDEX_FILE",
    "OBJECTS",
    "Archive",
    "Duplicates",
    "Durability",
    "Received",
    "Statistics",
    "StoreOutcome",
    "Stored",
    "StoredInstance",
]

_REMOVED_BY_OTHERS_MS: Final = 600_000  # another node's deletion has ended, or died, by then
_EVER_MS: Final = 2**63 - 1


class Archive:
    """An open archive; made by `Archive.open`.

    Attributes:
        life: names what was opened, also in forked processes; another node, or this one after its
            next start, has another.
        follows_on: whether another process of the node, which this one follows on, may still run.
        is_closed: whether this process has ended its use; then what goes on beside it must end.
        is_near: whether no other machine is asked for a row of the index, or to open a file.
        arrival: what is done with objects before they are stored; None stores them as they are.
    """

    def __init__(self, data_dir: Path, parts: Opened, options: OpenOptions) -> None:
        self.data_dir = data_dir
        self.opened_at = time.monotonic()  # before any object comes
        self.life = secrets.token_hex(4)
        self.follows_on = options.lock is not None
        self.is_closed = False
        self.arrival: Arrival | None = None
        self.files = parts.files
        self.index = parts.index
        self.space = parts.space
        self._presence = parts.presence
        self._node = parts.node
        self._lock = parts.lock
        self._prepared = PreparedQueries(self.index.dialect)
        self._ordered = OrderedQueries(self.index, self.files)
        self._storing = Storing(parts, options, lambda paths: self.remove_files(paths))
        is_far = self.index.is_shared or self.files.is_remote
        self.is_near = not is_far and is_of_this_machine(self.files.root)

    @property
    def router(self) -> Router | None:
        """Says where objects that are stored go on to; None if they go nowhere."""
        return self._storing.router

    @router.setter
    def router(self, router: Router | None) -> None:
        self._storing.router = router

    @classmethod
    def open(cls, data_dir: Path, **options: Any) -> Archive:
        """Open the archive in a folder, making or migrating it, and clear what a crash left.

        Args:
            data_dir: made when missing.
            options: the fields of `opening.OpenOptions`.
        Raises:
            As `opening.opened`.
        """
        how = OpenOptions(**options)
        with opened(data_dir, how) as parts:
            archive = cls(data_dir, parts, how)
            # A process that may be about to fork must not talk to a bucket: see s3_client.py.
            if not archive.files.is_remote and how.lock is None:
                archive.finish_removals()
                with archive.index.doing("update patients from the objects"):
                    place_studies(archive.index, archive.files)
        return archive

    def close(self) -> None:
        """Close this process's connections and free the data folder."""
        self.is_closed = True
        self._storing.close()
        self.files.close()
        self.index.close()
        self._presence.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def lock_descriptor(self) -> int:
        """The lock on the data folder, to hand to the node that follows on."""
        return self._lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def interceptor(self) -> Interceptor | None:
        """Who is asked before a store, a send and a query; None without plug-ins."""
        return self._storing.interceptor

    @interceptor.setter
    def interceptor(self, interceptor: Interceptor | None) -> None:
        self._storing.interceptor = interceptor

    @property
    def incoming_dir(self) -> Path:
        """Where large objects may be spooled: on the objects' volume, cleared at start."""
        return self.files.incoming

    @property
    def absence(self) -> str:
        """Why its folders are not the archive's any more, in words; empty when they are."""
        return self._presence.problem

    def require_present(self, operation: str) -> None:
        """Refuse work that takes a missing file for a deleted one, while a volume is away.

        Raises:
            ArchiveError: the volume of the objects, or of the data folder, is not there.
        """
        if self.absence:
            raise ArchiveError(operation, self.absence, "mount it, then restart the node")

    def clock(self) -> Clock:
        """The clock by which something is old; for one thread."""
        return Clock(index=self.index, node=self._node)

    def trusted_ms(self) -> int:
        """The time by which something is old, in ms since 1970; never later than it is.

        Raises:
            ArchiveError: the index cannot be read.
        """
        with self.index.doing("read the index"):
            return self.clock().peek()

    def clock_doubt(self) -> str:
        """Why the clock is not trusted, in words; empty when it is. Raises: as `trusted_ms`."""
        with self.index.doing("read the index"), self.index.engine.connect() as connection:
            return doubt_of(read_kept(connection, task_of(self._node)))

    def store(self, received: Received) -> Stored:
        """Store one object; it is durable when this returns.

        Raises:
            DatasetError: the dataset is broken or lacks its UIDs, perhaps by a coercion.
            IdentityMismatchError: its SOP Class or SOP Instance UID differs from `received`'s.
            InstanceElsewhereError: the instance is there in another series, and is not replaced.
            DuplicateRejectedError, StudyProtectedError: other content is there already, and stays.
            StoreRefusedError: a plug-in does not let it in.
            OutOfResourcesError: it cannot be written; nothing is left of it.
        """
        self.space.require()
        if self.arrival is None:
            return self._storing.store(received)
        return self.arrival.store(received, self._storing)

    def find(
        self,
        query: Query,
        *,
        transfer_syntax_uid: str,
        retrieve_ae_title: str,
        limit: int | None = None,
        interruption: Interruption | None = None,
    ) -> Generator[bytes, None, None]:
        """Find what matches a query, drawn one by one in the calling thread.

        Args:
            query: see query.parse_query.
            transfer_syntax_uid: the responses' encoding.
            limit: the most responses to give; None or 0 for all.
            interruption: asked while it lasts.
        Returns:
            Encoded identifiers; one that lacks a value of its object is find.Incomplete.
        Raises:
            ArchiveError: the index cannot be read.
            InterruptionError: the answer is no longer wanted.
        """
        prepared = self._prepared.statement(query)
        is_one = prepared is not None and finds_one(query)
        reading = self.index.reading(interruption, finds_one=is_one)
        with self.index.doing("read the index"), reading as cursor:
            yield from find(
                cursor,
                self.index.dialect,
                query,
                prepared=prepared,
                transfer_syntax_uid=transfer_syntax_uid,
                retrieve_ae_title=retrieve_ae_title,
                limit=limit or 0,
                files=self.files,
                interruption=interruption,
            )

    def find_keys(
        self, query: Query, *, offset: int, limit: int, interruption: Interruption
    ) -> Sequence[int]:
        """The keys of the rows that match, in an order that lasts: see query.ordered.

        Args:
            query: of studies, series or instances.
            limit: the most keys to give.
        Raises:
            ArchiveError: the index cannot be read.
            InterruptionError: the answer is no longer wanted.
        """
        with self.index.doing("read the index"):
            return self._ordered.keys(query, offset, limit, interruption)

    def rows(
        self, query: Query, keys: Sequence[int], interruption: Interruption
    ) -> Iterator[Found]:
        """The rows with these keys, in their order; of those that are gone there is none.

        Args:
            keys: from `find_keys`; not too many.
        Raises:
            As `find_keys`.
        """
        with self.index.doing("read the index"):
            yield from self._ordered.rows(query, keys, interruption)

    def select(
        self,
        level: Level,
        unique_keys: Mapping[Level, Sequence[str]],
        interruption: Interruption | None = None,
    ) -> Sequence[StoredInstance]:
        """The instances that a retrieve at `level` names, in the order of their arrival.

        Args:
            level: the retrieve's level; keys of a level below it are not looked at.
            unique_keys: lists of Patient IDs or UIDs, of any length. No key at all is nothing.
            interruption: asked while it lasts.
        Raises:
            ArchiveError: the index cannot be read.
            InterruptionError: the answer is no longer wanted.
        """
        wanted = {
            key: list(unique_keys[key])
            for key in LEVELS[: LEVELS.index(level) + 1]
            if key in unique_keys
        }
        if not wanted:
            return []
        with self.index.doing("read the index"):
            found = Selection(self.files.located)
            for row in self.index.select(wanted, interruption or Interruption()):
                found.append(row)
        return list(found) if len(found) <= PACKED else found

    def delete(self, level: Level, uid: str, *, key: int | None = None) -> int:
        """Delete a patient (by Patient ID), study, series or instance: rows first, then files.

        Args:
            key: of the row, where only one of several with this UID is to go.
        Returns:
            The number of instances deleted.
        Raises:
            ArchiveError: a study is protected, the index cannot be written to, or the objects'
                volume is not there; nothing is deleted.
        """
        self.require_present("delete the objects")
        with self.index.doing("delete from the index"):
            deletion = Deletion(self.index, level, uid, key)
            removed = self.index.delete(level, uid, key)
        deletion.happened()
        self.remove_files(removed.paths)
        return removed.instances

    def remove_files(self, paths: Sequence[str]) -> None:
        """Remove the files of rows that were deleted or replaced, as the table `removal` has them.

        What was made of them goes too. A file that cannot be removed is invisible; the next start
        tries again.
        """
        forget_objects(self.data_dir, paths)
        if self.absence:
            return  # a file that is away with its volume was not removed
        gone = self.files.remove_all(paths)
        with suppress(ArchiveError):
            self._forget_removals(gone)

    def set_protected(self, study_uid: str, *, on: bool) -> bool:
        """Keep a study from being deleted or changed, or do so no longer; see `retention`.

        Returns:
            Whether there is such a study, or was such a protection.
        Raises:
            ArchiveError: the index cannot be written to.
        """
        with self.index.doing("write to the index"):
            return protect(self.index, study_uid) if on else unprotect(self.index, study_uid)

    def statistics(self) -> Statistics:
        """How much is in the archive.

        Raises:
            ArchiveError: the index cannot be read.
        """
        with self.index.doing("read the index"):
            counts = self.index.counts()
            patients, studies, series, instances = (counts[level] for level in LEVELS)
            return Statistics(patients, studies, series, instances, self.index.total_size())

    def finish_removals(self) -> None:
        """Remove the files of rows that were deleted just before a crash.

        Raises:
            ArchiveError: the index cannot be read or written to, or the objects' volume is away.
        """
        self.require_present("remove objects")
        is_alone = self.index.engine.dialect.name == "sqlite" and not self.files.is_remote
        before = None if is_alone else self.trusted_ms() - _REMOVED_BY_OTHERS_MS
        with self.index.doing("read the index"), self.index.engine.connect() as connection:
            paths = pending_removals(connection, _EVER_MS if before is None else before)
        done = remove_unused(self.files, self.index, paths, before)
        if paths:
            self._forget_removals(done)

    def _forget_removals(self, paths: Sequence[str]) -> None:
        with self.index.doing("write to the index"), self.index.writing() as connection:
            forget_removals(connection, paths)
