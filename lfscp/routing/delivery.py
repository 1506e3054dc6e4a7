"""Serves one queue: takes the next objects, sends them, and notes what became of each.

Rules: an object goes from the queue only when the destination has it. If the destination cannot be
asked, the queue waits, and its order stays. If one object is refused, it waits, and the others go.
So does one at which the destination broke off several times in a row: it may be the cause.
What was sent is noted after each batch, and whenever sending ends, so that little is sent twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Final

from lfscp.archive.errors import ArchiveError
from lfscp.dicom.values.attributes import Level
from lfscp.observe import metrics
from lfscp.observe.logging import get_logger
from lfscp.routing.batch import Batch
from lfscp.routing.committing import ask_to_commit
from lfscp.routing.queue_rows import Failure, Item, QueueName
from lfscp.routing.queues import Queues
from lfscp.routing.routes import Route
from lfscp.routing.schedule import is_open
from lfscp.routing.sending import Sending
from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config.current import CurrentSettings

LOG: Final = get_logger("lfscp.routing")
_BATCH: Final = 50  # objects that are noted together, for each association
_STAY_S: Final = 5.0  # with an association that has nothing to do
_LOOK_EVERY_S: Final = 0.2
_DAY_MS: Final = 86_400_000
# How a destination fails that was there, and may have failed because of an object.
_WITH_OBJECTS: Final = (PeerErrorKind.ABORTED, PeerErrorKind.TIMED_OUT, PeerErrorKind.REFUSED)
_INTERNAL: Final = "internal error, see the log"


class Delivery:
    """The service of one queue, in a thread of its own.

    Args:
        routes: gives the routes of now, by name.
    """

    def __init__(
        self,
        name: QueueName,
        archive: Archive,
        current: CurrentSettings,
        queues: Queues,
        routes: Callable[[], Mapping[str, Route]],
    ) -> None:
        self.name = name
        self._archive = archive
        self._current = current
        self._queues = queues
        self._routes = routes
        self._stopping = threading.Event()
        self._sending = Sending(archive, current, self._stopping, queues.note_made)
        self._thread = threading.Thread(target=self._run, name="lfscp-route", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still serves the queue."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End soon: the object on its way is finished or called off."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._serve()
        except ArchiveError as error:
            LOG.warning("a route waits for the index", **self._fields, reason=str(error))
        except Exception as error:  # the others go on, and this one is tried again
            LOG.error("a route failed unexpectedly", **self._fields, exc_info=error)  # noqa: TRY400
            with suppress(ArchiveError):
                self._queues.unreachable(self.name, _INTERNAL, 10_000, 3650 * _DAY_MS)
        finally:
            self._sending.close()
            with suppress(ArchiveError):
                self._queues.release(self.name)

    def _serve(self) -> None:
        idle_since = time.monotonic()
        while not self._stopping.is_set() and time.monotonic() - idle_since < _STAY_S:
            routes = self._routes()
            route = routes.get(self.name.route)
            if route is None or not is_open(route.settings, datetime.now()):  # noqa: DTZ005 - local
                return
            items = self._queues.next_items(self.name, _BATCH * route.settings.parallel)
            if items and self._queues.is_overtaken(self._first(route, routes)):
                idle_since = time.monotonic()
                items = []
            if not items:
                self._stopping.wait(_LOOK_EVERY_S)
                continue
            if not self._deliver(route, items):
                return
            idle_since = time.monotonic()

    def _first(self, route: Route, routes: Mapping[str, Route]) -> list[QueueName]:
        """The queues to the same destination that go before this one."""
        to = self.name.destination
        return [
            QueueName(other.name, to)
            for other in routes.values()
            if other.settings.priority > route.settings.priority and to in other.settings.send_to
        ]

    def _deliver(self, route: Route, items: Sequence[Item]) -> bool:
        """Send a batch; whether a destination could be asked."""
        uids = [each.sop_instance_uid for each in items]
        batch = Batch(items, self._archive.select(Level.IMAGE, {Level.IMAGE: uids}))
        if batch.gone:
            LOG.info("no longer in the archive", **self._fields, instances=len(batch.gone))
            self._queues.gone(self.name, batch.gone, "no longer in the archive")
        if route.actions:
            self._leave_out_made(batch)
        reasons: list[str] = []
        has_broken = True
        for peer in route.alternatives(self.name.destination):
            todo = batch.left(but_for=peer)
            if not todo or self._stopping.is_set():
                continue
            try:
                self._sending.send(peer, route, batch, todo)
            except GivenUpError:
                return True
            except PeerError as error:
                reasons.append(str(error))
                has_broken &= error.kind in _WITH_OBJECTS
            except (ArchiveError, OSError):
                raise
            except Exception as error:  # the object may be the cause
                LOG.error("a route failed unexpectedly", **self._fields, exc_info=error)  # noqa: TRY400
                reasons.append(_INTERNAL)
            finally:
                self._note(route, peer, batch)
        if not (left := batch.left()) or not reasons:
            return True
        self._wait_for_peer(route, reasons, left[0] if has_broken else None)
        return False

    def _leave_out_made(self, batch: Batch) -> None:
        """Forget objects that an action has made: changed anew, they would go round for ever."""
        back = self._queues.made_here(batch.left())
        if back:
            reason = "a route has made it, and it has come back"
            LOG.info("not sent on", **self._fields, instances=len(back), reason=reason)
            self._queues.gone(self.name, back, reason)
            batch.leave_out(back)

    def _note(self, route: Route, peer: str, batch: Batch) -> None:
        """Note in the index what became of the objects that were tried."""
        sent, failed = batch.take()
        if sent and route.settings.commit:
            settings = self._current.settings
            unasked = ask_to_commit(
                self.name, peer, batch, sent, self._archive, settings, self._queues, self._stopping
            )
            failed.update(unasked)
        else:
            self._queues.sent(self.name, sent)
        if sent:
            size = sum(sent.values())
            LOG.info("sent on", **self._fields, instances=len(sent), bytes=size, peer=peer)
            metrics.ROUTED_INSTANCES.of("sent").add(len(sent))
        note_failed(self._queues, self.name, route, failed)

    def _wait_for_peer(self, route: Route, reasons: Sequence[str], broke_at: Item | None) -> None:
        reason = "; ".join(reasons)
        over = self._queues.unreachable(self.name, reason, *times_of(route), broke_at=broke_at)
        LOG.warning("a destination cannot be reached", **self._fields, reason=reason)
        if over:
            metrics.ROUTED_INSTANCES.of("given up").add(over)
            LOG.error("given up", **self._fields, instances=over, reason=reason)

    @property
    def _fields(self) -> dict[str, str]:
        return {"route": self.name.route, "destination": self.name.destination}


def times_of(route: Route) -> tuple[int, int]:
    """The delay before the first retry, and how long is tried, in milliseconds."""
    return int(route.settings.retry_delay_s * 1000), int(route.settings.keep_days * _DAY_MS)


def note_failed(
    queues: Queues, name: QueueName, route: Route, failed: Mapping[Item, Failure]
) -> None:
    """Note objects that were not sent; they are tried again, or given up."""
    over = queues.failed(name, failed, *times_of(route))
    for item, (reason, _) in failed.items():
        is_over = item in over
        metrics.ROUTED_INSTANCES.of("given up" if is_over else "failed").add()
        LOG.warning(
            "given up" if is_over else "not sent, it is tried again later",
            route=name.route,
            destination=name.destination,
            sop_instance_uid=item.sop_instance_uid,
            reason=reason,
        )
