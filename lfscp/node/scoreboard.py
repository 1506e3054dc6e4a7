"""What the worker processes of one node are doing, in memory that they share.

Each worker writes its own line, anybody reads all of them. A line is written as one slice of a few
dozen bytes; a reader may meet one that is being replaced, and then shows it at its next look.
"""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass
from typing import Final

from lfscp.pool import PoolState

# pid, monotonic time, whether somebody leads, waiting, running.
_LINE: Final = struct.Struct("<qd?3xII")


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker, when it last wrote.

    Args:
        pid: its process ID, 0 before its first line.
        written_at: time.monotonic() then; the clock is the same for all processes.
        has_leader: whether a thread waits for connections.
        waiting: followers.
        running: the leader and the processors.
    """

    pid: int
    written_at: float
    has_leader: bool
    waiting: int
    running: int


class Scoreboard:
    """Lines for a fixed number of workers; made before they are forked."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._memory = mmap.mmap(-1, workers * _LINE.size)

    def write(self, number: int, pid: int, state: PoolState) -> None:
        """Write the line of one worker; called in that worker only."""
        line = _LINE.pack(
            pid, time.monotonic(), state.leader is not None, state.waiting, state.running
        )
        self._memory[number * _LINE.size : (number + 1) * _LINE.size] = line

    def read(self) -> list[WorkerState]:
        """The lines of all workers, by number."""
        size = _LINE.size
        return [
            WorkerState(*_LINE.unpack_from(self._memory, number * size))
            for number in range(self._workers)
        ]
