"""Sends the objects of a batch to one peer, over as many associations as the route has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Final

from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.peers.described import audited, configured_peer
from lfscp.observe import audit
from lfscp.observe.logging import get_logger
from lfscp.routing.actions.action import ActionError, OnTheWay
from lfscp.routing.batch import Batch, Pace, lanes
from lfscp.routing.outlets import Outlet, open_outlet
from lfscp.routing.prepared import prepared
from lfscp.routing.queue_rows import Failure, Item
from lfscp.routing.routes import Route
from lfscp.scu.errors import PeerError
from lfscp.scu.send import OnSent
from lfscp.services.audit_events import SentObjects
from lfscp.services.sending.sub_operations import SubOperationOutcome
from lfscp.upperlayer.connection.errors import CalledOffError

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config.current import CurrentSettings


_AT_ONCE: Final = 20  # changed objects that wait to be sent together
_AT_ONCE_BYTES: Final = 16_000_000
_INTERNAL: Final = "an action failed unexpectedly, see the log"
LOG: Final = get_logger("lfscp.routing")


class Sending:
    """The associations of one queue. They stay open until `close`.

    Args:
        stopping: once set, no further object is sent.
        note_made: called with new SOP Instance UIDs before an object goes out with them.
    """

    def __init__(
        self,
        archive: Archive,
        current: CurrentSettings,
        stopping: threading.Event,
        note_made: Callable[[Iterable[str]], None],
    ) -> None:
        self._note_made = note_made
        self._archive = archive
        self._current = current
        self._stopping = stopping
        self._outlets: dict[tuple[int, str], Outlet] = {}
        self._settings = current.settings

    def close(self) -> None:
        """End the associations."""
        for outlet in self._outlets.values():
            with suppress(PeerError, OSError):
                outlet.close()
        self._outlets.clear()

    def send(self, peer: str, route: Route, batch: Batch, items: Sequence[Item]) -> None:
        """Send objects to a peer, and count them in the batch.

        Raises:
            GivenUpError: it was stopped before there was an association.
            PeerError: the peer cannot be asked.
        """
        if self._current.settings is not self._settings:  # a reload: the peer may be elsewhere
            self.close()
            self._settings = self._current.settings
        recorded = _Recorded(self._archive, self._current, peer)
        errors: list[BaseException] = []

        def run(lane: int, part: Sequence[Item]) -> None:
            try:
                self._send_part(lane, peer, route, batch, part, recorded)
            except BaseException as error:  # noqa: BLE001 - raised again in the queue's thread
                errors.append(error)

        first, *further = lanes(items, route.settings.parallel)
        threads = [
            threading.Thread(target=run, args=(at, part), name="lfscp-route", daemon=True)
            for at, part in enumerate(further, 1)
        ]
        for thread in threads:
            thread.start()
        run(0, first)
        for thread in threads:
            thread.join()
        recorded.write()
        if errors:
            raise errors[0]

    def _send_part(
        self,
        lane: int,
        peer: str,
        route: Route,
        batch: Batch,
        items: Sequence[Item],
        recorded: _Recorded,
    ) -> None:
        outlet = self._outlet(lane, peer, route)
        pace = Pace(route.settings.max_mb_s / route.settings.parallel, self._stopping)
        by_uid = {item.sop_instance_uid: item for item in items}

        def note(sent: StoredInstance, outcome: SubOperationOutcome, reason: str) -> None:
            item = by_uid[sent.sop_instance_uid]
            batch.count(item, sent, outcome, reason)
            recorded.count(batch.instance(item), outcome)
            pace.count(sent.size)

        may_go = [item for item in items if self._may_go(peer, batch, item)]
        try:
            if route.actions:
                self._send_changed(outlet, route, batch, may_go, by_uid, note)
            else:
                outlet.send([batch.instance(item) for item in may_go], note)
        except PeerError:
            self._drop(lane, peer)
            raise

    def _may_go(self, peer: str, batch: Batch, item: Item) -> bool:
        """Ask plug-ins; what they withhold is put aside, or tried again later."""
        if self._stopping.is_set():
            return False
        asked = self._archive.interceptor
        withheld = None if asked is None else asked.before_send(batch.instance(item), peer)
        if withheld is not None:
            batch.fail(item, Failure(withheld.reason, is_final=not withheld.is_temporary))
        return withheld is None

    def _send_changed(
        self,
        outlet: Outlet,
        route: Route,
        batch: Batch,
        items: Sequence[Item],
        by_uid: dict[str, Item],
        note: OnSent,
    ) -> None:
        """Send objects after the actions of the route, some at a time."""
        left = list(items)
        while left and not self._stopping.is_set():
            with ExitStack() as kept:
                changed: list[StoredInstance] = []
                while left and _has_room(changed):
                    item = left.pop(0)
                    made = self._changed(route, batch, item, kept)
                    if made is None:
                        continue
                    if any(made.sop_instance_uid == each.sop_instance_uid for each in changed):
                        left.insert(0, item)  # not in one request with another of its UID
                        break
                    by_uid[made.sop_instance_uid] = item
                    changed.append(made)
                self._note_made(
                    each.sop_instance_uid
                    for each in changed
                    if each.sop_instance_uid != by_uid[each.sop_instance_uid].sop_instance_uid
                )
                if changed:
                    outlet.send(changed, note)

    def _changed(
        self, route: Route, batch: Batch, item: Item, kept: ExitStack
    ) -> StoredInstance | None:
        """One object as it is to be sent; None if it is not, which is noted."""
        if not route.ready:  # never the object as it is
            raise RuntimeError(f"the actions of route {route.name} are not ready")
        at = datetime.fromtimestamp(item.queued_at / 1000).astimezone()
        way = OnTheWay(self._archive.incoming_dir, item.origin, at, self._look)
        try:
            return kept.enter_context(prepared(batch.instance(item), route.ready, way))
        except ActionError as error:
            failure = Failure(error.reason, is_final=not error.is_temporary)
        except ArchiveError as error:
            failure = Failure(error.reason)
        except OSError as error:
            failure = Failure(error.strerror or str(error))
        except CalledOffError:
            return None
        except Exception as error:  # this object fails, the others go
            uid = item.sop_instance_uid
            LOG.error(_INTERNAL, route=route.name, sop_instance_uid=uid, exc_info=error)  # noqa: TRY400 - the log shortens it
            failure = Failure(_INTERNAL)
        batch.fail(item, failure)
        return None

    def _look(self) -> None:
        if self._stopping.is_set():
            raise CalledOffError("called off")

    def _outlet(self, lane: int, peer: str, route: Route) -> Outlet:
        outlet = self._outlets.get((lane, peer))
        if outlet is None:
            outlet = open_outlet(
                peer, route, self._settings, cancel=self._stopping, locate=self._locate
            )
            self._outlets[lane, peer] = outlet
        return outlet

    def _drop(self, lane: int, peer: str) -> None:
        outlet = self._outlets.pop((lane, peer), None)
        if outlet is not None:
            with suppress(PeerError, OSError):
                outlet.close()

    def _locate(self, instance: StoredInstance) -> StoredInstance | None:
        key = {Level.IMAGE: [instance.sop_instance_uid]}
        return next(iter(self._archive.select(Level.IMAGE, key)), None)


def _has_room(changed: Sequence[StoredInstance]) -> bool:
    """Whether one more changed object may wait to be sent."""
    return len(changed) < _AT_ONCE and sum(each.size for each in changed) < _AT_ONCE_BYTES


class _Recorded:
    """The audit records of what goes to one peer."""

    def __init__(self, archive: Archive, current: CurrentSettings, peer: str) -> None:
        self._archive = archive
        self._settings = current.settings
        self._peer = peer
        self._sent = SentObjects()
        self._lock = threading.Lock()

    def count(self, instance: StoredInstance, outcome: SubOperationOutcome) -> None:
        with self._lock:
            self._sent.count(instance, failed=not outcome.is_transferred)

    def write(self) -> None:
        configured = self._settings.peers.get(self._peer)
        if configured is None or not self._sent:
            return
        here = audit.AuditedPeer(self._settings.server.ae_title, "")
        to = audited(configured_peer(self._peer, configured, self._settings.server))
        self._sent.write(here, to, self._archive)
