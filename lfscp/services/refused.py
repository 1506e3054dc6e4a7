"""The error of a request that is refused, for all services."""

from __future__ import annotations

from lfscp.errors import OperationError


class RefusedError(OperationError):
    """A request cannot be performed.

    Args:
        code: the status to answer.
        reason: why, for the peer (Error Comment) and for the log.
        offending_tags: elements of the request that caused it.
    """

    def __init__(self, code: int, reason: str, offending_tags: tuple[int, ...] = ()) -> None:
        super().__init__("serve the request", reason)
        self.code = code
        self.offending_tags = offending_tags
