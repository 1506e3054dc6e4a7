"""An intake on a worklist in each database."""

from __future__ import annotations

from typing import Any

import pytest

from lfscp.archive.index.index import Index
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.config.workflow import Worklist as WorklistSettings
from lfscp.hl7.intake import Intake

SETTINGS: dict[str, Any] = {
    "hl7_stations": ["CT=CT01,CT02", "US=US01", "*=ROOM1"],
    "hl7_modalities": ["KNOCHEN=NM"],
}


@pytest.fixture
def intake(index: Index) -> Intake:
    return Intake(WorklistSettings(**SETTINGS), index, "LFSCP")


@pytest.fixture
def worklist(index: Index) -> Worklist:
    """The worklist of an index of its own, in each database."""
    return Worklist(index)
