"""A worker: the part of a node that serves associations, in one process.

A node of one process has its worker in it (`single_process`); a node of several forks them
(`supervisor`). A worker knows of no page, no successor and no systemd.

The main thread sleeps until something arrives in the signal pipe: a signal, or word that the pool
has no member left. The pool's threads serve. Nothing polls.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lfscp.config.current import CurrentSettings
from lfscp.node.coercions import renew_arrival
from lfscp.node.dicom_server import make_server
from lfscp.node.handover import begin_successor
from lfscp.node.reload import apply, read_again
from lfscp.node.signals import HANDED_OVER, NOBODY_LEFT, SignalPipe
from lfscp.node.status import process_state
from lfscp.observe import audit, metrics
from lfscp.observe.logging import get_logger
from lfscp.routing.matching import SettingsRouter
from lfscp.server.draining import time_to_end_s, time_to_go_on_s

if TYPE_CHECKING:
    from subprocess import Popen

    from lfscp.config import Settings
    from lfscp.config.current import Renewal
    from lfscp.node.parts import Parts
    from lfscp.node.reload import ReadSettings
    from lfscp.server.association_board import AssociationBoard
    from lfscp.web.status.state import ProcessState

LOG: Final = get_logger("lfscp.node")
# Python's 5 ms let one association's work hold up the others': four senders at once got a fifth
# more through with this, and a single one no less.
SWITCH_INTERVAL_S: Final = 0.0005
REPORT_INTERVAL_S: Final = 1.0  # of a worker process to its parent
LOOK_INTERVAL_S: Final = 3.0  # after which it is seen anew whose threads are busy


class Worker:
    """Serves the associations that one process of a node accepts.

    Args:
        parts: of the node; opened and closed by who made them.
        read_settings: reads the settings again, at SIGHUP.
        board: where worker processes count their associations together.
    Raises:
        ConfigError: a certificate cannot be used.

    Attributes:
        current: the settings, which a reload replaces.
        server: made here, with contexts and handlers; a parent does it once for all workers.
    """

    def __init__(
        self,
        parts: Parts,
        read_settings: ReadSettings | None = None,
        board: AssociationBoard | None = None,
    ) -> None:
        self._parts = parts
        self.current = CurrentSettings(parts.settings)
        parts.archive.router = SettingsRouter(self.current)
        self._read_settings = read_settings
        self.server = make_server(parts, self.current, board)
        self._stopping = threading.Event()
        self._successor: Popen[bytes] | None = None  # kept, so that it is not warned of

    @property
    def settings(self) -> Settings:
        """As they are now."""
        return self.current.settings

    def state(self) -> ProcessState:
        """This process as it is now; from any thread."""
        return process_state(self.server)

    def run(self, report: Callable[[], None]) -> int:
        """Be a process of its own, from the start until SIGTERM; the main thread stays in here.

        Args:
            report: called about once a second, and when it takes no more associations.
        Returns:
            The exit code: 0 after a signal, 1 when the pool ended by itself.
        """
        with SignalPipe() as signals:
            self.start()
            in_background("lfscp-report", lambda: self._report(report))
            message = self.serve(signals, self.reload)
            self._stopping.set()
            LOG.debug("stopping")
            self.server.shutdown()
            report()
            drained = self.drain(signals, message)
            self._parts.plugins.stop()
            audit.tell_repeats()
            self._parts.membership.stop()
            LOG.debug("stopped", drained=drained)
        return int(message == NOBODY_LEFT)

    def start(self) -> None:
        """Accept connections; returns at once."""
        self._parts.plugins.start()  # before any object comes, of which they hear
        self.server.start()
        metrics.PROCESS_STARTS.add()
        self._parts.membership.start()

    def serve(self, signals: SignalPipe, reload: Callable[[], Renewal | None]) -> int:
        """Serve until told to end; what told it: a signal, or NOBODY_LEFT in the pool.

        Args:
            reload: called at SIGHUP; `self.reload`, and what else a process does then.
        """
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.freeze()  # what was imported stays: no collection need look at it again
        gc.enable()
        in_background("lfscp-pool-watch", lambda: self._tell_when_empty(signals))
        while (message := signals.wait(LOOK_INTERVAL_S)) in (None, signal.SIGHUP, signal.SIGUSR2):
            if message == signal.SIGHUP:
                if reload() is not None:
                    LOG.debug("settings taken over")  # of several workers the parent says which
            elif message == signal.SIGUSR2:
                self._successor = begin_successor()
            elif self.server.one_processor is not None:
                self.server.one_processor.look_again()
        if message == NOBODY_LEFT:
            LOG.critical("the pool ended by itself, the node cannot go on")
        return message or 0

    def reload(self) -> Renewal | None:
        """Read the settings again and take over what can change; None when that fails."""
        renewal = read_again(self.current, self._read_settings, self._parts.plugins)
        if renewal is None:
            return None
        try:
            apply(renewal.settings, self.server)
            renew_arrival(self._parts.archive, renewal.settings)
        except OSError as error:  # a file that was replaced since it was tried
            LOG.error("certificate not reloaded, the old one stays", reason=str(error))  # noqa: TRY400 - one line
            return None
        return renewal

    def drain(self, signals: SignalPipe | None, told_by: int = NOBODY_LEFT) -> bool:
        """Let running associations finish within the drain deadline, then abort the rest.

        Args:
            signals: a further signal in it ends the wait at once.
            told_by: what `serve` gave.
        Returns:
            Whether all have finished.
        """
        timeout_s = self.settings.server.drain_timeout_s
        go_on_s = time_to_go_on_s(timeout_s)
        if signals is None or told_by == NOBODY_LEFT:
            drained = self.server.drain(go_on_s)
        else:
            abort_idle = told_by != HANDED_OVER  # then nobody waits for the end
            in_background("lfscp-drain", lambda: self.server.drain(go_on_s, abort_idle=abort_idle))
            drained = _wait_until_drained(signals, go_on_s)
        if not drained:
            self._abort_associations(timeout_s - go_on_s)
        return drained

    def _abort_associations(self, left_s: float) -> None:
        LOG.warning("aborting associations", count=len(self.server.active_associations))
        self.server.abort_all()
        if not self.server.drain(time_to_end_s(left_s)):
            LOG.error("associations did not end, leaving them behind", pool=self.server.pool)

    def _tell_when_empty(self, signals: SignalPipe) -> None:
        self.server.pool.drain(None)
        signals.put(NOBODY_LEFT)

    def _report(self, report: Callable[[], None]) -> None:
        report()
        while not self._stopping.wait(REPORT_INTERVAL_S):
            report()


def _wait_until_drained(signals: SignalPipe, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    message: int | None = signal.SIGHUP
    while message in (signal.SIGHUP, signal.SIGUSR2):  # for a node that goes on
        message = signals.wait(max(0.0, deadline - time.monotonic()))
    return message == NOBODY_LEFT


def in_background(name: str, work: Callable[[], object]) -> threading.Thread:
    """Run something in a thread of its own, which the process does not wait for at its end."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread
