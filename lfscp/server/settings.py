"""What can be chosen of a server beyond pynetdicom's own arguments, as one object."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lfscp.server.address_limits import AddressLimits
from lfscp.server.listener import DEFAULT_BACKLOG, Address
from lfscp.server.proxy_protocol import TrustedProxies
from lfscp.upperlayer.connection.limits import NO_LIMITS, ReceiveLimits
from lfscp.upperlayer.receiving.receiver import Examine
from lfscp.upperlayer.receiving.sink import FileHeader
from lfscp.upperlayer.scp.association import AcceptorAssociation
from lfscp.upperlayer.wire.rejections import Rejection

FOLLOWER_IDLE_S: Final = 30.0  # how long a thread that nobody needs is kept


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of a `LeaderFollowerServer`.

    Args:
        spool_dir: where objects of more than 4 MB go as they arrive; None keeps them in memory.
        file_header: makes the head of a received file; given, an object that comes in fragments is
            written to `spool_dir` while it is received, for a handler that keeps it as a file.
        examine: called with the first bytes of an object that comes in fragments and its transfer
            syntax, while the rest is on its way; its result is `event.request.examined`.
        backlog: connections that may wait in the kernel while nobody leads.
        listen_socket: one that listens already (systemd's), instead of binding the address.
        tls_address: a second address to listen on; then TLS is spoken there, and not at the first.
        tls_socket: one that listens already, instead of binding `tls_address`.
        accept_unknown_storage: take private and unknown SOP classes for storage.
        storage_classes: SOP classes of the contexts to serve as storage though pynetdicom does not
            know them: retired and private ones.
        admit: called with each association before negotiation: a Rejection, or None to admit it.
        limits: what one address may do; None is 100 associations at once (`AddressLimits()` is no
            limit).
        proxies: load balancers that say whom they speak for; given, only they may connect.
        receive_limits: of what is received on an association.
        on_end: called with each association when it has ended, in the thread that served it.
        one_processor: bind the threads that serve at the same time to one processor, where they
            take turns at less cost; not for handlers that compute, or that start threads, which
            would stay bound (`lfscp.server.cpu_affinity`). Associations with TLS are left out.
        max_idle_s: how long a thread that waits to lead is kept; None is for ever.
    """

    spool_dir: Path | None = None
    file_header: FileHeader | None = None
    examine: Examine | None = None
    backlog: int = DEFAULT_BACKLOG
    listen_socket: socket.socket | None = None
    tls_address: Address | None = None
    tls_socket: socket.socket | None = None
    accept_unknown_storage: bool = False
    storage_classes: Iterable[str] = ()
    admit: Callable[[AcceptorAssociation], Rejection | None] | None = None
    limits: AddressLimits | None = None
    proxies: TrustedProxies | None = None
    receive_limits: ReceiveLimits = NO_LIMITS
    on_end: Callable[[AcceptorAssociation], object] | None = None
    one_processor: bool = False
    max_idle_s: float | None = FOLLOWER_IDLE_S
