"""Verifies what peers ask this process for, and reports on the associations that they asked on.

A thread beside the associations verifies, one request after another. Then the thread that serves
the association sends the report, once the peer is quiet. If the association has ended by then, or
this process ends, the node's reporter goes on (`reporter`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lfscp.archive.workflow.commitment.commitment import Commitment, State
from lfscp.archive.workflow.commitment.commitments import Commitments
from lfscp.archive.workflow.commitment.holder import LEASE_S
from lfscp.errors import OperationError
from lfscp.server.cpu_affinity import anywhere
from lfscp.services.commitment.progress import (
    KEEP_S,
    LOG,
    LostCommitmentError,
    Progress,
    fields_of,
)
from lfscp.services.commitment.report import NotReportedError

if TYPE_CHECKING:
    from pynetdicom.presentation import PresentationContext

    from lfscp.archive.archive import Archive
    from lfscp.config.current import CurrentSettings

_MOST_WAITING: Final = 1000  # requests that a process holds; in a flood the reporter has the rest
_NO_LIMIT_S: Final = 300.0  # of the answer to a report, where no DIMSE timeout is set


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that this process holds.

    Args:
        association: on which it came; expects a call.
        context: in which it came.
    """

    commitment: Commitment
    association: Any
    context: PresentationContext


class SameAssociationReporter:
    """The requests that this process was asked. Any thread may call `put`."""

    def __init__(self, archive: Archive, current: CurrentSettings) -> None:
        self.commitments = Commitments(archive.index, current.settings.server.ae_title)
        self._archive = archive
        self._progress = Progress(archive, current, self.commitments)
        self._lock = threading.Lock()
        self._asked: deque[Asked] = deque()
        self._is_working = False
        self._keep_at = 0.0

    @property
    def is_full(self) -> bool:
        """Whether more requests wait than this process goes on with itself."""
        return len(self._asked) >= _MOST_WAITING

    def put(self, asked: Asked) -> None:
        """Verify a request, and have it reported; returns at once."""
        with self._lock:
            self._asked.append(asked)
            if self._is_working:
                return
            self._is_working = True
        with anywhere():  # or the thread would share the processor of those that serve
            threading.Thread(target=self._work, name="lfscp-commitment", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._asked:
                    self._is_working = False
                    return
                asked = self._asked[0]
            self._go_on_with(asked)
            with self._lock:
                self._asked.popleft()

    def _go_on_with(self, asked: Asked) -> None:
        commitment = asked.commitment
        try:
            self._goes_on(commitment)
            if commitment.state is State.RECEIVED:
                self._progress.verify(commitment, partial(self._goes_on, commitment))
            if not asked.association.call_when_idle(partial(self._report, asked)):
                self.commitments.free(commitment.id)
        except LostCommitmentError:
            pass  # whoever has it goes on
        except OperationError as error:
            self._progress.put_off(commitment, str(error))
        except Exception as error:  # noqa: BLE001 - the next request is verified
            LOG.error(
                "storage commitment failed unexpectedly", **fields_of(commitment), exc_info=error
            )
            self._progress.put_off(commitment, "internal error, see the log")

    def _goes_on(self, commitment: Commitment) -> None:
        """Renew what is held, now and then; called before and by the threads that verify."""
        self._require_open()
        with self._lock:
            if time.monotonic() < self._keep_at:
                return
            self._keep_at = time.monotonic() + KEEP_S
        if commitment.id not in self._keep():
            raise LostCommitmentError

    def _require_open(self) -> None:
        """End when the node has ended meanwhile: whoever comes after it goes on."""
        if self._archive.is_closed:
            raise LostCommitmentError

    def _keep(self) -> set[int]:
        with self._lock:
            self._keep_at = time.monotonic() + KEEP_S
            waiting = [each.commitment.id for each in self._asked]
        return self.commitments.keep_all(waiting)

    # --- in the thread that serves the association ---

    def _report(self, asked: Asked) -> None:
        """Send the report; the association is idle, or has ended."""
        association, commitment = asked.association, asked.commitment
        try:
            if not association.is_established:
                self.commitments.free(commitment.id)
                return
            held = self.commitments.hold(commitment.id, _longest_answer_s(association) + LEASE_S)
            if held is not None:
                self._progress.report(held, association, asked.context, "same")
        except NotReportedError as error:
            LOG.info(
                "storage commitment not reported on its own association",
                **fields_of(commitment),
                reason=str(error),
            )
            self._free(commitment)
        except OperationError as error:
            self._progress.put_off(commitment, str(error))

    def _free(self, commitment: Commitment) -> None:
        try:
            self.commitments.free(commitment.id)
        except OperationError as error:
            self._progress.put_off(commitment, str(error))


def _longest_answer_s(association: Any) -> float:
    timeout_s = association.dimse_timeout
    return _NO_LIMIT_S if timeout_s is None else float(timeout_s)
