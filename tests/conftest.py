"""Keeps a test that waits for ever from holding up the others, and all of them from slow work.

And gives all tests a PostgreSQL and an S3 service.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

from tests.support.ci import in_ci  # noqa: E402 - after the line above: its asserts explain themselves
from tests.support.compiled_sql import statements_kept  # noqa: E402
from tests.support.postgresql_programs import binaries  # noqa: E402
from tests.support.postgresql_server import PostgreSQLServer  # noqa: E402
from tests.support.s3_service import CREDENTIALS, S3Service  # noqa: E402
from tests.support.scratch import folder_in_memory  # noqa: E402

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

settings.register_profile("no deadline", settings(), deadline=None)  # no test asserts a duration
settings.load_profile("no deadline")
AFTER_THE_FIRST_S = 20
WITH_A_BROWSER_S = 300  # it starts slowly on a machine that does other work too


@pytest.hookimpl(tryfirst=True)  # before pytest chooses its own
def pytest_configure(config: pytest.Config) -> None:
    """Let the tests write to memory, if there is room and nobody names another place."""
    if hasattr(config, "workerinput") or config.option.basetemp is not None:
        return
    folder = folder_in_memory()
    if folder is not None:
        config.option.basetemp = folder
        config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))


def pytest_xdist_auto_num_workers() -> int:
    """With `-n auto`: two more than there are processors, since most tests wait for processes."""
    return len(os.sched_getaffinity(0)) + 2 if sys.platform == "linux" else 3


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, Any, Any]:
    """Let the alarm of a test's time limit ring again and again.

    Rung once, it ends what the test waits for, and not what its clean-up waits for afterwards.
    """
    answer = yield
    if settings.method == "signal" and threading.current_thread() is threading.main_thread():
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        if left:
            signal.setitimer(signal.ITIMER_REAL, left, AFTER_THE_FIRST_S)
    return answer


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark the tests with PostgreSQL that run with SQLite too, and begin with the longest.

    Else one that comes last keeps all other processes of the run waiting. Long are those that have
    a longer time limit than others, as those with a browser do.
    """
    chosen = {item.nodeid for item in items}
    for item in items:
        name, bracket, parameters = item.nodeid.partition("[")
        first = name + bracket + parameters.replace("postgresql", "sqlite")
        if first != item.nodeid and first in chosen:
            item.add_marker("second_database")
        if "browser" in item.fixturenames and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(WITH_A_BROWSER_S))
    items.sort(key=lambda item: not _is_long(item))


def _is_long(item: pytest.Item) -> bool:
    limit = item.get_closest_marker("timeout")
    return limit is not None and limit.args[0] > float(item.config.getini("timeout"))


def pytest_collection_finish() -> None:
    """Let no collection of garbage look through modules and tests, which stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def spool_is_there() -> Iterator[None]:
    """A node in the test's process said where decoded objects go: its folder goes with the test."""
    yield
    spool = sys.modules.get("lfscp.archive.store.spool")
    if spool is not None and spool._places and not spool._places[0][0].is_dir():
        spool._places.clear()


@pytest.fixture(scope="session", autouse=True)
def new_tables() -> Iterator[None]:
    """Most tests make an index: the SQL that makes its tables is compiled once."""
    with statements_kept():
        yield


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """A PostgreSQL server of this run; without one a run in CI fails."""
    programs = binaries()
    if programs is None:
        reason = "no PostgreSQL server found, install the package postgresql"
        (pytest.fail if in_ci() else pytest.skip)(reason)
    with PostgreSQLServer(programs) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgresql_server: PostgreSQLServer) -> str:
    """A database with the index's tables, to make others from."""
    from lfscp.archive.index.index import Index

    name = postgresql_server.new_database()
    Index(postgresql_server.url(name)).close()
    return name


@pytest.fixture
def postgresql_url(postgresql_server: PostgreSQLServer, migrated_template: str) -> Iterator[str]:
    """The URL of an empty index in PostgreSQL."""
    name = postgresql_server.lend(migrated_template)
    yield postgresql_server.url(name)
    postgresql_server.take_back(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def index_url(request: pytest.FixtureRequest) -> str | None:
    """For `Archive.open`: an index in its folder, then one in PostgreSQL."""
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def open_archive(index_url: str | None) -> Callable[..., Any]:
    """`Archive.open` with either index."""
    from lfscp.archive.archive import Archive

    return partial(Archive.open, index_url=index_url)


@pytest.fixture(scope="session")
def s3_service() -> Iterator[S3Service]:
    """An S3 service of this run."""
    with S3Service() as service:
        yield service


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service wants to be told, in the environment; it believes anything."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def quick_passwords() -> Iterator[None]:
    """Hashes made from here on cost little, for tests that log in often."""
    from lfscp.config import passwords

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(passwords, "_COST", (2, 8, 1))
        yield


@pytest.fixture
def index(index_url: str | None, tmp_path: Path) -> Iterator[Index]:
    """An index of a test's own, in each database."""
    from lfscp.archive.index.database.database import sqlite_url
    from lfscp.archive.index.index import Index

    made = Index(index_url or sqlite_url(tmp_path / "index.sqlite"))
    yield made
    made.close()


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Path]:
    """The file of an audit trail that is on."""
    from lfscp.observe import audit

    path = tmp_path / "audit.log"
    audit.start(path, "LFSCP")
    yield path
    audit.stop()
