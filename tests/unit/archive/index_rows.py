"""Rows for tests of matching: a small index in memory, filled by keyword."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import Connection, Engine, Integer, StaticPool, create_engine, event, insert

from lfscp.archive import schema
from lfscp.archive.attributes import Level, at_level
from lfscp.archive.find import find, find_prepared
from lfscp.archive.person_names import search_form
from lfscp.archive.prepared import PreparedQueries
from lfscp.archive.query import Model, parse_query

IMPLICIT = "1.2.840.10008.1.2"


def new_index() -> Engine:
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def enforce(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    schema.metadata.create_all(engine)
    return engine


def add(connection: Connection, level: Level, parent: int | None = None, **values: str) -> int:
    """Insert one row of a level by keywords; what is left out is empty. Returns its key."""
    table = schema.TABLES[level]
    row: dict[str, Any] = {}
    for attribute in at_level(level):
        row[attribute.column] = values.pop(attribute.keyword, "")
        if attribute.search_column:
            row[attribute.search_column] = search_form(row[attribute.column])
    assert not values, f"not of the {level} level: {values}"
    for column in table.columns:
        if column.foreign_keys:
            row[column.name] = parent
        elif column.name not in row and not column.primary_key and not column.nullable:
            row[column.name] = 0 if isinstance(column.type, Integer) else ""
    key = connection.execute(insert(table).values(row)).inserted_primary_key[0]
    return int(key)


def identifier(level: str, /, **keys: Any) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def answers(
    connection: Connection,
    asked: Dataset,
    model: Model = Model.STUDY_ROOT,
    *,
    transfer_syntax_uid: str = IMPLICIT,
    limit: int = 0,
    **options: bool,
) -> list[bytes]:
    """The responses; asserted to be the same where the query has a prepared statement."""
    query = parse_query(asked, model, **options)
    encoding = {"transfer_syntax_uid": transfer_syntax_uid, "retrieve_ae_title": "LFSCP"}
    found = list(find(connection, query, limit=limit, **encoding))
    prepared = PreparedQueries(connection.dialect)
    for _ in range(2):  # compiled, then taken from what is kept
        statement = prepared.statement(query)
        if statement is not None:
            driver: Any = connection.connection.driver_connection
            again = find_prepared(driver.cursor(), statement, query, limit=limit, **encoding)
            assert list(again) == found
    return found
