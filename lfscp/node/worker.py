"""The life of a node, from settings to exit: read `Node` from top to bottom.

The main thread starts everything and then sleeps until something arrives in its mailbox: a signal,
or word that the pool has no member left. The pool's threads serve. Under systemd one more thread
tells how the pool is and feeds the watchdog while it is healthy. Nothing polls.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from lfscp.node.parts import (
    HANDED_OVER,
    NodeError,
    application_entity,
    begin_trail,
    join_nodes,
    make_offer,
    open_archive,
    open_listeners,
    page_of,
    secure_context,
    start_maintenance,
    tell_ready,
    tls_port,
    trusted_proxies,
    warn_of_lost_index,
)
from lfscp.node.signals import Mailbox
from lfscp.observe import audit, metrics, systemd
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from subprocess import Popen

    from lfscp.archive.archive import Archive
    from lfscp.archive.index.nodes import Membership
    from lfscp.archive.upkeep.maintenance import Maintenance
    from lfscp.config import Settings
    from lfscp.config.current import Renewal
    from lfscp.node.endpoints import Endpoints
    from lfscp.node.handover import Offer, Taken
    from lfscp.node.reload import ReadSettings
    from lfscp.node.web_service import WebSide
    from lfscp.pool import PoolState
    from lfscp.server import LeaderFollowerServer
    from lfscp.server.address_limits import AddressLimits
    from lfscp.server.association_board import AssociationBoard
    from lfscp.web.status.state import ProcessState

LOG: Final = get_logger("lfscp.node")
# Python's 5 ms let one association's work hold up the others': four senders at once got a fifth
# more through with this, and a single one no less.
SWITCH_INTERVAL_S: Final = 0.0005
WORKER_REPORT_S: Final = 1.0  # of a worker process to its parent
REPORT_INTERVAL_S: Final = 10.0  # of the status line, when systemd asks for no watchdog
LOOK_INTERVAL_S: Final = 3.0  # after which it is seen anew whose threads are busy
POOL_IS_EMPTY: Final = 0  # no signal has this number


class Node:
    """One node as configured.

    Args:
        settings: everything that can be chosen.
        archive: one that is open already, by the parent of a worker process; closed by it too.
        membership: of the node that the parent has joined with that archive.
        endpoints: sockets that listen already, opened by the parent.
        read_settings: reads the settings again, at SIGHUP.
        report: told how the pool is, now and then, instead of systemd: in a worker process.
        taken: what the node that this one follows on has handed over.
        board: where worker processes count their associations together.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        archive: Archive | None = None,
        membership: Membership | None = None,
        endpoints: Endpoints | None = None,
        read_settings: ReadSettings | None = None,
        report: Callable[[PoolState], None] | None = None,
        taken: Taken | None = None,
        board: AssociationBoard | None = None,
    ) -> None:
        from lfscp.config.current import CurrentSettings

        self._settings = settings  # as they were at the start
        self._current = CurrentSettings(settings)
        self._read_settings = read_settings
        self._tell = report
        # Of a worker's life the parent writes one line for all.
        self._log = LOG.info if report is None else LOG.debug
        self._archive = archive
        self._owns_archive = archive is None
        self._membership = membership
        self._endpoints = endpoints
        self._taken = taken
        self._board = board
        self._offer: Offer | None = None
        self._is_handed_over = False
        self._successor: Popen[bytes] | None = None
        self._limits: AddressLimits | None = None
        self._server: LeaderFollowerServer | None = None
        self._web: WebSide | None = None
        self._maintenance: Maintenance | None = None
        self._started_at = time.time()
        self._stopping = threading.Event()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the main thread stays in here.

        Returns:
            The exit code: 0 after a signal, 1 when the pool ended by itself.
        Raises:
            NodeError, ArchiveError, SystemdError: it could not start.
        """
        with Mailbox() as mailbox:
            self.start()
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            gc.freeze()  # what was imported stays: no collection need look at it again
            gc.enable()
            _in_background("lfscp-pool-watch", lambda: self._tell_when_empty(mailbox))
            if _is_supervised() or self._tell is not None:
                _in_background("lfscp-report", self._report)
            return self._wait_and_stop(mailbox)

    # Start

    def start(self) -> None:
        """Open the archive, then listen; returns once connections are accepted.

        Raises:
            ConfigError, NodeError, ArchiveError, SystemdError: it could not; nothing is left open.
        """
        started = time.monotonic()
        try:
            if self._archive is None:
                # 1. before any peer needs it
                self._archive = open_archive(self._settings, self._taken)
                warn_of_lost_index(self._archive)
                self._membership = join_nodes(self._settings, self._archive)
                begin_trail(self._settings)
            page = self._bind_page()  # 2. a port that is taken is said before anything runs
            if self._endpoints is None:
                self._endpoints = open_listeners(self._settings, self._taken)
            self.prepare()  # 3. contexts and handlers are made once
            self._running_server.start()  # 4. before anybody is told
        except BaseException:
            if self._endpoints is not None:
                self._endpoints.close()
            self._close_archive()
            if self._taken is not None:
                self._taken.give_back()
            raise
        if self._tell is None:
            self._offer = make_offer(self._archive, self._endpoints, page, os.getpid())
            self._offer.start()
        if self._taken is not None:
            self._taken.ready()
        metrics.PROCESS_STARTS.add()
        if self._tell is None:
            audit.application_started()
        self._start_page(page)
        if self._membership is not None:
            self._membership.start()
        if self._tell is None:  # of several processes the parent chooses the one that does it
            self._maintenance = start_maintenance(self._settings, self._archive)
        host, port = self.address
        tell_ready(f"listening on {host}:{port}", self._taken)  # 5.
        self._log(
            "listening",
            ae_title=self._settings.server.ae_title,
            host=host,
            port=port,
            **tls_port(self._endpoints),
            data_dir=self._settings.data_dir,
            duration_ms=round((time.monotonic() - started) * 1000),
        )

    def process_state(self) -> ProcessState:
        """This process as the page shows it; from any thread."""
        from lfscp.node.web_service import process_state

        return process_state(self._running_server)

    def _bind_page(self) -> socket.socket | None:
        """Listen for the page; a worker leaves it to the process that the parent has for it."""
        if self._tell is not None or not self._settings.web.enabled:
            return None
        from lfscp.node.web_service import PageError, bind_page

        try:
            return bind_page(self._settings, page_of(self._taken, self._settings))
        except PageError as error:
            raise NodeError(str(error)) from error

    def _start_page(self, listener: socket.socket | None) -> None:
        if listener is None or self._archive is None:
            return
        from lfscp.node.web_service import WebSide, node_state

        self._web = WebSide(
            self._settings,
            self._archive,
            listener,
            lambda: node_state(
                self._settings, self.address, self._started_at, (self.process_state(),)
            ),
        )
        self._web.start()

    def pool_state(self) -> PoolState:
        """What the pool looks like now; from any thread."""
        return self._running_server.pool.state()

    @property
    def address(self) -> tuple[str, int]:
        """Where the node listens, with the port that the system chose for port 0."""
        host, port = self._running_server.server_address[:2]
        return str(host), int(port)

    def prepare(self) -> None:
        """Make the server, its contexts and handlers; a parent does it once for all workers.

        Raises:
            ConfigError: a certificate cannot be used.
        """
        if self._server is not None:
            return
        from lfscp.dicom.header import read_first
        from lfscp.dicom.part10 import part10_header
        from lfscp.node import reload
        from lfscp.server import LeaderFollowerServer
        from lfscp.server.address_limits import AddressLimits
        from lfscp.services.access.admission import Admission
        from lfscp.services.associations import record_end
        from lfscp.services.contexts import contexts, storage_classes
        from lfscp.services.handlers import all_handlers
        from lfscp.upperlayer.limits import ReceiveLimits

        settings, archive, endpoints = self._settings, self._archive, self._endpoints
        assert archive is not None  # noqa: S101 - step 1 comes before step 3
        assert endpoints is not None  # noqa: S101 - step 2 does
        self._limits = AddressLimits(board=self._board)
        self._server = LeaderFollowerServer(
            application_entity(settings),
            endpoints.first.getsockname(),
            evt_handlers=all_handlers(archive, self._current),
            ssl_context=secure_context(settings),
            contexts=contexts(settings),
            threads=settings.pool.threads,
            spool_dir=archive.incoming_dir,
            file_header=part10_header,
            examine=read_first,
            listen_socket=endpoints.first,
            tls_socket=endpoints.second,
            accept_unknown_storage=settings.storage.accept_unknown_sop_classes,
            storage_classes=storage_classes(settings),
            admit=Admission(self._current),
            limits=self._limits,
            receive_limits=ReceiveLimits(shortage=lambda: archive.space.shortage),
            proxies=trusted_proxies(settings),
            on_end=record_end,
            # A bucket is spoken to in threads of the client's own, which would inherit the binding.
            one_processor=settings.pool.one_processor and not archive.files.is_remote,
        )
        reload.apply(settings, self._server, self._limits, self._server.ssl_context)

    def share_processors(self, number: int, workers: int) -> None:
        """Be this one of several workers, which bind their threads to processors of their own."""
        if self._running_server.one_processor is not None:
            self._running_server.one_processor.share(number, workers)

    # Serve

    def _wait_and_stop(self, mailbox: Mailbox) -> int:
        from lfscp.node.handover import begin_successor

        processor = self._running_server.one_processor
        while (message := mailbox.wait(LOOK_INTERVAL_S)) in (None, signal.SIGHUP, signal.SIGUSR2):
            if message is None:
                if processor is not None:
                    processor.look_again()
            elif message == signal.SIGHUP:
                if self.reload() is not None:
                    LOG.debug("settings taken over")  # by this worker; the parent says what changed
            else:
                self._successor = begin_successor()
        if message == POOL_IS_EMPTY:
            LOG.critical("the pool ended by itself, the node cannot go on")
            self.stop()
            return 1
        self._is_handed_over = message == HANDED_OVER
        self._log("stopping", signal=signal.Signals(message or 0).name)
        self.stop(mailbox)
        return 0

    def reload(self) -> Renewal | None:
        """Read the settings again and take over what can change; None when that fails.

        A worker's parent has tried them, and says what came of it.
        """
        from lfscp.node import reload

        audit.reopen()
        renewal = reload.read_again(self._current, self._read_settings)
        if renewal is None or self._limits is None:
            return None
        try:
            reload.apply(renewal.settings, self._running_server, self._limits)
        except OSError as error:  # a file that was replaced since it was tried
            LOG.error("certificate not reloaded, the old one stays", reason=str(error))  # noqa: TRY400 - one line
            return None
        if self._web is not None:
            self._web.renew(renewal.settings)
        if self._tell is None:
            reload.tell(renewal)
        return renewal

    def _tell_when_empty(self, mailbox: Mailbox) -> None:
        self._running_server.pool.drain(None)
        mailbox.put(POOL_IS_EMPTY)

    def _report(self) -> None:
        """Tell systemd, or the parent, how the pool is; runs in a thread of its own."""
        watchdog_s = systemd.watchdog_interval_s() if self._tell is None else WORKER_REPORT_S
        if self._tell is not None:
            self._tell(self.pool_state())
        while not self._stopping.wait(watchdog_s or REPORT_INTERVAL_S):
            state = self.pool_state()
            if self._tell is not None:
                self._tell(state)
                continue
            status = (
                f"STATUS=leader {state.leader}, waiting {state.waiting}, running {state.running}"
            )
            if state.is_shutdown or watchdog_s is None:
                systemd.notify(status)
            else:
                systemd.notify("WATCHDOG=1", status)

    # Stop

    def stop(self, mailbox: Mailbox | None = None) -> None:
        """Let running associations finish within the drain deadline, abort the rest, close.

        Args:
            mailbox: when given, a further signal in it ends the wait at once.
        """
        from lfscp.server.draining import time_to_go_on_s

        server, timeout_s = self._running_server, self._settings.server.drain_timeout_s
        go_on_s = time_to_go_on_s(timeout_s)
        self._stopping.set()
        if not self._is_handed_over:
            systemd.notify("STOPPING=1", f"STATUS=draining for {timeout_s:g} s at most")
        if self._offer is not None:
            self._offer.close()
        server.shutdown()  # 1. no new associations
        if self._tell is not None:
            self._tell(self.pool_state())
        jobs_end = None
        if self._web is not None:  # a successor has a page of its own
            end = self._web.stop if self._is_handed_over else self._web.stop_jobs
            jobs_end = _in_background("lfscp-jobs-stop", end)
        if self._maintenance is not None:
            self._maintenance.stop()
        if mailbox is None:
            drained = server.drain(go_on_s)  # 2. running ones finish, silent ones are aborted
        else:
            patient = self._is_handed_over
            _in_background("lfscp-drain", lambda: server.drain(go_on_s, abort_idle=not patient))
            drained = self._wait_until_drained(mailbox, go_on_s)
        if not drained:
            self._abort_associations(timeout_s - go_on_s)  # 3. or are aborted
        if self._web is not None and jobs_end is not None:
            jobs_end.join()
            if not self._is_handed_over:
                self._web.stop()  # 4. until now it said that the node is stopping
        if self._tell is None:
            audit.application_stopped("" if drained else "associations were aborted")
            audit.stop()
        audit.tell_repeats()
        self._close_archive()  # 5. when nobody stores any more
        self._log("stopped", drained=drained)

    @staticmethod
    def _wait_until_drained(mailbox: Mailbox, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        message: int | None = signal.SIGHUP
        while message in (signal.SIGHUP, signal.SIGUSR2):  # for a node that goes on
            message = mailbox.wait(max(0.0, deadline - time.monotonic()))
        return message == POOL_IS_EMPTY

    def _abort_associations(self, left_s: float) -> None:
        from lfscp.server.draining import time_to_end_s

        server = self._running_server
        LOG.warning("aborting associations", count=len(server.active_associations))
        server.abort_all()
        if not server.drain(time_to_end_s(left_s)):
            LOG.error(
                "associations did not end, leaving them behind", pool=self._running_server.pool
            )

    def _close_archive(self) -> None:
        if self._membership is not None:
            self._membership.stop()
        if self._archive is not None and self._owns_archive:
            if self._membership is not None and not self._is_handed_over:
                self._membership.leave()
            self._archive.close()
        self._archive = None

    @property
    def _running_server(self) -> LeaderFollowerServer:
        if self._server is None:
            raise RuntimeError("the node has not been started")
        return self._server


def _is_supervised() -> bool:
    return "NOTIFY_SOCKET" in os.environ


def _in_background(name: str, work: Any) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread
