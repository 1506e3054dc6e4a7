"""The worklist as people look through it, in both databases."""

from __future__ import annotations

from typing import Any

import pytest

from lfscp.archive.index.index import Index
from lfscp.archive.workflow.worklist.item import PATIENT_ID
from lfscp.archive.workflow.worklist.listing import ItemFilter, choices, page_of_items
from lfscp.archive.workflow.worklist.worklist import Worklist
from tests.support.worklist_items import scheduled_step, worklist_tree


@pytest.fixture
def worklist(index: Index) -> Worklist:
    """Four items; the first that was added begins last."""
    worklist = Worklist(index)
    early = scheduled_step(ScheduledProcedureStepStartDate="20261130", Modality="MR")
    late = scheduled_step(ScheduledProcedureStepStartDate="20261203", ScheduledProcedureStepID="S2")
    eight = scheduled_step(ScheduledProcedureStepStartTime="0800")
    two = scheduled_step(ScheduledStationAETitle=["CT02", "CT03"])
    for number, steps in enumerate([[late], [two], [eight], [early, late]], start=1):
        worklist.add(worklist_tree(number, *steps, PatientName=f"Doe{number}^Jane"))
    return worklist


def found(index: Index, **wanted: Any) -> list[str]:
    with index.engine.connect() as connection:
        page = page_of_items(connection, ItemFilter(**wanted))
    return [item.dataset.text(PATIENT_ID) for item in page.items]


def test_what_begins_first_is_at_the_top(index: Index, worklist: Worklist) -> None:
    assert found(index) == ["P4", "P3", "P2", "P1"]


@pytest.mark.parametrize(
    ("wanted", "patients"),
    [
        ({"date_from": "20261201", "date_to": "20261201"}, ["P3", "P2"]),
        ({"date_from": "20261202"}, ["P1", "P4"]),
        ({"date_to": "20261130"}, ["P4"]),
        ({"modality": "MR"}, ["P4"]),
        ({"station_ae_title": "CT03"}, ["P2"]),
        ({"modality": "MR", "date_from": "20261203"}, []),
        ({"statuses": ["STARTED"]}, []),
        ({"statuses": ["STARTED", "SCHEDULED"]}, ["P4", "P3", "P2", "P1"]),
        ({"text": "JANE doe2"}, ["P2"]),
        ({"text": "A3"}, ["P3"]),
        ({"text": "R4"}, ["P4"]),
        ({"text": "P"}, ["P4", "P3", "P2", "P1"]),
        ({"text": "1.2.826.0.1.3680043.8.498.1"}, ["P1"]),
        ({"text": "%"}, []),
        ({"text": "_"}, []),
        ({"text": "\0"}, ["P4", "P3", "P2", "P1"]),
        ({"modality": "\0", "station_ae_title": "\0"}, []),
    ],
)
def test_conditions_choose_items(
    index: Index, worklist: Worklist, wanted: dict[str, Any], patients: list[str]
) -> None:
    assert found(index, **wanted) == patients


def test_pages_show_each_item_once_while_items_come_and_go(
    index: Index, worklist: Worklist
) -> None:
    shown, after = [], None
    with index.engine.connect() as connection:
        first = page_of_items(connection, ItemFilter(), limit=2)
    worklist.remove(first.items[0].id)
    worklist.add(worklist_tree(9, scheduled_step(ScheduledProcedureStepStartDate="20200101")))
    shown, after = [item.id for item in first.items], first.next
    while after is not None:
        with index.engine.connect() as connection:
            page = page_of_items(connection, ItemFilter(), after=after, limit=1)
        shown += [item.id for item in page.items]
        after = page.next

    assert shown == [4, 3, 2, 1]


def test_items_that_begin_at_the_same_time_are_all_shown(index: Index) -> None:
    worklist = Worklist(index)
    ids = [worklist.add(worklist_tree(number)) for number in range(1, 6)]
    shown, after = [], None
    while len(shown) < 5:
        with index.engine.connect() as connection:
            page = page_of_items(connection, ItemFilter(), after=after, limit=2)
        shown += [item.id for item in page.items]
        after = page.next

    assert shown == ids
    assert after is None


def test_modalities_and_stations_are_there_to_choose_from(index: Index, worklist: Worklist) -> None:
    with index.engine.connect() as connection:
        assert choices(connection) == (["CT", "MR"], ["CT01", "CT02", "CT03"])


@pytest.mark.parametrize("limit", [0, -1, 1])
def test_a_page_has_at_least_one_item(index: Index, worklist: Worklist, limit: int) -> None:
    with index.engine.connect() as connection:
        page = page_of_items(connection, ItemFilter(), limit=limit)
    assert len(page.items) == 1
    assert page.next is not None
