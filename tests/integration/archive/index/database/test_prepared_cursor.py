"""Short statements on a connection to PostgreSQL: what goes in comes out, and errors are told."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from pydicom.uid import UID

from lfscp.archive.index.database.prepared_cursor import MAX_PREPARED, PreparedCursor
from tests.support.postgresql_server import PostgreSQLServer

Connection = psycopg.Connection[Any]


@pytest.fixture
def connection(postgresql_server: PostgreSQLServer) -> Iterator[Connection]:
    options: dict[str, Any] = {"host": "127.0.0.1", "port": postgresql_server.port}
    with psycopg.connect(**options, user="lfscp", dbname="postgres", autocommit=True) as made:
        made.execute("CREATE TEMP TABLE kept (id BIGINT PRIMARY KEY, content BYTEA)")
        yield made


@pytest.mark.parametrize(
    "text", ["", "plain", "Müller^Jörg", "山田", "50 %", "%s", "a\\b'c\"", "\n"]
)
def test_a_text_comes_back_as_it_was(connection: Connection, text: str) -> None:
    assert PreparedCursor(connection).execute("SELECT %s::TEXT", [text]).fetchall() == [(text,)]


def test_a_nul_becomes_the_replacement_character(connection: Connection) -> None:
    assert PreparedCursor(connection).execute("SELECT %s::TEXT", ["a\0b"]).fetchone() == (
        "a\ufffdb",
    )


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, -(2**63)])
def test_a_whole_number_comes_back_as_it_was(connection: Connection, number: int) -> None:
    assert PreparedCursor(connection).execute("SELECT %s::BIGINT", [number]).fetchone() == (number,)


def test_sums_absent_values_and_the_sign_of_a_mark_are_read(connection: Connection) -> None:
    cursor = PreparedCursor(connection)
    cursor.execute("SELECT sum(5::BIGINT), NULL::TEXT, '%%s', %s::TEXT, 'a%%'", ["one"])
    assert cursor.fetchall() == [(Decimal(5), None, "%s", "one", "a%")]


def test_bytes_are_kept_as_they_are(connection: Connection) -> None:
    content = bytes(range(256))
    cursor = PreparedCursor(connection)
    cursor.execute("INSERT INTO kept VALUES (%s::BIGINT, %s::BYTEA)", [1, content])
    assert cursor.rowcount == 1
    assert connection.execute("SELECT content FROM kept").fetchone() == (content,)


def test_rows_are_read_one_by_one_and_those_of_the_statement_before_are_gone(
    connection: Connection,
) -> None:
    cursor = PreparedCursor(connection)
    cursor.execute("SELECT generate_series(1, %s::BIGINT)", [3])
    assert cursor.fetchone() == (1,)
    assert list(cursor) == [(2,), (3,)]
    assert cursor.fetchone() is None
    cursor.execute("SELECT generate_series(1, %s::BIGINT)", [3])
    cursor.execute("DELETE FROM kept WHERE id = %s::BIGINT", [7])
    assert (cursor.fetchone(), cursor.rowcount) == (None, 0)


def test_a_statement_is_prepared_once(connection: Connection) -> None:
    cursor = PreparedCursor(connection)
    for number in range(3):
        cursor.execute("SELECT %s::BIGINT", [number])
    assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (1,)


def test_no_more_statements_than_a_limit_stay_prepared(connection: Connection) -> None:
    cursor = PreparedCursor(connection)
    for number in range(MAX_PREPARED + 3):
        assert cursor.execute(f"SELECT {number}, %s::TEXT", ["x"]).fetchone() == (number, "x")
    count = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert count == (3,)


def test_an_error_of_the_server_has_its_kind_and_the_connection_goes_on(
    connection: Connection,
) -> None:
    cursor = PreparedCursor(connection)
    insert = "INSERT INTO kept VALUES (%s::BIGINT, NULL)"
    cursor.execute(insert, [1])
    with pytest.raises(psycopg.errors.UniqueViolation):
        cursor.execute(insert, [1])
    with pytest.raises(psycopg.errors.UndefinedTable):
        cursor.execute("SELECT id FROM nobody WHERE id = %s::BIGINT", [1])
    assert cursor.execute(insert, [2]).rowcount == 1


def test_a_lost_connection_is_an_operational_error_and_closed(
    connection: Connection, postgresql_server: PostgreSQLServer
) -> None:
    cursor = PreparedCursor(connection)
    postgresql_server.sql(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 10000)")
    with pytest.raises(psycopg.OperationalError):
        cursor.execute("SELECT %s::BIGINT", [1])
    with pytest.raises(psycopg.OperationalError):
        cursor.execute("SELECT %s::BIGINT", [1])
    assert connection.closed


def test_values_of_a_kind_of_their_own_go_in(connection: Connection) -> None:
    cursor = PreparedCursor(connection)
    cursor.execute("SELECT %s::TEXT, %s::BIGINT", [UID("1.2.3"), True])
    assert cursor.fetchall() == [("1.2.3", 1)]


@pytest.mark.parametrize("value", [1.7, Decimal("1.7"), ["a"], None])
def test_a_value_that_would_go_in_as_another_is_refused(connection: Connection, value: Any) -> None:
    with pytest.raises(TypeError):
        PreparedCursor(connection).execute("SELECT %s::BIGINT", [value])


@pytest.mark.parametrize(
    "change", ["ALTER TABLE kept ALTER content TYPE TEXT USING '?'", "DEALLOCATE ALL"]
)
def test_a_statement_is_prepared_again_after_a_change_of_its_table(
    connection: Connection, change: str
) -> None:
    cursor = PreparedCursor(connection)
    find = "SELECT id, content FROM kept WHERE id = %s::BIGINT"
    assert cursor.execute(find, [1]).fetchone() is None
    connection.execute(change)
    cursor.execute("INSERT INTO kept VALUES (%s::BIGINT)", [1])
    assert cursor.execute(find, [1]).fetchone() == (1, None)
    assert cursor.execute(find, [1]).fetchone() == (1, None)


@pytest.mark.parametrize(
    "change", ["ALTER TABLE kept ALTER content TYPE TEXT USING '?'", "DEALLOCATE ALL"]
)
def test_a_transaction_is_to_be_done_again_after_a_change_of_its_table(
    connection: Connection, change: str
) -> None:
    cursor = PreparedCursor(connection)
    find = "SELECT id, content FROM kept WHERE id = %s::BIGINT"
    cursor.execute(find, [1])
    connection.execute(change)
    cursor.run(b"BEGIN")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        cursor.execute(find, [1])
    cursor.run(b"ROLLBACK")
    cursor.run(b"BEGIN")
    assert cursor.execute(find, [1]).fetchone() is None
    cursor.run(b"COMMIT")
