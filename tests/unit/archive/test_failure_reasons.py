"""What went wrong with a database, a disk or a bucket is said in words, never by a class's name."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError, StatementError

from lfscp.archive import readiness
from lfscp.archive.archive import Archive
from lfscp.archive.index.database.database import reason_of
from lfscp.archive.store.bucket import s3_client


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (sqlite3.OperationalError(), "the database gives no reason"),
        (sqlite3.OperationalError("disk I/O error\nSELECT 'Doe'"), "disk I/O error"),
        (SQLAlchemyError("  "), "the database gives no reason"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
    ],
)
def test_the_reason_of_a_database(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_a_value_that_a_database_does_not_take_is_said_by_the_driver(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/index.sqlite")
    with engine.connect() as connection, pytest.raises(StatementError) as caught:
        connection.execute(text("SELECT :key"), {"key": object()})
    engine.dispose()
    assert "ProgrammingError" in str(caught.value)
    assert reason_of(caught.value).startswith("Error binding parameter")


def test_the_reason_of_a_bucket() -> None:
    assert s3_client.reason_of(RuntimeError()) == "the object store gives no reason"


def test_the_reason_why_a_node_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folder: Path) -> None:
        raise OSError

    monkeypatch.setattr(readiness, "_write_in", fail)
    with Archive.open(tmp_path, durability="os") as archive:
        checks = {check.name: check.problem for check in readiness.readiness(archive)}
    assert checks["objects"] == "the system gives no reason"
