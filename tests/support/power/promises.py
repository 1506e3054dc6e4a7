"""What a writer stores, replaces and deletes, and whether a disk still has it after a power cut.

Before each step the writer says in a line what is under way, after it what was acknowledged. After
a cut each object is as it was last acknowledged, or as what was under way would leave it: whole, or
not there at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lfscp.archive.archive import Archive
from lfscp.archive.upkeep.check import check
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import encoded, received

GONE: Final = "gone"
_SERIES: Final = (6, 500)  # objects: folders that go again, and folders that grow
_OF_A_THREAD: Final = 10_000
_LONG: Final = "7" * 40  # then some fifty names fill a block of a folder


def uid_of(number: int) -> str:
    """The SOP Instance UID of an object."""
    return f"1.2.3.1.{_LONG}.{number}"


def values_of(number: int, version: str) -> dict[str, object]:
    """What an object is made of: some KB, or some hundred."""
    thread = number // _OF_A_THREAD
    study = f"1.2.4.{thread}.{number // _SERIES[thread > 0]}"
    size = 300_000 if number % 5 == 4 else 9_000
    pixels = f"{number}/{version}/".encode().ljust(16, b".") * (size // 16)
    uids = {"SOPInstanceUID": uid_of(number), "StudyInstanceUID": study}
    return {"pixels": pixels, **uids, "SeriesInstanceUID": f"{study}.1"}


def steps_of(number: int) -> Iterator[str]:
    """What becomes of an object: its first version, for some the second, for some its end."""
    yield "first"
    if number % 3 == 1:
        yield "second"
    if number % 4 == 2:
        yield GONE


def may_be(said: bytes) -> dict[int, set[str]]:
    """The states that each object may be in, after what was said."""
    states: dict[int, set[str]] = {}
    for line in said.decode().split("\n")[:-1]:  # a cut may part the last line
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
    there = {
        row.sop_instance_uid: row for row in archive.select(Level.PATIENT, {Level.PATIENT: ["P1"]})
    }
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
