"""Defines what the archive asks of the index's database, whichever one it is.

Rules: what only one database needs is in its own module, `sqlite` or `postgresql`; other modules
use a `Database`. Work that fails for a passing reason (a lost connection, a deadlock) is tried
again until its patience is over. The `Patience` also tells whether an attempt may have been
committed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Dialect, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError

from lfscp.archive.index.database.interruption import Interruption
from lfscp.processes.forks import follow_forks

if TYPE_CHECKING:
    from lfscp.archive.index.database.statements import Statement

Result = TypeVar("Result")

DEFAULT_CONNECTIONS = 10
DEFAULT_TIMEOUT_S = 20.0
REBUILD_HINT = (
    "restore a backup (`lfscp restore`), or make it anew from the objects (`lfscp check --rebuild`)"
)
_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


class Patience:
    """For one piece of work: whether it may be tried again. This one never lets it.

    Attributes:
        may_be_done: an attempt failed without word whether it was committed.
    """

    may_be_done = False

    def allows(self, error: BaseException) -> bool:  # noqa: ARG002 - others look at it
        """Whether to try again after this error; waits a moment before it says so."""
        return False


class Database(ABC):
    """One SQL database. Any thread may call any method; workers may be forked.

    Attributes:
        engine: for reading, and for statements that need no speed.
        dialect: what statements for the driver's own cursors are compiled for; takes parameters
            by position.
        error: what the driver raises; `integrity_error` what it raises for a broken constraint.
        is_shared: several nodes may use it at once.
        has_one_writer: writers wait for one another, so that they had better share transactions.
    """

    engine: Engine
    dialect: Dialect
    error: type[Exception]
    integrity_error: type[Exception]
    is_shared: bool
    has_one_writer: bool

    def _follow_forks(self) -> None:
        """Let no child use a connection of its parent; called when the database is made."""
        follow_forks(
            before=self.before_fork,
            after_in_parent=self.after_fork_in_parent,
            after_in_child=self.after_fork_in_child,
        )

    @abstractmethod
    def before_fork(self) -> None:
        """Leave no connection open that a child could use."""

    @abstractmethod
    def after_fork_in_parent(self) -> None:
        """Go on as before."""

    @abstractmethod
    def after_fork_in_child(self) -> None:
        """Begin without connections."""

    @abstractmethod
    def close(self) -> None:
        """Close this process's connections; the next use opens new ones."""

    @abstractmethod
    def reading(
        self, interruption: Interruption | None = None, *, finds_one: bool = False
    ) -> AbstractContextManager[Any]:
        """A cursor for one SELECT, without SQLAlchemy's check-out; `execute` gives the rows.

        Args:
            interruption: asked while the statement runs; InterruptionError comes out of it.
            finds_one: it looks for a value that one row has, so that the same plan suits any value.
        """

    @abstractmethod
    def lookup(self) -> AbstractContextManager[Any]:
        """The driver's cursor for one SELECT of a row or none."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Any]:
        """A writing transaction on the path of each C-STORE; gives the driver's cursor."""

    @abstractmethod
    def write(self, statement: Statement, values: Sequence[Any]) -> None:
        """Run a statement on the path of each C-STORE that is a transaction by itself."""

    def write_together(self, statement: Statement, values: Sequence[Any]) -> None:
        """The same for several rows, of which one must not hold up the others for long.

        Raises:
            Its `error` if a row would have to wait for somebody else's transaction, or if the
            database does not answer for long, among others.
        """
        self.write(statement, values)

    def may_be_done(self, error: BaseException) -> bool:  # noqa: ARG002 - others look at it
        """Whether it is not known after an error if a statement was committed."""
        return False

    def may_still_commit(self) -> bool:
        """Whether a statement whose connection was lost may be under way, and come through.

        Raises:
            Its `error`: it cannot be told.
        """
        return False

    @abstractmethod
    def writing(self) -> AbstractContextManager[Connection]:
        """A writing transaction for statements that need no speed."""

    def is_too_long(self, error: BaseException) -> bool:  # noqa: ARG002 - others look at it
        """Whether a row was refused because a value is longer than an index takes."""
        return False

    @abstractmethod
    def patience(self) -> Patience:
        """The patience for one piece of work."""

    @abstractmethod
    def transact(self, work: Callable[[Connection], Result], *, snapshot: bool = False) -> Result:
        """Do work in a transaction; again when others were in its way or the connection is lost.

        Args:
            work: has to do the same when it is done twice.
            snapshot: all its statements see the rows as they were at its beginning, and it fails,
                and is done again, when others have changed what it changes.
        """


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite index in a file."""
    return f"sqlite:///{path}"


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite index; None when it is another database."""
    parts = make_url(url)
    is_file = parts.get_backend_name() == "sqlite" and parts.database
    return Path(parts.database or "") if is_file else None


def is_sqlite_file(url: str) -> bool:
    """Whether a URL names an SQLite index that is there."""
    try:
        path = sqlite_path(url)
    except ArgumentError:
        return False
    return path is not None and path.exists()


def is_damaged(error: BaseException) -> bool:
    """Whether a database is no database, or has a page that is none."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlite_errorname", "")).startswith(_DAMAGED)


def reason_of(error: BaseException) -> str:
    """The driver's message without SQL and parameters, which would hold patient data."""
    cause = error.orig if isinstance(error, StatementError) and error.orig else error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else "the database gives no reason"
