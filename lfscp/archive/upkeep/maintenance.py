"""Runs the archive's upkeep, such as scrub and retention, in threads of one process of the node.

The store of a bucket scrubs it by itself. For a bucket a thread removes what an earlier deletion
could not.

Rules: nothing here ends the node; a failure is logged once and tried again a minute later. The
threads have a low priority, hold no lock of the index for longer than one study's deletion takes,
and end soon after they are asked to.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.index.database.database import reason_of
from lfscp.archive.reindexing import place_studies, read_every_object
from lfscp.archive.upkeep.retention import Candidate, Limits, Retention, most_off_ms
from lfscp.archive.upkeep.scrub import Scrub
from lfscp.archive.upkeep.stale_copies import remove_stale
from lfscp.archive.upkeep.task_lease import Turn
from lfscp.archive.upkeep.worklist_expiry import WorklistExpiry
from lfscp.errors import OperationError
from lfscp.observe import metrics
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

LOG: Final = get_logger("lfscp.archive")
TASK: Final = "retention"
_FIRST_S: Final = 2.0  # a node that starts has other things to do
_AGAIN_S: Final = 60.0  # after a failure, or while another node is at it
_REMOVALS_S: Final = 3600.0  # between two looks for objects of deleted rows in a bucket
_STALE_S: Final = 3600.0  # between two looks for pictures and metadata of objects that are gone
_CLOCK_S: Final = 600.0
_PASS_S: Final = 86_400.0  # a pass over a small archive begins once a day
_NICE: Final = 10
_STOP_S: Final = 10.0


class Maintenance:
    """The archive's own threads.

    Args:
        limits: of retention; without any its thread is not started.
        interval_s: between two looks at them.
        scrub_mb_s: speed of the scrub in megabytes per second; 0 is none.
        worklist_keep_days: after its last step a worklist item goes; 0 is never.
    """

    def __init__(
        self,
        archive: Archive,
        limits: Limits,
        *,
        interval_s: float,
        scrub_mb_s: float,
        worklist_keep_days: float = 0,
    ) -> None:
        self._archive = archive
        self._stopping = threading.Event()
        self._interval_s = interval_s
        self._turn = Turn(archive, TASK)
        self._retention = Retention(archive, limits, self._tell)
        self._scrub = Scrub(archive, scrub_mb_s, self._stopping)
        self._threads = []
        if limits.is_any:
            self._threads.append(self._thread("lfscp-retention", self._retain, 0.0))
        self._clock = archive.clock()
        self._most_off_ms = most_off_ms(limits)
        self._threads.append(self._thread("lfscp-clock", self._look_at_clock, 0.0))
        self._threads.append(self._thread("lfscp-studies", self._read_studies, _FIRST_S))
        self._threads.append(self._thread("lfscp-copies", self._remove_stale, _FIRST_S))
        self._expiry = WorklistExpiry(archive, worklist_keep_days)
        if worklist_keep_days:
            self._threads.append(self._thread("lfscp-expiry", self._expiry.run, _FIRST_S))
        # In a bucket no parent of workers may do it at start; and what a node that died has left
        # of a shared index, another one removes.
        if archive.files.is_remote or archive.index.is_shared:
            self._threads.append(self._thread("lfscp-removals", self._finish_removals, _FIRST_S))
        if scrub_mb_s and not archive.files.is_remote:
            self._threads.append(self._thread("lfscp-scrub", self._scrub_once, _FIRST_S))

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, between two reads of the scrub and two deletions of retention."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_STOP_S)

    def _thread(self, name: str, work: Callable[[], float], first_s: float) -> threading.Thread:
        return threading.Thread(
            target=self._repeat, args=(name, work, first_s), name=name, daemon=True
        )

    def _repeat(self, name: str, work: Callable[[], float], wait_s: float) -> None:
        """Call `work` again and again; it returns how long to wait."""
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        failures, said = 0, ""
        while not self._stopping.wait(wait_s):
            try:
                wait_s = work()
                failures, said = 0, ""
            except (SQLAlchemyError, OSError, OperationError) as error:
                wait_s = _AGAIN_S
                failures += 1
                reason = reason_of(error)
                if failures == 1:  # a database that is locked for a moment is no error yet
                    LOG.warning(
                        "the archive's upkeep failed, trying again", task=name, reason=reason
                    )
                elif reason != said:
                    LOG.error("the archive's upkeep failed", task=name, reason=reason)  # noqa: TRY400 - our own logger
                    said = reason
            except Exception as error:  # the node goes on
                wait_s = _AGAIN_S
                LOG.error("the archive's upkeep failed", task=name, exc_info=error)  # noqa: TRY400 - our own logger

    def _look_at_clock(self) -> float:
        self._clock.look(self._most_off_ms)
        return _CLOCK_S

    def _finish_removals(self) -> float:
        self._archive.finish_removals()
        return _REMOVALS_S

    def _read_studies(self) -> float:
        """Read objects of studies with an unknown patient; there are nearly always none."""
        self._archive.require_present("read objects of studies")
        for read in (place_studies, read_every_object):
            read(self._archive.index, self._archive.files, self._stopping.is_set)
        return _AGAIN_S

    def _remove_stale(self) -> float:
        remove_stale(self._archive, self._stopping.is_set)
        return _STALE_S

    def _retain(self) -> float:
        if self._turn.take() is None:
            return _AGAIN_S
        self._retention.run(self._stopping.is_set)
        if self._stopping.is_set():
            self._turn.give_up()
        return self._interval_s

    def _tell(self, gone: Candidate, instances: int) -> None:
        metrics.RECYCLED_STUDIES.of(gone.reason).add()
        metrics.RECYCLED_INSTANCES.add(instances)
        LOG.info(
            "study recycled",
            study_instance_uid=gone.study_uid,
            limit=gone.reason,
            instances=instances,
            bytes=gone.bytes,
        )
        self._turn.keep()

    def _scrub_once(self) -> float:
        started = time.monotonic()
        if not self._scrub.run():
            return _AGAIN_S
        return max(_AGAIN_S, _PASS_S - (time.monotonic() - started))
