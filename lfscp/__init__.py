"""lfscp: a DICOM SCP whose associations are served by a leader/follower thread pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lfscp.server import LeaderFollowerServer

__version__ = "0.1.0"
__all__ = ["LeaderFollowerServer", "__version__"]


def __getattr__(name: str) -> Any:
    # Late, so that `lfscp --help` and the archive's tools need not load pynetdicom.
    if name == "LeaderFollowerServer":
        from lfscp.server import LeaderFollowerServer

        return LeaderFollowerServer
    raise AttributeError(f"module 'lfscp' has no attribute {name!r}")
