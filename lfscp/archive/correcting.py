"""Corrects patients and studies: writes their objects anew, with what they were before in them.

Rules: the new objects are written first, beside the old ones. Then all rows of a study change at
once. A crash before that leaves files without rows, which the next start removes; one after it
leaves nothing to do. The old objects stay until somebody confirms the correction, or undoes it.
Pixels are copied as they are.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from pydicom.datadict import tag_for_keyword
from sqlalchemy import Connection

from lfscp.archive.arrival import header_of
from lfscp.archive.durability import PART
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index import correction_states, corrections
from lfscp.archive.index.corrections import Corrected, StudyGoneError
from lfscp.archive.index.rows import texts
from lfscp.archive.index.tables.schema import attribute_columns
from lfscp.archive.store.digest import algorithm_of, digest_of_file
from lfscp.archive.store.files import write_pieces
from lfscp.archive.store.kept_beside import forget_objects
from lfscp.archive.store.object_store import Piece, Placement
from lfscp.archive.store.received_objects import mapped
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.reading.header import Header
from lfscp.dicom.values.attributes import Level, at_level
from lfscp.observe import audit
from lfscp.observe.audit.message import Patient
from lfscp.rules.coercion.actions import Action, Remove, Set
from lfscp.rules.coercion.attribute_path import read_path
from lfscp.rules.coercion.coercion import Coercion, coerce
from lfscp.rules.coercion.original_attributes import CORRECT, Modification, moment
from lfscp.rules.coercion.values import fault_of

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

# What may be corrected, by keyword.
CORRECTABLE: Final = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDescription",
    "AccessionNumber",
)
OF_PATIENT: Final = CORRECTABLE[:5]
_SEXES: Final = ("", "F", "M", "O")
_ATTEMPTS: Final = 20  # while objects of the study come in
_WHAT: Final = "correct the study"


class CorrectionError(ValueError):
    """A correction that cannot be.

    Args:
        keyword: of the attribute.
        expected: what was expected of its value.
    """

    def __init__(self, keyword: str, expected: str) -> None:
        super().__init__(f"{keyword}: expected {expected}")
        self.keyword = keyword
        self.expected = expected


def require_changes(changes: Mapping[str, Any]) -> dict[str, str]:
    """The new values of attributes by keyword, if objects can have them.

    Raises:
        CorrectionError: an attribute may not be corrected, or cannot have its value.
    """
    if not changes:
        raise CorrectionError("changes", "something to change")
    for keyword, value in changes.items():
        if keyword not in CORRECTABLE:
            raise CorrectionError(keyword, f"one of {', '.join(CORRECTABLE)}")
        if not isinstance(value, str) or "\\" in value:
            raise CorrectionError(keyword, "one text, without a backslash")
        fault = fault_of(value, read_path(keyword).vr)
        if not fault and keyword == "PatientSex" and value not in _SEXES:
            fault = "F, M, O or nothing"
        if fault:
            raise CorrectionError(keyword, fault)
    return dict(changes)


@dataclass(frozen=True, slots=True)
class _Placed:
    """An object that was written anew; without a placement it did not change."""

    old_path: str
    header: Header
    placement: Placement | None = None
    piece: Piece | None = None


@dataclass(slots=True)
class Correction:
    """One correction of an archive; for one thread.

    Args:
        id: names it; the same when it is done again after an interruption.
        changes: see `require_changes`.
        ae_title: of this node, which the objects name.
        user: who asked for it.
        look: called after each object with the bytes written; what it raises ends the work.
    """

    archive: Archive
    id: str
    changes: Mapping[str, str]
    ae_title: str
    user: str = ""
    look: Callable[[int], None] = lambda _: None
    _placed: dict[int, _Placed] = field(default_factory=dict)

    def begin(self) -> None:
        """Note that it is on its way.

        Raises:
            ArchiveError: it was confirmed or undone, or the index cannot be written to.
        """
        self._write(lambda connection: correction_states.begin(connection, *self._noted))

    def end(self) -> None:
        """Note that all is done, and waits for somebody who confirms it; raises as `begin`."""
        self._write(lambda connection: correction_states.end(connection, self.id))

    @property
    def _noted(self) -> tuple[str, str, Mapping[str, str]]:
        return self.id, self.user, self.changes

    def correct(self, study_key: int) -> int:
        """Correct one study; nothing is left to do if that was done before.

        Returns:
            The number of objects that were written.
        Raises:
            CorrectionEndedError: it was undone meanwhile; the study is as it was.
            ArchiveError: it is protected or gone, or something cannot be read or written; likewise.
            DatasetError: an object of it cannot be changed; likewise.
        """
        self.archive.require_present(_WHAT)
        self._placed = {}
        try:
            return self._correct(study_key)
        except StudyGoneError:
            raise ArchiveError(_WHAT, "it was deleted") from None
        except OSError as error:
            raise ArchiveError(_WHAT, error.strerror or str(error)) from None
        finally:
            self._clear(study_key)

    def _correct(self, study_key: int) -> int:
        index = self.archive.index
        for _ in range(_ATTEMPTS):
            with index.doing("read the index"), index.engine.connect() as connection:
                if correction_states.is_corrected(connection, self.id, study_key):
                    return 0
                row = corrections.require_correctable(connection, study_key)
                instances = corrections.instances_of(connection, study_key)
            corrected = [self._corrected(each) for each in instances]
            if self._apply(study_key, corrected):
                self._done(dict(row), corrected)
                return sum(each.placement is not None for each in corrected)
        raise ArchiveError(_WHAT, "its objects keep changing", "try again later")

    def _apply(self, study_key: int, corrected: Sequence[Corrected]) -> bool:
        header = next((each.header for each in self._placed.values()), None)
        values = {} if header is None else _columns(header, self.changes)

        def work(connection: Connection) -> bool:
            return corrections.apply(connection, self.id, study_key, corrected, values)

        return bool(self._write(work))

    def _corrected(self, row: Mapping[Any, Any]) -> Corrected:
        """One object as it shall be; those that are written already are not written again."""
        placed = self._placed.get(row["id"])
        if placed is None or placed.old_path != row["path"]:
            placed = self._written(row)
            self._placed[row["id"]] = placed
            self.look(row["size"])
        character_set = placed.header.specific_character_set
        return Corrected(row["id"], row["path"], placed.placement, character_set)

    def _written(self, row: Mapping[Any, Any]) -> _Placed:
        """Write one object as it shall be, and give the file its name."""
        syntax, caller = row["transfer_syntax_uid"], row["calling_ae_title"]
        files = self.archive.files
        self.archive.space.require()
        file = files.file_of(SimpleNamespace(**row))
        with file.open("rb") as stream, mapped(stream.fileno(), row["dataset_offset"]) as dataset:
            made = coerce(dataset, syntax, [self._coercion()], self._modification())
            if made.notes:
                raise ArchiveError(_WHAT, "; ".join(made.notes))
            header = header_of(made, syntax)
            if made.pieces[0] is dataset:
                return _Placed(row["path"], header)
            head = part10_header(row["sop_class_uid"], row["sop_instance_uid"], syntax, caller)
            path = Path(files.incoming) / f"corrected-{uuid.uuid4().hex}{PART}"
            write_pieces(str(path), [head, *made.pieces])
        return self._place(path, len(head), row, header)

    def _place(self, path: Path, offset: int, row: Mapping[Any, Any], header: Header) -> _Placed:
        files = self.archive.files
        algorithm = algorithm_of(row["digest"])
        digest = digest_of_file(path, offset, algorithm) if algorithm else ""
        piece = files.adopt(path, header.uids)
        try:
            place = files.place_beside(piece, *header.uids)
        except BaseException:
            files.discard(piece)
            raise
        finally:
            if piece.path != str(path):
                path.unlink(missing_ok=True)
        syntax, caller = row["transfer_syntax_uid"], row["calling_ae_title"]
        size = piece.size - offset
        placement = Placement(place, syntax, offset, size, piece.size, digest, caller)
        return _Placed(row["path"], header, placement, piece)

    def _coercion(self) -> Coercion:
        actions: list[Action] = []
        for keyword, value in self.changes.items():
            path = read_path(keyword)
            is_left_out = not value and keyword == "IssuerOfPatientID"  # which may be absent
            actions.append(Remove(path) if is_left_out else Set(path, value))
        return Coercion("correction", [actions])

    def _modification(self) -> Modification:
        return Modification(self.ae_title, CORRECT, moment(datetime.now().astimezone()))

    def _write(self, work: Callable[[Connection], Any]) -> Any:
        index = self.archive.index
        with index.doing("write to the index"):
            return index.transact(work)

    def _done(self, row: Mapping[str, Any], corrected: Sequence[Corrected]) -> None:
        self.archive.index.forget_known()
        forget_objects(self.archive.data_dir, [each.path for each in corrected])
        for placed in self._placed.values():
            if placed.piece is not None and placed.placement is not None:
                self.archive.files.keep(placed.piece, placed.placement)
        _record(row, "corrected", self.id, self.changes)

    def _clear(self, study_key: int) -> None:
        """Remove the pieces, and the files that no row has.

        If the index cannot say it, the pieces stay: by them the next start finds the files.
        """
        if not any(each.piece for each in self._placed.values()):
            return
        index = self.archive.index
        with suppress(ArchiveError):
            with index.doing("read the index"), index.engine.connect() as connection:
                instances = corrections.instances_of(connection, study_key)
                is_done = correction_states.is_corrected(connection, self.id, study_key)
            in_use = {each["path"] for each in instances}
            for each in self._placed.values():
                if each.piece is None or each.placement is None:
                    continue
                if not is_done and each.placement.path not in in_use:
                    self.archive.files.remove(each.placement.path)
                self.archive.files.discard(each.piece)


def _columns(header: Header, changes: Mapping[str, str]) -> dict[str, str]:
    """What the columns of a study's row become: what the objects say now."""
    tags = {tag_for_keyword(keyword) for keyword in changes}
    found: dict[str, str] = {}
    for level in (Level.PATIENT, Level.STUDY):
        names = [column.name for column in attribute_columns(level)]
        values = dict(zip(names, texts(header, level), strict=True))
        for attribute in at_level(level):
            if attribute.tag in tags:
                own = (attribute.column, attribute.search_column)
                found.update((name, values[name]) for name in own if name is not None)
    return found


def undo(archive: Archive, correction_id: str) -> None:
    """Bring back what a correction has changed, unless it was changed again since.

    Raises:
        ArchiveError: it has ended, old objects are missing, a study is protected, or the index
            cannot be written to; nothing is changed.
    """
    archive.require_present("undo the correction")
    index = archive.index
    with index.doing("read the index"), index.engine.connect() as connection:
        paths = corrections.kept_paths(connection, correction_id)
    missing = sum(not archive.files.exists(path) for path in paths)
    if missing:
        raise ArchiveError("undo the correction", f"{missing} of the old objects are missing")
    with index.doing("write to the index"):
        unused = index.transact(lambda connection: corrections.undo(connection, correction_id))
    _end(archive, unused, correction_id, "correction undone")


def confirm(archive: Archive, correction_id: str) -> None:
    """Give up the old objects of a correction.

    Raises:
        ArchiveError: it has ended, or not come to its end yet; the index cannot be written to, or
            the objects' volume is away.
    """
    archive.require_present("confirm the correction")
    index = archive.index
    with index.doing("write to the index"):
        unused = index.transact(lambda connection: corrections.confirm(connection, correction_id))
    _end(archive, unused, correction_id, "correction confirmed")


def _end(archive: Archive, unused: Sequence[str], correction_id: str, what: str) -> None:
    index = archive.index
    index.forget_known()
    archive.remove_files(unused)
    with index.doing("read the index"), index.engine.connect() as connection:
        found = correction_states.list_corrections(connection, correction_id=correction_id)
    for each in found:
        for corrected in each["studies"]:
            _record(corrected["before"], what, correction_id, each["changes"])


def _record(
    row: Mapping[str, Any], what: str, correction_id: str, changes: Mapping[str, str]
) -> None:
    """Write into the audit trail what became of a study, and whose it was before."""
    patient = Patient(row["patient_id"], row["patient_name"])
    details = {"correction": correction_id, "what": what, **changes}
    audit.changed(row["study_instance_uid"], details, patient)
