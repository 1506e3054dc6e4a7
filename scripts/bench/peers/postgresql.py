"""A PostgreSQL server of the benchmark's own, and a database in it for each server under test.

It has PostgreSQL's own settings, so a commit waits for the disk. As root it runs as the user
`postgres`, since it refuses to run as root.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from tests.support.postgresql_programs import as_its_user

from .procstat import cpu_seconds
from .server import ServerError, free_port
from .targets import POSTGRESQL_USER

_START_S: Final = 60.0
_STOP_S: Final = 20.0


class PostgreSQL:
    """A server on a free port, as long as the `with` block runs.

    Args:
        folder: where its data go; made for it.
        programs: the folder of its programs; see `binaries`.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._databases: dict[Path, str] = {}
        self._made = 0
        self._as = as_its_user()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        try:
            if self._as:
                shutil.chown(self._folder, "postgres", "postgres")
            data = ("--pgdata", self._folder / "data", "--username", POSTGRESQL_USER)
            self._run(
                "initdb", *data, "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8"
            )
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        try:
            self._stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)  # which ends its sessions
        try:
            process.wait(_STOP_S)
        finally:
            process.kill()
            process.wait()

    def _run(self, program: str, *arguments: object, check: bool = True) -> bool:
        command = [str(self._programs / program), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self._folder, capture_output=True, check=False, text=True, **self._as
        )
        if check and done.returncode:
            raise ServerError(f"{program}: {done.stderr.strip()}")
        return done.returncode == 0

    def _start(self) -> None:
        options = ("-D", self._folder / "data", "-p", self.port, "-k", self._folder)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*map(str, (self._programs / "postgres", *options, "-h", "127.0.0.1"))],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )
        deadline = time.monotonic() + _START_S
        while not self._run("pg_isready", "-h", "127.0.0.1", "-p", self.port, check=False):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"PostgreSQL does not start: {self._log()}")
            time.sleep(0.05)

    def _log(self) -> str:
        return (self._folder / "log").read_text()[-500:]

    def database_of(self, folder: Path) -> str:
        """The database that belongs to a server's data folder, made when it is new.

        Those of folders that are gone are dropped.
        """
        for old in [each for each in self._databases if not each.exists()]:
            self._client("dropdb", "--force", self._databases.pop(old))
        if folder not in self._databases:
            self._made += 1
            self._client("createdb", f"peerbench_{self._made}")
            self._databases[folder] = f"peerbench_{self._made}"
        return self._databases[folder]

    def _client(self, program: str, *arguments: str) -> None:
        self._run(program, "-h", "127.0.0.1", "-p", self.port, "-U", POSTGRESQL_USER, *arguments)

    def url_of(self, folder: Path) -> str:
        """The URL of a data folder's database, for lfscp."""
        user = f"postgresql+psycopg://{POSTGRESQL_USER}"
        return f"{user}@127.0.0.1:{self.port}/{self.database_of(folder)}"

    def cpu_seconds(self) -> float:
        """Processor time of all its processes until now."""
        return cpu_seconds(self._process.pid) if self._process is not None else 0.0
