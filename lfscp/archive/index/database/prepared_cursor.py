"""Runs short statements on a connection to PostgreSQL, prepared there once, through libpq itself.

psycopg's own cursor takes three times the processor time for the INSERT of an instance. It asks for
each value how it is written, and whether the statement is to be prepared. Rules: the values are
texts, whole numbers and bytes; the rows are read at once, so there have to be few.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import psycopg
from psycopg.errors import InvalidSqlStatementName
from psycopg.pq import DiagnosticField, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

_MARK: Final = re.compile("%[s%]")
_DONE: Final = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)
MAX_PREPARED: Final = 256  # which take memory of the server
_ENCODING: Final = "utf-8"
_UNKNOWN: Final = b"26000"
_NOT_SUPPORTED: Final = b"0A000"
_CHECKS_PLAN: Final = b"RevalidateCachedQuery"  # the server's function; its message is translated
_INTEGER: Final[Callable[[bytes], Any]] = int
# By the type's number in PostgreSQL; everything else is text.
_READ: Final = {
    20: _INTEGER,
    21: _INTEGER,
    23: _INTEGER,
    1700: lambda value: Decimal(value.decode()),
}


class PreparedCursor:
    """A cursor as the archive's writing side uses it. It belongs to one connection.

    Args:
        connection: the driver's, in autocommit; nobody else uses it meanwhile.

    Attributes:
        rowcount: how many rows the last statement has changed or found.
        wait: gives the result of what was sent, for a statement that may be interrupted; None for
            one that is waited for in libpq, which takes less time and hears of nothing else.
    """

    wait: Callable[[], PGresult] | None = None

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._pgconn: PGconn = connection.pgconn
        self._names: dict[str, bytes] = {}
        self._prepared = 0
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.rowcount = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The rows that have not been read yet."""
        return self._rows

    def execute(self, sql: str, values: Sequence[Any] = ()) -> PreparedCursor:
        """Run one statement.

        Args:
            sql: with `%s` where its values go.
        Raises:
            psycopg.Error: it failed; InvalidSqlStatementName: it is to be done again, with its
                transaction.
            TypeError: it does not take such a value.
        """
        encoded, formats = [_encoded(value) for value in values], None
        if bytes in map(type, values):
            formats = [Format.BINARY if type(each) is bytes else Format.TEXT for each in values]
        result = self._run(sql, encoded, formats)
        if result.status not in _DONE and _has_no_plan(result):
            self._names.clear()
            if self._pgconn.transaction_status == TransactionStatus.IDLE:
                result = self._run(sql, encoded, formats)
            if _has_no_plan(result):
                self._names.clear()
                raise InvalidSqlStatementName(result.get_error_message(_ENCODING))
        _require(result)
        self.rowcount = result.command_tuples or 0
        self._rows = iter(_rows(result)) if result.ntuples else iter(())
        return self

    def run(self, command: bytes) -> None:
        """Run a command without values, such as COMMIT.

        Raises:
            psycopg.Error: it failed.
        """
        _require(self._pgconn.exec_(command))

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None after the last one."""
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that are left."""
        return list(self._rows)

    def _run(self, sql: str, encoded: list[bytes], formats: list[Format] | None) -> PGresult:
        name = self._names.get(sql) or self._prepare(sql)
        if self.wait is None:
            return self._pgconn.exec_prepared(name, encoded, formats)
        self._pgconn.send_query_prepared(name, encoded, formats)
        return self.wait()

    def _prepare(self, sql: str) -> bytes:
        if len(self._names) >= MAX_PREPARED:
            self.run(b"DEALLOCATE ALL")
            self._names.clear()
        name = f"lfscp_{self._prepared}".encode()
        self._prepared += 1  # whatever becomes of it: no name is given twice
        command = _numbered(sql).encode()
        if self.wait is None:
            _require(self._pgconn.prepare(name, command))
        else:
            self._pgconn.send_prepare(name, command)
            _require(self.wait())
        self._names[sql] = name
        return name


def _numbered(sql: str) -> str:
    """A statement with the marks of PostgreSQL instead of the driver's: `$1` for the first `%s`."""
    pieces, at = list[str](), 0
    number = 0
    for mark in _MARK.finditer(sql):
        pieces.append(sql[at : mark.start()])
        at = mark.end()
        number += mark[0] == "%s"
        pieces.append(f"${number}" if mark[0] == "%s" else "%")
    return "".join([*pieces, sql[at:]])


def _encoded(value: Any) -> bytes:
    """A value as PostgreSQL takes it. A text that is stored has no NUL, so none is found by one."""
    if isinstance(value, str):
        return (value.replace("\0", "\ufffd") if "\0" in value else value).encode()
    if isinstance(value, int):
        return b"%d" % value
    if type(value) is bytes:
        return value
    raise TypeError(f"a statement takes no {type(value).__name__}")


def _has_no_plan(result: PGresult) -> bool:
    """Whether the server has forgotten a statement, or a column is of another type by now."""
    state = result.error_field(DiagnosticField.SQLSTATE)
    if state == _NOT_SUPPORTED:
        return result.error_field(DiagnosticField.SOURCE_FUNCTION) == _CHECKS_PLAN
    return state == _UNKNOWN


def _require(result: PGresult) -> None:
    """Raise the driver's error if a statement has failed."""
    if result.status in _DONE:
        return
    if not result.error_field(DiagnosticField.SQLSTATE):  # of the server; the connection is lost
        raise psycopg.OperationalError(result.get_error_message(_ENCODING))
    raise psycopg.errors.error_from_result(result, _ENCODING)


def _rows(result: PGresult) -> list[tuple[Any, ...]]:
    columns = range(result.nfields)
    readers = [_READ.get(result.ftype(column), _text) for column in columns]
    return [
        tuple(_read(readers[column], result.get_value(row, column)) for column in columns)
        for row in range(result.ntuples)
    ]


def _read(reader: Callable[[bytes], Any], value: bytes | None) -> Any:
    return None if value is None else reader(value)


def _text(value: bytes) -> str:
    return value.decode(_ENCODING)
