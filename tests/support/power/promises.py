"""Stores, replaces and deletes objects, says what it does and has done; judges what is left.

    python promises.py [OPTION]... DATA_FOLDER SAID

Several threads of one archive. Before each step a line says what is under way, after it what was
acknowledged. After a cut each object is as it was last acknowledged, or as what was under way
would leave it: whole, or not there at all.
"""

from __future__ import annotations

import argparse
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event

from lfscp.archive.archive import Archive
from lfscp.archive.index import sqlite
from lfscp.archive.upkeep.check import check
from lfscp.dicom.attributes import Level
from tests.support.archive_datasets import encoded, received

THREADS: Final = 3
GONE: Final = "gone"
_A_SERIES: Final = 6  # objects


def uid_of(number: int) -> str:
    """The SOP Instance UID of an object."""
    return f"1.2.3.1.{number}"


def values_of(number: int, version: str) -> dict[str, object]:
    """What an object is made of: some KB, or some hundred."""
    study = f"1.2.4.{number // _A_SERIES}"
    size = 300_000 if number % 5 == 4 else 9_000
    pixels = f"{number}/{version}/".encode().ljust(16, b".") * (size // 16)
    return {"pixels": pixels, "StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1"}


def steps_of(number: int) -> Iterator[str]:
    """What becomes of an object: its first version, for some the second, for some its end."""
    yield "first"
    if number % 3 == 1:
        yield "second"
    if number % 4 == 2:
        yield GONE


class Writer:
    """Keeps an archive busy, and says so."""

    def __init__(self, archive: Archive, said: Path) -> None:
        self._archive = archive
        self._said = os.open(said, os.O_WRONLY | os.O_APPEND)

    def write(self, first: int, until: float) -> None:
        """Do all steps of one object after another, until a time of the monotonic clock."""
        for number in count(first):
            for step in steps_of(number):
                self._say("begun", number, step)
                self._do(number, step)
                self._say("done", number, step)
                if time.monotonic() > until:
                    return

    def _do(self, number: int, step: str) -> None:
        if step == GONE:
            self._archive.delete(Level.IMAGE, uid_of(number))
        else:
            self._archive.store(received(number, **values_of(number, step)))

    def _say(self, what: str, number: int, step: str) -> None:
        os.write(self._said, f"{what} {number} {step}\n".encode())


def may_be(said: bytes) -> dict[int, set[str]]:
    """The states that each object may be in, after what was said."""
    states: dict[int, set[str]] = {}
    for line in said.decode().splitlines():
        what, number, step = line.split()
        if what == "begun":
            states.setdefault(int(number), {GONE}).add(step)
        else:
            states[int(number)] = {step}
    return states


def judge(data: Path, said: bytes) -> list[str]:
    """What a start after a cut finds wrong; empty when all is as it was promised."""
    with Archive.open(data, duplicates="replace") as archive:
        archive.finish_removals()
        faults = [f"a piece stays: {piece.name}" for piece in archive.files.pieces()]
        faults += [f"check: {finding}" for finding in check(archive)]
        faults += _objects(archive, may_be(said))
        archive.store(received(1, SOPInstanceUID="1.2.3.9", StudyInstanceUID="1.2.3.8"))
    return faults


def _objects(archive: Archive, states: dict[int, set[str]]) -> Iterator[str]:
    there = {row.sop_instance_uid: row for row in archive.select(Level.PATIENT, {Level.PATIENT: ["P1"]})}
    for number, may in states.items():
        row = there.pop(uid_of(number), None)
        if row is None:
            if GONE not in may:
                yield f"LOST: {number} was acknowledged as {' or '.join(sorted(may))}"
        elif not row.path.exists():
            yield f"LOST: the file of {number}"
        elif not any(_is(row.path, number, version) for version in may - {GONE}):
            yield f"WRONG: {number} is not its {' or '.join(sorted(may))}"
    yield from (f"nobody stored {uid}" for uid in there)


def _is(file: Path, number: int, version: str) -> bool:
    return file.read_bytes().endswith(encoded(number, **values_of(number, version)))


def leave_out(what: str) -> None:
    """Have this process sync no files, no folders or no index: a trial must notice."""

    def fsync(descriptor: int, really: Callable[[int], None] = os.fsync) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if is_folder != (what == "folder"):
            really(descriptor)

    if what != "index":
        os.fsync = fsync
    if what == "file":
        os.fdatasync = lambda _: None


def set_up_index(pages: int, *, sync: bool) -> None:
    """Have SQLite move its log into the index after so few pages, as it does after hours of use."""

    def engine(*arguments: Any, make: Callable[..., Engine] = sqlite._engine) -> Engine:
        made = make(*arguments)

        @event.listens_for(made, "connect")
        def set_pragmas(connection: Any, _record: Any) -> None:
            connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            if not sync:
                connection.execute("PRAGMA synchronous = OFF")

        return made

    sqlite._engine = engine


def main() -> None:
    """Open the archive, and write to it for some seconds."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--durability", default="full")
    options.add_argument("--without", choices=["file", "folder", "index"])
    options.add_argument("--checkpoint", type=int, default=40)
    options.add_argument("data", type=Path)
    options.add_argument("said", type=Path)
    chosen = options.parse_args()
    set_up_index(chosen.checkpoint, sync=chosen.without != "index")
    if chosen.without:
        leave_out(chosen.without)
    archive = Archive.open(chosen.data, duplicates="replace", durability=chosen.durability)
    writer, until = Writer(archive, chosen.said), time.monotonic() + chosen.seconds
    threads = [
        threading.Thread(target=writer.write, args=(10_000 * at, until)) for at in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0)  # closes nothing: power cuts come without notice


if __name__ == "__main__":
    main()
