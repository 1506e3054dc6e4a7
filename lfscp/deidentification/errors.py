"""The errors of de-identification: an object that is held back, and a request that is wrong."""

from __future__ import annotations

from lfscp.errors import OperationError


class HeldBackError(OperationError):
    """An object is not let out, since it cannot be de-identified for sure.

    Args:
        reason: why, fit for one log line; it has no value of the object.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("de-identify the object", reason)


class CompressedPixelsError(HeldBackError):
    """Pixels must be cleaned and are compressed; decoded, the object can be de-identified."""


class DeidentificationRequestError(OperationError):
    """A key, an option or a device rule that cannot be used."""

    def __init__(self, reason: str) -> None:
        super().__init__("de-identify", reason)
