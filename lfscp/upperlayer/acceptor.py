"""Making acceptor associations, and letting their AE know of them.

pynetdicom counts associations by enumerating threads. Associations here are no threads, so the AE
that is served answers `active_associations` with its servers' own sets: then its limit, its
`shutdown()` and its time-out setters hold for them too.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation
from pynetdicom.utils import set_ae

from lfscp.upperlayer.connection.limits import NO_LIMITS, ReceiveLimits
from lfscp.upperlayer.connection.transport import InlineSocket
from lfscp.upperlayer.engine.bindings import Bindings
from lfscp.upperlayer.engine.construction import address_of, user_information
from lfscp.upperlayer.receiving.receiver import Examine, StoreOptions
from lfscp.upperlayer.receiving.sink import FileHeader
from lfscp.upperlayer.scp.association import AcceptorAssociation
from lfscp.upperlayer.scp.contexts import SupportedContexts
from lfscp.upperlayer.scp.dispatch import Dispatcher
from lfscp.upperlayer.scp.negotiation import InlineACSE
from lfscp.upperlayer.wire.rejections import Rejection

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity

Address = tuple[str, int] | tuple[str, int, int, int]


class Server(Protocol):
    """What an AE asks of its servers."""

    @property
    def active_associations(self) -> list[Association]: ...

    def shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True)
class AcceptorSettings:
    """What all associations of one server share.

    Args:
        ae_title: the called AE title it answers to.
        bindings: its event handlers.
        supported: its presentation contexts, prepared.
        admit: a policy beyond the AE's own: a Rejection, or None to admit.
        spool_dir: where large received objects go.
        file_header: makes the head of their files.
        examine: called with the first bytes of a data set and its transfer syntax when more is to
            come; what it returns is the request's `examined`.
        server: the server itself, for handlers that ask for it.
        limits: of what is received.
    """

    ae: ApplicationEntity
    ae_title: str
    local: AddressInformation
    bindings: Bindings
    supported: SupportedContexts
    admit: Callable[[AcceptorAssociation], Rejection | None] | None
    spool_dir: Path | None
    file_header: FileHeader | None
    examine: Examine | None
    server: Server
    limits: ReceiveLimits = NO_LIMITS

    def __post_init__(self) -> None:
        """Check the AE title.

        Raises:
            ValueError: it is none.
        """
        set_ae(self.ae_title, "ae_title", allow_empty=False, allow_none=False)


def open_acceptor(
    settings: AcceptorSettings,
    connection: socket.socket,
    address: Address,
    since: float | None = None,
) -> AcceptorAssociation:
    """An association for an accepted connection, ready to be served.

    Args:
        connection: in blocking mode, before any TLS handshake.
        address: the peer's.
        since: when it has connected, in monotonic seconds; None is now.
    """
    ae = settings.ae
    supported = settings.supported
    association = AcceptorAssociation(
        ae,
        limits=settings.limits,
        options=StoreOptions(settings.spool_dir, settings.file_header, settings.examine),
        count_acceptors=lambda: len(settings.server.active_associations),
    )
    association.acse = InlineACSE(association, supported, settings.admit)
    association.dispatch = Dispatcher(
        association,
        supported.storage_classes,
        takes_unknown_storage=supported.takes_unknown_storage,
    ).dispatch
    if since is not None:
        association.record.started_at = since
    association.name = f"Acceptor-{association.serial}"
    # Relied on: `_server` is where pynetdicom's handlers find the server.
    association._server = cast(Any, settings.server)
    association.set_socket(InlineSocket(association, association.record, client_socket=connection))
    acceptor = association.acceptor
    # Relied on: ServiceUser's underscore attributes; its setters would check for each association
    # what was checked when the AE and the settings were made.
    acceptor._user_info = user_information(
        ae.maximum_pdu_size, ae.implementation_class_uid, ae.implementation_version_name
    )
    acceptor._ae_title = settings.ae_title
    acceptor._contexts = list(supported.contexts)
    acceptor.address_info = settings.local
    association.requestor.address_info = address_of(address)
    association.take_handlers(settings.bindings)
    return association


def serve_acceptor(
    association: AcceptorAssociation, address: Address, ssl_context: ssl.SSLContext | None
) -> None:
    """Serve an association to its end, in the calling thread; the TLS handshake comes first."""
    if ssl_context is not None:
        connection = cast(InlineSocket, association.dul.socket)
        try:
            connection.wrap_tls(ssl_context, association.time_to_ask_s())
        except (OSError, ValueError) as problem:
            association.end_reason = f"TLS handshake failed: {problem}"
            association.kill()
            return
    evt.trigger(association, evt.EVT_CONN_OPEN, {"address": address})
    association.serve()


@functools.cache
def _served(base: type[ApplicationEntity]) -> type[ApplicationEntity]:
    class ServedApplicationEntity(base):  # type: ignore[misc,valid-type]
        """An AE some of whose associations are no threads."""

        @property
        def active_associations(self) -> list[Association]:
            """The AE's associations, its servers' included."""
            threads = super().active_associations
            return [
                *threads,
                *(a for server in self._inline_servers for a in server.active_associations),
            ]

    ServedApplicationEntity.__name__ = base.__name__
    ServedApplicationEntity.__qualname__ = base.__qualname__
    return ServedApplicationEntity


def register_server(ae: ApplicationEntity, server: Server) -> None:
    """Let an AE know a server: for its `active_associations` and its `shutdown()`.

    Relied on: `ApplicationEntity.shutdown` goes through `_servers`. The AE becomes an instance of a
    subclass of its class, since `active_associations` is a property and cannot be set.
    """
    served: Any = ae
    if not hasattr(served, "_inline_servers"):
        served._inline_servers = []
        served.__class__ = _served(cast(Any, type(ae)))
    served._inline_servers.append(server)
    served._servers.append(server)


def unregister_server(ae: ApplicationEntity, server: Server) -> None:
    """The server is shut down: `ae.shutdown()` need not. Its associations are still counted."""
    servers: list[Any] = cast(Any, ae)._servers
    if server in servers:
        servers.remove(server)


def forget_server(ae: ApplicationEntity, server: Server) -> None:
    """The server's last association has ended."""
    servers: list[Any] = cast(Any, ae)._inline_servers
    if server in servers:
        servers.remove(server)
