"""Changes objects by coercions before they are stored, whichever way they come in.

Rules: an object is stored as the coercions made it, or not at all; the sender gets its answer after
that. One that no coercion is for costs the look at the conditions. A small object is changed in
memory, a large one in a file of the incoming folder, into which its pixels are copied once. An
object that is sent again becomes what it became before: it says the same time of its change.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.durability import PART
from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.store.files import write_pieces
from lfscp.archive.store.object_store import Piece
from lfscp.archive.store.received_objects import (
    Received,
    Stored,
    StoreOutcome,
    mapped,
    read_received,
    require_identity,
    spooled_path_of,
)
from lfscp.archive.store.stored_head import read_head
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.reading.header import DEFLATED, Header, encoding_of, read_header
from lfscp.rules.coercion.coercion import Coerced, Coercion, coerce
from lfscp.rules.coercion.draft import Draft
from lfscp.rules.coercion.original_attributes import (
    COERCE,
    ORIGINAL_ATTRIBUTES,
    Modification,
    last_modified_at,
    moment,
)
from lfscp.rules.conditions.attributes import subject_of

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile
    from lfscp.archive.storing import Storing

_IN_MEMORY: Final = 4 << 20  # bytes of a dataset that is changed in memory


@dataclass(frozen=True, slots=True)
class Arrival:
    """The coercions of objects that come in.

    Args:
        coercions: in order.
        ae_title: of this node, which changes them.
    """

    coercions: Sequence[Coercion]
    ae_title: str

    def store(self, received: Received, storing: Storing) -> Stored:
        """Store what the coercions make of an object; see `Archive.store`."""
        header = read_received(received)
        require_identity(header, received)
        try:
            with _dataset_of(received) as dataset:
                return self._store(received, header, dataset, storing)
        except OSError as error:
            raise OutOfResourcesError("store the instance", error.strerror or str(error)) from None

    def _store(
        self, received: Received, header: Header, dataset: memoryview, storing: Storing
    ) -> Stored:
        fitting = self._fitting(received, header, dataset)
        if not fitting:
            return storing.store(received)
        made, as_made = self._coerced(received, dataset, fitting, storing)
        notes = made.notes
        if made.pieces[0] is dataset:
            return _with_notes(storing.store(received), notes)
        notes = (f"changed by {', '.join(each.name for each in fitting)}", *notes)
        with _received_of(received, made, as_made, storing) as changed:
            stored = storing.store(changed)
        is_of_this = stored.outcome is not StoreOutcome.KEPT  # else another object's is kept
        if is_of_this and any(each.keeps_original for each in fitting):
            storing.keep(received, header, as_made.sop_instance_uid)
        if received.is_handed_over:
            storing.files.discard(Piece(str(received.spooled_path), 0))
        return _with_notes(stored, notes)

    def _fitting(
        self, received: Received, header: Header, dataset: memoryview
    ) -> Sequence[Coercion]:
        subject = subject_of(
            header,
            received.transfer_syntax_uid,
            lambda: dataset,
            received.calling_ae_title,
            received.called_ae_title,
            received.address,
        )
        return [each for each in self.coercions if each.is_for(subject)]

    def _coerced(
        self,
        received: Received,
        dataset: memoryview,
        coercions: Sequence[Coercion],
        storing: Storing,
    ) -> tuple[Coerced, Header]:
        """What becomes of an object, and its header then."""
        modification = Modification(
            self.ae_title, COERCE, moment(datetime.now().astimezone()), received.calling_ae_title
        )
        syntax = received.transfer_syntax_uid
        made = coerce(dataset, syntax, coercions, modification)
        header = header_of(made, syntax)
        before = self._changed_before(header, storing)
        if before and made.pieces[0] is not dataset:
            made = coerce(dataset, syntax, coercions, replace(modification, at=before))
            header = header_of(made, syntax)
        return made, header

    def _changed_before(self, header: Header, storing: Storing) -> str:
        """When the stored object of the same UID was changed on its arrival; empty if never."""
        if not (storing.files.is_remote or storing.files.may_exist(*header.uids)):
            return ""
        row = storing.index.find(header.sop_instance_uid)
        if row is None or row.transfer_syntax_uid in DEFLATED:
            return ""
        return _last_modified(storing.files.file_of(row), self.ae_title)


def _last_modified(file: StoredFile, ae_title: str) -> str:
    try:
        with file.open("rb") as stream:
            meta = read_head(stream)
            with mapped(stream.fileno(), meta.dataset_offset) as dataset:
                encoding = encoding_of(meta.transfer_syntax_uid)
                draft = Draft(dataset, encoding, last=ORIGINAL_ATTRIBUTES)
                return last_modified_at(draft, ae_title)
    except (DatasetError, OSError, ValueError):
        return ""  # the store finds out what is wrong with it


def header_of(made: Coerced, transfer_syntax_uid: str) -> Header:
    """The header of a changed dataset, of which all that a header needs is in the first pieces."""
    if len(made.pieces) == 1:
        return read_header(memoryview(made.pieces[0]), transfer_syntax_uid)
    *first, last = made.pieces
    beginning = b"".join([*first, last[:_IN_MEMORY]])
    return read_header(beginning, transfer_syntax_uid)


@contextmanager
def _dataset_of(received: Received) -> Iterator[memoryview]:
    if received.dataset is not None:
        yield memoryview(received.dataset)
        return
    with spooled_path_of(received).open("rb") as file:
        if os.fstat(file.fileno()).st_size <= received.dataset_offset:
            raise DatasetError("the dataset is empty")
        with mapped(file.fileno(), received.dataset_offset) as dataset:
            yield dataset


@contextmanager
def _received_of(
    received: Received, made: Coerced, header: Header, storing: Storing
) -> Iterator[Received]:
    """The changed object as one that came in."""
    changed = replace(
        received, sop_instance_uid=header.sop_instance_uid, header=None, spooled_descriptor=-1
    )
    if made.size <= _IN_MEMORY:
        dataset = b"".join(made.pieces)
        yield replace(changed, dataset=dataset, spooled_path=None, dataset_offset=0)
        return
    head = part10_header(
        header.sop_class_uid,
        header.sop_instance_uid,
        received.transfer_syntax_uid,
        received.calling_ae_title,
    )
    path = Path(storing.files.incoming) / f"changed-{uuid.uuid4().hex}{PART}"
    try:
        write_pieces(str(path), [head, *made.pieces])
        yield replace(changed, dataset=None, spooled_path=path, dataset_offset=len(head))
    finally:
        path.unlink(missing_ok=True)


def _with_notes(stored: Stored, notes: tuple[str, ...]) -> Stored:
    return replace(stored, notes=(*stored.notes, *notes)) if notes else stored
