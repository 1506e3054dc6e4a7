"""The parts that every node has, whatever its processes: archive, place among nodes, sockets.

Each is made from the settings. What is imported is imported where it is needed: a command that
opens the archive alone need not load a server.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lfscp.node.errors import NodeError
from lfscp.node.signals import HANDED_OVER
from lfscp.observe import audit, systemd
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.archive.index.nodes import Membership
    from lfscp.archive.store.bucket.s3_client import S3Options
    from lfscp.archive.upkeep.retention import Limits
    from lfscp.config import Settings
    from lfscp.config.settings import Objects
    from lfscp.node.endpoints import Endpoints
    from lfscp.node.handover import Offer, Taken
    from lfscp.plugins.plugins import Plugins

LOG: Final = get_logger("lfscp.node")
STATUS_INTERVAL_S: Final = 10.0  # of systemd's status line, when it asks for no watchdog


@dataclass(frozen=True, slots=True)
class Parts:
    """What is opened once for a node, and closed when its last process has ended.

    Args:
        settings: as they were at the start.
        membership: the node's place among those that share its index.
        page: the page's socket; None when there is no page.
        taken: what the node that this one follows on has handed over.
        hl7: the socket for HL7; None when that is off.
        plugins: loaded, not started.
        ohif: the socket for OHIF, which the page's server has too; None when it is not served.
    """

    settings: Settings
    archive: Archive
    membership: Membership
    page: socket.socket | None
    endpoints: Endpoints
    plugins: Plugins
    taken: Taken | None = None
    hl7: socket.socket | None = None
    ohif: socket.socket | None = None

    def offer(self, pid: int) -> Offer:
        """What lets a successor take over from the process `pid`."""
        from lfscp.node.endpoints import HL7
        from lfscp.node.handover import Offer
        from lfscp.node.web_service import OHIF, PAGE

        sockets = dict(self.endpoints.sockets)
        if self.page is not None:
            sockets[PAGE] = self.page
        if self.ohif is not None:
            sockets[OHIF] = self.ohif
        if self.hl7 is not None:
            sockets[HL7] = self.hl7
        return Offer(
            self.archive.data_dir,
            sockets,
            self.archive.lock_descriptor,
            lambda: os.kill(pid, HANDED_OVER),
        )

    def announce(self, started: float, **fields: object) -> None:
        """Tell everybody that the node accepts connections.

        Args:
            started: when it began to, in monotonic seconds.
            fields: more for the log.
        """
        if self.taken is not None:
            self.taken.ready()
        audit.application_started()
        host, port = self.endpoints.address
        follows = () if self.taken is None else (f"MAINPID={os.getpid()}",)
        systemd.notify(*follows, "READY=1", f"STATUS=listening on {host}:{port}")
        if self.endpoints.tls_port is not None:
            fields = {"tls_port": self.endpoints.tls_port, **fields}
        if self.hl7 is not None:
            fields = {"hl7_port": self.settings.worklist.hl7_port, **fields}
        LOG.info(
            "listening",
            ae_title=self.settings.server.ae_title,
            host=host,
            port=port,
            **fields,
            data_dir=self.settings.data_dir,
            duration_ms=round((time.monotonic() - started) * 1000),
        )

    def close(self, *, is_handed_over: bool = False) -> None:
        """Close all, once nobody stores any more; a successor has the node's place then."""
        self.endpoints.close()
        if self.page is not None:
            self.page.close()
        if self.ohif is not None:
            self.ohif.close()
        if self.hl7 is not None:
            self.hl7.close()
        self.membership.stop()
        if not is_handed_over:
            self.membership.leave()
        self.archive.close()
        if self.taken is not None:
            self.taken.give_back()


def open_parts(settings: Settings, taken: Taken | None = None) -> Parts:
    """Open all that a node needs, before any peer does; what cannot be had is said at once.

    Raises:
        ConfigError, NodeError, ArchiveError, SystemdError: the node cannot start; nothing is left
            open.
    """
    from lfscp.node.endpoints import open_endpoints, open_hl7
    from lfscp.node.route_actions import require_plugins
    from lfscp.node.web_service import bind_ohif, bind_page
    from lfscp.plugins.plugins import Plugins

    with ExitStack() as opened:
        if taken is not None:
            opened.callback(taken.give_back)
        plugins = Plugins.load(settings)
        require_plugins(settings, plugins.loaded)
        archive = open_archive(settings, taken)
        opened.callback(archive.close)
        plugins.open(archive)
        warn_of_lost_index(archive)
        membership = join_nodes(settings, archive)
        opened.callback(membership.leave)
        begin_trail(settings)
        page = bind_page(settings, taken)
        if page is not None:
            opened.enter_context(page)
        ohif = bind_ohif(settings, taken) if page is not None else None
        if ohif is not None:
            opened.enter_context(ohif)
        hl7 = open_hl7(settings, taken)
        if hl7 is not None:
            opened.enter_context(hl7)
        endpoints = open_endpoints(settings, taken)
        if taken is not None:
            taken.close_unused()
        opened.pop_all()
    return Parts(settings, archive, membership, page, endpoints, plugins, taken, hl7, ohif)


def announce_end(settings: Settings) -> None:
    """Tell systemd that the node is about to end."""
    timeout_s = settings.server.drain_timeout_s
    systemd.notify("STOPPING=1", f"STATUS=draining for {timeout_s:g} s at most")


def open_archive(
    settings: Settings,
    taken: Taken | None = None,
    *,
    objects_id: str = "",
    joined: int | None = None,
) -> Archive:
    """Open the archive that `settings` name; what is converted from it has its budgets then.

    Args:
        taken: of the node that this one follows on; the archive has its lock.
        objects_id: as `Archive.open` takes it.
        joined: what `data_folder.join_node` gave, to work beside the node that runs.
    Raises:
        ArchiveError: it cannot be opened; ArchiveInUseError when another process has it open.
        ConfigError: a coercion cannot be.
        NodeError: a route of the settings cannot be.
    """
    from lfscp.archive.archive import Archive
    from lfscp.archive.store import spool
    from lfscp.config.current import CurrentSettings
    from lfscp.node.coercions import arrival_of
    from lfscp.routing.errors import RouteError
    from lfscp.routing.matching import SettingsRouter
    from lfscp.services.transcoding.decoding_memory import MEMORY

    arrival = arrival_of(settings)
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
        lock=taken.lock if taken is not None else joined,
        bucket=_bucket(settings.objects),
        cache_mb=settings.objects.cache_mb,
        objects_id=objects_id,
    )
    archive.arrival = arrival
    try:
        archive.router = SettingsRouter(CurrentSettings(settings))
    except RouteError as error:
        archive.close()
        raise NodeError(str(error)) from None
    MEMORY.limit_bytes = settings.budgets.decoding_mb << 20
    spool.use(archive.data_dir, settings.budgets.spool_mb << 20, settings.storage.reserve_mb)
    return archive


def warn_of_lost_index(archive: Archive) -> None:
    """Say it when an index is new though there are objects, which nobody finds by it."""
    from lfscp.archive.upkeep.check import has_lost_index

    if not has_lost_index(archive):
        return
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
    from lfscp.archive.store.bucket.s3_client import S3Options

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
        committed_ms=int(settings.commitment.keep_days * DAY_MS),
    )


def begin_trail(settings: Settings) -> None:
    """Begin the audit trail as configured, and the file of the newest warnings and errors.

    Raises:
        NodeError: its file cannot be opened.
    """
    from lfscp.observe.logging import keep_recent
    from lfscp.observe.recent_log import RecentLog
    from lfscp.services.audit_events import start_trail

    if settings.logging.kept_mb:
        keep_recent(RecentLog(settings.data_dir, settings.logging.kept_mb * 1_000_000))
    try:
        start_trail(settings)
    except OSError as error:
        file = settings.audit.path(settings.data_dir)
        raise NodeError(
            f"audit.file: cannot open {file}: {error.strerror}; "
            "name a file that the node's user may write"
        ) from error
