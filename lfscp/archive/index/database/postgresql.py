"""Keeps the index in PostgreSQL: its connections, and which failures are waited out.

Rules: several nodes share the database, and each writing thread has a transaction of its own;
constraints, not locks of lfscp, keep the rows right. Connections are limited. Storing, querying and
everything else have their own, so that none starves another; one address has at most half of those
for queries, however slowly it takes its answers. A lost connection is replaced, and the work done
again within its time. No message contains a password.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, Final, cast

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg.types.string import StrDumper
from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from lfscp.archive.durability import Durability
from lfscp.archive.index.database.database import Database, Patience, Result
from lfscp.archive.index.database.interruption import Interruption, InterruptionError
from lfscp.archive.index.database.prepared_cursor import PreparedCursor
from lfscp.archive.index.database.statements import Statement

_CONNECT_TIMEOUT_S: Final = 5
_MAX_PAUSE_S: Final = 1.0
_LOCK_WAIT_MS: Final = 100
_ATTEMPTS: Final = 10
_LIBPQ_WITH_CHUNKS: Final = 170000
_CHUNK_ROWS: Final = 500
_READ_ONLY: Final = "25006"  # the primary has become a standby: another one is the primary now
# Of the server or this session: it is about to end, or does not exist any longer.
_LOST: Final = frozenset({"57P01", "57P02", "57P03", "57P05", _READ_ONLY})
# A serialisation failure, a deadlock, a lock that was not had, too many connections.
_PASSING: Final = frozenset({"40001", "40P01", "55P03", "53300"})


class CannotConnectError(psycopg.OperationalError):
    """There is no connection, so nothing can have been done."""


class _WithoutNul(StrDumper):
    """Text as PostgreSQL takes it. A value that is stored has no NUL, so none is found by one."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


class PostgreSQLDatabase(Database):
    """A database of a PostgreSQL server.

    Args:
        connections: of this process, each for storing, for prepared queries and for the rest. One
            more is for stores that are committed together.
        timeout_s: how long work may wait for the server when it is away or all connections are
            busy.
    """

    is_shared = True
    has_one_writer = False
    error = psycopg.Error
    integrity_error = psycopg.IntegrityError

    def __init__(
        self, url: str, durability: Durability, *, connections: int, timeout_s: float
    ) -> None:
        self.dialect = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]
        self.engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            creator=lambda: self._connect(autocommit=False),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=timeout_s,
            pool_pre_ping=True,  # a connection of before the server's restart is replaced unseen
            pool_use_lifo=True,
            use_native_hstore=False,  # which would be asked for on each new connection
        )
        self._timeout_s = timeout_s
        self._writers = _Connections(self._connect, connections, timeout_s)
        self._readers = _Connections(self._connect, connections, timeout_s)
        self._together = _Connections(self._connect_impatient, 1, timeout_s)
        self._durability = durability
        self._follow_forks()

    def _connect(self, *, autocommit: bool = True) -> _Connection:
        """A new connection, which commits as durably as asked for and plans for the values."""
        arguments, options = self.engine.dialect.create_connect_args(self.engine.url)
        options.update(_connect_options(self.engine.url, self._timeout_s))
        settings = {"jit": "off"}  # which takes longer than these statements do
        try:
            connection = _Connection.connect(*arguments, **options, autocommit=True)
            connection.prepare_threshold = None
            connection.adapters.register_dumper(str, _WithoutNul)
            if self._durability is Durability.OS:
                settings["synchronous_commit"] = "off"
            elif connection.execute("SHOW synchronous_commit").fetchone() == ("off",):
                settings["synchronous_commit"] = "on"
            for name, value in settings.items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        except psycopg.Error as error:
            raise CannotConnectError(str(error)) from None
        connection.autocommit = autocommit
        return connection

    def _connect_impatient(self) -> _Connection:
        """One on which no row waits long for a lock: it would hold up those of others."""
        connection = self._connect()
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{_LOCK_WAIT_MS}",))
        return connection

    # A child must not speak on its parent's connections: none is open while a process forks.

    def before_fork(self) -> None:
        self.close()

    def after_fork_in_parent(self) -> None:
        """The next use connects again."""

    def after_fork_in_child(self) -> None:
        self.engine.dispose(close=False)
        for each in (self._writers, self._readers, self._together):
            each.reset()

    def close(self) -> None:
        for each in (self._writers, self._readers, self._together):
            each.close_idle()
        self.engine.dispose()

    @contextmanager
    def reading(
        self, interruption: Interruption | None = None, *, finds_one: bool = False
    ) -> Iterator[Any]:
        """A reader whose `execute` gives the rows as they come from the server."""
        source = interruption.source if interruption is not None else ""
        with self._readers.share_of(source), self._readers.one() as connection:
            reader = _Reader(connection, self._connect, interruption, finds_one=finds_one)
            try:
                yield reader
            finally:
                reader.close()

    @contextmanager
    def lookup(self) -> Iterator[Any]:
        with self._writers.one() as connection:
            yield connection.prepared

    def write(self, statement: Statement, values: Sequence[Any]) -> None:
        with self._writers.one() as connection:
            statement.run(connection.prepared, values)

    def write_together(self, statement: Statement, values: Sequence[Any]) -> None:
        with self._together.one() as connection:
            statement.run(connection.prepared, values)

    def may_be_done(self, error: BaseException) -> bool:
        return _is_lost(error)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with self._writers.one() as connection:
            cursor = connection.prepared
            cursor.run(b"BEGIN")
            try:
                yield cursor
                cursor.run(b"COMMIT")
            except BaseException:
                with contextlib.suppress(psycopg.Error):
                    connection.rollback()
                raise

    def writing(self) -> AbstractContextManager[Connection]:
        return self.engine.begin()

    def is_too_long(self, error: BaseException) -> bool:
        return isinstance(error, psycopg.errors.ProgramLimitExceeded)

    def patience(self) -> Patience:
        return _Waiting(self._timeout_s)

    def transact(self, work: Callable[[Connection], Result], *, snapshot: bool = False) -> Result:
        patience, attempts = self.patience(), 0
        engine = self.engine
        if snapshot:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        while True:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                attempts += 1
                # Others added rows below the deleted ones; another attempt sees these.
                in_the_way = isinstance(error.orig, psycopg.IntegrityError)
                if in_the_way and attempts < _ATTEMPTS:
                    time.sleep(random.uniform(0, 0.01 * attempts))  # noqa: S311 - out of step
                elif not patience.allows(error):
                    raise


class _Connection(psycopg.Connection[Any]):
    """A connection whose statement may be interrupted; then it tells the server to end it.

    Relied on: all that waits for the server goes through `wait`, which gives the generator a turn
    when `interval` is over.
    """

    interruption: Interruption | None = None

    @cached_property
    def prepared(self) -> PreparedCursor:
        """Runs short statements, which stay prepared."""
        return PreparedCursor(self)

    def wait(self, gen: PQGen[RV], *args: Any, **options: Any) -> RV:
        """Wait for the server; looks at the interruption meanwhile."""
        if self.interruption is not None:
            gen = self._interruptible(gen, self.interruption)
        return super().wait(gen, *args, **options)

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


class _Waiting(Patience):
    """Until a time is over, for what passes by itself; the pauses become longer."""

    def __init__(self, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._pause_s = 0.0  # a connection may just be old: the first new one comes at once

    def allows(self, error: BaseException) -> bool:
        original = error.orig if isinstance(error, DBAPIError) else error
        if _is_lost(original):
            self.may_be_done = self.may_be_done or not isinstance(original, CannotConnectError)
        elif getattr(original, "sqlstate", None) not in _PASSING:
            return False
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(self._pause_s, left_s))
        self._pause_s = min(max(self._pause_s * 2, 0.02), _MAX_PAUSE_S)
        return True


def _is_lost(error: object) -> bool:
    """Whether the connection is gone, or of no use any longer."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InternalError):
        return False
    state = error.sqlstate
    return state is None or state.startswith("08") or state in _LOST


class _Connections:
    """Connections that are used by one thread at a time, and no more of them than a limit.

    SQLAlchemy's pool costs 7 us more each time, and after its `dispose` lets in twice the limit.
    """

    def __init__(self, connect: Callable[[], _Connection], limit: int, timeout_s: float) -> None:
        self._connect = connect
        self._limit = limit
        self._timeout_s = timeout_s
        self.reset()

    def reset(self) -> None:
        """Forget all of them: they are the parent's."""
        self._free = threading.Semaphore(self._limit)
        self._idle: list[_Connection] = []
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
    def one(self) -> Iterator[_Connection]:
        """A connection for this thread, the one used last; a lost one does not come back."""
        if not self._free.acquire(timeout=self._timeout_s):
            raise CannotConnectError(f"all {self._limit} connections to the index are busy")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            except psycopg.Error as error:
                if _is_lost(error):
                    connection.close()
                    self.close_idle()  # the server went, and with it the others
                raise
            finally:
                if connection.closed:
                    pass
                elif connection.info.transaction_status is TransactionStatus.IDLE:
                    self._idle.append(connection)
                else:
                    connection.close()
        finally:
            self._free.release()


class _Reader:
    """Reads the rows of one SELECT; once more from its beginning when the connection was old."""

    def __init__(
        self,
        connection: _Connection,
        connect: Callable[[], _Connection],
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
            if not (is_first and _is_lost(error)):
                raise
        else:
            return
        with self._connect() as connection:
            yield from self._stream(connection, sql, parameters)

    def _stream(
        self, connection: _Connection, sql: str, parameters: Sequence[Any]
    ) -> Generator[Any, None, None]:
        if self._finds_one:  # to plan it anew would take longer than to run it
            yield from connection.prepared.execute(sql, parameters)
            return
        connection.interruption = self._interruption
        try:
            with connection.cursor() as cursor:
                yield from cursor.stream(sql, parameters, size=_ROWS_AT_A_TIME)
        finally:
            connection.interruption = None


_ROWS_AT_A_TIME: Final = _CHUNK_ROWS if psycopg.pq.version() >= _LIBPQ_WITH_CHUNKS else 1


def _connect_options(url: URL, timeout_s: float) -> dict[str, Any]:
    """How to connect, and when to believe that the server is gone, where the URL does not say."""
    options = {
        "connect_timeout": max(2, min(_CONNECT_TIMEOUT_S, round(timeout_s))),
        "application_name": "lfscp",
        "client_encoding": "utf8",
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": round(timeout_s * 1000),
    }
    return {name: value for name, value in options.items() if name not in url.query}
