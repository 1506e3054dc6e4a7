"""Where the data set of a C-STORE goes while it arrives.

Objects are received straight into a buffer that is lent for one message and used again; large ones
go to a file as they arrive, so that memory stays bounded whatever the object's size. If a
server keeps what it receives, smaller ones that come in fragments are written behind: when the last
fragment is here, most of the file is on its way to the disk.
A sink never raises for a full disk, or for want of memory: it takes the rest of the message and
says afterwards what went wrong, for the association must still be able to answer.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from pathlib import Path
from typing import Final

from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

BUFFER_BYTES: Final = 1 << 20
SPOOL_ABOVE_BYTES: Final = 4 << 20
# What all buffers together may have beyond BUFFER_BYTES each; then larger ones go to a file sooner.
MAX_GROWN_BYTES: Final = 48 << 20
_WRITE_BEHIND_BYTES: Final = 1 << 16  # as few are worth a write
_KEPT_BUFFERS: Final = 32
_KEPT_GROWN_BUFFERS: Final = 4  # with fewer than so many kept, one that has grown is, too

# (SOP class UID, SOP instance UID, transfer syntax UID, source AE title) to preamble, prefix and
# File Meta Information.
FileHeader = Callable[[str, str, str, str], bytes]

# Files are named by a number behind what no other process has: cheaper than a UUID for each.
_numbers = itertools.count(1)
_prefix = uuid.uuid4().hex


def _change_prefix() -> None:
    global _prefix
    _prefix = uuid.uuid4().hex


os.register_at_fork(after_in_child=_change_prefix)

# As many buffers as messages were ever received at once, at most _KEPT_BUFFERS: idle associations
# own none. deque's append and pop are atomic.
_buffers: deque[mmap] = deque(maxlen=_KEPT_BUFFERS)


_grown_bytes = 0  # by what buffers in use have grown
_grown_lock = threading.Lock()


def _may_grow(by: int) -> bool:
    """Take from what buffers may grow by; False when too little is left."""
    global _grown_bytes
    with _grown_lock:
        if _grown_bytes + by > MAX_GROWN_BYTES:
            return False
        _grown_bytes += by
        return True


def _shrunk(by: int) -> None:
    global _grown_bytes
    with _grown_lock:
        _grown_bytes -= by


def _borrow_buffer() -> mmap:
    try:
        return _buffers.pop()
    except IndexError:
        return _new_buffer(BUFFER_BYTES)


def _new_buffer(size: int) -> mmap:
    # The kernel gives it memory page by page, where it is filled; a bytearray is zeroed throughout.
    return mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)


_DROPPED: Final = _new_buffer(1 << 16)  # takes what nobody keeps, of all who have no memory


@dataclass(frozen=True, slots=True)
class SpooledDataset:
    """A data set that went to disk as it arrived: a complete Part 10 file.

    Args:
        name: path of the file.
        dataset_offset: bytes before the data set: preamble, prefix, File Meta Information.
        size: bytes of the data set.
        descriptor: of the open file, as long as the handler runs.
    """

    name: str
    dataset_offset: int
    size: int
    descriptor: int

    @property
    def path(self) -> Path:
        """The file; a handler may rename it away, else it is deleted after the handler."""
        return Path(self.name)


class DatasetSink:
    """Takes one data set, fragment by fragment, into memory and, when it grows large, a file.

    Args:
        spool_dir: where files go; None keeps everything in memory.
        part10_header: gives preamble to File Meta Information, should a file be needed.
        write_behind: write a file of what is kept in memory, too, when it comes in fragments.
        shortage: see ReceiveLimits; asked for every few megabytes.
    """

    def __init__(
        self,
        spool_dir: Path | None,
        part10_header: Callable[[], bytes],
        *,
        write_behind: bool = False,
        shortage: Callable[[], str] | None = None,
    ) -> None:
        self._spool_dir = spool_dir
        self._part10_header = part10_header
        self._shortage = shortage
        self._header_size = 0
        self._used = 0
        self._grown = 0  # taken from MAX_GROWN_BYTES
        self._written = 0  # of the used, what is in the file already
        self._spooled = 0  # what is in the file and no more in the buffer
        self._write_behind = write_behind and spool_dir is not None
        self._fd = -1
        self.path: str | None = None
        self.error: OSError | None = None
        try:
            self._buffer = _borrow_buffer()
        except OSError as problem:
            self._buffer = _DROPPED
            self.give_up(problem)

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self._spooled + self._used

    def reserve(self, size: int) -> memoryview:
        """Room for the next bytes, at most `size` and at least one of them."""
        room = len(self._buffer) - self._used
        if room < size and self._spooled == 0 and self.error is None:
            room = self._make_room(size)
        if room == 0:
            self._write_out()
            room = len(self._buffer)
        return memoryview(self._buffer)[self._used : self._used + min(room, size)]

    def reserve_ahead(self, size: int, most: int) -> list[memoryview]:
        """Room for the next fragments of one size, at most `most`; none if not even for the first.

        What is filled of them is to be committed in their order.
        """
        if most < 1 or self.error is not None:
            return []
        if self._spooled and len(self._buffer) - self._used < size:
            self._write_out()
        if len(self.reserve(size)) < size:
            return []
        view, start = memoryview(self._buffer), self._used
        count = min(most, (len(self._buffer) - start) // size)
        return [view[start + i * size : start + (i + 1) * size] for i in range(count)]

    def commit(self, size: int) -> None:
        """The first `size` bytes of what was reserved are filled."""
        self._used += size

    def _make_room(self, size: int) -> int:
        fits = self._spool_dir is None or self._used + size <= SPOOL_ABOVE_BYTES
        if not (fits and self._grow(size)):
            self._write_out()
        return len(self._buffer) - self._used

    def _grow(self, size: int) -> bool:
        """Have a larger buffer; without memory for one what has come goes to a file, if it may."""
        wanted = max(2 * len(self._buffer), self._used + size)
        if self._spool_dir is not None:
            if not _may_grow(wanted - len(self._buffer)):
                return False
            self._grown += wanted - len(self._buffer)
        try:
            grown = _new_buffer(wanted)
        except OSError as problem:
            if self._spool_dir is None:
                self.give_up(problem)
            return False
        grown[: self._used] = memoryview(self._buffer)[: self._used]
        self._buffer = grown
        return True

    @property
    def has_beginning(self) -> bool:
        """Whether what came first is in memory."""
        return self._spooled == 0 and self.error is None

    def beginning(self) -> memoryview:
        """What has arrived so far, while all of it is in memory."""
        return memoryview(self._buffer)[: self._used]

    def fragment_ends(self) -> None:
        """A fragment is complete and more will come: the time to write behind."""
        if not self._write_behind or self._spooled or self.error is not None:
            return
        if self._used - self._written < _WRITE_BEHIND_BYTES:
            return
        self._write()

    def _open_file(self) -> None:
        path = f"{self._spool_dir}/{_prefix}-{next(_numbers)}.part"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        self.path = path
        self._header_size = os.write(self._fd, self._part10_header())

    def _write_out(self) -> None:
        """Move the buffer's bytes to the file; after an error they are dropped."""
        if self._shortage is not None and self.error is None and (why := self._shortage()):
            self.give_up(OSError(errno.ENOSPC, why))
        self._write()
        self._spooled += self._used
        self._used = self._written = 0

    def _write(self) -> None:
        """Write what is in the buffer and not yet in the file, which is made when it is missing."""
        view = memoryview(self._buffer)
        try:
            if self.path is None and self.error is None:
                self._open_file()
            while self._written < self._used and self.error is None:
                self._written += os.write(self._fd, view[self._written : self._used])
        except OSError as problem:
            self.give_up(problem)

    def give_up(self, problem: OSError) -> None:
        """Keep nothing of it: the rest of the message is taken and dropped."""
        self.error = problem
        self.discard_file()

    def finish(self) -> memoryview | None:
        """The whole data set is here: its bytes, or None when they are in the file alone."""
        if self.path is not None:
            self._write()
        if self.error is not None or self._spooled:
            self._spooled += self._used
            self._used = 0
            return None
        return memoryview(self._buffer)[: self._used]

    def spooled_file(self) -> SpooledDataset | None:
        """The finished file, if there is one."""
        if self.path is None:
            return None
        return SpooledDataset(self.path, self._header_size, self.size, self._fd)

    def copy_to_file(self) -> Path:
        """A Part 10 file of a data set that is in memory; whoever asks sees to its end."""
        fd, name = tempfile.mkstemp(suffix=".part", dir=self._spool_dir)
        with open(fd, "wb") as file:
            file.write(self._part10_header())
            file.write(memoryview(self._buffer)[: self._used])
        return Path(name)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard_file(self) -> None:
        """Close and remove the file, unless a handler has taken it."""
        self._close()
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):  # a handler has taken it
                os.unlink(self.path)  # noqa: PTH108 - a Path costs as much as the call
            self.path = None

    def return_buffer(self) -> None:
        """Return the buffer for the next message, unless somebody holds a view of it."""
        buffer = self._buffer
        del self._buffer
        if self._grown:
            _shrunk(self._grown)
            self._grown = 0
        if buffer is _DROPPED or len(buffer) > SPOOL_ABOVE_BYTES:
            return
        if len(buffer) > BUFFER_BYTES and len(_buffers) >= _KEPT_GROWN_BUFFERS:
            return
        try:
            buffer.resize(len(buffer))  # what is viewed cannot be resized, and only that tells
        except BufferError:
            return
        _buffers.append(buffer)


def part10_header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and File Meta Information of a received object (PS3.10 section 7.1)."""
    meta = create_file_meta(
        sop_class_uid=UID(sop_class_uid),
        sop_instance_uid=UID(sop_instance_uid),
        transfer_syntax=UID(transfer_syntax_uid),
    )
    return b"\0" * 128 + b"DICM" + encode_file_meta(meta)
