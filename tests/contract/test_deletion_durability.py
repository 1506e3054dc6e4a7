"""SIGKILL at any moment of stores, deletions and retention: what was said to be so is so.

A process stores from two threads, deletes from a third, and recycles studies in a fourth; each says
what it is about to do and what it has done. It is killed at random moments; the archive is opened
again and compared: nothing acknowledged is lost, nothing deleted comes back, no file is left over.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lfscp.archive.archive import Archive
from lfscp.archive.upkeep.check import check
from lfscp.dicom.values.attributes import Level
from tests.support.killed_writer import kill_after, started

ROOT = Path(__file__).parents[2]
ROUNDS = 5

WRITER = """
import itertools, sys, threading
from pathlib import Path
from tests.support.archive_datasets import received
from lfscp.archive.archive import Archive
from lfscp.dicom.values.attributes import Level
from lfscp.archive.upkeep import retention
from lfscp.archive.upkeep.retention import Limits, Retention

archive = Archive.open(Path(sys.argv[1]))
stored = []
log = open(sys.argv[3], "a", buffering=1)

def store(thread):
    for number in itertools.count(int(sys.argv[2]) + 10_000 * thread):
        study = f"1.2.{number // 5}"
        archive.store(received(number, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1"))
        log.write(f"stored {number}\\n")
        stored.append(number)

def delete():
    while True:
        if len(stored) > 20:
            number = stored.pop(len(stored) // 2)
            log.write(f"deleting {number}\\n")
            if archive.delete(Level.IMAGE, f"1.2.3.1.{number}"):
                log.write(f"deleted {number}\\n")

def recycle_study(archive, study, *arguments, recycle=retention.recycle):
    log.write(f"recycling {study.study_uid}\\n")
    return recycle(archive, study, *arguments)

def recycle():
    retention.recycle = recycle_study
    limited = Retention(archive, Limits(max_studies=12, quiet_ms=1), lambda *_: None)
    while True:
        limited.run()

threads = [threading.Thread(target=store, args=(at,)) for at in (0, 1)]
threads += [threading.Thread(target=delete), threading.Thread(target=recycle)]
[thread.start() for thread in threads]
"""


def said_by_a_killed_writer(data: Path, first: int, log: Path) -> list[list[str]]:
    """Run the writer, kill it at a random moment, and return what it said."""
    log.touch()
    lines = kill_after(started(WRITER, data, first, log), log, "deleted", 1, 0.2)
    return [line.split() for line in lines if line.count(" ") == 1]


@pytest.mark.timeout(240)
def test_deletions_and_retention_survive_sigkill(tmp_path: Path) -> None:
    data = tmp_path / "data"
    cut_off = recycled = 0
    for turn in range(1, ROUNDS + 1):
        first = 100_000 * turn
        said = said_by_a_killed_writer(data, first, tmp_path / f"log{turn}")
        by_kind: dict[str, set[str]] = {
            kind: {what for each, what in said if each == kind}
            for kind in ("stored", "deleting", "deleted", "recycling")
        }
        recycled += len(by_kind["recycling"])
        with Archive.open(data) as archive:
            assert list(archive.files.pieces()) == []
            assert list(check(archive)) == []
            with archive.index.engine.connect() as connection:
                rows = connection.exec_driver_sql("SELECT path FROM removal").all()
                assert rows == []
                uids = connection.exec_driver_sql("SELECT sop_instance_uid FROM instance")
                left = {uid.rpartition(".")[2] for uid in uids.scalars()}
        assert not left & by_kind["deleted"]
        lost = by_kind["stored"] - left - by_kind["deleting"]
        assert {f"1.2.{int(number) // 5}" for number in lost} <= by_kind["recycling"]
        cut_off += len(by_kind["deleting"] - by_kind["deleted"])
        assert len(archive_files(data)) == len(left)
    assert recycled
    assert cut_off, "no deletion was cut off: the kills prove nothing"


def archive_files(data: Path) -> list[Path]:
    """Every object's file."""
    return list((data / "objects").glob("*/*/*.dcm"))


def test_files_of_deleted_rows_are_removed_at_the_next_start(tmp_path: Path) -> None:
    """A crash between the commit of a deletion and the removal of its files."""
    code = (
        "import os, sys; from pathlib import Path;"
        "from tests.support.archive_datasets import received;"
        "from lfscp.archive.archive import Archive;"
        "from lfscp.dicom.values.attributes import Level;"
        "archive = Archive.open(Path(sys.argv[1]));"
        "[archive.store(received(number)) for number in (1, 2, 3)];"
        "archive.remove_files = lambda paths: os._exit(9);"
        "archive.delete(Level.STUDY, '1.2.3')"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert died.returncode == 9
    assert len(archive_files(tmp_path)) == 3
    with Archive.open(tmp_path) as archive:
        assert archive_files(tmp_path) == []
        assert list(check(archive)) == []
        assert archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]}) == []
