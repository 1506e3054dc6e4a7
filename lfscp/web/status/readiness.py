"""Checks whether the node could serve a peer now, for /readyz.

Rules: the checks run in a thread of their own, one run at a time, and a result is good for a
second. Anyone may ask, without a login; however often they ask, the node checks once. Checks that
hang, as they do if a disk hangs, are reported too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lfscp.archive.readiness import Check, readiness
from lfscp.observe import audit, metrics

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.web.status.state import NodeState

GOOD_FOR_S: Final = 1.0
PATIENCE_S: Final = 5.0  # until running checks are reported as hanging
LEADER_WITHIN_S: Final = 1.5  # between two leaders there are microseconds, or a worker's report
_LOOK_AGAIN_S: Final = 0.05


class Readiness:
    """The checks of one node. Any thread may ask.

    Args:
        node_state: gives the node's state now.
    """

    def __init__(self, archive: Archive, node_state: Callable[[], NodeState]) -> None:
        self._archive = archive
        self._node_state = node_state
        self._changed = threading.Condition()
        self._is_running = False
        self._checks: list[Check] = []
        self._checked_at = -GOOD_FOR_S

    def checks(self) -> list[Check]:
        """Every check with what is wrong; waits a limited time for them."""
        with self._changed:
            if time.monotonic() - self._checked_at < GOOD_FOR_S:
                return self._checks
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="lfscp-readiness", daemon=True).start()
            if self._changed.wait_for(lambda: not self._is_running, PATIENCE_S):
                return self._checks
        return [Check("checks", f"no answer within {PATIENCE_S:g} s: a disk or the index hangs")]

    def _run(self) -> None:
        checks = [Check("checks", "the checks failed")]
        try:
            checks = [self._pool(), *readiness(self._archive), _audit_trail()]
        finally:
            with self._changed:
                self._checks = checks
                self._checked_at = time.monotonic()
                self._is_running = False
                self._changed.notify_all()

    def _pool(self) -> Check:
        state = self._node_state()
        if state.is_shutdown:
            return Check("pool", "the node is stopping; it accepts no more associations")
        silent = [str(number) for number, each in enumerate(state.processes) if each.is_silent]
        if silent:
            return Check("pool", f"no report for a long time from worker {', '.join(silent)}")
        until = time.monotonic() + LEADER_WITHIN_S
        while not any(process.leader for process in state.processes):
            if time.monotonic() >= until:
                return Check(
                    "pool",
                    "no thread waits for connections: all that pool.max_running allows are busy",
                )
            time.sleep(_LOOK_AGAIN_S)
            state = self._node_state()
        return Check("pool")


def _audit_trail() -> Check:
    if audit.is_failing() or metrics.AUDIT_FAILING.total(metrics.BOARD.sums()):
        return Check("audit trail", "it cannot be written")
    return Check("audit trail")
