"""What can go wrong in the archive: each error says what was done, why, and what to do next."""

# ruff: noqa: N818 - the names say what happened, as PS3.4's statuses do; "Error" adds nothing

from __future__ import annotations

_PATIENT_ID = 0x00100020


class ArchiveError(Exception):
    """An operation of the archive failed.

    Args:
        operation: what was being done ("open the archive", "store an instance").
        reason: why it could not be done, fit for one log line; no patient data.
        hint: what the operator or the peer can do next; may be empty.
    """

    def __init__(self, operation: str, reason: str, hint: str = "") -> None:
        super().__init__(operation, reason, hint)
        self.operation = operation
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        line = f"cannot {self.operation}: {self.reason}"
        return f"{line}; {self.hint}" if self.hint else line


class ArchiveInUse(ArchiveError):
    """Another node holds the data folder."""


class OutOfResources(ArchiveError):
    """Disk full, quota reached, too many open files: nothing was kept (C-STORE 0xA700)."""


class FateUnknown(OutOfResources):
    """The index went away while it committed: what was written stays until it is known (0xA700)."""


class CannotUnderstand(ArchiveError):
    """The dataset's encoding is broken or it lacks its UIDs (C-STORE 0xC000).

    Args:
        reason: what is wrong with the dataset.
        tag: the offending element as an integer (0x0020000D), None when it is none in particular.
    """

    def __init__(self, reason: str, tag: int | None = None) -> None:
        super().__init__("read the dataset", reason)
        self.tag = tag


class IdentityMismatch(ArchiveError):
    """The dataset's SOP Class or SOP Instance UID differs from the command's (C-STORE 0xA900).

    Args:
        tag: the element of the dataset that differs.
        expected: the UID in the command.
        actual: the UID in the dataset.
    """

    def __init__(self, tag: int, expected: str, actual: str) -> None:
        reason = f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is {actual}, the command says {expected}"
        super().__init__("store the instance", reason)
        self.tag = tag
        self.expected = expected
        self.actual = actual


class InstanceElsewhere(ArchiveError):
    """The SOP Instance UID is in use: another series, study or patient has it (C-STORE 0xA900).

    Args:
        tag: what differs, SOP Instance UID (of what is in another place) or Patient ID.
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


class ClassNotStored(ArchiveError):
    """Objects of this SOP class are not stored here (C-STORE 0x0122)."""

    def __init__(self, reason: str) -> None:
        super().__init__("store the instance", reason)


class DuplicateRejected(ArchiveError):
    """The instance is there already with other content, and duplicates are rejected."""

    def __init__(self, sop_instance_uid: str) -> None:
        super().__init__(
            "store the instance",
            f"{sop_instance_uid} is stored already with other content",
            'set duplicates = "replace" to accept it',
        )
        self.sop_instance_uid = sop_instance_uid


class StudyProtected(ArchiveError):
    """The study is protected: nothing of it is deleted or replaced (C-STORE 0xA700)."""

    def __init__(self, study_uid: str, operation: str = "delete from the archive") -> None:
        super().__init__(operation, f"study {study_uid} is protected", "unprotect it first")
        self.study_uid = study_uid
