"""The archive: stores objects durably, finds and selects them, deletes them.

The order that keeps the durability contract: read the header; write the file as a piece and
sync it; link it under its final name and sync the folder; commit the index row; answer. What
has no row is not visible, so a crash leaves a file without a row at most, which the next start
removes. A replaced object's old file goes only after the new one's row is committed; until it is
gone the index names it, so that after a crash the next start removes it.

Any thread may call any method of an open archive; workers forked from its process may as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypedDict

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.archive_id import name_archive
from lfscp.archive.data_folder import lock_folder, require_whole
from lfscp.archive.deletions import Deletion
from lfscp.archive.duplicates import DamagedError, is_same, require_same_place
from lfscp.archive.durability import Durability
from lfscp.archive.errors import (
    ArchiveError,
    DuplicateRejectedError,
    InDoubtError,
    OutOfResourcesError,
)
from lfscp.archive.in_doubt import Undecided
from lfscp.archive.index.clock import Clock
from lfscp.archive.index.clock_readings import Stamps, doubt_of, read_kept, task_of
from lfscp.archive.index.database import (
    DEFAULT_CONNECTIONS,
    DEFAULT_TIMEOUT_S,
    is_sqlite_file,
    reason_of,
    sqlite_url,
)
from lfscp.archive.index.index import Index
from lfscp.archive.index.interruption import Interruption
from lfscp.archive.index.objects_identity import bind
from lfscp.archive.index.protection import protect, require_replaceable, unprotect
from lfscp.archive.index.removal import forget_removals, pending_removals
from lfscp.archive.index.rows import Added, Existing
from lfscp.archive.left_overs import clear_incoming, remove_unused
from lfscp.archive.node_id import node_id
from lfscp.archive.open_objects import OBJECTS, Bucket, open_objects
from lfscp.archive.query.find import find, find_prepared
from lfscp.archive.query.prepared import PreparedQueries
from lfscp.archive.query.query import Query
from lfscp.archive.query.selection import PACKED, Selection
from lfscp.archive.reindexing import place_studies
from lfscp.archive.store.digest import ALGORITHMS, DEFAULT_ALGORITHM
from lfscp.archive.store.identity import Presence
from lfscp.archive.store.object_store import NameTakenError, ObjectStore, Piece
from lfscp.archive.store.placement import Placement
from lfscp.archive.store.received_objects import (
    Duplicates,
    Received,
    Statistics,
    Stored,
    StoredInstance,
    StoreOutcome,
    digest_of_received,
    read_received,
    require_identity,
    size_of,
)
from lfscp.archive.store.space import AUTOMATIC, Space
from lfscp.dicom.attributes import LEVELS, Level
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.header import Header
from lfscp.dicom.part10 import part10_header

if TYPE_CHECKING:
    from lfscp.archive.store.s3_client import S3Options

__all__ = [
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

INDEX_FILE: Final = "index.sqlite"
DEFAULT_CACHE_MB: Final = 10_000
_REMOVED_BY_OTHERS_MS: Final = 600_000  # another node's deletion has ended, or died, by then
_EVER_MS: Final = 2**63 - 1


class _FindOptions(TypedDict):
    transfer_syntax_uid: str
    retrieve_ae_title: str
    limit: int
    files: ObjectStore
    interruption: Interruption | None


class Archive:
    """An open archive; made by `Archive.open`."""

    def __init__(
        self,
        data_dir: Path,
        files: ObjectStore,
        index: Index,
        *,
        duplicates: Duplicates,
        digest: str | None,
        space: Space,
        lock: int,
        presence: Presence,
    ) -> None:
        self.data_dir = data_dir
        self.files = files
        self.index = index
        self._prepared = PreparedQueries(index.dialect)
        self.space = space
        self._duplicates = duplicates
        self._digest = digest
        self._lock = lock
        self._presence = presence
        self._undecided = Undecided(index.find, files.remove)

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        index_url: str | None = None,
        index_connections: int = DEFAULT_CONNECTIONS,
        index_timeout_s: float = DEFAULT_TIMEOUT_S,
        objects_root: Path | None = None,
        durability: Durability | str = Durability.FULL,
        duplicates: Duplicates | str = Duplicates.KEEP,
        digest: str | None = DEFAULT_ALGORITHM,
        reserve_mb: int = AUTOMATIC,
        bucket: S3Options | None = None,
        cache_mb: int = DEFAULT_CACHE_MB,
        lock: int | None = None,
        objects_id: str = "",
    ) -> Archive:
        """Open the archive in a folder, making or migrating it, and clear what a crash left.

        Args:
            data_dir: made when missing.
            index_url: SQLAlchemy URL; an SQLite file in the data folder when None.
            index_connections: as `database.open_database` takes it, as `index_timeout_s`.
            objects_root: folder of the objects; `objects` in the data folder when None.
            digest: one of `digest.ALGORITHMS`; None stores no digests.
            reserve_mb: as `space.Space` takes it.
            bucket: where the objects are instead of a folder.
            cache_mb: megabytes of copies of a bucket's objects, kept in the data folder.
            lock: the `lock_descriptor` of the node that this one follows on, which still stores
                what it has begun to receive; closed with this archive.
            objects_id: the identity of its objects' place, for an index that knows none yet; see
                `objects_id`.
        Raises:
            ArchiveInUseError: another node has it open.
            ArchiveError: it cannot be written to, the index is of a newer version, or the objects'
                place is not the one that the index knows.
        """
        if digest is not None and digest not in ALGORITHMS:
            hint = f"use {' or '.join(ALGORITHMS)}"
            raise ArchiveError("open the archive", f"no digest algorithm {digest}", hint)
        follows = lock is not None
        lock = lock_folder(data_dir) if lock is None else lock
        index = presence = None
        try:
            require_whole(data_dir)
            url = index_url or sqlite_url(data_dir / INDEX_FILE)
            was_there = is_sqlite_file(url)
            index = Index(
                url,
                Durability(durability),
                connections=index_connections,
                timeout_s=index_timeout_s,
            )
            in_bucket = None if bucket is None else Bucket(bucket, cache_mb, follows)
            files, identity = open_objects(
                index, data_dir, objects_root, Durability(durability), in_bucket, objects_id
            )
            presence = Presence(None if files.is_remote else files.root, data_dir, identity)
            archive = cls(
                data_dir,
                files,
                index,
                duplicates=Duplicates(duplicates),
                digest=digest,
                space=Space((files.root, data_dir), reserve_mb, lambda: presence.problem),
                lock=lock,
                presence=presence,
            )
            with archive._using_index("write to the index"):
                bind(index, identity)
                with index.engine.connect() as connection:
                    index.stamps = Stamps(read_kept(connection, task_of(archive._clock_of)))
            if not (follows or index.is_shared):
                with archive._using_index("open the index"):
                    name_archive(index)
            if not follows:
                may_judge = was_there or bool(index.placements(limit=1))
                clear_incoming(files, index, may_judge=may_judge)
            # A process that may be about to fork must not talk to a bucket: see s3_client.py.
            if not files.is_remote and not follows:
                archive.finish_removals()
                with archive._using_index("update patients from the objects"):
                    place_studies(index, files)
        except BaseException as error:
            if presence is not None:
                presence.close()
            if index is not None:
                index.close()
            os.close(lock)
            if not isinstance(error, OSError):
                raise
            raise ArchiveError(
                "open the archive", f"{error.strerror}: {error.filename or data_dir}"
            ) from None
        return archive

    def close(self) -> None:
        """Close this process's connections and give the data folder free."""
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
    def incoming_dir(self) -> Path:
        """Where large objects may be spooled: on the objects' volume, cleared at start."""
        return self.files.incoming

    @property
    def absence(self) -> str:
        """Why what is in its folders now is not the archive's, in words; empty when it is."""
        return self._presence.problem

    def require_present(self, operation: str) -> None:
        """Let something go on that believes what is missing to be gone.

        Raises:
            ArchiveError: the volume of the objects, or of the data folder, is not there.
        """
        if self.absence:
            raise ArchiveError(operation, self.absence, "mount it, then restart the node")

    def clock(self) -> Clock:
        """What tells the time by which something is old; for one thread."""
        return Clock(index=self.index, node=self._clock_of)

    def trusted_ms(self) -> int:
        """The time by which something is old, in ms since 1970; never later than it is.

        Raises:
            ArchiveError: the index cannot be read.
        """
        with self._using_index("read the index"):
            return self.clock().peek()

    def clock_doubt(self) -> str:
        """Why the clock is not trusted, in words; empty when it is. Raises: as `trusted_ms`."""
        with self._using_index("read the index"), self.index.engine.connect() as connection:
            return doubt_of(read_kept(connection, task_of(self._clock_of)))

    @property
    def _clock_of(self) -> str:
        """Names the clock's row: each node of a shared index has a clock of its own."""
        return node_id(self.data_dir) if self.index.is_shared else ""

    # Storing

    def store(self, received: Received) -> Stored:
        """Store one object; it is durable when this returns.

        Raises:
            DatasetError: the dataset is broken or lacks its UIDs.
            IdentityMismatchError: its SOP Class or SOP Instance UID differs from `received`'s.
            InstanceElsewhereError: the instance is there in another series, and is not replaced.
            DuplicateRejectedError, StudyProtectedError: other content is there already, and stays.
            OutOfResourcesError: it cannot be written; nothing is left of it.
        """
        self.space.require()
        header = read_received(received)
        require_identity(header, received)
        try:
            if self.files.may_exist(
                header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
            ):
                existing = self.index.find(header.sop_instance_uid)
                if existing is not None:
                    return self._store_again(received, header, existing)
            return self._store_new(received, header)
        except NameTakenError:  # of a store that could not tell beforehand
            return self._store_beside(received, header)
        except OSError as error:  # of a disk that fails: what was there before is there still
            raise OutOfResourcesError("store the instance", error.strerror or str(error)) from None

    def _store_beside(self, received: Received, header: Header) -> Stored:
        """Store what cannot have its usual name: a duplicate, or a crash left that name taken."""
        try:
            existing = self.index.find(header.sop_instance_uid)
            if existing is not None:
                return self._store_again(received, header, existing)
            return self._store_new(received, header, beside=True)
        except OSError as error:  # as above
            raise OutOfResourcesError("store the instance", error.strerror or str(error)) from None

    def _store_new(
        self, received: Received, header: Header, *, replace: bool = False, beside: bool = False
    ) -> Stored:
        """Write, place, commit; `replace` puts it in the place of the one that is there."""
        piece, offset, digest = self._piece(received, header)
        try:
            place = self.files.place_beside if beside or replace else self.files.place
            placement = Placement(
                place(
                    piece,
                    header.study_instance_uid,
                    header.series_instance_uid,
                    header.sop_instance_uid,
                ),
                received.transfer_syntax_uid,
                offset,
                piece.size - offset,
                piece.size,
                digest,
                received.calling_ae_title,
            )
            result = self._commit(header, placement, replace=replace)
            if isinstance(result, Existing):  # another thread or node was faster
                self.files.remove(placement.path)
                return self._store_again(received, header, result)
            if self.files.is_remote:
                self.files.keep(piece, placement)
            outcome = StoreOutcome.STORED
            if result.replaced_path is not None:
                outcome = StoreOutcome.REPLACED
                if result.replaced_path != placement.path:  # the same when the file was missing
                    self.remove_files([result.replaced_path])
            if received.is_handed_over:
                self.files.discard(piece)
        except InDoubtError:
            # The row may be there; without one the file is a left-over that nobody sees.
            self._undecided.add(header.sop_instance_uid, placement.path)
            raise
        finally:
            if received.spooled_path is None:
                self.files.discard(piece)
        if self._undecided:
            self._undecided.settle()
        return Stored(
            outcome, result.study_uid, result.series_uid, placement.size, result.notes, header
        )

    def _commit(self, header: Header, placement: Placement, *, replace: bool) -> Added | Existing:
        """Commit the row; the placed file is gone again when that fails for sure."""
        try:
            if replace:
                return self.index.replace(header, placement)
            result = self.index.add(header, placement)
        except InDoubtError:
            raise
        except BaseException:
            self.files.remove(placement.path)
            raise
        if isinstance(result, Existing) and result.is_of(placement):
            # An attempt had succeeded unheard, or the file was missing.
            note = f"the row of {header.sop_instance_uid} was there already, its file is now"
            return Added(result.study_uid, result.series_uid, (note,), placement.path)
        return result

    def _piece(self, received: Received, header: Header) -> tuple[Piece, int, str]:
        """The complete file in the incoming folder, its dataset's offset and digest."""
        digest = digest_of_received(received, self._digest) if self._digest else ""
        if received.spooled_path is not None:
            piece = self.files.adopt(received.spooled_path, received.spooled_descriptor)
            return piece, received.dataset_offset, digest
        if received.dataset is None:
            raise DatasetError("there is no dataset")
        head = part10_header(
            header.sop_class_uid,
            header.sop_instance_uid,
            received.transfer_syntax_uid,
            received.calling_ae_title,
        )
        return self.files.write_piece(head, received.dataset), len(head), digest

    def _store_again(self, received: Received, header: Header, existing: Existing) -> Stored:
        """Answer for an instance whose UID is in the index already."""
        if not self.files.exists(existing.path):
            if existing.is_elsewhere(header):
                require_replaceable(self.index, existing.study_uid)
            return self._heal(received, header, "missing")
        if self._duplicates is not Duplicates.REPLACE:
            require_same_place(header, existing)
        try:
            same = is_same(received, existing, self.files.file_of(existing))
        except DamagedError:
            return self._heal(received, header, "damaged")
        outcome = StoreOutcome.IDENTICAL
        if not same:
            if self._duplicates is Duplicates.REPLACE:
                require_replaceable(self.index, existing.study_uid)
                return self._store_new(received, header, replace=True)
            if self._duplicates is Duplicates.REJECT:
                raise DuplicateRejectedError(header.sop_instance_uid)
            outcome = StoreOutcome.KEPT
        stored = Stored(
            outcome, existing.study_uid, existing.series_uid, size_of(received), header=header
        )
        if received.is_handed_over:
            self.files.discard(Piece(str(received.spooled_path), 0))
        return stored

    def _heal(self, received: Received, header: Header, was: str) -> Stored:
        """Put the same object in the place of a file that cannot be used any more."""
        if self.absence:
            raise OutOfResourcesError("store the instance", self.absence)
        healed = self._store_new(received, header, replace=True)
        notes = (*healed.notes, f"the file of {header.sop_instance_uid} was {was} and is whole")
        return replace(healed, outcome=StoreOutcome.REPLACED, notes=notes)

    # Finding and removing

    def find(
        self,
        query: Query,
        *,
        transfer_syntax_uid: str,
        retrieve_ae_title: str,
        limit: int | None = None,
        interruption: Interruption | None = None,
    ) -> Iterator[bytes]:
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
            InterruptionError: nobody waits for the answer any longer.
        """
        options: _FindOptions = {
            "transfer_syntax_uid": transfer_syntax_uid,
            "retrieve_ae_title": retrieve_ae_title,
            "limit": limit or 0,
            "files": self.files,
            "interruption": interruption,
        }
        prepared = self._prepared.statement(query)
        with (
            self._using_index("read the index"),
            self.index.reading(interruption) as cursor,
        ):
            if prepared is not None:
                yield from find_prepared(cursor, prepared, query, **options)
            else:
                yield from find(cursor, self.index.dialect, query, **options)

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
            InterruptionError: nobody waits for the answer any longer.
        """
        wanted = {
            key: list(unique_keys[key])
            for key in LEVELS[: LEVELS.index(level) + 1]
            if key in unique_keys
        }
        if not wanted:
            return []
        with self._using_index("read the index"):
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
        with self._using_index("delete from the index"):
            deletion = Deletion(self.index, level, uid, key)
            paths = self.index.delete(level, uid, key)
        deletion.happened()
        self.remove_files(paths)
        return len(paths)

    def remove_files(self, paths: Sequence[str]) -> None:
        """Remove the files of rows that were deleted or replaced, as the table `removal` has them.

        One that cannot be removed is invisible; the next start tries again.
        """
        if self.absence:
            return  # what is not there is not gone
        gone = self.files.remove_all(paths)
        with suppress(ArchiveError), self._using_index("write to the index"):
            self._forget_removals(gone)

    def set_protected(self, study_uid: str, *, on: bool) -> bool:
        """Keep a study from being deleted or changed, or do so no longer; see `retention`.

        Returns:
            Whether there is such a study, or was such a protection.
        Raises:
            ArchiveError: the index cannot be written to.
        """
        with self._using_index("write to the index"):
            return protect(self.index, study_uid) if on else unprotect(self.index, study_uid)

    def statistics(self) -> Statistics:
        """How much is in the archive.

        Raises:
            ArchiveError: the index cannot be read.
        """
        with self._using_index("read the index"):
            counts = self.index.counts()
            patients, studies, series, instances = (counts[level] for level in LEVELS)
            return Statistics(patients, studies, series, instances, self.index.total_size())

    @contextmanager
    def _using_index(self, operation: str) -> Iterator[None]:
        """Turn whatever an index can fail with into an ArchiveError."""
        try:
            yield
        except (SQLAlchemyError, self.index.error, OSError) as error:
            raise ArchiveError(
                operation, reason_of(error), "check the index and its disk"
            ) from None

    # Starting

    def finish_removals(self) -> None:
        """Remove the files of rows that were deleted just before a crash.

        Raises:
            ArchiveError: the index cannot be read or written to, or the objects' volume is away.
        """
        self.require_present("remove objects")
        is_alone = self.index.engine.dialect.name == "sqlite" and not self.files.is_remote
        before = None if is_alone else self.trusted_ms() - _REMOVED_BY_OTHERS_MS
        with self._using_index("read the index"), self.index.engine.connect() as connection:
            paths = pending_removals(connection, _EVER_MS if before is None else before)
        done = remove_unused(self.files, self.index, paths, before)
        if paths:
            with self._using_index("write to the index"):
                self._forget_removals(done)

    def _forget_removals(self, paths: Sequence[str]) -> None:
        with self.index.writing() as connection:
            forget_removals(connection, paths)
