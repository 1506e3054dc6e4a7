"""The page's process of a node with several workers; it also looks after the archive.

It is forked like a worker. The workers tell it through the status table how they are.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lfscp.config.current import CurrentSettings
from lfscp.node.background import Background
from lfscp.node.coercions import renew_arrival
from lfscp.node.parts import Parts
from lfscp.node.reload import read_again
from lfscp.node.signals import HANDED_OVER, NOBODY_LEFT, SignalPipe
from lfscp.node.status import node_state
from lfscp.node.web_service import WebService
from lfscp.observe import audit, metrics
from lfscp.observe.logging import mark_lines
from lfscp.routing.matching import SettingsRouter

if TYPE_CHECKING:
    from lfscp.config import Settings
    from lfscp.node.reload import ReadSettings
    from lfscp.node.status_table import StatusTable


def serve_page(
    parts: Parts,
    settings: Settings,
    read_settings: ReadSettings | None,
    table: StatusTable,
    *,
    line: int,
    started_at: float,
    patience_s: float,
) -> int:
    """Serve the page until told to end.

    Args:
        settings: as they are now.
        table: where the workers write how they are.
        line: of this process, in the counters.
        started_at: when the node did, in seconds since 1970.
        patience_s: how long the workers may take to end.
    Returns:
        The exit code.
    """
    assert parts.page is not None  # noqa: S101 - else there is no such process
    os.environ.pop("NOTIFY_SOCKET", None)
    mark_lines(worker="page")
    metrics.BOARD.use(line)
    metrics.PROCESS_STARTS.add()
    current = CurrentSettings(settings)
    parts.archive.router = SettingsRouter(current)
    address = parts.endpoints.address
    with SignalPipe() as signals:
        web = WebService(
            settings,
            parts.archive,
            parts.page,
            lambda: node_state(current.settings, address, started_at, table.read()),
            parts.ohif,
            parts.plugins,
        )
        parts.plugins.start()
        web.start()
        background = Background(current, parts)
        while (message := signals.wait(None)) == signal.SIGHUP:
            renewal = read_again(current, read_settings, parts.plugins)
            if renewal is not None:
                renew_arrival(parts.archive, renewal.settings)
                web.renew(renewal.settings)
        background.stop()
        if message != HANDED_OVER:  # else the successor has a page of its own
            web.stop_jobs()
            # Until the last worker has ended the page says that the node is stopping.
            _wait_for_end((state.pid for state in table.read()), patience_s, signals)
        web.stop()
        parts.plugins.stop()
        audit.tell_repeats()
    return 0


def _wait_for_end(pids: Iterable[int], timeout_s: float, signals: SignalPipe) -> None:
    """Wait until these processes have ended, a signal comes, or the time is over."""

    def wait() -> None:
        for pid in filter(None, pids):
            try:
                process = os.pidfd_open(pid)
            except OSError:  # it has ended, and its parent knows
                continue
            try:
                poll = select.poll()  # of any descriptor; the page may have many
                poll.register(process, select.POLLIN)
                poll.poll()
            finally:
                os.close(process)
        signals.put(NOBODY_LEFT)

    threading.Thread(target=wait, name="lfscp-worker-watch", daemon=True).start()
    signals.wait(timeout_s)
