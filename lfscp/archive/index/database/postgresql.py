"""Keeps the index in PostgreSQL: its connections, and which failures are waited out.

Rules: several nodes share the database, and each writing thread has a transaction of its own;
constraints, not locks of lfscp, keep the rows right. Connections are limited. Storing, querying and
everything else have their own, so that none starves another; one address has at most half of those
for queries, however slowly it takes its answers. A lost connection is replaced, and the work done
again within its time. So is a session that does not answer a store in time, or does not begin: the
server cannot end it by a time limit, as it may hang itself. No message contains a password.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import psycopg
from psycopg.types.string import StrDumper
from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from lfscp.archive.durability import Durability
from lfscp.archive.index.database.connections import (
    CannotConnectError,
    Connections,
    DriverConnection,
    Reader,
    is_lost,
)
from lfscp.archive.index.database.database import Database, Patience, Result
from lfscp.archive.index.database.interruption import Interruption, InterruptionError
from lfscp.archive.index.database.statements import Statement
from lfscp.archive.index.database.watch import Watch
from lfscp.observe.logging import get_logger

LOG: Final = get_logger("lfscp.archive")
_CONNECT_TIMEOUT_S: Final = 5
_MAX_PAUSE_S: Final = 1.0
_LOCK_WAIT_MS: Final = 100
_STUCK_S: Final = 5.0  # in which the server answers an INSERT, even while its disk is busy
_STUCK_AT_LOCKS_S: Final = 60.0  # one that may wait for somebody else's transaction
_ATTEMPTS: Final = 10
# PostgreSQL's own setting is for an index that is read from a turning disk, so it would read all
# rows of the studies, which are long, instead of the index with the words that are looked for.
_PLANNING: Final = (
    "SELECT set_config('random_page_cost', '2', false)"
    " WHERE current_setting('random_page_cost') = '4'"
)
# A statement that waits for a lock would be committed long after its client is gone. Not every
# server can look: one before 14 cannot, nor one on some operating systems.
_LOOKING: Final = (
    "SELECT set_config('client_connection_check_interval', '2s', false)"
    " WHERE current_setting('client_connection_check_interval', true) = '0'"
)
_SESSIONS: Final = "SELECT pid FROM pg_stat_activity WHERE pid = ANY(CAST(%s AS INT[]))"
# A prepared statement that is to be made again, a serialisation failure, a deadlock, a lock that
# was not had, too many connections.
_PASSING: Final = frozenset({"26000", "40001", "40P01", "55P03", "53300"})


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
        self._writers = Connections(self._connect, connections, timeout_s)
        self._readers = Connections(self._connect, connections, timeout_s)
        self._together = Connections(self._connect_impatient, 1, timeout_s)
        self._watch = Watch(_tell_of_stuck)
        self._stuck_s = min(_STUCK_S, timeout_s)
        self._durability = durability
        self._follow_forks()

    def _connect(self, *, autocommit: bool = True, **settings: str) -> DriverConnection:
        """A new connection, which commits as durably as asked for and plans for the values.

        Args:
            settings: more of the session's.
        """
        arguments, options = self.engine.dialect.create_connect_args(self.engine.url)
        options.update(_connect_options(self.engine.url, self._timeout_s))
        try:
            connection = DriverConnection.connect(*arguments, **options, autocommit=True)
        except psycopg.Error as error:
            raise CannotConnectError(str(error)) from None
        try:
            with _in_time(connection):
                self._prepare(connection, settings)
                connection.autocommit = autocommit
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                raise CannotConnectError(str(error)) from None
            raise
        return connection

    def _prepare(self, connection: DriverConnection, settings: dict[str, str]) -> None:
        """Have a new session do as its statements expect."""
        connection.session = connection.info.backend_pid
        connection.prepare_threshold = None
        connection.adapters.register_dumper(str, _WithoutNul)
        settings = {"jit": "off", **settings}  # which takes longer than these statements do
        if self._durability is Durability.OS:
            settings["synchronous_commit"] = "off"
        elif connection.execute("SHOW synchronous_commit").fetchone() == ("off",):
            settings["synchronous_commit"] = "on"
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        connection.execute(_PLANNING)
        with contextlib.suppress(psycopg.DataError):
            connection.execute(_LOOKING)

    def _connect_impatient(self) -> DriverConnection:
        """One on which no row waits long for a lock: it would hold up those of others."""
        return self._connect(lock_timeout=f"{_LOCK_WAIT_MS}")

    # A child must not speak on its parent's connections: none is open while a process forks.

    def before_fork(self) -> None:
        self.close()

    def after_fork_in_parent(self) -> None:
        """The next use connects again."""

    def after_fork_in_child(self) -> None:
        self.engine.dispose(close=False)
        for each in (self._writers, self._readers, self._together, self._watch):
            each.reset()

    def close(self) -> None:
        for each in (self._writers, self._readers, self._together):
            each.close_idle()
        self._watch.close()
        self.engine.dispose()

    @contextmanager
    def reading(
        self, interruption: Interruption | None = None, *, finds_one: bool = False
    ) -> Iterator[Any]:
        """A reader whose `execute` gives the rows as they come from the server."""
        source = interruption.source if interruption is not None else ""
        with self._readers.share_of(source), self._readers.one() as connection:
            reader = Reader(connection, self._connect, interruption, finds_one=finds_one)
            try:
                yield reader
            finally:
                reader.close()

    @contextmanager
    def _writer(self) -> Iterator[DriverConnection]:
        with (
            self._writers.one() as connection,
            self._watch.over(connection, _STUCK_AT_LOCKS_S),
        ):
            yield connection

    @contextmanager
    def lookup(self) -> Iterator[Any]:
        with self._writer() as connection:
            yield connection.prepared

    def write(self, statement: Statement, values: Sequence[Any]) -> None:
        with self._writer() as connection:
            statement.run(connection.prepared, values)

    def write_together(self, statement: Statement, values: Sequence[Any]) -> None:
        with self._together.one() as connection, self._watch.over(connection, self._stuck_s):
            statement.run(connection.prepared, values)

    def may_be_done(self, error: BaseException) -> bool:
        original = error.orig if isinstance(error, DBAPIError) else error
        return is_lost(original) and not isinstance(original, CannotConnectError)

    def may_still_commit(self) -> bool:
        """What was sent to a session that was stuck, it does whenever it goes on."""
        pools = (self._writers, self._together)
        lost = {session for pool in pools for session in pool.lost}
        if not lost:
            return False
        with self.lookup() as cursor:
            rows = cursor.execute(_SESSIONS, (f"{{{','.join(map(str, lost))}}}",)).fetchall()
        for session in lost - {session for (session,) in rows}:
            for pool in pools:
                pool.lost.discard(session)
        return bool(rows)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with self._writer() as connection:
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


class _Waiting(Patience):
    """Until a time is over, for what passes by itself; the pauses become longer."""

    def __init__(self, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._pause_s = 0.0  # a connection may just be old: the first new one comes at once

    def allows(self, error: BaseException) -> bool:
        original = error.orig if isinstance(error, DBAPIError) else error
        if is_lost(original):
            self.may_be_done = self.may_be_done or not isinstance(original, CannotConnectError)
        elif getattr(original, "sqlstate", None) not in _PASSING:
            return False
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(self._pause_s, left_s))
        self._pause_s = min(max(self._pause_s * 2, 0.02), _MAX_PAUSE_S)
        return True


@contextmanager
def _in_time(connection: DriverConnection) -> Iterator[None]:
    """Wait for the server no longer than for a connection itself.

    Raises:
        CannotConnectError: it does not answer.
    """
    deadline = time.monotonic() + _CONNECT_TIMEOUT_S
    connection.interruption = Interruption(lambda: time.monotonic() >= deadline)
    try:
        yield
    except InterruptionError:
        raise CannotConnectError("the server does not answer") from None
    finally:
        connection.interruption = None


def _tell_of_stuck() -> None:
    LOG.warning("a session of the index's server does not answer: stores take a new one")


def _connect_options(url: URL, timeout_s: float) -> dict[str, Any]:
    """How to connect, and when to believe that the server is gone, where the URL does not say."""
    options = {
        "connect_timeout": max(2, min(_CONNECT_TIMEOUT_S, round(timeout_s))),
        "application_name": "lfscp",
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": round(timeout_s * 1000),
    }
    given = {name: value for name, value in options.items() if name not in url.query}
    return {**given, "client_encoding": "utf8"}  # in which prepared_cursor.py reads and writes
