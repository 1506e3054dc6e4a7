"""The errors of the archive: each says what failed, why, and what to do next."""

from __future__ import annotations

from lfscp.dicom.errors import named
from lfscp.errors import OperationError

_PATIENT_ID = 0x00100020


class ArchiveError(OperationError):
    """An operation of the archive failed."""


def not_writable(operation: str, error: OSError, folder: object, more: str = "") -> ArchiveError:
    """The error of a folder that the node may not write to; `more` ends the hint."""
    hint = f"give the user of the node the right to write there{more}"
    return ArchiveError(operation, f"{error.strerror}: {folder}", hint)


class ArchiveInUseError(ArchiveError):
    """Another node holds the data folder."""


class OutOfResourcesError(ArchiveError):
    """Disk full, quota reached, too many open files: nothing was kept (C-STORE 0xA700)."""


class InDoubtError(OutOfResourcesError):
    """The index went away during a commit: the files stay until its outcome is known (0xA700)."""


class IdentityMismatchError(ArchiveError):
    """The dataset's SOP Class or SOP Instance UID differs from the command's (C-STORE 0xA900).

    Args:
        tag: the element of the dataset that differs.
        expected: the UID in the command.
        actual: the UID in the dataset.
    """

    def __init__(self, tag: int, expected: str, actual: str) -> None:
        reason = f"{named(tag)} is {actual}, the command says {expected}"
        super().__init__("store the instance", reason)
        self.tag = tag
        self.expected = expected
        self.actual = actual


class InstanceElsewhereError(ArchiveError):
    """The SOP Instance UID is in use: another series, study or patient has it (C-STORE 0xA900).

    Args:
        tag: of SOP Instance UID when the place differs, or of Patient ID.
        study_uid: where it is.
        series_uid: likewise.
    """

    def __init__(self, tag: int, study_uid: str, series_uid: str) -> None:
        whose = " of another patient" if tag == _PATIENT_ID else ""
        super().__init__(
            "store the instance",
            f"its SOP Instance UID is in use in series {series_uid} of study {study_uid}{whose}",
            'set duplicates = "replace" to accept it',
        )
        self.tag = tag


class ClassNotStoredError(ArchiveError):
    """Objects of this SOP class are not stored here (C-STORE 0x0122)."""

    def __init__(self, reason: str) -> None:
        super().__init__("store the instance", reason)


class OtherStudyError(ArchiveError):
    """The instance belongs to another study than the one that it is sent for."""

    def __init__(self, expected: str, actual: str) -> None:
        reason = f"it belongs to study {actual}, and was sent for study {expected}"
        super().__init__("store the instance", reason)


class DuplicateRejectedError(ArchiveError):
    """The instance is there already with other content, and duplicates are rejected."""

    def __init__(self, sop_instance_uid: str) -> None:
        super().__init__(
            "store the instance",
            f"{sop_instance_uid} is stored already with other content",
            'set duplicates = "replace" to accept it',
        )
        self.sop_instance_uid = sop_instance_uid


class StoreRefusedError(ArchiveError):
    """A plug-in does not let the instance in (C-STORE 0x0124, or 0xA700).

    Args:
        reason: why, fit for the log and for the sender.
        is_temporary: the sender may try again later.
    """

    def __init__(self, reason: str, *, is_temporary: bool) -> None:
        super().__init__("store the instance", reason)
        self.is_temporary = is_temporary


class StudyProtectedError(ArchiveError):
    """The study is protected: nothing of it is deleted or replaced (C-STORE 0xA700)."""

    def __init__(self, study_uid: str, operation: str = "delete from the archive") -> None:
        super().__init__(operation, f"study {study_uid} is protected", "unprotect it first")
        self.study_uid = study_uid
