"""The errors of peers; their kind decides whether trying again can help."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pynetdicom.presentation import PresentationContext


class Named(Protocol):
    """A peer of any kind; its text names it to the user, without secrets."""

    def __str__(self) -> str: ...


class PeerErrorKind(StrEnum):
    """How a peer failed."""

    UNREACHABLE = "unreachable"  # no connection, or no TLS
    REJECTED = "rejected"  # A-ASSOCIATE-RJ; of a DICOMweb server, 401 and 403
    ABORTED = "aborted"  # the association, or the HTTP connection, broke
    TIMED_OUT = "timed out"  # the peer was silent for too long
    REFUSED = "refused"  # the peer answered with a failure, or takes none of our contexts


_PASSING: Final = frozenset(
    {PeerErrorKind.UNREACHABLE, PeerErrorKind.ABORTED, PeerErrorKind.TIMED_OUT}
)


class PeerError(Exception):
    """A peer could not do what was asked, or refused it.

    Args:
        kind: how it failed.
        peer: which one.
        reason: one sentence for the user; no patient data.
        status: the DIMSE status, when there was one.
        passing: whether trying again later may help; by default it depends on the kind.
    """

    def __init__(
        self,
        kind: PeerErrorKind,
        peer: Named,
        reason: str,
        *,
        status: int | None = None,
        passing: bool | None = None,
    ) -> None:
        super().__init__(kind, peer, reason)
        self.kind = kind
        self.peer = peer
        self.reason = reason
        self.status = status
        self.passing = kind in _PASSING if passing is None else passing

    def __str__(self) -> str:
        return f"{self.peer} {self.reason}"


class GivenUpError(PeerError):
    """A user or the node stopped the work while it waited for the peer."""

    def __init__(self, peer: Named) -> None:
        super().__init__(PeerErrorKind.ABORTED, peer, "interrupted while waiting for an answer")

    def __str__(self) -> str:
        return f"interrupted while waiting for {self.peer}"


class TooManyMatchesError(PeerError):
    """The peer sends more matches than fit into the budget."""

    def __init__(self, peer: Named, max_bytes: int) -> None:
        reason = f"sent more than {max_bytes / 1e6:g} MB of matches, ask for less"
        super().__init__(PeerErrorKind.REFUSED, peer, reason)


class UnsupportedError(PeerError):
    """The peer does not support the service at all: no context of ours was accepted.

    Args:
        rejected: the contexts that the peer answered.
    """

    def __init__(
        self, peer: Named, service: str, rejected: Sequence[PresentationContext] = ()
    ) -> None:
        super().__init__(PeerErrorKind.REFUSED, peer, f"does not support {service}")
        self.rejected = rejected
