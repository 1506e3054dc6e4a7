"""How the worker processes of a node are, in memory that they share.

Each worker writes its own slot about once a second: its pool and its associations. The parent reads
all of them for systemd; the page's process reads them for the page, `/metrics` and `/readyz`. A
reader that meets a slot while it is being written sees that its checksum is wrong, and keeps what
it read before.
"""

from __future__ import annotations

import json
import mmap
import struct
import time
import zlib
from dataclasses import asdict, replace
from typing import Final

from lfscp.web.status.state import AssociationState, ProcessState

_HEAD: Final = struct.Struct("<IId")  # length, CRC-32, when, in monotonic seconds
_SILENT_AFTER_S: Final = 10.0
_SLOT: Final = 1 << 18


class StatusTable:
    """The states of a fixed number of workers; made before they are forked."""

    def __init__(self, workers: int) -> None:
        self._last = [ProcessState() for _ in range(workers)]
        self._made_at = time.monotonic()
        self._memory = mmap.mmap(-1, workers * _SLOT)

    def write(self, number: int, state: ProcessState) -> None:
        """Write the state of one worker; called in that worker only."""
        content = _encoded(state)
        while len(content) > _SLOT - _HEAD.size:  # more than a thousand associations
            state = replace(state, associations=state.associations[: len(state.associations) // 2])
            content = _encoded(state)
        head = _HEAD.pack(len(content), zlib.crc32(content), time.monotonic())
        start = number * _SLOT
        self._memory[start : start + len(head) + len(content)] = head + content

    def read(self) -> tuple[ProcessState, ...]:
        """The states of all workers, by number; of one that has long been silent it is said."""
        self._last = [self._read(number, last) for number, last in enumerate(self._last)]
        return tuple(self._last)

    def _read(self, number: int, last: ProcessState) -> ProcessState:
        start = number * _SLOT
        length, checksum, written_at = _HEAD.unpack_from(self._memory, start)
        content = self._memory[start + _HEAD.size : start + _HEAD.size + length]
        state = _decoded(content) if length and zlib.crc32(content) == checksum else last
        silent_s = time.monotonic() - max(written_at, self._made_at)
        return replace(state, is_silent=silent_s > _SILENT_AFTER_S)


def _encoded(state: ProcessState) -> bytes:
    return json.dumps(asdict(state)).encode()


def _decoded(content: bytes) -> ProcessState:
    fields = json.loads(content)
    associations = tuple(AssociationState(**each) for each in fields.pop("associations"))
    return ProcessState(**fields, associations=associations)
