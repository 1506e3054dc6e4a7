"""Records of the index's rows, and the texts of a header in the order of the columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lfscp.archive.index.patient_identity import MAX_TEXT, PatientIdentity
from lfscp.archive.store.object_store import Placement
from lfscp.dicom.reading.header import Header
from lfscp.dicom.values.attributes import ATTRIBUTES, LEVELS, Level, at_level
from lfscp.dicom.values.folded_names import folded_column
from lfscp.dicom.values.person_names import search_form

_SAID: Final = len(PatientIdentity.__slots__)
_IN_NO_INDEX: Final = frozenset(
    attribute.tag for attribute in ATTRIBUTES if attribute.vr in {"LT", "SQ", "ST", "UT"}
)


def _tags(level: Level) -> tuple[list[int], list[tuple[int, bool]]]:
    """The tags of a level, and which of them are names, last first; True: it is folded too."""
    attributes = at_level(level)
    names = [
        (at, attribute.folded_column is not None)
        for at, attribute in enumerate(attributes)
        if attribute.search_column
    ]
    return [attribute.tag for attribute in attributes], names[::-1]


_TAGS: Final = {level: _tags(level) for level in LEVELS}


@dataclass(frozen=True, slots=True)
class Existing:
    """The row of an instance that is in the index already."""

    key: int
    path: str
    transfer_syntax_uid: str
    dataset_offset: int
    size: int
    file_size: int
    digest: str
    series_uid: str
    study_uid: str
    series_key: int
    study_key: int
    patient: PatientIdentity

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Existing:
        """From a row of `Statements.find_instance`."""
        values: list[Any] = [*row[:-_SAID], PatientIdentity(*row[-_SAID:])]
        return cls(*values)

    def is_of(self, placement: Placement) -> bool:
        """Whether the row says of its file all that a placement says."""
        said = ("path", "transfer_syntax_uid", "dataset_offset", "size", "digest")
        return all(getattr(self, name) == getattr(placement, name) for name in said)

    def is_elsewhere(self, header: Header) -> bool:
        """Whether the row is of another series, study or patient than an object names."""
        uids = (header.study_instance_uid, header.series_instance_uid)
        return uids != (self.study_uid, self.series_uid) or self.is_of_other_patient(header)

    def is_of_other_patient(self, header: Header) -> bool:
        """Whether an object names another patient than the row's study has, or knows more."""
        identity = PatientIdentity.of(header)
        return not (identity.has_same_key(self.patient) or identity.may_be(self.patient))


@dataclass(frozen=True, slots=True)
class Added:
    """A new row: the study and series it went to, and notes for the log."""

    study_uid: str
    series_uid: str
    notes: tuple[str, ...] = ()
    replaced_path: str | None = None


@dataclass(slots=True)
class KnownSeries:
    """A series that this process remembers.

    Args:
        patient: what the object said of its patient that was found to belong here; see
            patient_identity.said_of_patient.
        touched_at: the study's time of update.
        sources: AE titles that are known to have sent objects of the study.
    """

    key: int
    study_key: int
    patient: tuple[bytes | None, ...]
    touched_at: int = 0
    sources: frozenset[str] = frozenset()


class Shortened:
    """A header with its values cut to the length that the index takes.

    No VR that is indexed allows so many characters; the object itself keeps them all. Running
    text and sequences are in no index and stay whole: half a sequence would be no JSON.
    """

    def __init__(self, header: Header) -> None:
        self._header = header

    def __getattr__(self, name: str) -> Any:
        return getattr(self._header, name)

    def text(self, tag: int) -> str:
        """One value, cut."""
        return self._cut(tag, self._header.text(tag))

    def texts(self, tags: list[int]) -> list[str]:
        """Several values, cut."""
        values = self._header.texts(tags)
        return [self._cut(tag, value) for tag, value in zip(tags, values, strict=True)]

    @staticmethod
    def _cut(tag: int, value: str) -> str:
        return value if tag in _IN_NO_INDEX else value[:MAX_TEXT]


def texts(header: Header, level: Level) -> list[str]:
    """One value per attribute column of a level, in the order of the schema."""
    tags, names = _TAGS[level]
    values = header.texts(tags)
    for at, value in enumerate(values):
        if "\0" in value:
            values[at] = value.replace("\0", "\ufffd")  # PostgreSQL's text takes no NUL
    for at, is_folded in names:
        if is_folded:
            values.insert(at + 1, folded_column(values[at]))
        values.insert(at + 1, search_form(values[at]))
    return values
