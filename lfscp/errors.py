"""The base of the errors of archive and DICOM data: what failed, in words for people."""

from __future__ import annotations


class OperationError(Exception):
    """Something could not be done: what, why, and what to do next.

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
