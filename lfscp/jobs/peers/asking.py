"""Asks the peer of a job: an application entity by DIMSE, a DICOMweb server by HTTP.

This is the one place where the two kinds part. The rest of `jobs/` asks a `Client`. The login for a
peer is read anew for each client, so that a token may be renewed while a job runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydicom.dataset import Dataset

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.config.peer_secrets import password_of, token_of
from lfscp.jobs.peers.described import JobPeer, dicomweb_peer
from lfscp.scu import echo as dimse_echo
from lfscp.scu import find as dimse_find
from lfscp.scu import retrieve as dimse_retrieve
from lfscp.scu import send as dimse_send
from lfscp.scu.connection import Flag
from lfscp.scu.dicomweb import echo as web_echo
from lfscp.scu.dicomweb import find as web_find
from lfscp.scu.dicomweb import retrieve as web_retrieve
from lfscp.scu.dicomweb import send as web_send
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.echo import EchoResult
from lfscp.scu.errors import PeerError, PeerErrorKind, UnsupportedError
from lfscp.scu.parts import OnProgress, RetrieveResult
from lfscp.scu.peer import Peer
from lfscp.scu.send import OnSent
from lfscp.scu.sop_classes import sop_classes_of
from lfscp.scu.taking import OnObject, OnRefused

if TYPE_CHECKING:
    from lfscp.config import PeerSettings, Settings

Locate = Callable[[StoredInstance], StoredInstance | None]


class Client(Protocol):
    """What a job can ask of one peer; the arguments and errors are those of `lfscp.scu`.

    Attributes:
        get_name: what a job calls the way by which objects come here.
        has_move: whether the peer can send objects to a third node, or to our own SCP.
    """

    @property
    def get_name(self) -> str: ...

    @property
    def has_move(self) -> bool: ...

    def echo(self, *, cancel: Flag) -> EchoResult: ...

    def find(
        self, identifier: Dataset, model: str, *, cancel: Flag, max_bytes: int | None = None
    ) -> Iterator[Dataset]: ...

    def sop_classes_of(self, keys: Mapping[str, Any], model: str, cancel: Flag, /) -> list[str]: ...

    def get(
        self,
        identifier: Dataset,
        *,
        on_object: OnObject,
        model: str,
        sop_classes: Sequence[str],
        progress: OnProgress,
        cancel: Flag,
        spool_dir: Path,
        on_refused: OnRefused,
        max_object_bytes: int,
        shortage: Callable[[], str],
    ) -> RetrieveResult: ...

    def move(
        self,
        identifier: Dataset,
        destination: str,
        /,
        *,
        model: str,
        progress: OnProgress,
        cancel: Flag,
    ) -> RetrieveResult: ...

    def send(
        self,
        instances: Sequence[StoredInstance],
        *,
        on_sent: OnSent,
        cancel: Flag,
        may_decode: bool,
        locate: Locate,
    ) -> object: ...


def client_of(peer: JobPeer, settings: Settings) -> Client:
    """How to ask a peer now.

    Raises:
        PeerError: the login for it cannot be read.
    """
    if isinstance(peer, DICOMwebPeer):
        return _DICOMweb(with_login(peer, settings))
    return _DIMSE(with_user(peer, settings))


def with_user(peer: Peer, settings: Settings) -> Peer:
    """The application entity with the user that the configuration has for it.

    A job may name any host with any AE title. The user is for the configured place alone.

    Raises:
        PeerError: the file with the passcode cannot be used.
    """
    configured = settings.peers.get(peer.ae_title)
    if configured is None or configured.is_dicomweb or not configured.user:
        return peer
    there = Peer.configured(peer.ae_title, configured, settings.server)
    if (there.host, there.port, there.tls) != (peer.host, peer.port, peer.tls):
        return peer
    ours = peer.calling_ae_title
    return replace(there, calling_ae_title=ours, **_read_login(peer, configured))


def with_login(peer: DICOMwebPeer, settings: Settings) -> DICOMwebPeer:
    """The server as the configuration has it now, if it does.

    Raises:
        PeerError: the login for it cannot be read.
    """
    configured = settings.peers.get(peer.name)
    if configured is None or not configured.is_dicomweb:
        return peer
    return dicomweb_peer(peer.name, configured, settings.server, _read_login(peer, configured))


def _read_login(peer: JobPeer, configured: PeerSettings) -> dict[str, Any]:
    try:
        return _login_of(configured)
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error)
        reason = f"cannot be asked: the file with the login for it cannot be used: {words}"
        raise PeerError(PeerErrorKind.UNREACHABLE, peer, reason) from None


def _login_of(configured: PeerSettings) -> dict[str, str]:
    """The login of a configured peer.

    Raises:
        OSError, ValueError: its file cannot be used.
    """
    if configured.user:
        return {"user": configured.user, "password": password_of(configured)}
    return {"token": token_of(configured)}


class _DIMSE:
    """An application entity."""

    get_name = "get"
    has_move = True

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def echo(self, **how: Any) -> EchoResult:
        return dimse_echo.echo(self._peer, **how)

    def find(self, identifier: Dataset, model: str, **how: Any) -> Iterator[Dataset]:
        return dimse_find.find(self._peer, identifier, model, **how)

    def sop_classes_of(self, keys: Mapping[str, Any], model: str, cancel: Flag) -> list[str]:
        return sop_classes_of(self._peer, keys, model, cancel)

    def get(self, identifier: Dataset, **how: Any) -> RetrieveResult:
        return dimse_retrieve.get(self._peer, identifier, **how)

    def move(self, identifier: Dataset, destination: str, **how: Any) -> RetrieveResult:
        return dimse_retrieve.move(self._peer, identifier, destination, **how)

    def send(self, instances: Sequence[StoredInstance], **how: Any) -> object:
        return dimse_send.send(self._peer, instances, **how)


class _DICOMweb:
    """A DICOMweb server."""

    get_name = "wado-rs"
    has_move = False

    def __init__(self, peer: DICOMwebPeer) -> None:
        self._peer = peer

    def echo(self, **how: Any) -> EchoResult:
        return web_echo.echo(self._peer, **how)

    def find(self, identifier: Dataset, model: str, **how: Any) -> Iterator[Dataset]:
        return web_find.find(self._peer, identifier, model, **how)

    def sop_classes_of(self, _keys: Mapping[str, Any], _model: str, _cancel: Flag) -> list[str]:
        return []  # only a C-GET must know them before

    def get(
        self, identifier: Dataset, *, sop_classes: Sequence[str] = (), **how: Any
    ) -> RetrieveResult:
        del sop_classes
        return web_retrieve.get(self._peer, identifier, **how)

    def move(self, _identifier: Dataset, _destination: str, **_how: Any) -> RetrieveResult:
        raise UnsupportedError(self._peer, "C-MOVE, it is a DICOMweb server")

    def send(
        self, instances: Sequence[StoredInstance], *, may_decode: bool = True, **how: Any
    ) -> object:
        del may_decode  # objects go as they are stored
        return web_send.send(self._peer, instances, **how)
