"""What the page shows of the node itself: plain data that the node's processes fill in."""

from __future__ import annotations

import json
import mmap
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class AssociationState:
    """One association as it is now.

    Args:
        serial: its number in its process, the same as in the log.
        service: what it was opened for: "storage", "query", …
        thread: the pool thread that serves it.
        since: when it began, seconds since 1970.
    """

    serial: int
    calling_ae_title: str
    called_ae_title: str
    peer: str
    service: str = ""
    thread: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process of the node, with its pool.

    Args:
        pid: its process ID; 0 when nothing is known of it yet.
        leader: name of the leading thread; None when nobody leads.
        waiting: followers.
        running: the leader and the processors.
        max_running: cap on running; 0 is no limit.
        max_waiting: cap on followers; -1 is no limit.
        text: the pool in one line, as in the log.
        queued: connections that wait in the kernel where it listens, as do the others'.
        is_silent: whether it has not reported for long.
    """

    pid: int = 0
    leader: str | None = None
    waiting: int = 0
    running: int = 0
    max_running: int = 0
    max_waiting: int = -1
    is_shutdown: bool = False
    text: str = ""
    associations: tuple[AssociationState, ...] = ()
    queued: int = 0
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class NodeState:
    """The node as it is now.

    Args:
        backlog: connections that the kernel queues while nobody leads.
        max_associations: further ones are rejected, in each process; 0 is no limit.
        started_at: seconds since 1970.
    """

    ae_title: str
    host: str
    port: int
    backlog: int
    max_associations: int
    started_at: float
    processes: tuple[ProcessState, ...] = ()

    @property
    def is_shutdown(self) -> bool:
        """Whether no process takes connections any more."""
        return all(process.is_shutdown for process in self.processes)


class SharedStates:
    """The states of worker processes in memory that they share; made before they are forked.

    A worker writes its own slot, anybody reads all. A reader that meets a slot while it is being
    written sees that its checksum is wrong, and keeps what it read before.
    """

    _HEAD: Final = struct.Struct("<IId")  # length, CRC-32, when, in monotonic seconds
    _SILENT_AFTER_S: Final = 10.0
    _SLOT: Final = 1 << 18

    def __init__(self, processes: int) -> None:
        self._last = [ProcessState() for _ in range(processes)]
        self._made_at = time.monotonic()
        self._memory = mmap.mmap(-1, processes * self._SLOT)

    def write(self, number: int, state: ProcessState) -> None:
        """Write the state of one process; called in that process only."""
        content = json.dumps(asdict(state)).encode()
        while len(content) > self._SLOT - self._HEAD.size:  # more than a thousand associations
            shown = state.associations[: len(state.associations) // 2]
            state = replace(state, associations=shown)
            content = json.dumps(asdict(state)).encode()
        start = number * self._SLOT
        head = self._HEAD.pack(len(content), zlib.crc32(content), time.monotonic())
        self._memory[start : start + self._HEAD.size + len(content)] = head + content

    def read(self) -> tuple[ProcessState, ...]:
        """The states of all processes, by number; of one that has long been silent it is said."""
        now = time.monotonic()
        for number in range(len(self._last)):
            start = number * self._SLOT
            length, checksum, written_at = self._HEAD.unpack_from(self._memory, start)
            start += self._HEAD.size
            content = self._memory[start : start + length]
            if length and zlib.crc32(content) == checksum:
                self._last[number] = _read(content)
            silent = now - max(written_at, self._made_at) > self._SILENT_AFTER_S
            self._last[number] = replace(self._last[number], is_silent=silent)
        return tuple(self._last)


def _read(content: bytes) -> ProcessState:
    fields = json.loads(content)
    associations: Sequence[dict[str, object]] = fields.pop("associations")
    return ProcessState(
        **fields,
        associations=tuple(AssociationState(**each) for each in associations),  # type: ignore[arg-type]
    )
