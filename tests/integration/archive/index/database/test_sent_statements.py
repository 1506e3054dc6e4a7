"""Statements that look for one row in PostgreSQL: waited for awake if alone, and told the truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lfscp.archive.index.database import sent_statements
from lfscp.archive.index.database.connections import Connections, DriverConnection, is_lost
from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.index.database.sent_statements import SentStatements
from tests.support.postgresql_server import PostgreSQLServer


@pytest.fixture
def connections(postgresql_server: PostgreSQLServer) -> Iterator[Connections]:
    url = f"host=127.0.0.1 port={postgresql_server.port} user=lfscp dbname=postgres"
    made = Connections(lambda: DriverConnection.connect(url, autocommit=True), 3, 20.0)
    yield made
    made.close_idle()


@pytest.fixture
def awake(monkeypatch: pytest.MonkeyPatch) -> list[SentStatements]:
    """Who waits awake; every result is prompt enough."""
    waits: list[SentStatements] = []
    monkeypatch.setattr(sent_statements, "_PROMPT_S", 60.0)
    monkeypatch.setattr(sent_statements, "_MAY_WAIT_AWAKE", True)
    monkeypatch.setattr(SentStatements, "_wait_awake", lambda self, _: waits.append(self))
    return waits


def ask(connection: DriverConnection, value: object, sql: str = "SELECT %s::TEXT") -> list[Any]:
    """The rows of a statement that may be interrupted."""
    cursor = connection.prepared
    connection.interruption, cursor.wait = Interruption(), connection.wait_for_sent
    try:
        return cursor.execute(sql, [value]).fetchall()
    finally:
        connection.interruption = cursor.wait = None


def test_after_a_prompt_result_the_next_one_is_waited_for_awake(
    connections: Connections, awake: list[SentStatements]
) -> None:
    with connections.one() as connection:
        assert ask(connection, "a") == [("a",)]
        begun = len(awake)
        assert [ask(connection, each) for each in "bcd"] == [[("b",)], [("c",)], [("d",)]]
    assert len(awake) == begun + 3


def test_after_a_slow_result_the_thread_sleeps(
    connections: Connections, awake: list[SentStatements], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent_statements, "_PROMPT_S", 0.0)
    with connections.one() as connection:
        assert [ask(connection, each) for each in "abc"] == [[("a",)], [("b",)], [("c",)]]
    assert not awake


def test_several_that_wait_do_not_wait_awake(
    connections: Connections, awake: list[SentStatements]
) -> None:
    with connections.one() as first:
        ask(first, "a")
        with connections.one() as second:
            awake.clear()
            assert [ask(second, each) for each in "bcd"] == [[("b",)], [("c",)], [("d",)]]
    assert not awake
    with connections.one() as connection:
        ask(connection, "e")
        ask(connection, "f")
    assert awake


def test_a_result_that_comes_while_awake_is_read(connections: Connections) -> None:
    with connections.one() as connection:
        for number in range(300):
            assert ask(connection, str(number)) == [(str(number),)]


def test_a_statement_that_the_socket_does_not_take_at_once_is_sent_whole(
    connections: Connections,
) -> None:
    long = "x" * 30_000_000
    with connections.one() as connection:
        assert ask(connection, long, "SELECT length(%s::TEXT)") == [(len(long),)]
        assert ask(connection, "a") == [("a",)]


def test_an_error_of_the_server_comes_out_and_the_connection_goes_on(
    connections: Connections,
) -> None:
    with connections.one() as connection:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            ask(connection, "one", "SELECT %s::INT")
        assert ask(connection, "a") == [("a",)]


def test_a_connection_that_the_server_ended_is_lost(connections: Connections) -> None:
    with connections.one() as connection:
        with connections.one() as other:
            ask(other, str(connection.info.backend_pid), "SELECT pg_terminate_backend(%s::INT)")
        with pytest.raises(psycopg.Error) as raised:
            [ask(connection, "a") for _ in range(100)]
    assert is_lost(raised.value)
