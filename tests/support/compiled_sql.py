"""Keeps compiled SQL from test to test: to compile a statement takes longer than to run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, event

MAX_KEPT = 5000
_create_all = MetaData.create_all
_engine_init = Engine.__init__


class _Statements(dict[Any, Any]):
    """Compiled statements by the kind of database, not by the engine that a test made of it."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        if len(self) >= MAX_KEPT:
            self.clear()
        super().__setitem__((type(key[0]), *key[1:]), compiled)


@contextmanager
def statements_kept() -> Iterator[None]:
    """Meanwhile all engines share what they compile, and new tables are made by kept statements."""
    keep_statements()
    try:
        yield
    finally:
        Engine.__init__, MetaData.create_all = _engine_init, _create_all  # type: ignore[method-assign]


def keep_statements() -> None:
    """From here on all engines share compiled statements, and those that make tables are kept."""
    kept = _Statements()

    def engine_init(  # with the names of Engine's own: create_engine looks at them
        self: Engine,
        pool: Any,
        dialect: Any,
        url: Any,
        logging_name: Any = None,
        echo: Any = None,
        query_cache_size: int = 500,
        execution_options: Any = None,
        hide_parameters: bool = False,
    ) -> None:
        shared = {"compiled_cache": kept} | (execution_options or {})
        _engine_init(
            self, pool, dialect, url, logging_name, echo, query_cache_size, shared, hide_parameters
        )

    Engine.__init__, MetaData.create_all = engine_init, _creation()  # type: ignore[method-assign]


def _creation() -> Any:
    """A `create_all` that makes all tables of a schema by the statements of the first time.

    Only where nobody asks for existing tables, as a new index does; else SQLAlchemy is at work.
    """
    kept: dict[tuple[MetaData, str], list[str]] = {}

    def create_all(self: MetaData, bind: Any, *args: Any, **options: Any) -> None:
        if not isinstance(bind, Connection) or args or options != {"checkfirst": False}:
            _create_all(self, bind, *args, **options)
            return
        key = (self, bind.dialect.name)
        if key not in kept:
            kept[key] = _seen(self, bind)
            return
        for statement in kept[key]:
            bind.exec_driver_sql(statement)

    return create_all


def _seen(metadata: MetaData, connection: Connection) -> list[str]:
    """Make all tables; the statements that did."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(connection, "before_cursor_execute", note)
    try:
        _create_all(metadata, connection, checkfirst=False)
    finally:
        event.remove(connection, "before_cursor_execute", note)
    return seen
