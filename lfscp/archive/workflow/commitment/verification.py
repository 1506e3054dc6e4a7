"""Looks whether instances that a peer names are here and sound, before the node commits to them.

An instance is looked for in the index, then its file is read against its digest. Several threads
read, so that a disk has more than one thing to do; each has one buffer. What was not in the
system's cache before does not stay there, so that others keep what they have in it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from sqlalchemy import select

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.tables.schema import instance
from lfscp.archive.store.digest import algorithm_of, hasher_of
from lfscp.archive.workflow.commitment.committed_studies import note_studies
from lfscp.archive.workflow.commitment.failure_reasons import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
)
from lfscp.archive.workflow.commitment.references import Failure, Reference
from lfscp.dicom.part10.file_head import HEAD_BYTES, Expected, fault_of_head

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

Verify = Literal["digest", "size", "index"]

_PIECE: Final = 500  # instances that are looked for at a time
THREADS: Final = 4  # that read at the same time
_CHUNK: Final = 1 << 18  # bytes, so that what was read is in the processor's cache for the digest
_COLUMNS: Final = (
    instance.c.sop_instance_uid,
    instance.c.sop_class_uid,
    instance.c.transfer_syntax_uid,
    instance.c.path,
    instance.c.dataset_offset,
    instance.c.size,
    instance.c.file_size,
    instance.c.digest,
)
_buffers: Final = threading.local()


class Damage(NamedTuple):
    """An instance whose file is missing or damaged."""

    sop_instance_uid: str
    reason: str


class Verification:
    """Of the instances of one request.

    Args:
        how: a digest is read, only the size is looked at, or only the index.
        tell: called with each damaged instance, by any of the threads.
        goes_on: called now and then, by any of the threads; may raise to end it.
    """

    def __init__(
        self,
        archive: Archive,
        how: Verify,
        tell: Callable[[Damage], object],
        goes_on: Callable[[], object],
    ) -> None:
        self._archive = archive
        self._how = how
        self._tell = tell
        self._goes_on = goes_on

    def failures(self, references: Sequence[Reference]) -> list[Failure]:
        """The instances that the node cannot commit to, in their order.

        Raises:
            ArchiveError: it cannot be said now, as the index or the objects are away.
        """
        failures: list[Failure] = []
        for start in range(0, len(references), _PIECE):
            piece = references[start : start + _PIECE]
            note_studies(self._archive.index, piece)  # retention leaves them from here
            failures += self._of_piece(piece)
        return failures

    def _of_piece(self, references: Sequence[Reference]) -> Iterator[Failure]:
        rows = self._rows([each.sop_instance_uid for each in references])
        found = [each for each in references if _reason(each, rows) is None]
        wanted = {each.sop_instance_uid: rows[each.sop_instance_uid] for each in found}
        sound = self._are_sound(wanted)
        for each in references:
            reason = _reason(each, rows)
            if reason is None and not sound[each.sop_instance_uid]:
                # It may have been deleted or replaced since it was looked for.
                rows |= self._rows([each.sop_instance_uid]) or {each.sop_instance_uid: None}
                reason = _reason(each, rows)
                if reason is None:
                    reason = self._reason_on_second_look(rows[each.sop_instance_uid])
            if reason is not None:
                yield Failure(*each, reason)

    def _rows(self, uids: Sequence[str]) -> dict[str, Any]:
        self._goes_on()
        wanted = select(*_COLUMNS).where(instance.c.sop_instance_uid.in_(set(uids)))
        index = self._archive.index
        with index.doing("read the index"), index.engine.connect() as connection:
            return {row.sop_instance_uid: row for row in connection.execute(wanted)}

    def _are_sound(self, rows: Mapping[str, Any]) -> dict[str, bool]:
        """Whether the files of these rows are, by UID; the first error ends it.

        The threads are no executor's: Python would wait for those at its exit, and a node must end
        though a disk does not answer.
        """
        sound: dict[str, bool] = {}
        errors: list[Exception] = []
        left = iter(rows.items())
        taking = threading.Lock()

        def work() -> None:
            while not errors:
                with taking:
                    uid, row = next(left, ("", None))
                if not uid:
                    return
                try:
                    sound[uid] = not self._fault(row)
                except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                    errors.append(error)

        threads = [
            threading.Thread(target=work, name="lfscp-verify", daemon=True)
            for _ in range(min(THREADS, len(rows)))
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        if errors:
            raise errors[0]
        return sound

    def _reason_on_second_look(self, row: Any) -> int | None:
        fault = self._fault(row)
        if not fault:
            return None
        # A volume that is away has lost nothing.
        self._archive.require_present("verify the objects")
        self._tell(Damage(row.sop_instance_uid, fault))
        return PROCESSING_FAILURE

    def _fault(self, row: Any) -> str:
        """What is wrong with the file of a row; empty when nothing is.

        Raises:
            ArchiveError: the bucket does not answer.
        """
        self._goes_on()
        if self._how == "index":
            return ""
        try:
            return self._fault_by_size(row) if self._how == "size" else self._fault_by_digest(row)
        except FileNotFoundError:
            return "the file is missing"
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error)
            if self._archive.files.is_remote:
                hint = "check objects.url and the service"
                raise ArchiveError("verify the objects", reason, hint) from None
            return reason

    def _fault_by_size(self, row: Any) -> str:
        size = self._archive.files.path(row.path).stat().st_size
        return _fault_of_size(size, row)

    def _fault_by_digest(self, row: Any) -> str:
        descriptor = os.open(self._archive.files.path(row.path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            was_cached = _is_cached(descriptor)
            fault = _fault_of_size(os.fstat(descriptor).st_size, row)
            fault = fault or self._fault_of_content(descriptor, row)
            if not was_cached:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            return fault
        finally:
            os.close(descriptor)

    def _fault_of_content(self, descriptor: int, row: Any) -> str:
        view = _buffer()
        count = os.preadv(descriptor, [view], 0)
        fault = fault_of_head(bytes(view[: min(count, HEAD_BYTES)]), Expected.of(row))
        if fault or not row.digest:
            return fault
        hasher = hasher_of(algorithm_of(row.digest))
        at, skipped = 0, row.dataset_offset
        while count:
            hasher.update(view[min(skipped, count) : count])
            at, skipped = at + count, max(0, skipped - count)
            if at >= row.file_size:
                break
            self._goes_on()
            count = os.preadv(descriptor, [view], at)
        is_right = f"{algorithm_of(row.digest)}:{hasher.hexdigest()}" == row.digest
        return "" if is_right else "its digest is another"


def _reason(reference: Reference, rows: Mapping[str, Any]) -> int | None:
    """Why an instance is not the one that is meant; None when it is in the index."""
    row = rows.get(reference.sop_instance_uid)
    if row is None:
        return NO_SUCH_INSTANCE
    return None if row.sop_class_uid == reference.sop_class_uid else CLASS_INSTANCE_CONFLICT


def _fault_of_size(size: int, row: Any) -> str:
    if size == row.file_size and size - row.dataset_offset == row.size:
        return ""
    return f"the file has {size} bytes, the index says {row.file_size}"


def _is_cached(descriptor: int) -> bool:
    """Whether the system has the begin of a file in its cache; yes when nobody can tell."""
    try:
        os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _buffer() -> memoryview:
    """The calling thread's."""
    found: memoryview | None = getattr(_buffers, "view", None)
    if found is None:
        found = _buffers.view = memoryview(bytearray(_CHUNK))
    return found
