"""What a node does unasked, in one of its processes: upkeep of the archive, and the workflow.

Each part has threads of its own; this module starts and ends them together. With several workers
it is the page's process that has them, or the first worker when there is no page.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lfscp.node.parts import retention_limits

if TYPE_CHECKING:
    from lfscp.archive.upkeep.maintenance import Maintenance
    from lfscp.config import Settings
    from lfscp.config.current import CurrentSettings
    from lfscp.node.parts import Parts
    from lfscp.services.commitment.reporter import Reporter


class Background:
    """The parts that run, until `stop`.

    Args:
        current: the settings, for parts that are to see when they change.
    """

    def __init__(self, current: CurrentSettings, parts: Parts) -> None:
        with ExitStack() as started:
            started.callback(_start_maintenance(current.settings, parts).stop)
            started.callback(_start_reporter(current, parts).stop)
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


def _start_reporter(current: CurrentSettings, parts: Parts) -> Reporter:
    from lfscp.services.commitment.reporter import Reporter

    reporter = Reporter(parts.archive, current)
    reporter.start()
    return reporter
