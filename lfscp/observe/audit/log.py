"""Appends the audit trail's records to its file, one a line; none is lost without a message.

Rules: a record is one write to a file opened for appending, so that records of several threads and
processes never mix. If the file was renamed meanwhile (logrotate), a new one of the old name is
opened. Records that cannot be written wait, are counted and logged, and are written in their order
as soon as that is possible; nothing here raises. The node's setting decides what it does meanwhile:
go on, or take no associations (`must_stop`). A renamed file is removed only when there are enough
newer ones and it is old as well, so filling the file makes no record go. A jump of the clock counts
for a part of that age only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from lfscp.observe import metrics
from lfscp.observe.logging import get_logger

LOG: Final = get_logger("lfscp.audit")
MAX_WAITING: Final = 10_000  # records kept in memory while the file takes none
MAX_WAITING_BYTES: Final = 64 << 20  # of them
_TRY_AGAIN_S: Final = 1.0
_LOOK_AGAIN_S: Final = 1.0  # at the name and the size of the file
_SAY_AGAIN_S: Final = 60.0
_MODE: Final = 0o640
_OF_A_STEP: Final = 0.25  # of the age: what lies between two files counts for no more


class AuditFile:
    """Appends records to one file. Any thread may call any method; processes may share the file.

    Args:
        path: of the file; its folder must exist.
        sync: whether each record is on the disk before `write` returns.
        max_bytes: a file that has grown so large is renamed `<path>.1`, and so on; 0 is never.
        keep: so many renamed files are kept at least.
        keep_s: what is younger is kept as well, in seconds.
        stops: whether the node takes no associations while records cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        sync: bool,
        max_bytes: int = 0,
        keep: int = 1,
        keep_s: float = 0.0,
        stops: bool = False,
    ) -> None:
        self._path = str(path)
        self._sync = sync
        self._max_bytes = max_bytes
        self._keep = keep
        self._keep_s = keep_s
        self._stops = stops
        self._lock = threading.Lock()
        self._descriptor = -1
        self._torn = b""  # begins the next line, when a crash or a full disk cut off the last
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = self._lost = 0
        self._try_at = self._say_at = self._look_at = 0.0
        self._looked = False

    def write(self, record: str) -> None:
        """Append one record; when that fails it waits. Never raises."""
        with self._lock:
            line = record.encode("utf-8", "backslashreplace") + b"\n"
            while len(self._waiting) >= MAX_WAITING or (
                self._waiting and self._waiting_bytes + len(line) > MAX_WAITING_BYTES
            ):
                self._take_first()
                self._lost += 1
                metrics.AUDIT_LOST.add()
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            self._write_waiting()

    def reopen(self) -> None:
        """Leave the file that is open, for the one that has its name now."""
        with self._lock:
            self._close()

    def close(self) -> None:
        """Write what waits, if it can be, and close the file; the next record opens it again."""
        with self._lock:
            self._write_waiting()
            self._close()

    def is_failing(self) -> bool:
        """Whether records wait that cannot be written; tries again now and then."""
        if not self._waiting:
            return False
        with self._lock:
            if time.monotonic() >= self._try_at:
                self._write_waiting()
            return bool(self._waiting)

    def must_stop(self) -> bool:
        """Whether the node must take no associations now."""
        return self._stops and self.is_failing()

    # Lock held

    def _write_waiting(self) -> None:
        had_failed = self._say_at > 0
        try:
            self._open()
            while self._waiting:
                self._append(self._waiting[0])
                self._take_first()
                metrics.AUDIT_RECORDS.add()
            if self._looked:
                self._rotate_when_large()
        except OSError as error:
            self._complain(error)
            return
        if had_failed:
            self._say_at = 0.0
            metrics.AUDIT_FAILING.set(0)
            lost, self._lost = self._lost, 0
            said = {"lost_records": lost} if lost else {}
            LOG.info("the audit trail is written again", file=self._path, **said)

    def _take_first(self) -> None:
        self._waiting_bytes -= len(self._waiting.popleft())

    def _append(self, line: bytes) -> None:
        rest = memoryview(self._torn + line)
        while rest:  # only a disk that is full takes a part of it; the next attempt says so
            rest = rest[os.write(self._descriptor, rest) :]
        self._torn = b""
        if self._sync:
            os.fdatasync(self._descriptor)

    def _open(self) -> None:
        """Have the file open that has the name now, or had it a moment ago."""
        now = time.monotonic()
        self._looked = self._descriptor < 0 or now >= self._look_at
        if not self._looked:
            return
        self._look_at = now + _LOOK_AGAIN_S
        if self._descriptor >= 0:
            mine = os.fstat(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                named = os.stat(self._path)  # noqa: PTH116 - costs half of pathlib's
                if (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino):
                    return
            self._close()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, _MODE)
        size = os.fstat(self._descriptor).st_size
        is_torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        self._torn = b"\n" if is_torn else b""

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _rotate_when_large(self) -> None:
        if not self._max_bytes or os.fstat(self._descriptor).st_size < self._max_bytes:
            return
        kept = 0
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # given free when it is closed
        named = os.stat(self._path)  # noqa: PTH116
        if named.st_ino == os.fstat(self._descriptor).st_ino:  # else another process was faster
            numbers = self._renamed()
            gone = old_files([named.st_mtime, *numbers.values()], self._keep, self._keep_s)
            for number in list(numbers)[::-1]:
                with contextlib.suppress(FileNotFoundError):
                    if gone:
                        os.unlink(f"{self._path}.{number}")  # noqa: PTH108
                        gone -= 1
                    else:
                        os.replace(f"{self._path}.{number}", f"{self._path}.{number + 1}")  # noqa: PTH105
                        kept = max(kept, number + 1)
            os.replace(self._path, f"{self._path}.1")  # noqa: PTH105
        self._close()
        if kept > self._keep:
            LOG.warning(
                "the audit trail has more files than audit.keep",
                files=kept,
                reason="the oldest is younger than audit.keep_days",
            )

    def _renamed(self) -> dict[int, float]:
        """The renamed files by number, the newest first: when each was written last."""
        folder, _, name = self._path.rpartition("/")
        found = {}
        with os.scandir(folder or "/") as entries:
            for entry in entries:
                number = entry.name.removeprefix(f"{name}.")
                if entry.name.startswith(f"{name}.") and number.isdecimal() and number[0] != "0":
                    found[int(number)] = entry.stat().st_mtime
        return dict(sorted(found.items()))

    def _complain(self, error: OSError) -> None:
        metrics.AUDIT_FAILURES.add()
        metrics.AUDIT_FAILING.set(1)
        self._close()
        now = time.monotonic()
        self._try_at = now + _TRY_AGAIN_S
        if now >= self._say_at:
            self._say_at = now + _SAY_AGAIN_S
            LOG.error(
                "the audit trail cannot be written",
                file=self._path,
                reason=error.strerror or str(error),
                waiting=len(self._waiting),
                effect="new associations are rejected" if self._stops else "the node goes on",
            )


def old_files(written: Sequence[float], keep: int, keep_s: float) -> int:
    """How many files are to go, the oldest first, when one more is about to be renamed.

    Args:
        written: when each was written last, in seconds: the current file, then the renamed ones,
            the newest first.
        keep: so many renamed files stay, the one that is about to be renamed among them.
        keep_s: what is younger stays.
    """
    age, old = 0.0, 0
    for number, (newer, older) in enumerate(pairwise(written), start=2):
        # A clock that was set makes nothing old by itself.
        age += min(max(0.0, newer - older), keep_s * _OF_A_STEP)
        if number > keep and age >= keep_s:
            old += 1
    return old
