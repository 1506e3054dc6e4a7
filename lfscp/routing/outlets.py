"""The ways out: an association, or an HTTP connection, that stays open for the next objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.jobs.peers.asking import with_login, with_user
from lfscp.jobs.peers.described import configured_peer
from lfscp.routing.routes import Route
from lfscp.scu.connection import Flag
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.dicomweb.send import KeptConnection
from lfscp.scu.errors import PeerError, PeerErrorKind
from lfscp.scu.kept_association import KeptAssociation
from lfscp.scu.send import OnSent

if TYPE_CHECKING:
    from lfscp.config import Settings

Locate = Callable[[StoredInstance], StoredInstance | None]
_MEDIUM, _HIGH, _LOW = range(3)  # priorities of C-STORE requests (PS3.7 section 9.3.1.1)


class _Unconfigured:
    """A destination that is not configured any more."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name


class Outlet(Protocol):
    """Sends objects to one destination, for one thread."""

    def send(self, instances: Sequence[StoredInstance], on_sent: OnSent) -> None:
        """Send objects; see `scu.kept_association` for the errors."""
        ...

    def close(self) -> None:
        """End the association or connection."""
        ...


def open_outlet(
    name: str, route: Route, settings: Settings, *, cancel: Flag, locate: Locate
) -> Outlet:
    """A way to a destination, as it is configured now; it connects when something is sent.

    Raises:
        PeerError: it is not configured, or its login cannot be read.
    """
    configured = settings.peers.get(name)
    if configured is None:
        reason = "is not in [peers] any more"
        raise PeerError(PeerErrorKind.UNREACHABLE, _Unconfigured(name), reason)
    try:
        peer = configured_peer(name, configured, settings.server)
    except ValueError as error:
        raise PeerError(PeerErrorKind.UNREACHABLE, _Unconfigured(name), str(error)) from None
    if isinstance(peer, DICOMwebPeer):
        return KeptConnection(with_login(peer, settings), cancel=cancel, locate=locate)
    priority = route.settings.priority
    return KeptAssociation(
        with_user(peer, settings),
        cancel=cancel,
        priority=_HIGH if priority > 0 else _LOW if priority < 0 else _MEDIUM,
        may_decode=settings.retrieve.decode_when_needed,
        transfer_syntax_uid="" if route.actions else route.transfer_syntax_uid,
        locate=locate,
    )
