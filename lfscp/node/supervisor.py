"""A node as one process, or as several worker processes behind one listening socket.

The parent opens the archive and listens, so that what cannot start is said once; it makes the
server with its contexts and handlers, which the workers then share, and forks. Each worker is a
node with its own pool; the kernel gives each connection to a leader that waits. The parent serves
nobody: it replaces workers that die, and speaks with systemd. The page and the jobs have a process
of their own, forked like a worker; the workers tell it how they are through shared memory. It
looks after the archive as well (scrub, retention); without a page the first worker does.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from lfscp.node.parts import (
    HANDED_OVER,
    NodeError,
    begin_trail,
    join_nodes,
    make_offer,
    open_archive,
    open_listeners,
    page_of,
    start_maintenance,
    tell_ready,
    tls_port,
    warn_of_lost_index,
)
from lfscp.node.worker import POOL_IS_EMPTY, REPORT_INTERVAL_S, Node
from lfscp.observe import audit, metrics, systemd
from lfscp.observe.logging import get_logger, mark_lines
from lfscp.observe.open_files import allow_most_open_files

if TYPE_CHECKING:
    import socket
    from subprocess import Popen

    from lfscp.archive.archive import Archive
    from lfscp.config import Settings
    from lfscp.node.endpoints import Endpoints
    from lfscp.node.handover import Taken
    from lfscp.node.reload import ReadSettings
    from lfscp.node.signals import Mailbox
    from lfscp.pool import PoolState
    from lfscp.web.status.state import SharedStates

LOG: Final = get_logger("lfscp.node")
# A worker that has not reported for so long keeps the watchdog from being fed.
_SILENT_AFTER_S: Final = 10.0
_KILL_AFTER_DRAIN_S: Final = 10.0


def run_node(
    settings: Settings, read_settings: ReadSettings | None = None, *, follow_on: bool = False
) -> int:
    """Serve until SIGTERM or SIGINT, in as many processes as the settings say.

    Args:
        read_settings: reads them again, at SIGHUP.
        follow_on: take over from the node that runs on the data folder, if there is one.
    Returns:
        The exit code.
    Raises:
        ConfigError, NodeError, ArchiveError, SystemdError: the node cannot start.
    """
    allow_most_open_files()
    taken = _take_over(settings) if follow_on else None
    workers = settings.pool.workers or max(1, len(os.sched_getaffinity(0)) // 2)
    if workers == 1:
        return Node(settings, read_settings=read_settings, taken=taken).run()
    return PreforkedNode(settings, workers, read_settings, taken).run()


def _take_over(settings: Settings) -> Taken | None:
    from lfscp.node.handover import HandoverError, take_over

    try:
        return take_over(settings.data_dir)
    except HandoverError as error:
        raise NodeError(str(error)) from error


class PreforkedNode:
    """A node of several worker processes.

    Args:
        settings: of the node; the limits of the pool are each worker's.
        workers: how many, at least 2.
        read_settings: reads the settings again, at SIGHUP.
        taken: what the node that this one follows on has handed over.
    """

    def __init__(
        self,
        settings: Settings,
        workers: int,
        read_settings: ReadSettings | None = None,
        taken: Taken | None = None,
    ) -> None:
        from lfscp.node.scoreboard import Scoreboard
        from lfscp.server.association_board import AssociationBoard

        self._settings = settings
        self._read_settings = read_settings
        self._taken = taken
        self._is_handed_over = False
        self._successor: Popen[bytes] | None = None
        self._count = workers
        self._scoreboard = Scoreboard(workers)
        self._board = AssociationBoard(workers)
        self._states: SharedStates | None = None
        self._started_at = time.time()
        metrics.BOARD.share(workers + 1)  # a line for the page

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the main thread stays in here.

        Returns:
            The exit code: 0 when every worker drained.
        Raises:
            NodeError, ArchiveError, SystemdError: the node cannot start.
        """
        from lfscp.node.workers import Workers

        started = time.monotonic()
        archive = open_archive(self._settings, self._taken)
        try:
            warn_of_lost_index(archive)
            membership = join_nodes(self._settings, archive)
            begin_trail(self._settings)
            page = self._bind_page()
            endpoints = open_listeners(self._settings, self._taken)
            self._number = 0
            node = Node(
                self._settings,
                archive=archive,
                membership=membership,
                endpoints=endpoints,
                read_settings=self._read_settings,
                report=self._report,
                board=self._board,
            )
            node.prepare()
            gc.enable()
            workers = Workers(
                # One more serves the page, and one waits for a successor.
                self._count + (page is not None) + 1,
                lambda number: self._be(number, node, archive, endpoints, page),
                kill_after_s=self._settings.server.drain_timeout_s + _KILL_AFTER_DRAIN_S,
                on_started=lambda: self._announce(endpoints, started),
                on_signal=lambda number: self._take_signal(number, node),
                on_ending=self._tell_of_the_end,
                on_tick=self._tell_systemd,
                tick_s=systemd.watchdog_interval_s() or REPORT_INTERVAL_S,
            )
            code = workers.run()
            if not self._is_handed_over:
                membership.leave()
        finally:
            archive.close()
        audit.application_stopped("" if code == 0 else "a worker had to be killed")
        audit.stop()
        LOG.info("stopped")
        return code

    def _take_signal(self, number: int, node: Node) -> bool:
        """Do what a signal asks for; whether the workers are to be told."""
        from lfscp.node.handover import begin_successor

        if number == signal.SIGUSR2:
            self._successor = begin_successor()
            return False
        return self._reload(node)

    def _reload(self, node: Node) -> bool:
        """Try new settings here, where workers that are replaced begin; then each reads them."""
        from lfscp.node.reload import tell

        renewal = node.reload()
        if renewal is not None:
            self._settings = renewal.settings
            tell(renewal)
        return renewal is not None

    def _bind_page(self) -> socket.socket | None:
        if not self._settings.web.enabled:
            return None
        from lfscp.node.web_service import PageError, bind_page
        from lfscp.web.status.state import SharedStates

        try:
            page = bind_page(self._settings, page_of(self._taken, self._settings))
        except PageError as error:
            raise NodeError(str(error)) from error
        if page is not None:
            self._states = SharedStates(self._count)
        return page

    def _announce(self, endpoints: Endpoints, started: float) -> None:
        if self._taken is not None:
            self._taken.ready()
        audit.application_started()
        host, port = endpoints.first.getsockname()[:2]
        tell_ready(f"listening on {host}:{port}", self._taken)
        LOG.info(
            "listening",
            ae_title=self._settings.server.ae_title,
            host=host,
            port=port,
            **tls_port(endpoints),
            workers=self._count,
            data_dir=self._settings.data_dir,
            duration_ms=round((time.monotonic() - started) * 1000),
        )

    def _tell_of_the_end(self, number: int) -> None:
        LOG.info("stopping", signal=signal.Signals(number).name)
        self._is_handed_over = number == HANDED_OVER
        if self._is_handed_over:
            return
        timeout_s = self._settings.server.drain_timeout_s
        systemd.notify("STOPPING=1", f"STATUS=draining for {timeout_s:g} s at most")

    def _tell_systemd(self) -> None:
        now = time.monotonic()
        states = self._scoreboard.read()
        waiting, running = sum(s.waiting for s in states), sum(s.running for s in states)
        leaders = sum(s.has_leader for s in states)
        status = f"STATUS={leaders} leaders, waiting {waiting}, running {running}"
        if all(now - state.written_at < _SILENT_AFTER_S for state in states):
            systemd.notify("WATCHDOG=1", status)
        else:
            systemd.notify(status)

    def _be(
        self,
        number: int,
        node: Node,
        archive: Archive,
        endpoints: Endpoints,
        page: socket.socket | None,
    ) -> int:
        """Run in one of the processes."""
        if number < self._count:
            return self._work(node, number, archive if page is None and number == 0 else None)
        if page is not None and number == self._count:
            return self._serve_page(archive, page, endpoints)
        return self._wait_for_successor(archive, endpoints, page)

    # --- in the process that waits for a successor: the parent, which forks, has no threads ---

    @staticmethod
    def _wait_for_successor(
        archive: Archive, endpoints: Endpoints, page: socket.socket | None
    ) -> int:
        from lfscp.node.signals import Mailbox

        os.environ.pop("NOTIFY_SOCKET", None)
        mark_lines(worker="handover")
        offer = make_offer(archive, endpoints, page, os.getppid())
        with Mailbox() as mailbox:
            offer.start()
            while mailbox.wait(None) == signal.SIGHUP:
                pass
            offer.close()
        return 0

    # --- in the page's process ---

    def _serve_page(self, archive: Archive, page: socket.socket, endpoints: Endpoints) -> int:
        from lfscp.config.current import CurrentSettings
        from lfscp.node.reload import read_again
        from lfscp.node.signals import Mailbox
        from lfscp.node.web_service import WebSide, node_state

        states = self._states
        assert states is not None  # noqa: S101 - made with the page's socket
        os.environ.pop("NOTIFY_SOCKET", None)
        host, port = endpoints.first.getsockname()[:2]
        current = CurrentSettings(self._settings)
        mark_lines(worker="page")
        metrics.BOARD.use(self._count)
        metrics.PROCESS_STARTS.add()
        with Mailbox() as mailbox:
            side = WebSide(
                self._settings,
                archive,
                page,
                lambda: node_state(self._settings, (host, port), self._started_at, states.read()),
            )
            side.start()
            maintenance = start_maintenance(self._settings, archive)
            while (message := mailbox.wait(None)) == signal.SIGHUP:
                audit.reopen()
                renewal = read_again(current, self._read_settings)
                if renewal is not None:
                    side.renew(renewal.settings)
            maintenance.stop()
            if message == HANDED_OVER:  # the successor has a page of its own
                side.stop()
                audit.tell_repeats()
                return 0
            side.stop_jobs()
            # Until the last worker has ended the page says that the node is stopping.
            wait_for_end([state.pid for state in states.read()], self._drain_s(), mailbox)
            side.stop()
            audit.tell_repeats()
        return 0

    def _drain_s(self) -> float:
        return self._settings.server.drain_timeout_s + _KILL_AFTER_DRAIN_S

    # --- in a worker ---

    def _work(self, node: Node, number: int, maintained: Archive | None) -> int:
        self._number = number
        self._node = node
        os.environ.pop("NOTIFY_SOCKET", None)  # the parent speaks with systemd
        mark_lines(worker=number)  # associations are numbered in each process
        metrics.BOARD.use(number)
        self._board.use(number)
        node.share_processors(number, self._count)
        LOG.debug("worker started", pid=os.getpid())
        # Without a page one of the workers looks after the archive.
        maintenance = start_maintenance(self._settings, maintained) if maintained else None
        try:
            return node.run()
        except NodeError as error:
            LOG.critical("worker cannot start", reason=str(error))
            return 1
        finally:
            if maintenance is not None:
                maintenance.stop()

    def _report(self, state: PoolState) -> None:
        self._scoreboard.write(self._number, os.getpid(), state)
        if self._states is not None:
            self._states.write(self._number, self._node.process_state())


def wait_for_end(pids: list[int], timeout_s: float, mailbox: Mailbox) -> None:
    """Wait until these processes have ended, a signal comes, or the time is over."""

    def wait() -> None:
        for pid in filter(None, pids):
            try:
                process = os.pidfd_open(pid)
            except OSError:  # it has ended, and its parent knows
                continue
            try:
                poll = select.poll()
                poll.register(process, select.POLLIN)
                poll.poll()
            finally:
                os.close(process)
        mailbox.put(POOL_IS_EMPTY)

    threading.Thread(target=wait, name="lfscp-worker-watch", daemon=True).start()
    mailbox.wait(timeout_s)
