"""How the tables of a database differ from those that the code knows."""

from __future__ import annotations

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_mock_engine
from sqlalchemy.schema import CreateIndex

from lfscp.archive.index.tables.schema import metadata


def differences(connection: Connection) -> Any:
    """What is missing or too much; an index of another kind of database is not missed."""
    made = _indexes_on(connection.dialect.name)

    def is_compared(_: Any, name: str | None, kind: str, is_found: bool, other: Any) -> bool:
        return kind != "index" or is_found or name in made

    options = {"compare_type": True, "include_object": is_compared}
    return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


def _indexes_on(dialect: str) -> set[str | None]:
    made: set[str | None] = set()

    def note(statement: Any, *_: Any, **__: Any) -> None:
        if isinstance(statement, CreateIndex):
            made.add(statement.element.name)

    driver = "+psycopg" if dialect == "postgresql" else ""
    metadata.create_all(create_mock_engine(f"{dialect}{driver}://", note), checkfirst=False)
    return made
