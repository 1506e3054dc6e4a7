"""Opens the database that a URL names."""

from __future__ import annotations

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from lfscp.archive.durability import Durability
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.database.database import DEFAULT_CONNECTIONS, DEFAULT_TIMEOUT_S, Database


def open_database(
    url: str,
    durability: Durability,
    *,
    connections: int = DEFAULT_CONNECTIONS,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Database:
    """The database that a URL names; nothing is connected yet.

    Args:
        url: SQLAlchemy's.
        connections: of this process to a server, for reading and again for writing, at most.
        timeout_s: how long a piece of work may wait for a server that is away, or for another
            program that has locked the file.
    Raises:
        ArchiveError: the URL is none, or its driver is not installed.
    """
    try:
        name = make_url(url).get_backend_name()
    except (ArgumentError, ValueError):  # whose text may hold the URL, and so the password
        raise ArchiveError("open the index", "index.url is no URL", _URL_HINT) from None
    if name == "sqlite":
        from lfscp.archive.index.database.sqlite import SQLiteDatabase

        return SQLiteDatabase(url, durability, timeout_s)
    if name != "postgresql":
        raise ArchiveError("open the index", f"no index is kept in {name}", _URL_HINT)
    try:
        from lfscp.archive.index.database.postgresql import PostgreSQLDatabase
    except ImportError:
        raise ArchiveError(
            "open the index",
            "the driver of PostgreSQL is not installed",
            'pip install "lfscp[postgres]"',
        ) from None
    return PostgreSQLDatabase(url, durability, connections=connections, timeout_s=timeout_s)


_URL_HINT = 'set index.url to "postgresql+psycopg://user@host/database" or leave it out'
