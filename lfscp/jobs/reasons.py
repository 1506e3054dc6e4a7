"""Says why a job failed: with all words for its user, without those of others for the log."""

from __future__ import annotations

from typing import Final

from lfscp.errors import OperationError
from lfscp.jobs.request import InvalidRequestError
from lfscp.scu.errors import PeerError

# The texts of these errors are for users.
EXPECTED: Final = (OperationError, InvalidRequestError, OSError, PeerError)


def for_log(error: Exception) -> str:
    """Why a run failed, without the words of peers and files."""
    if isinstance(error, PeerError):
        return f"peer {error.kind}"
    return "invalid request" if isinstance(error, InvalidRequestError) else for_user(error)


def for_user(error: Exception) -> str:
    """Why a run failed, in one line."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or "the system gives no reason"
    return str(error) if isinstance(error, EXPECTED) else "internal error, see the log"
