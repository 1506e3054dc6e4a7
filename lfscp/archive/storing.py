"""Stores an object: writes its file, commits its row, and answers for one that is there already.

The order keeps the durability contract: read the header; write the file as a piece and sync it;
link it under its final name and sync the folder; commit the index row; answer. Where the sync of a
file puts its names on disk too (`store/file_systems.py`), it is the only one, after the link. There
a small object's bytes go into the index with its row, and its file is synced later: `late_sync`. A
file without a row is not visible, so a crash leaves at most such a file, and the next start removes
it. A replaced object's old file goes after the new row is committed. Until it is gone the index
names it, so that the next start after a crash removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from lfscp.archive.duplicates import DamagedError, is_same, require_same_place
from lfscp.archive.errors import (
    ArchiveError,
    DuplicateRejectedError,
    InDoubtError,
    OutOfResourcesError,
)
from lfscp.archive.in_doubt import StoresInDoubt
from lfscp.archive.index.kept_objects import is_kept, keep_arrived, kept_among, was_corrected
from lfscp.archive.index.protection import require_replaceable
from lfscp.archive.index.route_items import RouteItem, Router
from lfscp.archive.index.rows import Added, Existing
from lfscp.archive.interceptor import Interceptor
from lfscp.archive.late_sync import LateSync
from lfscp.archive.opening import Opened, OpenOptions
from lfscp.archive.store.digest import algorithm_of
from lfscp.archive.store.object_store import NameTakenError, Piece, Placement
from lfscp.archive.store.received_objects import (
    Duplicates,
    Received,
    Stored,
    StoreOutcome,
    digest_of_received,
    read_received,
    require_identity,
    size_of,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.reading.header import Header


class Storing:
    """The storing side of an open archive. Any thread may call it.

    Args:
        remove_files: removes the files of replaced rows.

    Attributes:
        files: where the objects are.
        index: where their rows are.
        interceptor: asked before a store, and told of it; None without plug-ins.
        router: says where objects go on to; None if they go nowhere.
    """

    interceptor: Interceptor | None = None

    def __init__(
        self,
        opened: Opened,
        options: OpenOptions,
        remove_files: Callable[[Sequence[str]], None],
    ) -> None:
        self.files = opened.files
        self.index = opened.index
        self._presence = opened.presence
        self._remove_files = remove_files
        self._duplicates = Duplicates(options.duplicates)
        self._digest = options.digest
        self.router: Router | None = None
        self._late_sync = LateSync(opened.index, opened.files)
        self._in_doubt = StoresInDoubt(self._has_row, opened.files.remove)

    def close(self) -> None:
        """Have the files on disk that the index keeps."""
        self._late_sync.close()

    def store(self, received: Received) -> Stored:
        """Store one object; see `Archive.store`."""
        header = read_received(received)
        require_identity(header, received)
        asked = self.interceptor
        if asked is not None:
            asked.before_store(received, header)
        try:
            stored = self._store(received, header)
        except OSError as error:  # a disk that fails: what was stored before is still there
            raise OutOfResourcesError("store the instance", error.strerror or str(error)) from None
        if asked is not None:
            asked.after_store(received, stored)
        return stored

    def _store(self, received: Received, header: Header) -> Stored:
        try:
            if self.files.may_exist(*header.uids):
                return self._store_found(received, header)
            return self._store_new(received, header)
        except NameTakenError:  # of a store that could not tell beforehand
            return self._store_found(received, header, beside=True)

    def _store_found(self, received: Received, header: Header, *, beside: bool = False) -> Stored:
        """Store an object whose name may be taken: by itself, or by what a crash left."""
        existing = self.index.find(header.sop_instance_uid)
        if existing is not None:
            return self._store_again(received, header, existing)
        return self._store_new(received, header, beside=beside)

    def _store_new(
        self, received: Received, header: Header, *, replace: bool = False, beside: bool = False
    ) -> Stored:
        """Write, place, commit; `replace` puts it in the place of the one that is there."""
        items = () if self.router is None else self.router.items(header, received)
        piece, offset, digest = self._piece(received, header, may_be_kept=True)
        try:
            place = self.files.place_beside if beside or replace else self.files.place
            placement = _placement(place(piece, *header.uids), received, piece, offset, digest)
            result = self._commit(header, placement, items, replace=replace)
            if isinstance(result, Existing):  # another thread or node was faster
                self.files.remove(placement.path)
                return self._store_again(received, header, result)
            if self.files.is_remote:
                self.files.keep(piece, placement)
            outcome = StoreOutcome.STORED
            if result.replaced_path is not None:
                outcome = StoreOutcome.REPLACED
                if result.replaced_path != placement.path:  # the same when the file was missing
                    self._remove_files([result.replaced_path])
            if received.is_handed_over:
                self.files.discard(Piece(str(received.spooled_path), 0))
        finally:
            if piece.path != str(received.spooled_path):
                self.files.discard(piece)
            if piece.content:
                self._late_sync.note()
        if self._in_doubt:
            self._in_doubt.settle()
        return Stored(
            outcome, result.study_uid, result.series_uid, placement.size, result.notes, header
        )

    def keep(self, received: Received, header: Header, stored_uid: str) -> None:
        """Keep an object as it came beside the one that was made of it; once.

        Args:
            header: of the object as it came.
            stored_uid: SOP Instance UID of the one that was made of it.
        Raises:
            OutOfResourcesError: it cannot be written.
        """
        piece, offset, digest = self._piece(received, header)
        try:
            if is_kept(self.index, stored_uid, piece.size, digest):
                return
            path = self.files.place_beside(piece, *header.uids)
            placement = _placement(path, received, piece, offset, digest)
            with self._placed(header, placement):
                keep_arrived(self.index, stored_uid, header, placement)
        finally:
            if piece.path != str(received.spooled_path):
                self.files.discard(piece)

    def _commit(
        self,
        header: Header,
        placement: Placement,
        items: Sequence[RouteItem],
        *,
        replace: bool,
    ) -> Added | Existing:
        """Commit the row; when that surely failed, remove the placed file."""
        with self._placed(header, placement):
            if replace:
                return self.index.replace(header, placement, items)
            result = self.index.add(header, placement, items)
        if isinstance(result, Existing) and result.is_of(placement):
            # An attempt had succeeded unheard, or the file was missing.
            if placement.content:
                self.index.keep_content(placement)
            note = f"the row of {header.sop_instance_uid} was there already, its file is now"
            return Added(result.study_uid, result.series_uid, (note,), placement.path)
        return result

    @contextmanager
    def _placed(self, header: Header, placement: Placement) -> Iterator[None]:
        """Remove a placed file if it surely gets no row; else it stays, as a left-over perhaps.

        Who ends the process with Ctrl-C may do it just after the commit.
        """
        try:
            yield
        except InDoubtError:
            self._in_doubt.add(header.sop_instance_uid, placement.path)
            raise
        except Exception:
            self.files.remove(placement.path)
            raise

    def _has_row(self, sop_instance_uid: str, path: str) -> bool:
        """Whether a file is an object's, or one that is kept.

        Raises:
            ArchiveError: the index does not tell, or what it says may still change.
        """
        with self.index.doing("read the index"):
            if self.index.may_still_commit():
                raise ArchiveError("read the index", "a session of its server has not ended")
        row = self.index.find(sop_instance_uid)
        if row is not None and row.path == path:
            return True
        with self.index.doing("read the index"), self.index.engine.connect() as connection:
            return bool(kept_among(connection, [path]))

    def _piece(
        self, received: Received, header: Header, *, may_be_kept: bool = False
    ) -> tuple[Piece, int, str]:
        """The complete file in the incoming folder, its dataset's offset and digest.

        Args:
            may_be_kept: the piece may have its content, for the index.
        """
        digest = digest_of_received(received, self._digest) if self._digest else ""
        if received.spooled_path is not None:
            piece = self.files.adopt(
                received.spooled_path, header.uids, received.spooled_descriptor
            )
            return piece, received.dataset_offset, digest
        if received.dataset is None:
            raise DatasetError("there is no dataset")
        head = part10_header(
            header.sop_class_uid,
            header.sop_instance_uid,
            received.transfer_syntax_uid,
            received.calling_ae_title,
        )
        size = len(head) + len(received.dataset)
        is_kept = may_be_kept and bool(digest) and self._late_sync.takes(size)
        piece = self.files.write_piece(head, received.dataset, header.uids)
        if is_kept and not piece.is_synced:
            piece = replace(piece, content=b"".join((head, received.dataset)))
        return piece, len(head), digest

    def _store_again(self, received: Received, header: Header, existing: Existing) -> Stored:
        """Store an instance whose UID is in the index already."""
        if not self.files.exists(existing.path):
            if existing.is_elsewhere(header):
                require_replaceable(self.index, existing.study_uid)
            return self._heal(received, header, "missing")
        if self._duplicates is not Duplicates.REPLACE and existing.is_elsewhere(header):
            if self._is_corrected(received, existing, header):
                return self._kept(received, header, existing, StoreOutcome.KEPT)
            require_same_place(header, existing)
        try:
            same = is_same(received, existing, self.files.file_of(existing))
        except DamagedError:
            return self._heal(received, header, "damaged")
        outcome = StoreOutcome.IDENTICAL
        if not same and self._is_corrected(received, existing, header):
            outcome = StoreOutcome.KEPT
        elif not same:
            if self._duplicates is Duplicates.REPLACE:
                require_replaceable(self.index, existing.study_uid)
                return self._store_new(received, header, replace=True)
            if self._duplicates is Duplicates.REJECT:
                raise DuplicateRejectedError(header.sop_instance_uid)
            outcome = StoreOutcome.KEPT
        return self._kept(received, header, existing, outcome)

    def _is_corrected(self, received: Received, existing: Existing, header: Header) -> bool:
        """Whether an object is the one that a correction has replaced, and that is kept."""
        algorithm = algorithm_of(existing.digest)
        if not algorithm:
            return False
        digest = digest_of_received(received, algorithm)
        return was_corrected(self.index, header.sop_instance_uid, size_of(received), digest)

    def _kept(
        self, received: Received, header: Header, existing: Existing, outcome: StoreOutcome
    ) -> Stored:
        """The stored object stays."""
        size = size_of(received)
        if received.is_handed_over:
            self.files.discard(Piece(str(received.spooled_path), 0))
        return Stored(outcome, existing.study_uid, existing.series_uid, size, header=header)

    def _heal(self, received: Received, header: Header, was: str) -> Stored:
        """Put the same object in the place of a file that cannot be used any more."""
        if self._presence.problem:
            raise OutOfResourcesError("store the instance", self._presence.problem)
        healed = self._store_new(received, header, replace=True)
        notes = (*healed.notes, f"the file of {header.sop_instance_uid} was {was} and is whole")
        return replace(healed, outcome=StoreOutcome.REPLACED, notes=notes)


def _placement(path: str, received: Received, piece: Piece, offset: int, digest: str) -> Placement:
    return Placement(
        path,
        received.transfer_syntax_uid,
        offset,
        piece.size - offset,
        piece.size,
        digest,
        received.calling_ae_title,
        piece.content,
    )
