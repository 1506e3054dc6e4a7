"""What a disk may hold after the power was cut: worked out from the record of its writes.

A flush puts on disk what was written before it. Of what was written since, a disk may have put
anything: each block of 4,096 bytes has been written or not, whatever became of those before it.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tests.support.power.record import FLUSH, Entry, read_record

BLOCK: Final = 4096


@dataclass(frozen=True)
class Cut:
    """A power cut.

    Args:
        entry: the number of the first request that the disk did not get any more.
        kept: the share of the blocks that were written but not flushed, and are there.
        waiting: how many of such blocks there were.
        said: how many bytes had been said by then; None for all.
    """

    entry: int
    kept: float
    waiting: int
    said: int | None

    def __str__(self) -> str:
        share = f"{self.kept:.0%} of {self.waiting} blocks that were not flushed"
        return f"cut before request {self.entry}, {share} were written"


def random_instants(entries: list[Entry], count: int, chance: random.Random) -> list[int]:
    """So many requests before which the power is cut, in their order; the last is after all.

    Half of them come right after a flush or before one, where a promise is due or has been kept.
    """
    flushes = [n for n, entry in enumerate(entries) if entry.which == FLUSH]
    near = [n + more for n in flushes for more in (0, 1) if n + more < len(entries)]
    chosen = {len(entries)}
    while len(chosen) < min(count, len(entries)):
        chosen.add(chance.choice(near) if len(chosen) % 2 else chance.randrange(len(entries)))
    return sorted(chosen)


def cut_disks(
    base: Path, record: Path, instants: Iterable[int], into: Path, chance: random.Random
) -> Iterator[Cut]:
    """Cut the power at each of these instants; `into` is then the disk as it is afterwards.

    Args:
        base: the disk as it was at first; what is flushed is written to it.
    """
    entries = read_record(record)
    waiting: list[Entry] = []
    done = 0
    with record.open("rb") as written, base.open("r+b") as flushed:
        for instant in instants:
            for entry in entries[done:instant]:
                waiting.append(entry)
                if entry.which == FLUSH:
                    _write(waiting, written, flushed)
                    waiting = []
            done = instant
            flushed.flush()
            subprocess.run(["cp", "--sparse=always", str(base), str(into)], check=True)
            kept = chance.choice([0.0, 1.0, 0.5, chance.random()])
            with into.open("r+b") as disk:
                blocks = _write(waiting, written, disk, kept, chance)
            yield Cut(instant, kept, blocks, _said_by(entries, instant))


def _said_by(entries: list[Entry], instant: int) -> int | None:
    return entries[instant].said if instant < len(entries) else None


def _write(
    entries: Iterable[Entry],
    written: BinaryIO,
    disk: BinaryIO,
    kept: float = 1.0,
    chance: random.Random | None = None,
) -> int:
    """Write blocks, or a share of them; says how many there are."""
    count = 0
    for entry in entries:
        for offset, at, length in _blocks(entry):
            count += 1
            if chance is None or chance.random() < kept:
                written.seek(at)
                disk.seek(offset)
                disk.write(written.read(length))
    return count


def _blocks(entry: Entry) -> Iterator[tuple[int, int, int]]:
    """Offset on disk, place in the record and length of each block of a write."""
    offset, end = entry.offset, entry.offset + entry.length
    while offset < end:
        length = min(end, (offset // BLOCK + 1) * BLOCK) - offset
        yield offset, entry.at + offset - entry.offset, length
        offset += length
