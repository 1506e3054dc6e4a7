"""The two databases that matching, finding and browsing are tried on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from tests.support.index_rows import new_index


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An empty index in SQLite, then one in PostgreSQL; for all tests of a module."""
    url = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        url = server.url(server.new_database(request.getfixturevalue("migrated_template")))
    made = new_index(url)
    yield made
    made.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection to it; what a test adds is gone with the test."""
    with engine.connect() as opened:
        yield opened
