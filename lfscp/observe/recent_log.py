"""Keeps the newest warnings and errors of all processes of a node in a file, for its page.

The whole log goes to standard error, where the page cannot read it. Rules: a line is one write to a
file opened for appending, so that lines of several processes do not mix. When the file has grown to
half of its limit, it takes the place of the one before. Writing never raises: a full disk loses no
more than lines here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = "recent.log"
LEVELS: Final = ("warning", "error", "critical")
_MODE: Final = 0o640
_PIECE: Final = 1 << 16
_KNOWN: Final = frozenset({"time", "level", "logger", "event"})


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log.

    Args:
        time: ISO 8601 in UTC.
        part: of lfscp, or a library.
        fields: what else it says, by name.
    """

    time: str
    level: str
    part: str
    event: str
    fields: dict[str, Any]

    def has(self, text: str) -> bool:
        """Whether a text is in it, without regard to case."""
        words = [self.event, self.part, *(f"{name}={each}" for name, each in self.fields.items())]
        return text.lower() in " ".join(words).lower()


class RecentLog:
    """The file of one node. Any thread of any process may write.

    Args:
        folder: of the file.
        max_bytes: of it and the one before, together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._path = str(folder / FILE)
        self._max_bytes = max_bytes // 2

    def write(self, line: str) -> None:
        """Append a line that is JSON; never raises."""
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, _MODE)
            try:
                os.write(descriptor, line.encode("utf-8", "backslashreplace"))
                is_full = os.fstat(descriptor).st_size >= self._max_bytes
            finally:
                os.close(descriptor)
            if is_full:
                os.replace(self._path, f"{self._path}.1")  # noqa: PTH105 - costs half of pathlib's
        except OSError:
            return

    def lines(self) -> Iterator[LogLine]:
        """The lines, the newest first.

        Raises:
            OSError: a file cannot be read.
        """
        for path in (self._path, f"{self._path}.1"):
            for line in lines_backwards(Path(path)):
                read = _read(line)
                if read is not None:
                    yield read


def lines_backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last one first; none if there is no file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        at = file.seek(0, os.SEEK_END)
        rest = b""
        while at:
            start = max(0, at - _PIECE)
            file.seek(start)
            first, *lines = (file.read(at - start) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            at, rest = start, first
        if rest:
            yield rest


def _read(line: bytes) -> LogLine | None:
    """A line; None if a crash has cut it off."""
    try:
        said = json.loads(line)
        others = {name: value for name, value in said.items() if name not in _KNOWN}
        return LogLine(said["time"], said["level"], said["logger"], said["event"], others)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
