"""A real PostgreSQL server for the tests: started once, with an empty index for each test.

It keeps nothing that must outlive a crash of the machine (fsync is off), so that it is quick. To
make and drop a database takes several times as long as to empty one, so most are used again; to
connect takes as long as to empty one, so who empties it stays connected. As root it runs as the
user `postgres`, since it refuses to run as root.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import psycopg

from tests.support.postgresql_programs import as_its_user

START_S = 60.0
STOP_S = 20.0
MAX_LOANS = 50  # what is deleted still takes room, and time to read past
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",  # no test has rows enough
    "shared_buffers": "32MB",
    "max_connections": "100",
    "listen_addresses": "127.0.0.1",
    "shared_preload_libraries": "pg_stat_statements",
    "log_min_messages": "panic",
    "logging_collector": "off",
}
# `guest` has to give a password; everybody else on this machine is let in.
_ACCESS = """
local all guest scram-sha-256
host all guest 127.0.0.1/32 scram-sha-256
local all all trust
host all all 127.0.0.1/32 trust
"""
# Ends what a test left connected, which may hold locks, and leaves all but the tables' version.
_EMPTY = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
SET session_replication_role = replica; -- foreign keys do not ask for an order
DO $$ DECLARE each regclass; BEGIN
    FOR each IN SELECT oid FROM pg_class WHERE relkind = 'r'
        AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
    LOOP EXECUTE 'DELETE FROM ' || each; END LOOP;
END $$;
SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S';
"""
# Differs after any change to a table, an index or a right on them, and of the tables' version.
_SHAPE = """
SELECT count(*), max(xmin::text::bigint), (SELECT string_agg(version_num, ' ') FROM alembic_version)
    FROM pg_class
"""


class PostgreSQLServer:
    """One server on a free port; `url` names a database of it."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._as = as_its_user()
        self.folder = Path(tempfile.mkdtemp(prefix="lfscp-postgresql-"))
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
        self._data = self.folder / "data"
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._shapes: dict[str, list[Any]] = {}  # of the databases that can be lent
        self._loans: Counter[str] = Counter()
        self._free: list[str] = []
        self._emptying: dict[str, psycopg.Connection[Any]] = {}

    def __enter__(self) -> Self:
        try:
            self._run(
                self._programs / "initdb",
                *("--pgdata", self._data, "--username", "lfscp", "--auth", "trust"),
                *("--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions"),
            )
            (self._data / "pg_hba.conf").write_text(_ACCESS)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop(signal.SIGQUIT)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *command: object) -> None:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            timeout=START_S,
            capture_output=True,
            check=False,
            text=True,
            **self._as,
        )
        assert done.returncode == 0, done.stderr

    @property
    def pid(self) -> int:
        """The number of the server's first process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; returns once it takes connections."""
        deadline = time.monotonic() + START_S
        while not self._start_once(deadline):  # what was killed may not have ended altogether
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.1)

    def _start_once(self, deadline: float) -> bool:
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self._programs / "postgres"), "-D", str(self._data)),
                    *("-p", str(self.port), "-k", str(self.folder), *options),
                ],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self.sql("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return True
        return False

    def stop(self, how: int = signal.SIGINT) -> None:
        """Stop it: SIGINT ends its sessions first, SIGQUIT and SIGKILL are crashes."""
        for database in list(self._emptying):
            self._emptying.pop(database).close()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.send_signal(how)
            process.wait(STOP_S)
        finally:
            process.kill()
            process.wait(STOP_S)

    def sql(
        self, statement: str, database: str = "postgres", parameters: tuple[Any, ...] | None = None
    ) -> list[Any]:
        """Run one statement outside of any transaction, or several in one; the last one's rows."""
        with self._connect(database) as connection:
            return _rows(connection, statement, parameters)

    def _connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="lfscp", dbname=database, autocommit=True
        )

    def url(self, database: str) -> str:
        """The URL of a database for `index.url`."""
        return f"postgresql+psycopg://lfscp@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template1") -> str:
        """Make a database; its name."""
        name = f"lfscp_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def lend(self, template: str) -> str:
        """A database with the tables of a template and no rows; its name."""
        if self._free:
            return self._free.pop()
        name = self.new_database(template)
        self._shapes[name] = self.sql(_SHAPE, name)
        return name

    def take_back(self, database: str) -> None:
        """Empty a database that was lent, for the next; drop it if a test changed its tables."""
        self._loans[database] += 1
        if self._loans[database] < MAX_LOANS:
            with contextlib.suppress(psycopg.Error):  # a table or the database is gone
                if self._emptied(database) == self._shapes[database]:
                    self._free.append(database)
                    return
        self.drop(database)

    def _emptied(self, database: str) -> list[Any]:
        """Empty it; its shape."""
        if database not in self._emptying:
            self._emptying[database] = self._connect(database)
        return _rows(self._emptying[database], _EMPTY + _SHAPE)

    def drop(self, database: str) -> None:
        """Drop a database, whoever is connected to it."""
        if database in self._emptying:
            self._emptying.pop(database).close()
        self.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


def _rows(
    connection: psycopg.Connection[Any], statement: str, parameters: tuple[Any, ...] | None = None
) -> list[Any]:
    """What the last of some statements gives."""
    cursor = connection.execute(statement, parameters)
    while cursor.nextset():
        pass
    return cursor.fetchall() if cursor.description else []
