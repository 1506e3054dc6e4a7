"""SIGKILL at any moment of replacements that move an object to another study.

A process sends the same instances again and again, now in one study, now in another, and says what
was acknowledged. It is killed at random moments. After the next start each instance has one file,
that of the content that was acknowledged last, or of the one that was under way; an index that is
made anew has the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lfscp.archive.archive import Archive
from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.upkeep.check import check
from lfscp.archive.upkeep.rebuild import rebuild
from tests.support.killed_writer import kill_after, started

ROUNDS = 5

WRITER = """
import itertools, sys, threading
from pathlib import Path
from tests.support.archive_datasets import received
from lfscp.archive.archive import Archive

archive = Archive.open(Path(sys.argv[1]), duplicates="replace")
log = open(sys.argv[2], "a", buffering=1)

def store(thread):
    for turn in itertools.count(int(sys.argv[3])):
        number, study = 10 * thread + turn % 3, f"1.2.{thread}.{turn // 3 % 2 + 1}"
        log.write(f"storing {number} {study}\\n")
        archive.store(received(number, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1"))
        log.write(f"stored {number} {study}\\n")

[threading.Thread(target=store, args=(thread,)).start() for thread in (1, 2, 3)]
"""


def killed_writer(data: Path, log: Path, first: int) -> list[list[str]]:
    """Run the writer, kill it at a random moment, and return what it said."""
    log.touch()
    lines = kill_after(started(WRITER, data, log, first), log, "stored", 30, 0.1)
    return [line.split() for line in lines if line.count(" ") == 2]


def paths(archive: Archive) -> dict[str, str]:
    return {row.sop_instance_uid: row.path for row in archive.index.placements()}


@pytest.mark.timeout(180)
def test_no_replaced_content_is_left_or_comes_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    last: dict[str, set[str]] = {}  # the studies that an instance may be in
    for number in range(ROUNDS):
        for what, instance, study in killed_writer(data, tmp_path / f"said{number}", number):
            uid = f"1.2.3.1.{instance}"
            if what == "stored":
                last[uid] = {study}
            else:
                last.setdefault(uid, set()).add(study)
        with Archive.open(data, duplicates="replace") as archive:
            assert list(check(archive)) == []
            now = paths(archive)
        for uid, studies in last.items():
            assert uid not in now or now[uid].split("/")[0] in studies
            last[uid] = {now[uid].split("/")[0]} if uid in now else studies
        assert len(now) == 9
    for file in data.glob("index.sqlite*"):
        file.unlink()
    index = data / "index.sqlite"
    assert list(rebuild(index, lambda file: Archive.open(data, index_url=sqlite_url(file)))) == []
    with Archive.open(data) as archive:
        assert paths(archive) == now
