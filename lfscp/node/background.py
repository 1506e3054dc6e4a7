"""What a node does unasked, in one of its processes: upkeep of the archive, and the workflow.

Each part has threads of its own; this module starts and ends them together. With several workers
it is the page's process that has them, or the first worker when there is no page.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.node.parts import retention_limits
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.archive.upkeep.maintenance import Maintenance
    from lfscp.archive.workflow.worklist_folder.watch import FolderWatch
    from lfscp.config import Settings
    from lfscp.config.current import CurrentSettings
    from lfscp.hl7.listener import HL7Listener
    from lfscp.node.parts import Parts
    from lfscp.routing.service import RoutingService
    from lfscp.services.commitment.reporter import Reporter

LOG: Final = get_logger("lfscp.node")


class Background:
    """The parts that run, until `stop`.

    Args:
        current: the settings, for parts that are to see when they change.
    """

    def __init__(self, current: CurrentSettings, parts: Parts) -> None:
        self._stops: list[Callable[[], None]] = []
        with ExitStack() as started:
            settings = current.settings

            def runs(stop: Callable[[], None]) -> None:
                started.callback(stop)
                self._stops.append(stop)

            runs(_start_maintenance(settings, parts).stop)
            watch = _watch_worklist_folder(settings, parts)
            if watch is not None:
                runs(watch.stop)
            runs(_start_reporter(current, parts).stop)
            runs(_start_routing(current, parts).stop)
            if parts.hl7 is not None:
                runs(_start_hl7(settings, parts, parts.hl7).stop)
            started.pop_all()

    def stop(self) -> None:
        """End them all at once; each finishes what it is at."""
        end_together(self._stops)


def end_together(stops: Sequence[Callable[[], None]]) -> None:
    """Call all at once, and wait for all: a disk that hangs delays the end once, not each time.

    Args:
        stops: each ends one part; what one raises is logged.
    """
    threads = [threading.Thread(target=_end, args=(each,), daemon=True) for each in stops]
    for thread, stop in zip(threads, stops, strict=True):
        try:
            thread.start()
        except RuntimeError:  # no thread can be started
            _end(stop)
    for thread in threads:
        if thread.ident is not None:
            thread.join()


def _end(stop: Callable[[], None]) -> None:
    try:
        stop()
    except Exception as error:
        # The other parts are to end as well.
        LOG.error(  # noqa: TRY400 - it has no `exception`
            "a part of the node did not end properly", exc_info=error
        )


def _start_maintenance(settings: Settings, parts: Parts) -> Maintenance:
    from lfscp.archive.upkeep.maintenance import Maintenance

    maintenance = Maintenance(
        parts.archive,
        retention_limits(settings),
        interval_s=settings.retention.interval_s,
        scrub_mb_s=settings.objects.scrub_mb_s,
        worklist_keep_days=settings.worklist.keep_days,
    )
    maintenance.start()
    return maintenance


def _start_reporter(current: CurrentSettings, parts: Parts) -> Reporter:
    from lfscp.services.commitment.reporter import Reporter

    reporter = Reporter(parts.archive, current)
    reporter.start()
    return reporter


def _start_routing(current: CurrentSettings, parts: Parts) -> RoutingService:
    from lfscp.node.route_actions import means_of
    from lfscp.routing.service import RoutingService

    plugins = parts.plugins
    routing = RoutingService(
        parts.archive, current, lambda settings: means_of(settings, plugins), plugins
    )
    routing.start()
    return routing


def _watch_worklist_folder(settings: Settings, parts: Parts) -> FolderWatch | None:
    """Begin to watch the folder of worklist files; without one, its items of earlier go."""
    from lfscp.archive.workflow.worklist.worklist import Worklist
    from lfscp.archive.workflow.worklist_folder.folder import WorklistFolder, forget_folder
    from lfscp.archive.workflow.worklist_folder.watch import FolderWatch

    worklist, folder = Worklist(parts.archive.index), settings.worklist.folder
    if not folder:
        forget_folder(worklist, parts.archive.data_dir)
        return None
    seen = WorklistFolder(worklist, Path(folder), parts.archive.data_dir, tells=True)
    watch = FolderWatch(seen)
    watch.start()
    return watch


def _start_hl7(settings: Settings, parts: Parts, sock: socket.socket) -> HL7Listener:
    from lfscp.hl7.intake import Intake
    from lfscp.hl7.listener import HL7Listener

    worklist = settings.worklist
    intake = Intake(worklist, parts.archive.index, settings.server.ae_title)
    listener = HL7Listener(sock, intake.take, worklist.hl7_addresses)
    listener.start()
    return listener
