"""Delivers what routes have put into the queues, in one process of each node.

A thread looks at the queues now and then: it lets complete studies go, takes the queues that have
something to send and no other node serves, and renews this node's hold on those that it serves.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from lfscp.archive.errors import ArchiveError
from lfscp.archive.node_id import node_id
from lfscp.config.sources import ConfigError
from lfscp.observe.logging import get_logger
from lfscp.routing.actions.action import Means
from lfscp.routing.committing import take_reports
from lfscp.routing.completion import StudyCompletion, Told
from lfscp.routing.delivery import Delivery, note_failed
from lfscp.routing.errors import RouteError
from lfscp.routing.queue_rows import QueueName
from lfscp.routing.queues import Queues
from lfscp.routing.reading import read_routes, ready_actions
from lfscp.routing.release import forget_made, forget_releases, release_complete, release_unknown
from lfscp.routing.routes import Route
from lfscp.routing.schedule import is_open

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings
    from lfscp.config.current import CurrentSettings

LOG: Final = get_logger("lfscp.routing")
_LOOK_EVERY_S: Final = 0.5
_IDLE_S: Final = 10.0  # between looks while no route is configured
_RARELY_S: Final = 3600.0
_TOLD_EVERY_S: Final = 60.0
_PROCESS: Final = "#"  # between a node and its process, where it is said who holds a queue
_LIFE: Final = "."  # between the process's number and the life of the archive that it has open


class RoutingService:
    """The deliveries of this node, until `stop`.

    Args:
        current: the settings, which a reload replaces.
        means: gives what actions need, by some settings; raises ConfigError.
        plugins: hear of complete studies.
    Raises:
        RouteError, ConfigError: a route, or a coercion, cannot be.
    """

    def __init__(
        self,
        archive: Archive,
        current: CurrentSettings,
        means: Callable[[Settings], Means],
        plugins: Told,
    ) -> None:
        self._archive = archive
        self._means = means
        self._completion = StudyCompletion(archive.index, plugins, archive.opened_at)
        self._current = current
        lease_s = current.settings.jobs.lease_s
        self._node = node_id(archive.data_dir)
        holder = f"{self._node}{_PROCESS}{os.getpid()}{_LIFE}{archive.life}"
        self._queues = Queues(archive.index, holder, int(lease_s * 1000))
        self._settings = current.settings
        self._routes = self._read(self._settings)
        self._renewing = threading.Lock()
        self._deliveries: dict[QueueName, Delivery] = {}
        self._stopping = threading.Event()
        self._looked_at = self._tidied_at = self._told_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="lfscp-routing", daemon=True)

    def start(self) -> None:
        """Begin; what this node held before a crash is free."""
        self._thread.start()

    def stop(self) -> None:
        """End: objects on their way are finished or called off, the rest waits in the index."""
        self._stopping.set()
        self._thread.join()

    def routes(self) -> Mapping[str, Route]:
        """The routes of now, by name."""
        with self._renewing:
            settings = self._current.settings
            if settings is not self._settings:
                self._settings = settings
                try:
                    self._routes = self._read(settings)
                except (RouteError, ConfigError) as error:  # a file was replaced since it was tried
                    LOG.error("routes not reloaded, the old ones stay", reason=str(error))  # noqa: TRY400 - one line
            return self._routes

    def _read(self, settings: Settings) -> Mapping[str, Route]:
        """Routes whose actions are ready, by name."""
        routes = read_routes(settings)
        ready = ready_actions(routes, self._means(settings))
        return {route.name: replace(route, ready=ready[route.name]) for route in routes}

    def _run(self) -> None:
        with suppress(ArchiveError):
            self._queues.release_ended(self._has_ended)
        while not self._stopping.is_set():
            try:
                self._completion.look(self._current.settings.plugins.study_quiet_s)
                if self._is_due():
                    self._look()
            except ArchiveError as error:
                self._tell("routes wait for the index", error)
            except Exception as error:  # the next look may go well
                LOG.error("routing failed unexpectedly", exc_info=error)  # noqa: TRY400
            self._stopping.wait(_LOOK_EVERY_S)
        for delivery in self._deliveries.values():
            delivery.stop()
        for delivery in self._deliveries.values():
            delivery.join()

    def _has_ended(self, holder: str) -> bool:
        """Whether a process of this node has surely ended; one that hands over to it may not have.

        The number of a process tells nothing of another life: in containers it is the same again.
        """
        node, _, process = holder.rpartition(_PROCESS)
        number, _, life = process.partition(_LIFE)
        if node != self._node:
            return False
        if life != self._archive.life:
            return not self._archive.follows_on  # else its lease ends by itself
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def _is_due(self) -> bool:
        """Whether to look now: rarely, if nothing can have come, since there is no route."""
        routes = self.routes()
        now = time.monotonic()
        if not routes and not self._deliveries and now - self._looked_at < _IDLE_S:
            return False
        self._looked_at = now
        return True

    def _look(self) -> None:
        routes = list(self.routes().values())
        for route, uid, count in release_complete(self._archive.index, routes):
            LOG.info("complete, is sent on", route=route, uid=uid, instances=count)
        self._tidy(routes)
        self._take_reports(routes)
        self._renew()
        now = datetime.now()  # noqa: DTZ005 - hours of routes are local
        wanted = [
            QueueName(route.name, peer)
            for route in routes
            if is_open(route.settings, now)
            for peer in route.queues
        ]
        idle = [name for name in wanted if name not in self._deliveries]
        for name in self._queues.claimable(idle):
            if self._queues.claim(name):
                delivery = Delivery(name, self._archive, self._current, self._queues, self.routes)
                self._deliveries[name] = delivery
                delivery.start()

    def _renew(self) -> None:
        """Keep the queues that are served; end with those that are lost, paused or done."""
        ended = [name for name, each in self._deliveries.items() if not each.is_alive]
        for name in ended:
            del self._deliveries[name]
        held = self._queues.renew(list(self._deliveries))
        for name, delivery in self._deliveries.items():
            if name not in held:
                delivery.stop()

    def _take_reports(self, routes: list[Route]) -> None:
        """Look at the reports on what destinations were asked to commit to."""
        for route in routes:
            for peer in route.queues if route.settings.commit else ():
                name = QueueName(route.name, peer)
                uids = self._queues.commitments(name)
                if not uids or not self._queues.claim(name):
                    continue
                settings = self._current.settings
                failed = take_reports(name, uids, self._archive, settings, self._queues)
                note_failed(self._queues, name, route, failed)
                if name not in self._deliveries:
                    self._queues.release(name)

    def _tidy(self, routes: list[Route]) -> None:
        if time.monotonic() - self._tidied_at < _RARELY_S:
            return
        self._tidied_at = time.monotonic()
        if routes:
            release_unknown(self._archive.index, routes)
        forget_releases(self._archive.index)
        forget_made(self._archive.index)

    def _tell(self, message: str, error: ArchiveError) -> None:
        if time.monotonic() - self._told_at >= _TOLD_EVERY_S:
            self._told_at = time.monotonic()
            LOG.warning(message, reason=str(error))
