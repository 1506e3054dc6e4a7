"""Worklist items in the index, in both databases."""

from __future__ import annotations

import pytest

from lfscp.archive.index.index import Index
from lfscp.archive.workflow.worklist.item import (
    REQUESTED_PROCEDURE_ID,
    START_DATE,
    STATUS,
    STEP_ID,
    STEPS,
    STUDY_INSTANCE_UID,
)
from lfscp.archive.workflow.worklist.worklist import InvalidItemError, Worklist, complete_item
from lfscp.dicom.models.element_tree import Element
from tests.support.worklist_items import scheduled_step, worklist_tree

FOLDER = "folder:n1"


def statuses(worklist: Worklist, item_id: int) -> list[str]:
    item = worklist.get(item_id)
    assert item is not None
    return [step.text(STATUS) for step in item.dataset.sequence(STEPS)]


def begin(index: Index, worklist: Worklist, status: str = "STARTED", **named: str) -> int:
    with index.writing() as connection:
        return worklist.set_step_status(
            connection,
            study_uid=named.get("study_uid", worklist_tree().text(STUDY_INSTANCE_UID)),
            step_id=named.get("step_id", "S1"),
            accession_number=named.get("accession_number", ""),
            status=status,
            procedure_step_uid="1.2.3",
        )


def test_an_item_comes_back_as_it_was_added_with_its_steps_scheduled(worklist: Worklist) -> None:
    dataset = worklist_tree(PatientName="Müller^Jörg=山田^太郎")
    item = worklist.get(worklist.add(dataset))
    assert item is not None
    (step,) = item.dataset.sequence(STEPS)
    assert step.pop(STATUS).value == "SCHEDULED"
    assert item.dataset == dataset
    assert (item.source, item.created_at) == ("api", item.updated_at)


def test_an_item_keeps_its_id_when_its_source_puts_it_again(worklist: Worklist) -> None:
    first = worklist.put(FOLDER, "a.wl", worklist_tree(1), "one")
    assert worklist.put(FOLDER, "a.wl", worklist_tree(2), "two") == first
    item = worklist.find_by_key(FOLDER, "a.wl")
    assert item is not None
    assert item.dataset.text(REQUESTED_PROCEDURE_ID) == "R2"
    assert worklist.fingerprints(FOLDER) == {"a.wl": "two"}
    assert worklist.fingerprints("folder:n2") == {}


def test_missing_identifiers_are_given_and_stay_when_the_item_comes_again(
    worklist: Worklist,
) -> None:
    nameless = worklist_tree(
        1,
        scheduled_step(ScheduledProcedureStepID=None),
        StudyInstanceUID=None,
        RequestedProcedureID="",
    )
    key = worklist.put("hl7", "1", nameless)
    first = worklist.get(key)
    worklist.put("hl7", "1", nameless)
    again = worklist.get(key)
    assert first is not None
    assert again is not None
    assert first.dataset == again.dataset
    assert first.dataset.text(STUDY_INSTANCE_UID).startswith("2.25.")
    assert 0 < len(first.dataset.text(REQUESTED_PROCEDURE_ID)) <= 16
    assert 0 < len(first.dataset.sequence(STEPS)[0].text(STEP_ID)) <= 16


@pytest.mark.parametrize(
    ("values", "keyword"),
    [
        ({"PatientName": None}, "PatientName"),
        ({"PatientName": "^^^"}, "PatientName"),
        ({"PatientID": ""}, "PatientID"),
        ({"PatientID": "x" * 257}, "PatientID"),
        ({"ScheduledProcedureStepSequence": []}, "ScheduledProcedureStepSequence"),
        ({"ScheduledProcedureStepSequence": None}, "ScheduledProcedureStepSequence"),
        ({"StudyInstanceUID": "1.2." + "3" * 70}, "StudyInstanceUID"),
        ({"StudyInstanceUID": "1..2"}, "StudyInstanceUID"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*UI.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*LO.*:UserWarning")
def test_an_item_that_lacks_what_a_device_needs_is_refused(
    values: dict[str, object], keyword: str
) -> None:
    with pytest.raises(InvalidItemError) as refused:
        complete_item(worklist_tree(1, **values))
    assert refused.value.keyword == keyword


@pytest.mark.parametrize(
    ("values", "keyword"),
    [
        ({"Modality": None}, "Modality"),
        ({"Modality": " "}, "Modality"),
        ({"ScheduledStationAETitle": ""}, "ScheduledStationAETitle"),
        ({"ScheduledProcedureStepStartDate": ""}, "ScheduledProcedureStepStartDate"),
        ({"ScheduledProcedureStepStartTime": None}, "ScheduledProcedureStepStartTime"),
    ],
)
def test_a_step_that_lacks_what_a_device_needs_is_refused(
    values: dict[str, object], keyword: str
) -> None:
    with pytest.raises(InvalidItemError) as refused:
        complete_item(worklist_tree(1, scheduled_step(**values)))
    assert refused.value.keyword == keyword


@pytest.mark.parametrize("date", ["2026-12-01", "20261301", "20261201-20261202", "tomorrow"])
def test_a_start_date_that_is_none_is_refused(date: str) -> None:
    item = worklist_tree()
    item.sequence(STEPS)[0][START_DATE] = Element(b"DA", date)
    with pytest.raises(InvalidItemError, match="ScheduledProcedureStepStartDate is not a date"):
        complete_item(item)


def test_two_steps_of_one_id_are_refused() -> None:
    with pytest.raises(InvalidItemError, match="is the same in two steps"):
        complete_item(worklist_tree(1, scheduled_step(), scheduled_step()))


def test_text_that_is_no_unicode_is_refused_and_nothing_is_kept(worklist: Worklist) -> None:
    item = worklist_tree()
    item[0x00104000] = Element(b"LT", "\ud800")
    with pytest.raises(InvalidItemError):
        worklist.add(item)
    assert worklist.items() == []


def test_a_broken_replacement_leaves_the_item_as_it_was(worklist: Worklist) -> None:
    key = worklist.put(FOLDER, "a.wl", worklist_tree(1), "one")
    before = worklist.get(key)
    with pytest.raises(InvalidItemError):
        worklist.put(FOLDER, "a.wl", worklist_tree(1, PatientID=""), "two")
    assert worklist.get(key) == before
    assert worklist.fingerprints(FOLDER) == {"a.wl": "one"}


def test_a_step_that_a_device_has_begun_keeps_its_status_when_its_source_puts_it_again(
    index: Index, worklist: Worklist
) -> None:
    steps = [scheduled_step(), scheduled_step(ScheduledProcedureStepID="S2")]
    key = worklist.put(FOLDER, "a.wl", worklist_tree(1, *steps))
    assert begin(index, worklist) == 1
    for step in steps:
        step.ScheduledProcedureStepStatus = "ARRIVED"
    worklist.put(FOLDER, "a.wl", worklist_tree(1, *reversed(steps)))
    assert statuses(worklist, key) == ["ARRIVED", "STARTED"]


def test_who_replaces_an_item_by_its_id_decides_its_status_or_leaves_it(
    index: Index, worklist: Worklist
) -> None:
    key = worklist.add(worklist_tree())
    begin(index, worklist)
    assert worklist.replace(key, worklist_tree(PatientSex="M"))
    assert statuses(worklist, key) == ["STARTED"]
    given = scheduled_step(ScheduledProcedureStepStatus="COMPLETED")
    assert worklist.replace(key, worklist_tree(1, given))
    assert statuses(worklist, key) == ["COMPLETED"]
    assert not worklist.replace(key + 1, worklist_tree())


def test_a_performed_step_finds_its_item_by_study_else_by_accession_number(
    index: Index, worklist: Worklist
) -> None:
    key = worklist.add(worklist_tree())
    assert begin(index, worklist, step_id="S9") == 0
    assert begin(index, worklist, study_uid="1.9", accession_number="A9") == 0
    assert begin(index, worklist, study_uid="1.9") == 0
    assert statuses(worklist, key) == ["SCHEDULED"]
    assert begin(index, worklist, study_uid="1.9", accession_number="A1") == 1
    assert statuses(worklist, key) == ["STARTED"]
    assert begin(index, worklist, "COMPLETED") == 1
    assert statuses(worklist, key) == ["COMPLETED"]


def test_a_performed_step_without_step_id_is_the_only_step_of_its_study(
    index: Index, worklist: Worklist
) -> None:
    one = scheduled_step(ScheduledStationAETitle=["CT01", "CT02"])
    key = worklist.add(worklist_tree(1, one))
    two = worklist.add(
        worklist_tree(
            2, scheduled_step(), scheduled_step(Modality="MR", ScheduledProcedureStepID="S2")
        )
    )
    assert begin(index, worklist, step_id="") == 1
    uid = worklist_tree(2).text(STUDY_INSTANCE_UID)
    assert begin(index, worklist, step_id="", study_uid=uid) == 0
    assert begin(index, worklist, step_id="", study_uid="") == 0
    assert statuses(worklist, key) == ["STARTED"]
    assert statuses(worklist, two) == ["SCHEDULED", "SCHEDULED"]


def test_items_are_listed_newest_first_in_pages(worklist: Worklist) -> None:
    keys = worklist.put_all("api", [(str(n), worklist_tree(n), "") for n in range(1, 6)])
    first = worklist.items(limit=2)
    assert [item.id for item in first] == keys[:-3:-1]
    assert [item.id for item in worklist.items(after=first[-1].id)] == keys[2::-1]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"text": "STRASSE"}, [2]),
        ({"text": "a1"}, [1]),
        ({"text": "p_"}, []),
        ({"text": "%"}, []),
        ({"statuses": ["ARRIVED"]}, [2]),
        ({"statuses": ["ARRIVED", "SCHEDULED"]}, [2, 1]),
    ],
)
def test_items_are_found_by_text_and_status(
    worklist: Worklist, asked: dict[str, object], found: list[int]
) -> None:
    later = scheduled_step(
        ScheduledProcedureStepStartDate="20261202", ScheduledProcedureStepStatus="ARRIVED"
    )
    worklist.add(worklist_tree(1))
    worklist.add(worklist_tree(2, later, PatientName="Straße^An"))
    items = worklist.items(**asked)  # type: ignore[arg-type]
    assert [item.dataset.text(REQUESTED_PROCEDURE_ID) for item in items] == [f"R{n}" for n in found]


def test_an_item_is_removed_by_its_id_and_by_its_sources_key(worklist: Worklist) -> None:
    key = worklist.add(worklist_tree())
    worklist.put(FOLDER, "a.wl", worklist_tree())
    assert worklist.remove(key)
    assert not worklist.remove(key)
    assert worklist.remove_by_key(FOLDER, "a.wl")
    assert not worklist.remove_by_key(FOLDER, "a.wl")
    assert worklist.items() == []


def test_items_go_after_their_last_day_but_those_of_folders_stay(worklist: Worklist) -> None:
    two_days = [
        scheduled_step(),
        scheduled_step(ScheduledProcedureStepStartDate="20261202", ScheduledProcedureStepID="S2"),
    ]
    old, later = worklist.add(worklist_tree(1)), worklist.add(worklist_tree(2, *two_days))
    worklist.put(FOLDER, "a.wl", worklist_tree(3))
    assert worklist.expire("20261201") == 0
    assert worklist.expire("20261202") == 1
    assert worklist.get(old) is None
    assert worklist.get(later) is not None
    assert worklist.find_by_key(FOLDER, "a.wl") is not None
