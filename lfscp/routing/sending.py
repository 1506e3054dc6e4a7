"""Sends the objects of a batch to one peer, over as many associations as the route has."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.values.attributes import Level
from lfscp.errors import OperationError
from lfscp.jobs.peers.described import audited, configured_peer
from lfscp.observe import audit
from lfscp.routing.batch import Batch, Pace, lanes
from lfscp.routing.outlets import Outlet, open_outlet
from lfscp.routing.prepared import prepared
from lfscp.routing.queues import Item
from lfscp.routing.routes import Route
from lfscp.scu.errors import PeerError
from lfscp.services.audit_events import SentObjects
from lfscp.services.sending.sub_operations import SubOperationOutcome

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config.current import CurrentSettings


class Sending:
    """The associations of one queue. They stay open until `close`.

    Args:
        stopping: once set, no further object is sent.
    """

    def __init__(
        self, archive: Archive, current: CurrentSettings, stopping: threading.Event
    ) -> None:
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
            batch.count(item, outcome, reason)
            recorded.count(batch.instance(item), outcome)
            pace.count(sent.size)

        try:
            if not route.actions:
                outlet.send([batch.instance(item) for item in items], note)
                return
            for item in items:
                if self._stopping.is_set():
                    return
                self._send_changed(outlet, route, batch, item, by_uid, note)
        except PeerError:
            self._drop(lane, peer)
            raise

    def _send_changed(
        self, outlet: Outlet, route: Route, batch: Batch, item: Item, by_uid: Any, note: Any
    ) -> None:
        """Send one object after the actions of the route."""
        try:
            with prepared(batch.instance(item), route.actions, self._folder) as changed:
                by_uid[changed.sop_instance_uid] = item
                outlet.send([changed], note)
        except (OperationError, OSError) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            batch.count(item, SubOperationOutcome.FAILED, words or str(error))

    @property
    def _folder(self) -> Path:
        return self._archive.incoming_dir

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
