"""The index: its migrations make what the schema says, and processes share it without strife."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, text

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.index import migrations
from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.index import Index
from lfscp.archive.upkeep.check import check
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import received
from tests.support.schema_differences import differences


def schema_of(path: Path) -> dict[str, list[str]]:
    """Name to the words of its SQL for all tables and indexes; in which order does not count."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        found = {str(name): sorted(re.split(r'[\s(),"]+', sql)) for name, sql in rows}
    connection.close()
    return found


def migrated(path: Path, revision: str) -> None:
    """Make the index as an older version did, with a row that must outlive the migrations."""
    engine = create_engine(sqlite_url(path))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.execute(text("INSERT INTO patient (patient_id) VALUES ('P1')"))
    engine.dispose()


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004"])
def test_a_new_index_and_a_migrated_one_are_the_same(tmp_path: Path, revision: str) -> None:
    new, old = tmp_path / "new.sqlite", tmp_path / "old.sqlite"
    migrated(old, revision)
    for path in (new, old):
        index = Index(sqlite_url(path))
        with index.engine.connect() as connection:
            assert differences(connection) == []
            revisions = connection.execute(text("SELECT version_num FROM alembic_version"))
            assert revisions.scalars().all() == [migrations.HEAD]
        index.close()
    assert schema_of(old) == schema_of(new)
    with closing(Index(sqlite_url(old))) as index:
        assert index.counts()[Level.PATIENT] == 1


def test_a_new_index_is_made_without_loading_alembic(tmp_path: Path) -> None:
    code = (
        "import sys; from lfscp.archive.index.index import Index;"
        "Index(sys.argv[1]).close(); sys.exit('alembic' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    url = sqlite_url(tmp_path / "index.sqlite")
    assert subprocess.run([sys.executable, "-c", code, url], cwd=root).returncode == 0


def test_the_head_revision_is_the_newest_migration() -> None:
    versions = Path(migrations.__file__).parent / "versions"
    assert max(path.name[:4] for path in versions.glob("0*.py")) == migrations.HEAD


def test_commits_are_synced_and_keys_never_reused(tmp_path: Path) -> None:
    index = Index(sqlite_url(tmp_path / "index.sqlite"))
    with index.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        tables = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'table'")
        made = [sql for (sql,) in tables if "sop_instance_uid" in sql or "patient_id" in sql]
        assert made
        assert all("AUTOINCREMENT" in sql for sql in made if "TABLE instance" not in sql)
    index.close()


def in_child(work: object) -> int:
    """Fork, call `work` in the child, and give the child's pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()  # type: ignore[operator]
        except BaseException:  # noqa: BLE001 - the child must not run the rest of the tests
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def test_forked_workers_share_an_open_archive(
    tmp_path: Path, open_archive: Callable[..., Archive]
) -> None:
    with open_archive(tmp_path) as archive:
        archive.store(received(0))

        def work(worker: int) -> None:
            for number in range(30):
                archive.store(received(1000 * worker + number))

        children = [in_child(lambda worker=worker: work(worker)) for worker in (1, 2, 3)]
        for number in range(30):
            archive.store(received(9000 + number))
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
        assert archive.statistics().instances == 121
        assert archive.statistics().studies == 1
        assert list(check(archive)) == []


def connections() -> set[str]:
    """What of this process's open files may be a connection to a database."""
    links = set()
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):
            links.add(str(descriptor.readlink()))
    return {link for link in links if link.startswith("socket:") or "index.sqlite" in link}


def test_a_child_gets_no_connection_of_its_parent(
    tmp_path: Path, open_archive: Callable[..., Archive]
) -> None:
    before = connections()
    with open_archive(tmp_path) as archive:
        archive.store(received(1))
        assert archive.statistics().instances == 1
        assert connections() > before

        def look() -> None:
            assert connections() <= before

        assert os.waitpid(in_child(look), 0)[1] == 0


def test_threads_of_several_workers_find_store_and_delete_at_once(
    tmp_path: Path, open_archive: Callable[..., Archive]
) -> None:
    """Groups of threads commit beside groups of another process; nobody sees a lock."""
    failures: list[Exception] = []

    def store(archive: Archive, first: int) -> None:
        try:
            for number in range(first, first + 15):
                uids = {"SeriesInstanceUID": f"1.2.3.{number % 3}"}
                archive.store(received(number, **uids))
                archive.store(received(number, **uids))  # identical
                if number % 5 == 0:
                    assert archive.delete(Level.IMAGE, f"1.2.3.1.{number}") == 1
                assert archive.statistics().instances >= 0
        except Exception as error:  # noqa: BLE001 - raised again by the test
            failures.append(error)

    def work(archive: Archive, worker: int) -> None:
        threads = [
            threading.Thread(target=store, args=(archive, 1000 * worker + 100 * thread))
            for thread in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    with open_archive(tmp_path) as archive:
        children = [in_child(lambda worker=worker: work(archive, worker)) for worker in (1, 2)]
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
        assert archive.statistics().instances == 2 * 4 * 12
        assert archive.statistics().studies == 1
        assert list(check(archive)) == []


def test_a_series_deleted_by_another_process_is_made_anew(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        archive.store(received(1))
        script = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
            "[c.execute(f'DELETE FROM {t}') for t in ('instance', 'series', 'study', 'patient')];"
            "c.commit()"
        )
        subprocess.run([sys.executable, "-c", script, tmp_path / "index.sqlite"], check=True)
        assert archive.store(received(2)).outcome is StoreOutcome.STORED
        assert archive.statistics().series == 1


def test_a_store_is_committed_though_an_earlier_rollback_has_failed(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        first = archive.store(received(1))
        database = archive.index._database
        database._writer.execute("BEGIN IMMEDIATE")  # what a rollback that failed leaves behind
        assert archive.store(received(2)).series_uid == first.series_uid
        other = sqlite3.connect(tmp_path / "index.sqlite")
        assert other.execute("SELECT count(*) FROM instance").fetchone() == (2,)
        other.close()


def test_a_database_locked_for_a_while_is_waited_for(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        other = sqlite3.connect(
            tmp_path / "index.sqlite", isolation_level=None, check_same_thread=False
        )
        other.execute("BEGIN IMMEDIATE")
        unlock = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        unlock.start()
        assert archive.store(received(1)).outcome is StoreOutcome.STORED
        unlock.join()
        other.close()


def test_a_connection_in_use_while_the_index_closes_is_closed_afterwards(tmp_path: Path) -> None:
    index = Index(sqlite_url(tmp_path / "index.sqlite"))
    connection = index.engine.connect()
    drivers: list[sqlite3.Connection] = [connection.connection.driver_connection]  # type: ignore[list-item]
    with index._database.reading() as cursor:
        drivers.append(cursor.connection)
        index.close()
    connection.close()
    for driver in drivers:
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            driver.execute("SELECT 1")


def test_a_reader_that_cannot_be_set_up_is_closed(tmp_path: Path) -> None:
    index = Index(sqlite_url(tmp_path / "index.sqlite"))
    index.close()  # so that reading makes a new connection
    made: list[sqlite3.Connection] = []

    def forbid_temp_store(action: int, name: str | None, *_: object) -> int:
        is_denied = action == sqlite3.SQLITE_PRAGMA and name == "temp_store"
        return sqlite3.SQLITE_DENY if is_denied else sqlite3.SQLITE_OK

    @event.listens_for(index.engine, "connect")
    def note(connection: sqlite3.Connection, _: object) -> None:
        connection.set_authorizer(forbid_temp_store)
        made.append(connection)

    with pytest.raises(sqlite3.DatabaseError, match="not authorized"), index.reading():
        pass
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[-1].execute("SELECT 1")
    index.close()
