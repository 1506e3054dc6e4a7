"""The errors of HL7 messages: each has the answer, a code, and the place in the message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from lfscp.errors import OperationError

Answer = Literal["AA", "AE", "AR"]  # accepted, wrong content, not supported (HL7 table 0008)

# HL7 table 0357.
SEGMENT_SEQUENCE: Final = 100
FIELD_MISSING: Final = 101
DATA_TYPE: Final = 102
VALUE_UNKNOWN: Final = 103
TYPE_UNSUPPORTED: Final = 200
EVENT_UNSUPPORTED: Final = 201
VERSION_UNSUPPORTED: Final = 203
RECORD_LOCKED: Final = 206
INTERNAL: Final = 207
MEANINGS: Final = {
    0: "Message accepted",
    SEGMENT_SEQUENCE: "Segment sequence error",
    FIELD_MISSING: "Required field missing",
    DATA_TYPE: "Data type error",
    VALUE_UNKNOWN: "Table value not found",
    TYPE_UNSUPPORTED: "Unsupported message type",
    EVENT_UNSUPPORTED: "Unsupported event code",
    VERSION_UNSUPPORTED: "Unsupported version id",
    RECORD_LOCKED: "Application record locked",
    INTERNAL: "Application internal error",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a message: segment, which of these (from 1), field, component.

    A field or component of 0 is the whole.
    """

    segment: str
    sequence: int = 1
    field: int = 0
    component: int = 0

    def __str__(self) -> str:
        name = f"{self.segment}[{self.sequence}]" if self.sequence > 1 else self.segment
        if self.field:
            name += f"-{self.field}"
        return f"{name}.{self.component}" if self.component else name


class MessageError(OperationError):
    """A message is not taken.

    Args:
        answer: AE when its content cannot be taken, AR when no message of its kind can.
        code: of HL7 table 0357.
        reason: what is wrong, without a patient's data.
        place: where, when that is known.
    """

    def __init__(self, answer: Answer, code: int, reason: str, place: Place | None = None) -> None:
        where = f"{place}: " if place else ""
        super().__init__("take the HL7 message", f"{where}{reason}")
        self.answer = answer
        self.code = code
        self.said = reason
        self.place = place
