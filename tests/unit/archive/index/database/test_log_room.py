"""The write-ahead log has room at its end, and a reader finds all commits and nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfscp.archive.durability import Durability
from lfscp.archive.index.database import log_room
from lfscp.archive.index.database.sqlite import SQLiteDatabase
from tests.support.small_disk import small_disk

MEGABYTE = 1 << 20
ROWS = 40


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the tests' folder for one on a disk."""
    monkeypatch.setattr(log_room, "is_written_in_place", lambda _: True)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SQLiteDatabase]:
    made = new_database(tmp_path)
    yield made
    made.close()


def new_database(folder: Path, durability: Durability = Durability.FULL) -> SQLiteDatabase:
    made = SQLiteDatabase(f"sqlite:///{folder / 'index.sqlite'}", durability, 5)
    with made.transaction() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS row (text TEXT)")
    return made


def insert(database: SQLiteDatabase, text: str) -> None:
    with database.transaction() as cursor:
        cursor.execute("INSERT INTO row VALUES (?)", (text,))


def log_length(folder: Path) -> int:
    return (folder / "index.sqlite-wal").stat().st_size


def rows_in(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM row ORDER BY rowid")]


def test_commits_write_over_room(database: SQLiteDatabase, tmp_path: Path) -> None:
    lengths = set()
    for number in range(ROWS):
        insert(database, str(number))
        lengths.add(log_length(tmp_path))
    assert lengths == {MEGABYTE}


def test_room_grows_with_the_log(database: SQLiteDatabase, tmp_path: Path) -> None:
    for _ in range(3):
        insert(database, "x" * MEGABYTE)
    insert(database, "short")
    assert log_length(tmp_path) % MEGABYTE == 0
    assert log_length(tmp_path) > 4 * MEGABYTE


def test_what_a_crash_leaves_is_read_to_the_last_commit(
    database: SQLiteDatabase, tmp_path: Path
) -> None:
    for number in range(ROWS):
        insert(database, str(number))
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("index.sqlite", "index.sqlite-wal"):
        shutil.copy(tmp_path / name, crashed)
    assert log_length(crashed) == MEGABYTE
    assert rows_in(crashed / "index.sqlite") == [str(number) for number in range(ROWS)]


def test_two_writers_of_one_log_add_room_once(database: SQLiteDatabase, tmp_path: Path) -> None:
    with closing(new_database(tmp_path)) as other:
        for number in range(ROWS):
            insert((database, other)[number % 2], str(number))
    assert log_length(tmp_path) == MEGABYTE
    assert len(rows_in(tmp_path / "index.sqlite")) == ROWS


def test_no_room_is_made_where_nothing_is_synced(tmp_path: Path) -> None:
    with closing(new_database(tmp_path, Durability.OS)) as database:
        for number in range(ROWS):
            insert(database, str(number))
        assert log_length(tmp_path) < MEGABYTE


def test_no_room_is_made_where_bytes_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_room, "is_written_in_place", lambda _: False)
    with closing(new_database(tmp_path)) as database:
        for number in range(ROWS):
            insert(database, str(number))
        assert log_length(tmp_path) < MEGABYTE


def test_a_disk_too_small_for_room_takes_commits(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", "600k") as disk,
        closing(new_database(disk)) as database,
    ):
        insert(database, "first")
        insert(database, "second")
        assert log_length(disk) < MEGABYTE
        assert rows_in(disk / "index.sqlite") == ["first", "second"]


def test_a_link_to_the_index_leads_to_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (tmp_path / "index.sqlite").symlink_to(folder / "index.sqlite")
    with closing(new_database(tmp_path)) as database:
        insert(database, "first")
        insert(database, "second")
        assert log_length(folder) == MEGABYTE


@given(length=st.integers(1, 100 * MEGABYTE))
def test_a_log_with_room_ends_at_a_megabyte(length: int) -> None:
    room = log_room.room_behind(length)
    assert (length + room) % MEGABYTE == 0
    assert min(length, 4 * MEGABYTE) <= room < 5 * MEGABYTE
