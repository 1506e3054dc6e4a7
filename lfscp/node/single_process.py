"""A node of one process: the worker, the page, and what looks after the archive, side by side.

Under systemd one more thread tells how the pool is, and feeds the watchdog while it is healthy.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from lfscp.node.background import Background
from lfscp.node.handover import Offer
from lfscp.node.parts import STATUS_INTERVAL_S, Parts, announce_end, open_parts
from lfscp.node.reload import tell
from lfscp.node.signals import HANDED_OVER, NOBODY_LEFT, SignalPipe
from lfscp.node.status import node_state
from lfscp.node.web_service import WebService
from lfscp.node.worker import Worker, in_background
from lfscp.observe import audit, systemd
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.config import Settings
    from lfscp.config.current import Renewal
    from lfscp.node.handover import Taken
    from lfscp.node.reload import ReadSettings
    from lfscp.web.status.state import NodeState

LOG: Final = get_logger("lfscp.node")


class SingleProcess:
    """A node that serves in this process.

    Args:
        read_settings: reads the settings again, at SIGHUP.
        taken: what the node that this one follows on has handed over.

    Attributes:
        worker: what serves; made by `start`.
    """

    worker: Worker
    _parts: Parts
    _offer: Offer
    _background: Background

    def __init__(
        self,
        settings: Settings,
        read_settings: ReadSettings | None = None,
        taken: Taken | None = None,
    ) -> None:
        self._settings = settings
        self._read_settings = read_settings
        self._taken = taken
        self._web: WebService | None = None
        self._started_at = time.time()
        self._stopping = threading.Event()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the main thread stays in here.

        Returns:
            The exit code: 0 after a signal, 1 when the pool ended by itself.
        Raises:
            ConfigError, NodeError, ArchiveError, SystemdError: it could not start.
        """
        with SignalPipe() as signals:
            self.start()
            if "NOTIFY_SOCKET" in os.environ:
                in_background("lfscp-report", self._tell_systemd)
            message = self.worker.serve(signals, self._reload)
            if message != NOBODY_LEFT:
                LOG.info("stopping", signal=signal.Signals(message).name)
            self.stop(signals, message)
        return int(message == NOBODY_LEFT)

    def start(self) -> None:
        """Open the archive, then listen; returns once connections are accepted.

        Raises:
            ConfigError, NodeError, ArchiveError, SystemdError: it could not; nothing is left open.
        """
        started = time.monotonic()
        self._parts = parts = open_parts(self._settings, self._taken)  # 1. before any peer needs it
        try:
            self.worker = Worker(parts, self._read_settings)  # 2. contexts and handlers, made once
            self.worker.start()  # 3. before anybody is told
        except BaseException:
            parts.close()
            raise
        self._offer = parts.offer(os.getpid())
        self._offer.start()
        if parts.page is not None:
            self._web = WebService(
                self._settings,
                parts.archive,
                parts.page,
                self._state,
                parts.ohif,
                parts.plugins,
            )
            self._web.start()
        self._background = Background(self.worker.current, parts)
        parts.announce(started)  # 4.

    def stop(self, signals: SignalPipe | None = None, told_by: int = NOBODY_LEFT) -> None:
        """Let running associations finish within the drain deadline, abort the rest, close.

        Args:
            signals: a further signal in it ends the wait at once.
            told_by: the signal that asks for it.
        """
        is_handed_over = told_by == HANDED_OVER
        self._stopping.set()
        if not is_handed_over:
            announce_end(self._settings)
        self._offer.close()
        self.worker.server.shutdown()  # 1. no new associations
        web = self._web
        if web is not None:  # a successor has a page of its own
            end = in_background("lfscp-jobs-stop", web.stop if is_handed_over else web.stop_jobs)
        self._background.stop()
        drained = self.worker.drain(signals, told_by)  # 2. running ones finish, or are aborted
        if web is not None:
            end.join()
            if not is_handed_over:
                web.stop()  # 3. until now it said that the node is stopping
        self._parts.plugins.stop()
        audit.application_stopped("" if drained else "associations were aborted")
        audit.stop()
        audit.tell_repeats()
        self._parts.close(is_handed_over=is_handed_over)  # 4. when nobody stores any more
        LOG.info("stopped", drained=drained)

    @property
    def address(self) -> tuple[str, int]:
        """Where the node listens, with the port that the system chose for port 0."""
        return self._parts.endpoints.address

    def _state(self) -> NodeState:
        processes = (self.worker.state(),)
        return node_state(self.worker.settings, self.address, self._started_at, processes)

    def _reload(self) -> Renewal | None:
        renewal = self.worker.reload()
        if renewal is not None:
            if self._web is not None:
                self._web.renew(renewal.settings)
            tell(renewal)
        return renewal

    def _tell_systemd(self) -> None:
        """Tell systemd now and then how the pool is; runs in a thread of its own."""
        watchdog_s = systemd.watchdog_interval_s()
        while not self._stopping.wait(watchdog_s or STATUS_INTERVAL_S):
            state = self.worker.server.pool.state()
            status = (
                f"STATUS=leader {state.leader}, waiting {state.waiting}, running {state.running}"
            )
            is_healthy = watchdog_s is not None and not state.is_shutdown
            systemd.notify(*(["WATCHDOG=1"] if is_healthy else []), status)
