"""A node as several worker processes behind one listening socket: the parent of them.

The parent opens the node's parts, so that what cannot start is said once; it makes the worker with
its contexts and handlers, which the processes then share, and forks. Each has a pool of its own;
the kernel gives each connection to a leader that waits. The parent serves nobody: it replaces
processes that die, passes signals on, and speaks with systemd. Two more processes are forked like
workers: one has the page (`page_process`), one waits for a successor, since the parent, which
forks, has no threads. Without a page the first worker looks after the archive.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from lfscp.node.background import Background
from lfscp.node.handover import begin_successor, wait_for_successor
from lfscp.node.page_process import serve_page
from lfscp.node.parts import STATUS_INTERVAL_S, Parts, announce_end, open_parts
from lfscp.node.reload import tell
from lfscp.node.signals import HANDED_OVER
from lfscp.node.status_table import StatusTable
from lfscp.node.worker import Worker
from lfscp.node.workers import Workers
from lfscp.observe import audit, metrics, systemd
from lfscp.observe.logging import get_logger, mark_lines
from lfscp.server.association_board import AssociationBoard

if TYPE_CHECKING:
    from subprocess import Popen

    from lfscp.config import Settings
    from lfscp.node.handover import Taken
    from lfscp.node.reload import ReadSettings

LOG: Final = get_logger("lfscp.node")
_KILL_AFTER_DRAIN_S: Final = 10.0


class Supervisor:
    """The parent of the processes of one node.

    Args:
        settings: of the node; the limits of the pool are each worker's.
        workers: how many, at least 2.
        read_settings: reads the settings again, at SIGHUP.
        taken: what the node that this one follows on has handed over.
    """

    _parts: Parts
    _worker: Worker

    def __init__(
        self,
        settings: Settings,
        workers: int,
        read_settings: ReadSettings | None = None,
        taken: Taken | None = None,
    ) -> None:
        self._settings = settings
        self._read_settings = read_settings
        self._taken = taken
        self._count = workers
        self._table = StatusTable(workers)
        self._board = AssociationBoard(workers)
        self._patience_s = settings.server.drain_timeout_s + _KILL_AFTER_DRAIN_S
        self._is_handed_over = False
        self._successor: Popen[bytes] | None = None  # kept, so that it is not warned of
        self._started_at = time.time()
        metrics.BOARD.share(workers + 1)  # a line for the page

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the main thread stays in here.

        Returns:
            The exit code: 0 when every worker drained.
        Raises:
            ConfigError, NodeError, ArchiveError, SystemdError: the node cannot start.
        """
        started = time.monotonic()
        self._parts = parts = open_parts(self._settings, self._taken)
        try:
            self._worker = Worker(parts, self._read_settings, self._board)
            gc.enable()
            code = self._processes(started).run()
        finally:
            parts.close(is_handed_over=self._is_handed_over)
        audit.application_stopped("" if code == 0 else "a worker had to be killed")
        audit.stop()
        LOG.info("stopped")
        return code

    def _processes(self, started: float) -> Workers:
        lives: list[Callable[[], int]] = [partial(self._work, each) for each in range(self._count)]
        if self._parts.page is not None:
            lives.append(self._serve_page)
        parent = os.getpid()
        lives.append(lambda: wait_for_successor(self._parts.offer(parent)))
        return Workers(
            len(lives),
            lambda number: lives[number](),
            kill_after_s=self._patience_s,
            on_started=lambda: self._parts.announce(started, workers=self._count),
            on_signal=self._take_signal,
            on_ending=self._tell_of_the_end,
            on_tick=self._tell_systemd,
            tick_s=systemd.watchdog_interval_s() or STATUS_INTERVAL_S,
        )

    # --- in the parent ---

    def _take_signal(self, number: int) -> bool:
        """Do what a signal asks for; whether the workers are to be told."""
        if number == signal.SIGUSR2:
            self._successor = begin_successor()
            return False
        # New settings are tried here, where workers that are replaced begin; then each reads them.
        renewal = self._worker.reload()
        if renewal is not None:
            tell(renewal)
        return renewal is not None

    def _tell_of_the_end(self, number: int) -> None:
        LOG.info("stopping", signal=signal.Signals(number).name)
        self._is_handed_over = number == HANDED_OVER
        if not self._is_handed_over:
            announce_end(self._settings)

    def _tell_systemd(self) -> None:
        states = self._table.read()
        waiting, running = sum(each.waiting for each in states), sum(s.running for s in states)
        leaders = sum(each.leader is not None for each in states)
        status = f"STATUS={leaders} leaders, waiting {waiting}, running {running}"
        is_healthy = not any(each.is_silent for each in states)
        systemd.notify(*(["WATCHDOG=1"] if is_healthy else []), status)

    # --- in the processes that it forks ---

    def _work(self, number: int) -> int:
        os.environ.pop("NOTIFY_SOCKET", None)  # the parent speaks with systemd
        mark_lines(worker=number)  # associations are numbered in each process
        metrics.BOARD.use(number)
        self._board.use(number)
        worker, parts = self._worker, self._parts
        if worker.server.one_processor is not None:  # each binds threads to processors of its own
            worker.server.one_processor.share(number, self._count)
        LOG.debug("worker started", pid=os.getpid())
        with ExitStack() as until_it_ends:
            if parts.page is None and number == 0:
                background = Background(worker.current, parts)
                until_it_ends.callback(background.stop)
            return worker.run(lambda: self._table.write(number, worker.state()))

    def _serve_page(self) -> int:
        return serve_page(
            self._parts,
            self._worker.settings,
            self._read_settings,
            self._table,
            line=self._count,
            started_at=self._started_at,
            patience_s=self._patience_s,
        )
