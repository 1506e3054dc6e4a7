"""The scrub: it reads everything, puts what is damaged aside, and goes on where it stopped."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.index.tables.maintenance_tables import maintenance
from lfscp.archive.upkeep.check import Difference, check
from lfscp.archive.upkeep.maintenance import Maintenance
from lfscp.archive.upkeep.retention import Limits
from lfscp.archive.upkeep.scrub import Scrub
from lfscp.archive.upkeep.task_lease import Turn
from lfscp.dicom.values.attributes import Level
from lfscp.observe import logging, metrics
from tests.support.archive_datasets import received

FIRST = "1.2.3/1.2.3.1/1.2.3.1.1.dcm"


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., Archive]) -> Iterator[Archive]:
    with open_archive(tmp_path / "data") as opened:
        for number in (1, 2, 3):
            opened.store(received(number))
        yield opened


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Any]:
    """The lines that were logged, read when it is called."""
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    logging.configure("info", "json", descriptor=descriptor)
    yield lambda: [json.loads(line) for line in path.read_text().splitlines()]
    logging.configure("info")
    os.close(descriptor)


def counted(outcome: str) -> float:
    sums = metrics.BOARD.sums()
    return dict(metrics.SCRUBBED_INSTANCES.samples(sums))[(outcome,)]


def scrubbed(archive: Archive) -> tuple[int, int]:
    """A pass over everything: how many were sound and damaged."""
    before = counted("sound"), counted("damaged")
    assert Scrub(archive, 1000, threading.Event()).run()
    return int(counted("sound") - before[0]), int(counted("damaged") - before[1])


def test_a_sound_archive(archive: Archive, log: Any) -> None:
    assert scrubbed(archive) == (3, 0)
    assert log() == []


@pytest.mark.parametrize(
    ("damage", "problem"), [(b"", Difference.WRONG_SIZE), (b"\xff", Difference.WRONG_DIGEST)]
)
def test_a_damaged_object_is_put_aside_and_healed_when_it_is_sent_again(
    archive: Archive, log: Any, damage: bytes, problem: Difference
) -> None:
    path = archive.files.path(FIRST)
    path.write_bytes(path.read_bytes()[:-1] + damage)
    assert scrubbed(archive) == (2, 1)
    (line,) = log()
    assert (line["level"], line["event"]) == ("error", "object damaged")
    assert line["problem"] == problem.value
    assert line["study_instance_uid"] == "1.2.3"
    assert line["series_instance_uid"] == "1.2.3.1"
    assert line["sop_instance_uid"] == "1.2.3.1.1"
    assert (archive.data_dir / "quarantine" / FIRST).exists()
    (instance,) = archive.select(Level.IMAGE, {Level.IMAGE: ["1.2.3.1.1"]})
    assert not instance.path.exists()  # so that a retrieve of it fails
    assert [str(each) for each in check(archive)] == [
        f"missing: {FIRST} (it is damaged and in quarantine)"
    ]
    assert archive.store(received(1)).outcome is StoreOutcome.REPLACED
    assert scrubbed(archive) == (3, 0)
    assert list(check(archive)) == []


def test_a_missing_object_is_said(archive: Archive, log: Any) -> None:
    archive.files.path(FIRST).unlink()
    assert scrubbed(archive) == (2, 1)
    (line,) = log()
    assert line["problem"] == "missing"


def test_what_cannot_be_read_is_left_where_it_is(archive: Archive, log: Any) -> None:
    path = archive.files.path(FIRST)
    path.unlink()
    path.symlink_to(path.name)  # a loop: the file is there and cannot be read
    assert scrubbed(archive) == (2, 1)
    assert log()[0]["problem"] == "unreadable"
    assert path.is_symlink()


def test_an_object_that_is_deleted_while_it_is_read_is_no_damage(
    archive: Archive, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = Scrub._compare

    def delete_before(scrub: Scrub, path: Path, row: Any) -> Any:
        if row.path == FIRST:
            archive.delete(Level.IMAGE, "1.2.3.1.1")
        return compare(scrub, path, row)

    monkeypatch.setattr(Scrub, "_compare", delete_before)
    assert scrubbed(archive) == (2, 0)
    assert log() == []


def test_it_goes_on_where_it_stopped(
    archive: Archive, open_archive: Callable[..., Archive]
) -> None:
    stopping = threading.Event()
    read: list[str] = []

    class Watched(Scrub):
        def _compare(self, path: Path, row: Any) -> Any:
            read.append(row.sop_instance_uid)
            if len(read) == 2:
                stopping.set()
            return super()._compare(path, row)

    assert Watched(archive, 1000, stopping).run()
    with archive.index.engine.connect() as connection:
        position = select(maintenance.c.position).where(maintenance.c.task == "scrub")
        assert connection.execute(position).scalar() == 1
    archive.close()
    with open_archive(archive.data_dir) as again:
        assert scrubbed(again) == (2, 0)
        assert scrubbed(again) == (3, 0)


def test_it_is_one_node_s_turn_at_a_time(archive: Archive) -> None:
    mine, other = Turn(archive, "scrub"), Turn(archive, "scrub")
    other._holder = "another node"
    assert mine.take() == 0
    assert other.take() is None
    mine.keep(7)
    assert mine.take() == 7
    mine.give_up(9)
    assert other.take() == 9
    assert mine.take() is None
    with archive.index.writing() as connection:  # a turn that was never given up
        connection.exec_driver_sql("UPDATE maintenance SET held_until = 1")
    assert mine.take() == 9


def test_nodes_whose_machines_and_folders_have_the_same_names_are_two(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as containers: each calls its data folder the same."""
    turns = []
    with ExitStack() as nodes:
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            shared = {"index_url": postgresql_url, "objects_root": tmp_path / "objects"}
            node = nodes.enter_context(Archive.open(Path("data"), **shared))
            turns.append(Turn(node, "scrub"))
        assert [turn.take() for turn in turns] == [0, None]


def test_its_threads_end_when_they_are_asked_to(archive: Archive, log: Any) -> None:
    before = threading.active_count()
    threads = Maintenance(archive, Limits(max_studies=9), interval_s=0.01, scrub_mb_s=1)
    threads.start()
    threads.stop()
    assert threading.active_count() == before


def test_retention_is_done_and_said_by_its_thread(archive: Archive, log: Any) -> None:
    limits = Limits(max_age_ms=1, quiet_ms=0)
    threads = Maintenance(archive, limits, interval_s=0.01, scrub_mb_s=0)
    threads.start()
    try:
        deadline = time.monotonic() + 20
        while archive.statistics().studies and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        threads.stop()
    (line,) = log()
    assert line["event"] == "study recycled"
    assert (line["study_instance_uid"], line["instances"], line["limit"]) == ("1.2.3", 3, "age")


def test_an_index_that_fails_is_said_once_and_tried_again(archive: Archive, log: Any) -> None:
    with archive.index.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE maintenance RENAME TO elsewhere")
    threads = Maintenance(archive, Limits(max_studies=9), interval_s=0.01, scrub_mb_s=0)
    waits: list[float] = []

    class Stopping:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return len(waits) == 4

        def is_set(self) -> bool:
            return False

    threads._stopping = Stopping()  # type: ignore[assignment]
    threads._repeat("lfscp-retention", threads._retain, 0.0)
    assert waits[1:] == [60, 60, 60]
    once, line = log()  # a database that is locked for a moment is no error yet
    assert [once["level"], line["level"]] == ["warning", "error"]
    assert "maintenance" in line["reason"]
