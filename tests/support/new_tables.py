"""Keeps the SQL that makes the tables of a new index, which takes longer to compile than to run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, MetaData, event

_create_all = MetaData.create_all


@contextmanager
def statements_kept() -> Iterator[None]:
    """Meanwhile all tables of a schema are made by the statements that made them the first time.

    Only where nobody asks for existing tables, as a new index does; else SQLAlchemy is at work.
    """
    kept: dict[tuple[MetaData, str], list[str]] = {}

    def create_all(self: MetaData, bind: Any, *args: Any, **options: Any) -> None:
        if not isinstance(bind, Connection) or args or options != {"checkfirst": False}:
            _create_all(self, bind, *args, **options)
            return
        key = (self, bind.dialect.name)
        if key in kept:
            for statement in kept[key]:
                bind.exec_driver_sql(statement)
            return
        seen: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        event.listen(bind, "before_cursor_execute", note)
        try:
            _create_all(self, bind, checkfirst=False)
        finally:
            event.remove(bind, "before_cursor_execute", note)
        kept[key] = seen

    MetaData.create_all = create_all  # type: ignore[method-assign]
    try:
        yield
    finally:
        MetaData.create_all = _create_all  # type: ignore[method-assign]
