"""Old worklist items go some days after their last step; those of files stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from lfscp.archive.archive import Archive
from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.index.tables.maintenance_tables import maintenance
from lfscp.archive.upkeep.worklist_expiry import TASK, WorklistExpiry
from lfscp.archive.workflow.worklist.item import PATIENT_ID
from lfscp.archive.workflow.worklist.worklist import Worklist
from tests.support.worklist_items import scheduled_step, worklist_tree


@pytest.fixture
def archive(open_archive: Callable[..., Any], tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "data") as opened:
        yield opened


def day(ago: int) -> str:
    return (datetime.now() - timedelta(days=ago)).strftime("%Y%m%d")  # noqa: DTZ005 - local


def item(number: int, *days_ago: int) -> Any:
    steps = [
        scheduled_step(ScheduledProcedureStepID=f"S{ago}", ScheduledProcedureStepStartDate=day(ago))
        for ago in days_ago
    ]
    return worklist_tree(number, *steps)


def left(worklist: Worklist) -> list[str]:
    return sorted(each.dataset.text(PATIENT_ID) for each in worklist.items())


def test_an_item_goes_when_its_last_step_is_older_than_the_days(archive: Archive) -> None:
    worklist = Worklist(archive.index)
    for number, days in enumerate([(0,), (29, 40), (31,), (33, 60), (-5, 90)], 1):
        worklist.add(item(number, *days))
    worklist.put("folder:n1", "old.wl", item(9, 400))
    WorklistExpiry(archive, 30).run()
    assert left(worklist) == ["P1", "P2", "P5", "P9"]
    WorklistExpiry(archive, 1e9).run()
    assert left(worklist) == ["P1", "P2", "P5", "P9"]


def test_a_clock_that_is_not_trusted_removes_nothing(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    worklist = Worklist(archive.index)
    worklist.add(item(1, 40))
    trusted = wall_ms() - 30 * 86_400_000
    monkeypatch.setattr(archive, "trusted_ms", lambda: trusted)
    WorklistExpiry(archive, 30).run()
    assert left(worklist) == ["P1"]


def test_one_node_of_a_shared_index_does_it(archive: Archive) -> None:
    worklist = Worklist(archive.index)
    worklist.add(item(1, 40))
    with archive.index.writing() as connection:
        held = {"task": TASK, "holder": "another node", "held_until": wall_ms() + 60_000}
        connection.execute(insert(maintenance).values(held))
    WorklistExpiry(archive, 30).run()
    assert left(worklist) == ["P1"]
