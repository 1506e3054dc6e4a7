"""The error of a request body that cannot be read to its end."""

from __future__ import annotations

from http import HTTPStatus

from lfscp.errors import OperationError


class BodyError(OperationError):
    """A body is not what its Content-Type says, breaks off, or is too large.

    Args:
        status: the HTTP status if nothing was stored before.
    """

    def __init__(self, reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__("read the body", reason)
        self.status = status
