"""A batch of a queue: the objects that are sent together, and what became of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.routing.queue_rows import Failure, Item
from lfscp.services.sending.sub_operations import SubOperationOutcome

_MEGABYTE: Final = 1_000_000


class Batch:
    """Some objects of a queue. Several threads may count.

    Attributes:
        instances: those that are in the archive, by SOP Instance UID.
        gone: those that are not.
    """

    def __init__(self, items: Sequence[Item], instances: Sequence[StoredInstance]) -> None:
        self.instances = {each.sop_instance_uid: each for each in instances}
        self.gone = [each for each in items if each.sop_instance_uid not in self.instances]
        self._items = [each for each in items if each.sop_instance_uid in self.instances]
        self._lock = threading.Lock()
        self._tried: set[Item] = set()
        self._sent: dict[Item, int] = {}
        self._failed: dict[Item, Failure] = {}
        self._as: dict[Item, StoredInstance] = {}

    def left(self, *, but_for: str = "") -> list[Item]:
        """What was not tried yet.

        Args:
            but_for: AE title of a peer, to which nothing goes that came from there.
        """
        return [
            item
            for item in self._items
            if item not in self._tried and (not but_for or item.origin != but_for)
        ]

    def leave_out(self, items: Sequence[Item]) -> None:
        """Do not try some objects."""
        self._tried.update(items)

    def instance(self, item: Item) -> StoredInstance:
        """The object of an item."""
        return self.instances[item.sop_instance_uid]

    def count(
        self, item: Item, sent: StoredInstance, outcome: SubOperationOutcome, reason: str
    ) -> None:
        """Note what became of an object that was sent.

        Args:
            sent: the object as it was sent.
        """
        with self._lock:
            self._tried.add(item)
            if outcome.is_transferred:
                self._sent[item] = self.instance(item).size
                self._as[item] = sent
            else:
                self._failed[item] = Failure(reason)

    def fail(self, item: Item, failure: Failure) -> None:
        """Note that an object was not sent."""
        with self._lock:
            self._tried.add(item)
            self._failed[item] = failure

    def sent_as(self, item: Item) -> StoredInstance:
        """An object that was sent, under the UIDs that the receiver got."""
        return self._as[item]

    def take(self) -> tuple[dict[Item, int], dict[Item, Failure]]:
        """What was sent, with sizes in bytes, and what failed, and why, since this was asked."""
        with self._lock:
            taken = self._sent, self._failed
            self._sent, self._failed = {}, {}
            return taken


def lanes(items: Sequence[Item], number: int) -> list[Sequence[Item]]:
    """The objects divided among associations; those of a series stay together."""
    series = list(dict.fromkeys(item.series_instance_uid for item in items))
    place = {uid: at % number for at, uid in enumerate(series)}
    divided: list[list[Item]] = [[] for _ in range(number)]
    for item in items:
        divided[place[item.series_instance_uid]].append(item)
    return [lane for lane in divided if lane]


class Pace:
    """Keeps to a rate: waits after each object for as long as it should have taken.

    Args:
        mb_s: megabytes per second; 0 is no limit.
        stopping: ends the wait.
    """

    def __init__(self, mb_s: float, stopping: threading.Event) -> None:
        self._bytes_s = mb_s * _MEGABYTE
        self._stopping = stopping
        self._free_at = time.monotonic()

    def count(self, size: int) -> None:
        """Note an object that was sent, and wait."""
        if not self._bytes_s:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 1.0) + size / self._bytes_s
        if self._free_at > now:
            self._stopping.wait(self._free_at - now)
