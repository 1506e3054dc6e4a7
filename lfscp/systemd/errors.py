"""The error of an installation as a service; its text is one line for the administrator."""

from lfscp.errors import OperationError


class ServiceError(OperationError):
    """The service cannot be installed or removed; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__("set up the service", reason)
