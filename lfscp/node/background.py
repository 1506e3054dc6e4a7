"""What a node does unasked, in one of its processes: upkeep of the archive, and the workflow.

Each part has threads of its own; this module starts and ends them together. With several workers
it is the page's process that has them, or the first worker when there is no page.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lfscp.node.parts import retention_limits

if TYPE_CHECKING:
    from lfscp.archive.upkeep.maintenance import Maintenance
    from lfscp.config import Settings
    from lfscp.hl7.listener import HL7Listener
    from lfscp.node.parts import Parts


class Background:
    """The parts that run, until `stop`."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        with ExitStack() as started:
            started.callback(_start_maintenance(settings, parts).stop)
            if parts.hl7 is not None:
                started.callback(_start_hl7(settings, parts, parts.hl7).stop)
            self._stop: Callable[[], None] = started.pop_all().close

    def stop(self) -> None:
        """End them, the last one first; each finishes what it is at."""
        self._stop()


def _start_maintenance(settings: Settings, parts: Parts) -> Maintenance:
    from lfscp.archive.upkeep.maintenance import Maintenance

    maintenance = Maintenance(
        parts.archive,
        retention_limits(settings),
        interval_s=settings.retention.interval_s,
        scrub_mb_s=settings.objects.scrub_mb_s,
    )
    maintenance.start()
    return maintenance


def _start_hl7(settings: Settings, parts: Parts, sock: socket.socket) -> HL7Listener:
    from lfscp.hl7.intake import Intake
    from lfscp.hl7.listener import HL7Listener

    worklist = settings.worklist
    intake = Intake(worklist, parts.archive.index, settings.server.ae_title)
    listener = HL7Listener(sock, intake.take, worklist.hl7_addresses)
    listener.start()
    return listener
