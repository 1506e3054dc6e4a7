"""Names the status codes of the services, and puts a status with its reason into a response.

Sources: PS3.4 table B.2-1 (storage), C.4-1 (find), C.4-2 (move), C.4-3 (get), F.7.2-2 and F.8.2-2
(performed procedure steps); PS3.7 annex C (general). If a code means different things in two
services, it has a name for each.
"""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset

SUCCESS: Final = 0x0000
CANCELLED: Final = 0xFE00
PENDING: Final = 0xFF00
PENDING_WITHOUT_OPTIONAL_KEYS: Final = 0xFF01  # C-FIND: an optional key was not matched

# PS3.7 annex C: any service
INVALID_ATTRIBUTE_VALUE: Final = 0x0106
ATTRIBUTE_LIST_ERROR: Final = 0x0107  # a warning
PROCESSING_FAILURE: Final = 0x0110
DUPLICATE_SOP_INSTANCE: Final = 0x0111
NO_SUCH_SOP_INSTANCE: Final = 0x0112
NO_SUCH_EVENT_TYPE: Final = 0x0113
INVALID_ARGUMENT_VALUE: Final = 0x0115
ATTRIBUTE_VALUE_OUT_OF_RANGE: Final = 0x0116  # a warning
INVALID_SOP_INSTANCE: Final = 0x0117
MISSING_ATTRIBUTE: Final = 0x0120
MISSING_ATTRIBUTE_VALUE: Final = 0x0121
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NO_SUCH_ACTION: Final = 0x0123
NOT_AUTHORISED: Final = 0x0124
UNRECOGNISED_OPERATION: Final = 0x0211
MISTYPED_ARGUMENT: Final = 0x0212
RESOURCE_LIMITATION: Final = 0x0213

# PS3.4 annex F
OPTIONAL_ATTRIBUTES_NOT_SUPPORTED: Final = 0x0001  # N-GET: a warning
STEP_MAY_NOT_BE_UPDATED: Final = 0xA710  # N-SET: an Error ID

# PS3.4 annexes B and C
OUT_OF_RESOURCES: Final = 0xA700  # C-STORE, C-FIND
CANNOT_COUNT_MATCHES: Final = 0xA701  # C-MOVE, C-GET
CANNOT_PERFORM_SUB_OPERATIONS: Final = 0xA702  # C-MOVE, C-GET
MOVE_DESTINATION_UNKNOWN: Final = 0xA801
DATASET_DOES_NOT_MATCH: Final = 0xA900  # C-STORE: dataset and SOP class, or the command's UIDs
IDENTIFIER_DOES_NOT_MATCH: Final = 0xA900  # C-FIND, C-MOVE, C-GET: identifier and SOP class
SUB_OPERATIONS_COMPLETE_WITH_FAILURES: Final = 0xB000  # or with warnings
CANNOT_UNDERSTAND: Final = 0xC000  # C-STORE
UNABLE_TO_PROCESS: Final = 0xC001  # C-FIND, C-MOVE, C-GET

ERROR_COMMENT_LENGTH: Final = 64  # VR LO

_WARNINGS: Final = frozenset({0x0001, ATTRIBUTE_LIST_ERROR, ATTRIBUTE_VALUE_OUT_OF_RANGE})


def is_warning(status: int) -> bool:
    """Whether a response says that what was asked is done, but with a remark.

    Source: PS3.7 annex C.
    """
    return status & 0xF000 == 0xB000 or status in _WARNINGS


def is_success(status: int) -> bool:
    """Whether a response says that what was asked is done, perhaps with a remark."""
    return status == SUCCESS or is_warning(status)


def is_store_warning(status: int) -> bool:
    """Whether a C-STORE response says that the object is stored, but with a remark.

    Source: PS3.7 annex C, PS3.4 table B.2-1 (0xB000, 0xB006, 0xB007 and their family).
    """
    return is_warning(status) or status == DUPLICATE_SOP_INSTANCE  # the receiver has it already


def error_comment(text: str) -> str:
    """Make an Error Comment of `text`: one line, default repertoire, at most 64 characters (LO)."""
    plain = "".join(
        character if character.isascii() and character.isprintable() else "?"
        for character in " ".join(text.split())
    ).replace("\\", "/")
    if len(plain) <= ERROR_COMMENT_LENGTH:
        return plain
    return plain[: ERROR_COMMENT_LENGTH - 3].rstrip() + "..."


def with_reason(status: int, comment: str, offending_tags: tuple[int, ...] = ()) -> Dataset:
    """The elements of a response with its status and the reason.

    Args:
        comment: the reason in words; cut to what Error Comment can hold.
        offending_tags: the elements that caused it, as integers (0x0020000D).
    Returns:
        A dataset that pynetdicom takes from a handler instead of a bare status code.
    Source: PS3.7 section C (Status, Offending Element, Error Comment).
    """
    response = Dataset()
    response.Status = status
    response.ErrorComment = error_comment(comment)
    if offending_tags:
        response.OffendingElement = list(offending_tags)
    return response
