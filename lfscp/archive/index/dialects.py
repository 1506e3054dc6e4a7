"""What the databases of the index say differently in SQL: one word here, one spelling for each.

Everything else of the SQL is portable. How they are connected to, locked and retried is in
`sqlite` and `postgresql`; matching by wildcards in `matching`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Dialect, Insert, Table, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class BytewiseText(Text):
    """Text that is compared byte by byte, as SQLite does, and not by the database's language.

    In the order of a language neither ranges of dates nor beginnings of names could use an index.
    """

    cache_ok = True


@compiles(BytewiseText, "postgresql")
def _bytewise_text_of_postgresql(_type: Any, _compiler: Any, **_options: Any) -> str:
    return 'TEXT COLLATE "C"'


class leading_integer(FunctionElement[int]):  # noqa: N801 - a word of SQL
    """The whole number that a text begins with; 0 when it begins with none."""

    type = BigInteger()
    inherit_cache = True
    name = "leading_integer"


@compiles(leading_integer, "sqlite")
def _leading_integer_of_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"


@compiles(leading_integer, "postgresql")
def _leading_integer_of_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    digits = f"substring({column} from '^ *([+-]?[0-9]{{1,18}})')"
    return f"coalesce(CAST({digits} AS BIGINT), 0)"


class holds_text(FunctionElement[bool]):  # noqa: N801 - a word of SQL
    """Whether a text is like a pattern of LIKE's, without regard to the case of A to Z."""

    type = Boolean()
    inherit_cache = True
    name = "holds_text"


@compiles(holds_text, "sqlite")
def _holds_text_of_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    column, pattern = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} LIKE {pattern} ESCAPE '\\'"


@compiles(holds_text, "postgresql")
def _holds_text_of_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    column, pattern = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} ILIKE {pattern}"


class now_ms(FunctionElement[int]):  # noqa: N801 - a word of SQL
    """The time by the database's clock, which all nodes share: milliseconds since 1970 UTC."""

    type = BigInteger()
    inherit_cache = True
    name = "now_ms"


@compiles(now_ms, "sqlite")
def _now_ms_of_sqlite(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(now_ms, "postgresql")
def _now_ms_of_postgresql(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


def insert_if_absent(table: Table, on: Dialect) -> Insert:
    """An INSERT that does nothing when a row with the same unique key is there already."""
    if on.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_in_postgresql

        return insert_in_postgresql(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.sqlite import insert as insert_in_sqlite

    return insert_in_sqlite(table).on_conflict_do_nothing()
