"""What an A-ASSOCIATE-RJ says: result, source and reason (PS3.8 table 9-21). No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ: result, source and reason, and words for the log."""

    result: int
    source: int
    diagnostic: int
    reason: str

    def because(self, why: str) -> Rejection:
        """The same rejection with more to say."""
        return replace(self, reason=f"{self.reason}: {why}") if why else self


APPLICATION_CONTEXT_NOT_SUPPORTED: Final = Rejection(1, 1, 2, "application context not supported")
CALLING_AE_TITLE_NOT_RECOGNISED: Final = Rejection(1, 1, 3, "calling AE title not recognised")
CALLED_AE_TITLE_NOT_RECOGNISED: Final = Rejection(1, 1, 7, "called AE title not recognised")
PROTOCOL_VERSION_NOT_SUPPORTED: Final = Rejection(1, 2, 2, "protocol version not supported")
USER_IDENTITY_FAILED: Final = Rejection(2, 2, 1, "user identity not verified")
USER_IDENTITY_UNREADABLE: Final = Rejection(1, 2, 1, "user identity not verified")
LOCAL_LIMIT_EXCEEDED: Final = Rejection(2, 3, 2, "local limit of associations exceeded")
