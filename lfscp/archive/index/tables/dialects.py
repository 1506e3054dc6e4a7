"""Spells the SQL that SQLite and PostgreSQL write differently: one word here, a spelling each.

Everything else of the SQL is portable. How they are connected to, locked and retried is in
`sqlite` and `postgresql`; matching by wildcards in `matching`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    Dialect,
    Insert,
    Table,
    Text,
    TypeDecorator,
    bindparam,
)
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


def _spell(word: type[FunctionElement[Any]], **templates: str) -> None:
    """Compile a word of SQL by a template for each database, with a place for each argument."""

    def spelling(template: str) -> Callable[..., str]:
        def spell(element: Any, compiler: Any, **options: Any) -> str:
            arguments = (compiler.process(each, **options) for each in element.clauses)
            return template.format(*arguments)

        return spell

    for dialect, template in templates.items():
        compiles(word, dialect)(spelling(template))


class leading_integer(FunctionElement[int]):  # noqa: N801 - a word of SQL
    """The whole number that a text begins with; 0 when it begins with none."""

    type = BigInteger()
    inherit_cache = True
    name = "leading_integer"


class holds_text(FunctionElement[bool]):  # noqa: N801 - a word of SQL
    """Whether a text is like a pattern of LIKE's, without regard to the case of A to Z."""

    type = Boolean()
    inherit_cache = True
    name = "holds_text"


class now_ms(FunctionElement[int]):  # noqa: N801 - a word of SQL
    """The time by the database's clock, which all nodes share: milliseconds since 1970 UTC."""

    type = BigInteger()
    inherit_cache = True
    name = "now_ms"


class unindexed(FunctionElement[Any]):  # noqa: N801 - a word of SQL
    """A value that SQLite does not look for in an index; PostgreSQL knows itself when it pays."""

    inherit_cache = True
    name = "unindexed"

    def __init__(self, value: ColumnElement[Any]) -> None:
        super().__init__(value)
        self.type = value.type


class _ValueList(TypeDecorator[Sequence[Any]]):
    """Values as one parameter: an array, or JSON for SQLite, which has no arrays."""

    impl = Text
    cache_ok = True

    def __init__(self, item: type[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """An array, not its text: PostgreSQL would read the text again for each row."""
        item = BigInteger() if self.item is int else Text()
        return dialect.type_descriptor(ARRAY(item) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:
        """The values, or their text."""
        values = list(value or ())
        if dialect.name == "postgresql":
            return values
        if self.item is str:  # SQLite takes a text of JSON to end at its NUL
            values = [each.replace("\0", "\ufffd") for each in values]
        return json.dumps(values)


class _among(FunctionElement[bool]):  # noqa: N801 - a word of SQL
    type = Boolean()
    inherit_cache = True
    name = "among"

    def self_group(self, against: Any = None) -> Any:  # noqa: ARG002 - SQLAlchemy's own
        """Itself: SQLite would not look for the keys of `(key IN …) = 1`."""
        return self


def among(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Whether a whole number or a text is one of these, which may be thousands.

    They are one parameter, so that a statement costs the same to make for any number of them.
    """
    return _among(column, bindparam(None, values, type_=_LISTS[column.type.python_type]))


_LISTS: Final = {each: _ValueList(each) for each in (int, str)}
_INTEGER: Final = "substring({} from '^ *([+-]?[0-9]{{1,18}})')"
_spell(
    leading_integer,
    sqlite="CAST({} AS INTEGER)",
    postgresql=f"coalesce(CAST({_INTEGER} AS BIGINT), 0)",
)
_spell(holds_text, sqlite="{} LIKE {} ESCAPE '\\'", postgresql="{} ILIKE {}")
_spell(
    _among,
    sqlite="{} IN (SELECT value FROM json_each({}))",
    postgresql="{} = ANY ({})",
)
_spell(unindexed, sqlite="+({})", postgresql="({})")
_spell(
    now_ms,
    # SQLite knows the millisecond, but its days are floating-point numbers: a little less, or more.
    sqlite="CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
    postgresql="CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
)


def insert_if_absent(table: Table, on: Dialect) -> Insert:
    """An INSERT that does nothing when a row with the same unique key is there already."""
    if on.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_in_postgresql

        return insert_in_postgresql(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.sqlite import insert as insert_in_sqlite

    return insert_in_sqlite(table).on_conflict_do_nothing()
