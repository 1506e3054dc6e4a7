"""What a C-MOVE or C-GET handler returns when it performs the sub-operations itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from lfscp.upperlayer.scp.encoded import EncodedDataset


@dataclass(frozen=True, slots=True)
class SubOperationResponse:
    """One C-MOVE-RSP or C-GET-RSP.

    Args:
        status: pending (0xFF00) or final.
        remaining: None leaves the counter out, as most final responses must.
        identifier: of a final response, the Failed SOP Instance UID List.
        error_comment: at most 64 characters are sent.
        offending_elements: tags as 32-bit numbers.
    Source: PS3.4 sections C.4.2 and C.4.3.
    """

    status: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    remaining: int | None = None
    identifier: EncodedDataset | Dataset | None = None
    error_comment: str | None = None
    offending_elements: list[int] = field(default_factory=list)


@dataclass(slots=True)
class SubOperations:
    """The responses to one C-MOVE or C-GET, in order; the last one is final.

    A handler bound to EVT_C_MOVE or EVT_C_GET returns it instead of yielding as pynetdicom wants:
    the sub-operations are then its own affair, and each response goes out as it is drawn.

    Attributes:
        send_now: set by the engine before the first response is drawn: sends a pending response at
            once, for `responses` to call while it waits in a long sub-operation.
    """

    responses: Iterator[SubOperationResponse]
    send_now: Callable[[SubOperationResponse], None] = field(init=False)
