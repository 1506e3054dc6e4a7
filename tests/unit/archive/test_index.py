"""The index: its migrations make what the schema says, and processes share it without strife."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import traceback
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from archive_datasets import received

from lfscp.archive.archive import Archive, Outcome
from lfscp.archive.check import check
from lfscp.archive.database import sqlite_url
from lfscp.archive.index import Index
from lfscp.archive.schema import metadata


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Other parts of lfscp keep tables in the same database; those are theirs to compare."""
    return kind != "table" or name in metadata.tables


def test_the_migrations_make_the_schema(tmp_path: Path) -> None:
    index = Index(sqlite_url(tmp_path / "index.sqlite"))
    with index.engine.connect() as connection:
        options = {"compare_type": True, "include_name": is_ours}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    index.close()


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


def test_forked_workers_share_an_open_archive(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
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


def test_a_series_deleted_by_another_process_is_made_anew(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        archive.store(received(1))
        script = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
            "[c.execute(f'DELETE FROM {t}') for t in ('instance', 'series', 'study', 'patient')];"
            "c.commit()"
        )
        subprocess.run([sys.executable, "-c", script, tmp_path / "index.sqlite"], check=True)
        assert archive.store(received(2)).outcome is Outcome.STORED
        assert archive.statistics().series == 1


def test_a_database_locked_for_a_while_is_waited_for(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        other = sqlite3.connect(
            tmp_path / "index.sqlite", isolation_level=None, check_same_thread=False
        )
        other.execute("BEGIN IMMEDIATE")
        unlock = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        unlock.start()
        assert archive.store(received(1)).outcome is Outcome.STORED
        unlock.join()
        other.close()
