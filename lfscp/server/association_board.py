"""Which addresses have associations now, in memory that the worker processes of a node share.

Each worker writes its own part: a place per association that holds the peer's address. It knows its
own, and counts in the others' parts, as far as those have ever been used. A worker that takes the
part of one that died empties it first.
"""

from __future__ import annotations

import hashlib
import mmap
import socket
import struct
import threading
from collections import Counter
from typing import Final

_PLACES: Final = 4096  # associations of one worker that are counted
_SIZE: Final = 16  # bytes of an address, IPv6 or IPv4 mapped into it
_FREE: Final = bytes(_SIZE)
_HEAD: Final = struct.Struct("<QQ")  # how many places are taken, and how many ever were
_PART: Final = _HEAD.size + _PLACES * _SIZE


class AssociationBoard:
    """Counts associations by address. Any thread may call any method but `use`.

    Args:
        workers: processes that will count; made before they are forked.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, workers * _PART)
        self.use(0)

    def use(self, number: int) -> None:
        """Be the worker of this number, from 0, from now on."""
        self._start = number * _PART
        self._number = number
        self._lock = threading.Lock()
        self._own: Counter[bytes] = Counter()
        self._keys: dict[int, bytes] = {}  # of the places that are taken
        self._memory[self._start : self._start + _PART] = bytes(_PART)
        self._taken = self._used = 0
        self._free = list(range(_PLACES - 1, -1, -1))

    def enter(self, address: str) -> int:
        """Take a place for an association; -1 when there is none left, and it is not counted."""
        with self._lock:
            if not self._free:
                return -1
            place = self._free.pop()
            self._used = max(self._used, place + 1)
            key = self._keys[place] = _key(address)
            self._write(place, key)
            self._count(key, 1)
            return place

    def leave(self, place: int) -> None:
        """Give back what `enter` gave."""
        if place >= 0:
            with self._lock:
                self._write(place, _FREE)
                self._free.append(place)
                self._count(self._keys.pop(place), -1)

    def of(self, address: str) -> int:
        """The associations of an address, in all workers."""
        key = _key(address)
        others = (number for number in range(self.workers) if number != self._number)
        return self._own[key] + sum(self._of_part(number * _PART, key) for number in others)

    def _of_part(self, start: int, key: bytes) -> int:
        found, begin = 0, start + _HEAD.size
        end = begin + _HEAD.unpack_from(self._memory, start)[1] * _SIZE
        position = self._memory.find(key, begin, end)
        while position >= 0:
            found += (position - begin) % _SIZE == 0
            position = self._memory.find(key, position + 1, end)
        return found

    def total(self) -> int:
        """All associations, in all workers."""
        parts = range(0, self.workers * _PART, _PART)
        return sum(int(_HEAD.unpack_from(self._memory, start)[0]) for start in parts)

    def _write(self, place: int, key: bytes) -> None:
        at = self._start + _HEAD.size + place * _SIZE
        self._memory[at : at + _SIZE] = key

    def _count(self, key: bytes, change: int) -> None:
        self._own[key] += change
        if not self._own[key]:
            del self._own[key]
        self._taken += change
        _HEAD.pack_into(self._memory, self._start, self._taken, self._used)


def _key(address: str) -> bytes:
    try:
        if ":" not in address:
            return b"\0" * 10 + b"\xff\xff" + socket.inet_pton(socket.AF_INET, address)
        return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:  # no address, as a Unix socket's
        return hashlib.blake2b(address.encode(), digest_size=_SIZE).digest()
