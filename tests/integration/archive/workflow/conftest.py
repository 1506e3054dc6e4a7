"""A worklist in SQLite, then one in PostgreSQL, for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lfscp.archive.durability import Durability
from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.index import Index
from lfscp.archive.workflow.worklist.worklist import Worklist
from tests.support.worklist_items import clear


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Index]:
    """An index that the tests of a module share."""
    url = sqlite_url(tmp_path_factory.mktemp("worklist") / "index.sqlite")
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        url = server.url(server.new_database(request.getfixturevalue("migrated_template")))
    made = Index(url, Durability.OS)
    yield made
    made.close()


@pytest.fixture
def shared_worklist(shared_index: Index) -> Iterator[Worklist]:
    """Its worklist, emptied after each test."""
    worklist = Worklist(shared_index)
    yield worklist
    clear(worklist)


@pytest.fixture
def worklist(index: Index) -> Worklist:
    """The worklist of an index of its own, in each database."""
    return Worklist(index)
