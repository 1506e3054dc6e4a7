"""Keeps the index in SQLite: one writer at a time, and nothing shared across a fork.

Rules: a lock admits one writer of a process, and a lock file one process, in the order of arrival
and without polling. So no writer meets "database is locked". The writer's connection stays open;
readers draw theirs from SQLAlchemy's pool.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

from lfscp.archive.durability import Durability
from lfscp.archive.index.database.database import Database, Patience, Result
from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.index.database.log_room import LogRoom
from lfscp.archive.index.database.statements import Statement

_NO_PATIENCE: Final = Patience()
_STEPS: Final = 20_000  # of SQLite's machine between two looks at an interruption: milliseconds


class SQLiteDatabase(Database):
    """An SQLite file. Any thread may call any method; workers may be forked."""

    is_shared = False
    has_one_writer = True

    def __init__(self, url: str, durability: Durability, timeout_s: float) -> None:
        self.engine = _engine(url, durability, timeout_s)
        self.dialect = self.engine.dialect
        driver: Any = self.engine.dialect.loaded_dbapi
        self.error = driver.Error
        self.integrity_error = driver.IntegrityError
        file = make_url(url).database
        self._lock_path = f"{file}.lock" if file else None
        is_synced = durability is Durability.FULL
        log = f"{os.path.realpath(file)}-wal" if file and is_synced else ""
        self._room = LogRoom(log)
        if file:  # where room is kept, and other data of patients are
            os.environ.setdefault("SQLITE_TMPDIR", os.path.dirname(os.path.abspath(file)))  # noqa: PTH100, PTH120
        self._closings = 0
        self._close_what_comes_back_late()
        self._reset()
        self._follow_forks()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._writer: Any = None
        self._lock_file = -1
        self._readers: list[Any] = []  # connections not in use

    # SQLite keeps its locks per process, in memory that a fork copies: a child would believe to
    # hold what its parent's connections held. So none is open while a process forks; workers
    # have to be forked while no query runs.

    def before_fork(self) -> None:
        self._lock.acquire()
        self._disconnect()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self.engine.dispose(close=False)
        self._reset()

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def _close_what_comes_back_late(self) -> None:
        """Close a connection of SQLAlchemy's pool that was in use when all others were closed."""

        @event.listens_for(self.engine, "connect")
        def note(_connection: Any, record: Any) -> None:
            record.info["closings"] = self._closings

        @event.listens_for(self.engine, "checkin")
        def close(_connection: Any, record: Any) -> None:
            if record.info.get("closings", self._closings) != self._closings:
                record.invalidate()

    def _disconnect(self) -> None:
        self._closings += 1  # before all else: readers look at it afterwards
        self._room.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1
        self._close_readers()
        self.engine.dispose()

    def _close_readers(self) -> None:
        with suppress(IndexError):  # others may close them, too
            while True:
                self._readers.pop().close()

    @contextmanager
    def reading(
        self,
        interruption: Interruption | None = None,
        *,
        finds_one: bool = False,  # noqa: ARG002 - PostgreSQL's looks at it
    ) -> Iterator[Any]:
        closings = self._closings
        try:
            connection = self._readers.pop()  # the one used last: its pages are in memory
        except IndexError:
            connection = self._new_reader()
        try:
            cursor = connection.cursor()
            if interruption is not None:
                connection.set_progress_handler(interruption.ends_statement, _STEPS)
            try:
                yield cursor
            finally:
                cursor.close()  # ends the statement, and with it the read transaction
                if interruption is not None:
                    connection.set_progress_handler(None, 0)
        except self.error:
            connection.close()
            if interruption is not None:
                interruption.require_none()
            raise
        except BaseException:
            self._readers.append(connection)
            raise
        else:
            self._readers.append(connection)
        finally:
            if closings != self._closings:
                self._close_readers()

    lookup = reading

    def _new_reader(self) -> Any:
        connection = self._connect_alone()
        try:
            connection.execute("PRAGMA temp_store = FILE")  # large sorts go to the disk
        except BaseException:
            connection.close()
            raise
        return connection

    def write(self, statement: Statement, values: Sequence[Any]) -> None:
        self._take()
        try:
            with closing(self._writing_cursor()) as cursor:
                statement.run(cursor, values)
        finally:
            self._give_free()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        self._take()
        try:
            cursor = self._writing_cursor()
            try:
                cursor.execute("BEGIN IMMEDIATE")
                yield cursor
                self._writer.commit()
            except BaseException:
                self._writer.rollback()
                raise
            finally:
                cursor.close()
        finally:
            self._give_free()

    def _writing_cursor(self) -> Any:
        """The driver's cursor for the thread that has become the writer."""
        if self._writer is None:
            self._writer = self._connect_alone()
        self._room.make()
        if self._writer.in_transaction:  # its rollback has failed: a statement would join it
            self._writer.rollback()
        return self._writer.cursor()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        self._take()
        try:
            with self.engine.begin() as connection:
                yield connection
        finally:
            self._give_free()

    def patience(self) -> Patience:
        """None: a waiting writer gets the lock, and nothing else passes by itself."""
        return _NO_PATIENCE

    def transact(self, work: Callable[[Connection], Result], *, snapshot: bool = False) -> Result:  # noqa: ARG002 - there is one writer
        with self.writing() as connection:
            return work(connection)

    def _take(self) -> None:
        """Become the one writer of all threads and processes."""
        self._lock.acquire()
        if self._lock_path is None:
            return
        try:
            if self._lock_file < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._lock_file = os.open(self._lock_path, flags, 0o640)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        except BaseException:
            self._lock.release()
            raise

    def _give_free(self) -> None:
        try:
            if self._lock_file >= 0:
                fcntl.flock(self._lock_file, fcntl.LOCK_UN)
        finally:
            self._lock.release()

    def _connect_alone(self) -> Any:
        """A connection that never goes back to SQLAlchemy's pool."""
        connection = self.engine.raw_connection()
        driver: Any = connection.driver_connection
        driver.isolation_level = None  # we say BEGIN ourselves
        connection.detach()
        return driver


def _engine(url: str, durability: Durability, timeout_s: float) -> Engine:
    engine = create_engine(url, max_overflow=-1)  # a connection per querying thread, no waiting
    synchronous = "FULL" if durability is Durability.FULL else "OFF"

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {round(timeout_s * 1000)}",  # for programs beside lfscp
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            "foreign_keys = ON",
            "wal_autocheckpoint = 4000",  # pages: a checkpoint syncs, so make it less often
            "temp_store = MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine
