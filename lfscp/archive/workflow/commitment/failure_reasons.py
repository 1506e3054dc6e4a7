"""Why an instance is not committed to: Failure Reasons (0008,1197), in words for people.

Source: PS3.3 section C.14.1.1.
"""

from __future__ import annotations

from typing import Final

NOT_IN_REPORT: Final = 0  # of ours: the report leaves the instance out
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
_DUPLICATE_TRANSACTION_UID: Final = 0x0131
_RESOURCE_LIMITATION: Final = 0x0213

# This node gives no others.
_HERE: Final = {
    PROCESSING_FAILURE: "the stored file is missing or damaged",
    NO_SUCH_INSTANCE: "no such object is stored here",
    CLASS_INSTANCE_CONFLICT: "the object that is stored here is of another SOP class",
}
_THERE: Final = {
    NOT_IN_REPORT: "the report leaves it out",
    PROCESSING_FAILURE: "damaged there, or it could not be checked (0x0110)",
    NO_SUCH_INSTANCE: "not stored there (0x0112)",
    CLASS_INSTANCE_CONFLICT: "stored there with another SOP class (0x0119)",
    _SOP_CLASS_NOT_SUPPORTED: "its SOP class is not one that is committed to there (0x0122)",
    _DUPLICATE_TRANSACTION_UID: "the Transaction UID is in use there already (0x0131)",
    _RESOURCE_LIMITATION: "no room there to keep it (0x0213)",
}


def words_here(reason: int) -> str:
    """Why this node has not committed to an instance."""
    return _HERE.get(reason, f"failure reason 0x{reason:04X}")


def words_there(reason: int) -> str:
    """Why a peer has not committed to an instance."""
    return _THERE.get(reason, f"for a reason without a name (0x{reason:04X})")
