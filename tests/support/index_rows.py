"""Rows for tests of matching: a small index, filled by keyword."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    Integer,
    StaticPool,
    bindparam,
    create_engine,
    event,
    insert,
    select,
)

from lfscp.archive.durability import Durability
from lfscp.archive.index.database.connect import open_database
from lfscp.archive.index.tables import schema
from lfscp.archive.index.tables.schema import attribute_columns
from lfscp.archive.query.find import find
from lfscp.archive.query.prepared import PreparedQueries
from lfscp.archive.query.query import Model, parse_query
from lfscp.dicom.values.attributes import Level, at_level
from lfscp.dicom.values.folded_names import folded_column
from lfscp.dicom.values.person_names import search_form

IMPLICIT = "1.2.840.10008.1.2"
_OF_PATIENT = select(
    *(schema.patient.c[column.name] for column in attribute_columns(Level.PATIENT))
).where(schema.patient.c.id == bindparam("key"))


def new_index(url: str | None = None) -> Engine:
    """An index in memory, or in a database that has the tables already."""
    if url is not None:
        return open_database(url, Durability.OS).engine
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def enforce(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    with engine.begin() as connection:
        schema.metadata.create_all(connection, checkfirst=False)
    return engine


def by_position(dialect: Dialect) -> Dialect:
    """The dialect of statements for the driver's own cursor."""
    return dialect if dialect.name == "sqlite" else _postgresql_by_position()


@cache
def _postgresql_by_position() -> Dialect:
    return open_database("postgresql+psycopg:///", Durability.OS).dialect


def add(connection: Connection, level: Level, parent: int | None = None, **values: str) -> int:
    """Insert one row of a level by keywords; what is left out is empty. Returns its key.

    A study has the attributes of its parent, as a first object of a patient makes them.
    """
    table = schema.TABLES[level]
    row: dict[str, Any] = {}
    if level is Level.STUDY:
        row.update(connection.execute(_OF_PATIENT, {"key": parent}).mappings().one())
    for attribute in at_level(level):
        row[attribute.column] = values.pop(attribute.keyword, "")
        if attribute.search_column:
            row[attribute.search_column] = search_form(row[attribute.column])
        if attribute.folded_column:
            row[attribute.folded_column] = folded_column(row[attribute.column])
    assert not values, f"not of the {level} level: {values}"
    for column in table.columns:
        if column.foreign_keys:
            row[column.name] = parent
        elif column.name not in row and not column.primary_key and not column.nullable:
            row[column.name] = 0 if isinstance(column.type, Integer) else ""
    key = connection.execute(insert(table), row).inserted_primary_key[0]
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
    encoding: dict[str, Any] = {
        "transfer_syntax_uid": transfer_syntax_uid,
        "retrieve_ae_title": "LFSCP",
    }
    dialect = by_position(connection.dialect)
    driver: Any = connection.connection.driver_connection
    found = list(find(driver.cursor(), dialect, query, limit=limit, **encoding))
    prepared = PreparedQueries(dialect)
    for _ in range(2):  # compiled, then taken from what is kept
        statement = prepared.statement(query)
        if statement is not None:
            encoding["prepared"] = statement
            again = find(driver.cursor(), dialect, query, limit=limit, **encoding)
            in_order = list if limit else sorted  # PostgreSQL may take another way the next time
            assert in_order(again) == in_order(found)
    return found


def steps(connection: Connection, sql: str, parameters: Any = ()) -> list[str]:
    """How the database runs a statement, in SQLite's words for either.

    SCAN reads a whole table or index, SEARCH goes by an index; "USE TEMP B-TREE" sorts.
    """
    if connection.dialect.name == "sqlite":
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
        return [str(row[3]) for row in plan]
    # With so few rows no index is worth its while, unless it has to be.
    for kind in ("seqscan", "hashjoin", "mergejoin", "material", "sort"):
        connection.exec_driver_sql(f"SET LOCAL enable_{kind} = off")
    ((found,),) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
    return [step for node in _nodes(found[0]["Plan"]) for step in _steps_of(node)]


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", []):
        yield from _nodes(below)


def _steps_of(node: dict[str, Any]) -> Iterator[str]:
    kind = node["Node Type"]
    if kind == "Seq Scan":
        yield f"SCAN {node['Relation Name']}"
    elif kind == "Sort":
        yield "USE TEMP B-TREE FOR ORDER BY"
    elif kind in ("Index Scan", "Index Only Scan", "Bitmap Index Scan"):
        word = "SEARCH" if "Index Cond" in node else "SCAN"
        yield f"{word} {node.get('Relation Name', '')} USING INDEX {node['Index Name']}"
