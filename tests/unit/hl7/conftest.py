"""An intake on a worklist in each database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.index.database import sqlite_url
from lfscp.archive.index.index import Index
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.config.workflow import Worklist as WorklistSettings
from lfscp.hl7.intake import Intake

SETTINGS: dict[str, Any] = {
    "hl7_stations": ["CT=CT01,CT02", "US=US01", "*=ROOM1"],
    "hl7_modalities": ["KNOCHEN=NM"],
}


@pytest.fixture
def index(index_url: str | None, tmp_path: Path) -> Iterator[Index]:
    made = Index(index_url or sqlite_url(tmp_path / "index.sqlite"))
    yield made
    made.close()


@pytest.fixture
def worklist(index: Index) -> Worklist:
    return Worklist(index)


@pytest.fixture
def intake(index: Index) -> Intake:
    return Intake(WorklistSettings(**SETTINGS), index, "LFSCP")
