"""Compares readings of a clock: has it jumped, what is kept of it, which stamps do rows get."""

from __future__ import annotations

import ctypes
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select

from lfscp.archive.index.tables.maintenance_tables import maintenance

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
JUMP_MS: Final = 600_000  # more than clocks are slewed by in the time between two looks
MAX_OFF_MS: Final = 3 * DAY_MS  # a machine that is off for a long weekend
STEADY_MS: Final = 7 * DAY_MS
STEADY_SYNCHRONISED_MS: Final = HOUR_MS
TASK: Final = "clock"
_TIMESYNCD: Final = Path("/run/systemd/timesync/synchronized")
_UNSYNCHRONISED: Final = 5  # TIME_ERROR, what adjtimex(2) returns then
_TIMEX_BYTES: Final = 512  # more than any struct timex


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clocks of a machine say at one moment.

    Args:
        day_ms: the time of day, in ms since 1970.
        boot: names the machine's start; empty when that is not known.
        up_ms: since that start.
    """

    day_ms: int
    boot: str = ""
    up_ms: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """A record of the last look at a clock.

    Args:
        seen: the last one.
        trusted_ms: the time of day that was certain then.
        steady_since_ms: when the clock jumped last, by itself; 0 when it is trusted.
    """

    seen: Reading
    trusted_ms: int
    steady_since_ms: int = 0


def look_at(kept: Kept, now: Reading, most_off_ms: int, *, is_synchronised: bool) -> Kept:
    """Decide what a look at the clock tells; no I/O, no clock.

    Args:
        most_off_ms: how long it is usual for the machine to be off.
    """
    jump, passed = _compare(kept.seen, now, most_off_ms)
    trusted_ms = kept.trusted_ms + passed
    if jump and abs(now.day_ms - trusted_ms) > JUMP_MS:  # else it was set right again
        return Kept(now, trusted_ms, now.day_ms)
    wait = STEADY_SYNCHRONISED_MS if is_synchronised else STEADY_MS
    if kept.steady_since_ms and not jump and now.day_ms - kept.steady_since_ms < wait:
        return Kept(now, trusted_ms, kept.steady_since_ms)
    return Kept(now, now.day_ms)


def _compare(before: Reading, now: Reading, most_off_ms: int) -> tuple[int, int]:
    """How far the clock has jumped, 0 for not at all, and how much time has passed for certain."""
    gone = now.day_ms - before.day_ms
    if before.boot and before.boot == now.boot and now.up_ms >= before.up_ms:
        passed = now.up_ms - before.up_ms
        return (gone - passed if abs(gone - passed) > JUMP_MS else 0), passed
    if -JUMP_MS <= gone <= max(JUMP_MS, most_off_ms):
        return 0, max(0, gone)
    return gone, 0


def is_synchronised() -> bool:
    """Whether the clock follows a time server, as systemd-timesyncd or the kernel says.

    False when neither may tell.
    """
    if _TIMESYNCD.exists():
        return True
    with suppress(OSError, AttributeError):
        found = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
        return found not in (-1, _UNSYNCHRONISED)
    return False


def wall_ms() -> int:
    """The time of day that the clock shows, in ms since 1970."""
    return time.time_ns() // 1_000_000


def up_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def task_of(node: str) -> str:
    """The name of a clock's row in the table of tasks."""
    return f"{TASK} {node}".strip()


def read_kept(connection: Connection, task: str) -> Kept | None:
    """What an index keeps of the looks at a clock."""
    row = connection.execute(select(maintenance).where(maintenance.c.task == task)).first()
    if row is None:
        return None
    with suppress(ValueError, KeyError, TypeError):
        said = json.loads(row.holder)
        seen = Reading(row.position, said["boot"], said["up_ms"])
        return Kept(seen, said["trusted_ms"], row.held_until)
    return None


def doubt_of(kept: Kept | None) -> str:
    """Why a clock is not trusted, in words; empty when it is."""
    if kept is None or not kept.steady_since_ms:
        return ""
    since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(kept.steady_since_ms / 1000))
    return f"not trusted, it has jumped to {since} UTC; studies and jobs are deleted later"


class Stamps:
    """The time for new rows: the clock's, but not before the time that was certain at the start.

    If a clock is put back, objects that come meanwhile would be old once it is set right.

    Args:
        kept: of the clock, at the start.
    """

    def __init__(self, kept: Kept | None = None) -> None:
        self._least_ms = 0 if kept is None else kept.trusted_ms - JUMP_MS
        self._up_s = up_s()

    def now_ms(self) -> int:
        """Now, in ms since 1970."""
        now = wall_ms()
        if now >= self._least_ms:
            return now
        return self._least_ms + int((up_s() - self._up_s) * 1000)
