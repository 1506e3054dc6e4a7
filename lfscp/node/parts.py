"""The parts of a node, each made from its settings: archive, listeners, place among others.

What is imported is imported where it is needed: a command that opens the archive alone need not
load a server.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lfscp.observe import systemd

if TYPE_CHECKING:
    from ssl import SSLContext

    from pynetdicom import AE

    from lfscp.archive.archive import Archive
    from lfscp.archive.index.nodes import Membership
    from lfscp.archive.store.s3_client import S3Options
    from lfscp.archive.upkeep.maintenance import Maintenance
    from lfscp.archive.upkeep.retention import Limits
    from lfscp.config import Settings
    from lfscp.config.settings import Objects
    from lfscp.node.endpoints import Endpoints
    from lfscp.node.handover import Offer, Taken
    from lfscp.server.proxy_protocol import TrustedProxies

HANDED_OVER: Final = signal.SIGUSR1  # another node accepts instead; see server/handover
PAGE: Final = "page"  # the name of its socket in a handover


class NodeError(Exception):
    """The node cannot start; its text is one line for the administrator."""


def open_archive(
    settings: Settings, taken: Taken | None = None, *, objects_id: str = ""
) -> Archive:
    """Open the archive that `settings` name; what is converted from it has its budgets then.

    Args:
        taken: of the node that this one follows on; the archive has its lock.
        objects_id: as `Archive.open` takes it.
    Raises:
        ArchiveError: it cannot be opened; ArchiveInUseError when another process has it open.
    """
    from lfscp.archive.archive import Archive
    from lfscp.archive.store import spool
    from lfscp.services.transcoding.decoding_memory import MEMORY

    archive = Archive.open(
        settings.data_dir,
        index_url=settings.index.url or None,
        index_connections=settings.index.connections,
        index_timeout_s=settings.index.timeout_s,
        objects_root=settings.objects.root,
        durability=settings.durability,
        duplicates=settings.duplicates,
        digest=None if settings.objects.digest == "none" else settings.objects.digest,
        reserve_mb=settings.storage.reserve_mb,
        lock=taken.lock if taken is not None else None,
        bucket=_bucket(settings.objects),
        cache_mb=settings.objects.cache_mb,
        objects_id=objects_id,
    )
    MEMORY.limit_bytes = settings.budgets.decoding_mb << 20
    spool.use(archive.data_dir, settings.budgets.spool_mb << 20, settings.storage.reserve_mb)
    return archive


def warn_of_lost_index(archive: Archive) -> None:
    """Say it when an index is new though there are objects, which nobody finds by it."""
    from lfscp.archive.upkeep.check import has_lost_index

    if not has_lost_index(archive):
        return
    from lfscp.observe.logging import get_logger

    remedy = "check --repair" if archive.index.is_shared else "check --rebuild"
    get_logger("lfscp.archive").warning(
        "the index is empty, but there are objects",
        objects=archive.files.root,
        hint=f"stop the node and run `lfscp {remedy}`",
    )


def _bucket(objects: Objects) -> S3Options | None:
    """Where the objects are, when it is no folder."""
    if not objects.is_bucket:
        return None
    from lfscp.archive.store.s3_client import S3Options

    return S3Options(
        objects.url, objects.endpoint, objects.region, objects.allow_http, objects.timeout_s
    )


def join_nodes(settings: Settings, archive: Archive) -> Membership:
    """Take the node's place among those that share its index.

    Raises:
        ArchiveError: its settings do not go together with those of a node that runs.
    """
    from lfscp.archive.index.nodes import Membership
    from lfscp.archive.node_id import node_id
    from lfscp.config.describe import mask_password

    identity = node_id(archive.data_dir)
    # A folder that nobody named is this machine's own.
    objects = settings.objects.url or f"the data folder of {socket.gethostname()}"
    agreed = {
        "objects.url": mask_password(objects),
        "objects.digest": settings.objects.digest,
        "duplicates": settings.duplicates,
        "durability": settings.durability,
        "storage": json.dumps(settings.storage.model_dump(mode="json", exclude={"reserve_mb"})),
        "query": json.dumps(settings.query.model_dump(mode="json")),
        "retrieve": json.dumps(settings.retrieve.model_dump(mode="json")),
    }
    membership = Membership(archive.index, identity, settings.server.ae_title, agreed)
    membership.join()
    return membership


def retention_limits(settings: Settings) -> Limits:
    """What the archive may hold."""
    from lfscp.archive.index.clock_readings import DAY_MS
    from lfscp.archive.upkeep.retention import GIGABYTE, Limits

    retention = settings.retention
    return Limits(
        max_bytes=int(retention.max_gb * GIGABYTE),
        max_age_ms=int(retention.max_age_days * DAY_MS),
        max_studies=retention.max_studies,
        quiet_ms=int(retention.quiet_s * 1000),
    )


def start_maintenance(settings: Settings, archive: Archive) -> Maintenance:
    """Begin what the archive does unasked; in one process of the node only."""
    from lfscp.archive.upkeep.maintenance import Maintenance

    maintenance = Maintenance(
        archive,
        retention_limits(settings),
        interval_s=settings.retention.interval_s,
        scrub_mb_s=settings.objects.scrub_mb_s,
    )
    maintenance.start()
    return maintenance


def trusted_proxies(settings: Settings) -> TrustedProxies | None:
    """The load balancers that say whom they speak for; None without any."""
    from lfscp.server.proxy_protocol import TrustedProxies

    server = settings.server
    if not server.proxy_protocol:
        return None
    return TrustedProxies(server.proxy_protocol, server.acse_timeout_s)


def application_entity(settings: Settings) -> AE:
    """The pynetdicom application entity of a node as configured."""
    from pynetdicom import AE

    from lfscp.node.reload import tune

    server = settings.server
    ae = AE(server.ae_title)
    ae.maximum_pdu_size = server.max_pdu_bytes
    tune(ae, server)
    return ae


def begin_trail(settings: Settings) -> None:
    """Begin the audit trail as configured.

    Raises:
        NodeError: its file cannot be opened.
    """
    from lfscp.services.audit_events import start_trail

    try:
        start_trail(settings)
    except OSError as error:
        file = settings.audit.path(settings.data_dir)
        raise NodeError(
            f"audit.file: cannot open {file}: {error.strerror}; "
            "name a file that the node's user may write"
        ) from error


def open_listeners(settings: Settings, taken: Taken | None = None) -> Endpoints:
    """Listen where the settings say, or on what systemd or a predecessor hands over.

    Raises:
        NodeError, SystemdError: it is not possible; nothing is left open.
    """
    from lfscp.node.endpoints import PLAIN, SECURE, ListenError, open_endpoints

    names = (PLAIN, SECURE) if settings.server.plain else (SECURE,)
    handed_over = systemd.take_listening_sockets(os.environ, names)
    for name, port in ((PLAIN, settings.server.port), (SECURE, settings.tls.port)):
        sock = taken.sockets.pop(name, None) if taken is not None else None
        if sock is not None and port in (0, sock.getsockname()[1]):
            handed_over.setdefault(name, sock)
        elif sock is not None:
            sock.close()  # another port is configured by now
    try:
        return open_endpoints(settings.server, settings.tls, handed_over)
    except ListenError as error:
        raise NodeError(str(error)) from error


def page_of(taken: Taken | None, settings: Settings) -> socket.socket | None:
    """The page's socket of the node that this one follows on, if it is the right one."""
    sock = taken.sockets.pop(PAGE, None) if taken is not None else None
    if sock is None or settings.web.port in (0, sock.getsockname()[1]):
        return sock
    sock.close()
    return None


def make_offer(
    archive: Archive, endpoints: Endpoints, page: socket.socket | None, pid: int
) -> Offer:
    """What lets a successor take over from the process `pid`."""
    from lfscp.node.handover import Offer

    sockets = endpoints.named()
    if page is not None:
        sockets[PAGE] = page
    return Offer(
        archive.data_dir, sockets, archive.lock_descriptor, lambda: os.kill(pid, HANDED_OVER)
    )


def tell_ready(status: str, taken: Taken | None) -> None:
    """Tell systemd that the node listens, and which process it is when it has followed on."""
    follows = () if taken is None else (f"MAINPID={os.getpid()}",)
    systemd.notify(*follows, "READY=1", f"STATUS={status}")


def secure_context(settings: Settings) -> SSLContext | None:
    """What the listener for TLS needs; None when there is none.

    Raises:
        ConfigError: a certificate or key cannot be used.
    """
    from lfscp.config import ConfigError
    from lfscp.node.endpoints import tls_context

    warn_of_readable_keys(settings)
    try:
        return tls_context(settings.tls)
    except OSError as error:
        raise ConfigError(f"tls: {error}") from error


def warn_of_readable_keys(settings: Settings) -> None:
    """Say which private keys anybody on this machine could read."""
    from lfscp.observe.logging import get_logger

    tls = settings.tls
    keys = [tls.key_file or tls.certificate_file] if tls.enabled else []
    keys += [peer.tls_key_file or peer.tls_certificate_file for peer in settings.peers.values()]
    for key in dict.fromkeys(filter(None, keys)):
        with suppress(OSError):  # that it is missing is said by whoever needs it
            if os.stat(key).st_mode & stat.S_IROTH:  # noqa: PTH116 - as text, as configured
                get_logger("lfscp.server").warning(
                    "everybody can read a private key",
                    file=key,
                    hint=f"chmod o-r {key}",
                )


def tls_port(endpoints: Endpoints | None) -> dict[str, int]:
    """The port of TLS, for the log."""
    if endpoints is None or endpoints.tls is None:
        return {}
    return {"tls_port": endpoints.tls.getsockname()[1]}
