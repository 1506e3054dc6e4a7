"""Connections to PostgreSQL: one thread uses each at a time, and there is a limit to them.

Rules: a lost connection does not come back to the others. A statement that reads rows gives them as
they come, may be interrupted, and is asked once more if its connection was just old.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final, cast

import psycopg
from psycopg import generators
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult

from lfscp.archive.index.database.interruption import Interruption, InterruptionError
from lfscp.archive.index.database.prepared_cursor import PreparedCursor
from lfscp.archive.index.database.sent_statements import SentStatements

_LIBPQ_WITH_CHUNKS: Final = 170000
_CHUNK_ROWS: Final = 500
_CANCEL_S: Final = 5.0
_READ_ONLY: Final = "25006"  # the primary has become a standby: another one is the primary now
# Of the server or this session: it is about to end, or does not exist any longer.
_LOST: Final = frozenset({"57P01", "57P02", "57P03", "57P05", _READ_ONLY})


class CannotConnectError(psycopg.OperationalError):
    """There is no connection, so nothing can have been done."""


class DriverConnection(psycopg.Connection[Any]):
    """A connection whose statement may be interrupted; then it tells the server to end it.

    Relied on: all that waits for the server goes through `wait`, which gives the generator a turn
    when `interval` is over.

    Attributes:
        interruption: of the statement that runs.
        is_alone: no other connection of its kind is in use in this process.
        session: the number of the server's process; a lost connection does not tell it.
    """

    interruption: Interruption | None = None
    is_alone = False
    session = 0

    @cached_property
    def prepared(self) -> PreparedCursor:
        """Runs short statements, which stay prepared."""
        return PreparedCursor(self)

    def wait(self, gen: PQGen[RV], *args: Any, **options: Any) -> RV:
        """Wait for the server; looks at the interruption meanwhile."""
        if self.interruption is not None:
            gen = self._interruptible(gen, self.interruption)
        return super().wait(gen, *args, **options)

    @cached_property
    def _sent(self) -> SentStatements:
        return SentStatements(self.pgconn)

    def wait_for_sent(self) -> PGresult:
        """Wait for the result of what was sent; if that is interrupted, the server ends it too."""
        try:
            return self._result_of_sent()
        except BaseException:
            self.interruption = None  # what waits for the end of the statement is not interrupted
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                with contextlib.suppress(psycopg.Error):
                    self.cancel_safe(timeout=_CANCEL_S)
            raise

    def _result_of_sent(self) -> PGresult:
        if self.interruption is not None and not self.pgconn.flush():
            return self._sent.last_result(self.interruption, awake=self.is_alone)
        results: list[PGresult] = self.wait(generators.execute(self.pgconn))  # sends the rest
        return results[-1]

    def _interruptible(self, gen: PQGen[RV], interruption: Interruption) -> PQGen[RV]:
        try:
            state = next(gen)
            while True:
                ready = yield state
                interruption.look()
                state = gen.send(ready)
        except StopIteration as end:
            return cast("RV", end.value)
        except InterruptionError:
            self.interruption = None  # what waits for the end of the statement is not interrupted
            raise


def is_lost(error: object) -> bool:
    """Whether the connection is gone, or of no use any longer."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InternalError):
        return False
    state = error.sqlstate
    return state is None or state.startswith("08") or state in _LOST


class Connections:
    """Connections that are used by one thread at a time, and no more of them than a limit.

    SQLAlchemy's pool costs 7 us more each time, and after its `dispose` lets in twice the limit.

    Attributes:
        lost: sessions whose connection was lost, and that may still be at work.
    """

    def __init__(
        self, connect: Callable[[], DriverConnection], limit: int, timeout_s: float
    ) -> None:
        self._connect = connect
        self._limit = limit
        self._timeout_s = timeout_s
        self.reset()

    def reset(self) -> None:
        """Forget all of them: they are the parent's."""
        self._free = threading.Semaphore(self._limit)
        self._idle: list[DriverConnection] = []
        self.lost: set[int] = set()
        self._in_use: set[DriverConnection] = set()
        self._turn = threading.Condition()
        self._of_source: Counter[str] = Counter()

    @contextmanager
    def share_of(self, source: str) -> Iterator[None]:
        """Count a use for an address, which may have half of the connections; "" is not counted."""
        if not source:
            yield
            return
        most = max(1, self._limit // 2)
        with self._turn:
            if not self._turn.wait_for(lambda: self._of_source[source] < most, self._timeout_s):
                raise CannotConnectError(f"{source} uses {most} connections to the index already")
            self._of_source[source] += 1
        try:
            yield
        finally:
            with self._turn:
                self._of_source[source] -= 1
                if not self._of_source[source]:
                    del self._of_source[source]
                self._turn.notify_all()

    def close_idle(self) -> None:
        """Close those that are not in use."""
        while self._idle:
            with contextlib.suppress(psycopg.Error, IndexError):
                self._idle.pop().close()

    @contextmanager
    def one(self) -> Iterator[DriverConnection]:
        """A connection for this thread, the one used last; a lost one does not come back."""
        if not self._free.acquire(timeout=self._timeout_s):
            raise CannotConnectError(f"all {self._limit} connections to the index are busy")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            self._in_use.add(connection)
            connection.is_alone = len(self._in_use) == 1
            try:
                yield connection
            except psycopg.Error as error:
                if is_lost(error):
                    self.lost.add(connection.session)
                    connection.close()
                    self.close_idle()  # the server went, and with it the others
                raise
            finally:
                self._in_use.discard(connection)
                if connection.closed:
                    pass
                elif connection.info.transaction_status is TransactionStatus.IDLE:
                    self._idle.append(connection)
                else:
                    connection.close()
        finally:
            self._free.release()


class Reader:
    """Reads the rows of one SELECT; once more from its beginning when the connection was old."""

    def __init__(
        self,
        connection: DriverConnection,
        connect: Callable[[], DriverConnection],
        interruption: Interruption | None,
        *,
        finds_one: bool,
    ) -> None:
        self._connection = connection
        self._connect = connect
        self._interruption = interruption
        self._finds_one = finds_one
        self._rows: Generator[Any, None, None] | None = None

    def execute(self, sql: str, parameters: Sequence[Any]) -> Iterator[Any]:
        """The rows, of which no more than a chunk is in memory."""
        self._rows = self._read(sql, parameters)
        return self._rows

    def close(self) -> None:
        """End the statement, also when not all of its rows were read."""
        if self._rows is not None:
            self._rows.close()

    def _read(self, sql: str, parameters: Sequence[Any]) -> Generator[Any, None, None]:
        is_first = True
        try:
            for row in self._stream(self._connection, sql, parameters):
                is_first = False
                yield row
        except psycopg.OperationalError as error:
            if not (is_first and is_lost(error)):
                raise
        else:
            return
        with self._connect() as connection:
            yield from self._stream(connection, sql, parameters)

    def _stream(
        self, connection: DriverConnection, sql: str, parameters: Sequence[Any]
    ) -> Generator[Any, None, None]:
        connection.interruption = self._interruption
        try:
            if self._finds_one:  # to plan it anew would take longer than to run it
                yield from self._find(connection, sql, parameters)
                return
            with connection.cursor() as cursor:
                yield from cursor.stream(sql, parameters, size=_ROWS_AT_A_TIME)
        finally:
            connection.interruption = None

    def _find(
        self, connection: DriverConnection, sql: str, parameters: Sequence[Any]
    ) -> Iterator[Any]:
        """The rows, which are few; it may have to wait for a lock, and be interrupted then."""
        cursor = connection.prepared
        cursor.wait = connection.wait_for_sent if self._interruption is not None else None
        try:
            return iter(cursor.execute(sql, parameters))
        finally:
            cursor.wait = None


_ROWS_AT_A_TIME: Final = _CHUNK_ROWS if psycopg.pq.version() >= _LIBPQ_WITH_CHUNKS else 1
