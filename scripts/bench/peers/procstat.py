"""Memory and CPU time of a process tree, from /proc (Linux only)."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process and all its descendants that still exist."""
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                queue += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _ticks(pid: int) -> list[int]:
    """User and system time of a process, and the same of its children that have ended."""
    # The command name may hold spaces: fields are counted after its closing bracket.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(each) for each in fields[11:15]]


def cpu_seconds(root: int) -> float:
    """User + system time of the tree, reaped children included."""
    ticks = 0
    for pid in tree(root):
        try:
            ticks += sum(_ticks(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ticks / _TICKS


def own_cpu_seconds(pid: int) -> float:
    """User + system time of a process, without its children."""
    return sum(_ticks(pid)[:2]) / _TICKS


def ended_children_s(pid: int) -> float:
    """User + system time of the children of a process that have ended and were waited for."""
    return sum(_ticks(pid)[2:]) / _TICKS


@dataclass(frozen=True)
class Memory:
    rss_kb: int
    pss_kb: int  # pages shared between processes are split among them


def memory(root: int) -> Memory:
    rss = pss = 0
    for pid in tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("Rss:"):
                rss += int(line.split()[1])
            elif line.startswith("Pss:"):
                pss += int(line.split()[1])
    return Memory(rss, pss)


def _rss_kb(root: int) -> int:
    pages = 0
    for pid in tree(root):
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


class PeakMemory:
    """Samples the tree's memory in a thread while the `with` block runs.

    RSS is read often, from statm. PSS makes the kernel walk the page tables, so it is read seldom:
    its peak may be missed by what changes within a quarter of a second.
    """

    def __init__(self, root: int, interval_s: float = 0.05, pss_interval_s: float = 0.25) -> None:
        self.rss_kb = 0
        self.pss_kb = 0
        self._root = root
        self._interval_s = interval_s
        self._pss_interval_s = pss_interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        due = 0.0
        while not self._stop.is_set():
            self.rss_kb = max(self.rss_kb, _rss_kb(self._root))
            if time.monotonic() >= due:
                self.pss_kb = max(self.pss_kb, memory(self._root).pss_kb)
                due = time.monotonic() + self._pss_interval_s
            self._stop.wait(self._interval_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()
        last = memory(self._root)
        self.rss_kb = max(self.rss_kb, last.rss_kb)
        self.pss_kb = max(self.pss_kb, last.pss_kb)
