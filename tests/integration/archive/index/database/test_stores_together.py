"""Stores of several threads in PostgreSQL: committed together, and none waits for another's row."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from lfscp.archive import in_doubt
from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.errors import InDoubtError
from lfscp.archive.index.database import postgresql, watch
from lfscp.archive.index.database.postgresql import PostgreSQLDatabase, _Waiting
from lfscp.archive.store.object_store import Placement
from lfscp.archive.upkeep.check import check
from lfscp.dicom.reading.header import read_header
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import EXPLICIT, encoded, received
from tests.support.postgresql_server import PostgreSQLServer

JOIN_S = 60.0


@pytest.fixture
def archive(postgresql_url: str, tmp_path: Path) -> Iterator[Archive]:
    with Archive.open(tmp_path, index_url=postgresql_url, durability="os") as opened:
        yield opened


class Storing:
    """Stores objects of one study in a thread."""

    def __init__(self, archive: Archive, study: str, numbers: range) -> None:
        self.outcomes: Counter[StoreOutcome] = Counter()
        self._archive = archive
        self._of = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1"}
        self._numbers = numbers
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for number in self._numbers:
            self.outcomes[self._archive.store(received(number, **self._of)).outcome] += 1

    @property
    def is_over(self) -> bool:
        """Whether all are stored."""
        return not self._thread.is_alive()

    def join(self) -> Counter[StoreOutcome]:
        """Wait for its end; how often each outcome was had."""
        self._thread.join(JOIN_S)
        assert self.is_over
        return self.outcomes


@contextmanager
def series_locked(url: str, uid: str) -> Iterator[None]:
    """A transaction of somebody else that is about to delete a series."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(
            "SELECT id FROM series WHERE series_instance_uid = %s FOR UPDATE", (uid,)
        )
        yield
        connection.rollback()


def test_stores_of_many_threads_are_all_there_and_once(archive: Archive) -> None:
    Storing(archive, "1.2.1", range(2)).join()  # the series is known, and its study was touched
    Storing(archive, "1.2.2", range(100, 102)).join()
    threads = [
        Storing(archive, f"1.2.{1 + at % 2}", range(first, first + 30))
        for at, first in enumerate((200, 300, 400, 500, 200, 300))  # two send the same as others
    ]
    outcomes = sum((each.join() for each in threads), Counter[StoreOutcome]())
    assert outcomes == {StoreOutcome.STORED: 120, StoreOutcome.IDENTICAL: 60}
    assert archive.statistics().instances == 4 + 120
    assert list(check(archive)) == []


def test_a_store_that_waits_for_a_deletion_holds_up_no_other(
    archive: Archive, postgresql_url: str
) -> None:
    for study, first in (("1.2.1", 0), ("1.2.2", 100)):
        Storing(archive, study, range(first, first + 2)).join()
    with series_locked(postgresql_url, "1.2.1.1"):
        waiting = Storing(archive, "1.2.1", range(10, 12))
        others = Storing(archive, "1.2.2", range(110, 130)).join()
        assert others == {StoreOutcome.STORED: 20}
        assert not waiting.is_over
    assert waiting.join() == {StoreOutcome.STORED: 2}
    assert archive.statistics().instances == 4 + 22


@contextmanager
def stopped(*processes: int) -> Iterator[None]:
    """Processes that do nothing for a while, and then go on."""
    for each in processes:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in processes:
            os.kill(each, signal.SIGCONT)


def test_a_session_of_the_server_that_is_stuck_holds_up_no_store_for_long(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for study, first in (("1.2.1", 0), ("1.2.2", 100)):
        Storing(archive, study, range(first, first + 2)).join()
    database = archive.index._database
    assert isinstance(database, PostgreSQLDatabase)
    monkeypatch.setattr(database, "_stuck_s", 0.1)
    (connection,) = database._together._idle
    stuck = connection.info.backend_pid
    with stopped(stuck):
        storing = [
            Storing(archive, "1.2.1", range(10, 20)),
            Storing(archive, "1.2.2", range(110, 120)),
        ]
        assert [each.join() for each in storing] == [{StoreOutcome.STORED: 10}] * 2
    assert archive.statistics().instances == 4 + 20
    assert list(check(archive)) == []


def test_a_lone_store_does_not_wait_for_a_session_that_is_stuck(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits behind it, who could look."""
    monkeypatch.setattr(watch, "_LOOK_S", 0.05)
    Storing(archive, "1.2.1", range(2)).join()
    database = archive.index._database
    assert isinstance(database, PostgreSQLDatabase)
    monkeypatch.setattr(database, "_stuck_s", 0.1)
    (connection,) = database._together._idle
    stuck = connection.info.backend_pid
    with stopped(stuck):
        assert Storing(archive, "1.2.1", range(10, 11)).join() == {StoreOutcome.STORED: 1}
    assert archive.statistics().instances == 3
    assert list(check(archive)) == []


def test_a_store_of_a_new_series_does_not_wait_for_a_session_that_is_stuck(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_LOOK_S", 0.05)
    monkeypatch.setattr(postgresql, "_STUCK_AT_LOCKS_S", 0.5)
    Storing(archive, "1.2.1", range(2)).join()
    database = archive.index._database
    assert isinstance(database, PostgreSQLDatabase)
    stuck = [each.info.backend_pid for each in database._writers._idle]
    with stopped(*stuck):
        assert Storing(archive, "1.2.2", range(10, 11)).join() == {StoreOutcome.STORED: 1}
    assert list(check(archive)) == []


def test_the_file_of_a_store_stays_as_long_as_a_session_that_was_stuck_may_commit_its_row(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent to it is in its socket: it does that whenever it goes on."""
    monkeypatch.setattr(watch, "_LOOK_S", 0.05)
    monkeypatch.setattr(in_doubt, "SETTLED_AFTER_S", 0.0)
    Storing(archive, "1.2.1", range(2)).join()
    database, doubts = archive.index._database, archive._storing._in_doubt
    assert isinstance(database, PostgreSQLDatabase)
    monkeypatch.setattr(database, "_stuck_s", 0.1)
    monkeypatch.setattr(database, "patience", lambda: _Waiting(0.0))
    (connection,) = database._together._idle
    stuck = connection.info.backend_pid
    with stopped(stuck):
        with pytest.raises(InDoubtError):
            archive.store(received(10, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.1.1"))
        doubts.settle()
    deadline = time.monotonic() + JOIN_S
    while doubts and time.monotonic() < deadline:
        doubts.settle()
    assert not doubts
    assert archive.statistics().instances == 3
    assert list(check(archive)) == []


def test_the_thread_that_looks_for_a_stuck_session_ends_with_the_archive(archive: Archive) -> None:
    Storing(archive, "1.2.1", range(2)).join()
    (thread,) = [each for each in threading.enumerate() if each.name == "lfscp-index-watch"]
    archive.close()
    thread.join(JOIN_S)
    assert not thread.is_alive()


def test_an_object_of_a_series_that_another_node_deleted_makes_it_again(
    archive: Archive, postgresql_url: str, tmp_path: Path
) -> None:
    for study, first in (("1.2.1", 0), ("1.2.2", 100)):
        Storing(archive, study, range(first, first + 2)).join()
    with Archive.open(
        tmp_path / "other", index_url=postgresql_url, objects_root=tmp_path / "objects"
    ) as other:
        other.delete(Level.STUDY, "1.2.1")
    threads = [Storing(archive, "1.2.1", range(10, 20)), Storing(archive, "1.2.2", range(110, 120))]
    assert [each.join() for each in threads] == [{StoreOutcome.STORED: 10}] * 2
    assert archive.statistics().instances == 2 + 20
    assert list(check(archive)) == []


def test_stores_go_on_when_the_server_takes_no_more_connections(
    postgresql_server: PostgreSQLServer, postgresql_url: str, tmp_path: Path
) -> None:
    name = postgresql_url.rpartition("/")[2]
    postgresql_server.sql("DROP ROLE IF EXISTS limited")
    postgresql_server.sql("CREATE ROLE limited LOGIN")
    postgresql_server.sql(
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO limited;"
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO limited",
        name,
    )
    url = postgresql_url.replace("lfscp@", "limited@", 1)
    with Archive.open(tmp_path, index_url=url, durability="os", index_timeout_s=1.0) as archive:
        archive.store(received(1))
        postgresql_server.sql("ALTER ROLE limited CONNECTION LIMIT 1")
        assert Storing(archive, "1.2.3", range(2, 12)).join() == {StoreOutcome.STORED: 10}
    postgresql_server.sql("DROP OWNED BY limited", name)
    postgresql_server.sql("DROP ROLE limited")


def test_a_row_that_cannot_be_sent_to_the_server_fails_alone(
    archive: Archive, postgresql_url: str
) -> None:
    archive.store(received(1))
    index, failed = archive.index, Counter[bool]()

    def add(number: int) -> None:
        path = f"{number}.dcm" if number % 4 else "\udcff"
        header = read_header(encoded(number), EXPLICIT)
        try:
            index.add(header, Placement(path, EXPLICIT, 0, 1, 1, "", "SENDER"))
        except UnicodeEncodeError:
            failed[not number % 4] += 1

    threads = [threading.Thread(target=add, args=(number,)) for number in range(10, 30)]
    with series_locked(postgresql_url, "1.2.3.1"):
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(JOIN_S)
    assert failed == {True: 5}
    assert archive.statistics().instances == 1 + 15
