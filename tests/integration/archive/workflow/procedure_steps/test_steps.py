"""Performed procedure steps in the index, in both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydicom.dataset import Dataset
from sqlalchemy.exc import DataError

from lfscp.archive.archive import Archive
from lfscp.archive.errors import ArchiveError
from lfscp.archive.workflow.procedure_steps import steps as procedure_steps
from lfscp.archive.workflow.procedure_steps.errors import (
    DuplicateStepError,
    EmptyAttributeError,
    StepEndedError,
    UnknownStepError,
)
from lfscp.archive.workflow.procedure_steps.steps import ProcedureStep, ProcedureSteps
from lfscp.archive.workflow.worklist.item import STATUS, STEPS
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.dicom.models.element_tree import Element, Tree
from tests.support.element_trees import tree_of
from tests.support.procedure_steps import (
    STUDY,
    changes,
    ended,
    performed_series,
    scheduled,
    started,
)
from tests.support.served_archive import Node, image
from tests.support.worklist_items import scheduled_step, worklist_tree

UID = "1.2.3.4"
DESCRIPTION = 0x00400254
STEP_STATUS = 0x00400252


@pytest.fixture
def archive(open_archive: Callable[..., Archive], tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "data", durability="os") as opened:
        yield opened


@pytest.fixture
def steps(archive: Archive) -> ProcedureSteps:
    return ProcedureSteps(archive.index)


def make(steps: ProcedureSteps, uid: str = UID, *items: Dataset, **values: Any) -> None:
    steps.create(uid, tree_of(started(*items, **values)), "CT01")


def found(steps: ProcedureSteps, uid: str = UID) -> ProcedureStep:
    step = steps.get(uid)
    assert step is not None
    return step


def test_a_step_comes_back_as_it_was_made(steps: ProcedureSteps) -> None:
    dataset = started(PatientName="Müller^Jörg=山田^太郎")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    steps.create(UID, tree_of(dataset), "CT01")
    step = found(steps)
    assert step.dataset == tree_of(dataset)
    assert (step.sop_instance_uid, step.status, step.calling_ae_title) == (
        UID,
        "IN PROGRESS",
        "CT01",
    )
    assert step.created_at == step.updated_at > 0


def test_there_is_none_that_was_not_made(steps: ProcedureSteps) -> None:
    assert steps.get("1.2.3") is None
    with pytest.raises(UnknownStepError):
        steps.update("1.2.3", tree_of(ended()))


def test_a_uid_is_taken_once(steps: ProcedureSteps) -> None:
    make(steps)
    with pytest.raises(DuplicateStepError):
        make(steps, Modality="MR")
    assert found(steps).dataset.text(0x00080060) == "CT"


def test_a_step_is_changed_until_it_ends(steps: ProcedureSteps) -> None:
    make(steps)
    changed = steps.update(UID, tree_of(changes(PerformedProcedureStepDescription="first")))
    assert (changed.status, changed.dataset.text(DESCRIPTION)) == ("IN PROGRESS", "first")
    assert steps.update(UID, tree_of(ended())).status == "COMPLETED"
    assert found(steps).dataset.text(DESCRIPTION) == "first"
    with pytest.raises(StepEndedError):
        steps.update(UID, tree_of(changes(PerformedProcedureStepDescription="second")))
    assert found(steps).dataset.text(DESCRIPTION) == "first"


def test_a_refused_change_changes_nothing(steps: ProcedureSteps) -> None:
    make(steps)
    before = found(steps)
    refused = changes(
        PerformedProcedureStepStatus="COMPLETED", PerformedProcedureStepDescription="x"
    )
    with pytest.raises(EmptyAttributeError):
        steps.update(UID, tree_of(refused))
    assert found(steps) == before


def test_of_many_that_end_a_step_at_once_one_does(steps: ProcedureSteps) -> None:
    make(steps)

    def end(number: int) -> str:
        wanted = ended(
            status=("COMPLETED", "DISCONTINUED")[number % 2],
            PerformedProcedureStepDescription=str(number),
        )
        try:
            return steps.update(UID, tree_of(wanted)).dataset.text(DESCRIPTION)
        except StepEndedError:
            return ""

    with ThreadPoolExecutor(8) as threads:
        done = [each for each in threads.map(end, range(16)) if each]
    assert done == [found(steps).dataset.text(DESCRIPTION)]


def test_changes_at_once_lose_nothing(steps: ProcedureSteps) -> None:
    make(steps)
    keywords = [
        "PerformedProcedureStepDescription",
        "PerformedProcedureTypeDescription",
        "CommentsOnThePerformedProcedureStep",
        "PerformedProcedureStepEndDate",
    ]
    with ThreadPoolExecutor(4) as threads:
        list(
            threads.map(
                lambda each: steps.update(UID, tree_of(changes(**{each: "20260101"}))), keywords
            )
        )
    dataset = found(steps).dataset
    for each in keywords:
        assert tree_of(changes(**{each: "20260101"})).items() <= dataset.items()


def test_a_change_that_another_one_overtakes_is_made_upon_it(
    steps: ProcedureSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(steps)
    replace = ProcedureSteps._replace
    overtaken = []

    def overtake(self: ProcedureSteps, before: Any, after: Any) -> bool:
        if not overtaken:
            overtaken.append(True)
            self.update(UID, tree_of(changes(PerformedProcedureTypeDescription="first")))
        return replace(self, before, after)

    monkeypatch.setattr(ProcedureSteps, "_replace", overtake)
    steps.update(UID, tree_of(changes(PerformedProcedureStepDescription="second")))
    dataset = found(steps).dataset
    assert (dataset.text(0x00400255), dataset.text(DESCRIPTION)) == ("first", "second")


def test_of_many_with_one_uid_one_is_made(steps: ProcedureSteps) -> None:
    def create(number: int) -> str:
        try:
            make(steps, PatientID=str(number))
        except DuplicateStepError:
            return ""
        return str(number)

    with ThreadPoolExecutor(8) as threads:
        done = [each for each in threads.map(create, range(16)) if each]
    assert done == [found(steps).dataset.text(0x00100020)]


class _AnswerLost:
    """Lets the first transaction commit, and then says that the connection was lost."""

    def __init__(self, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
        self._transact = archive.index.transact
        monkeypatch.setattr(archive.index, "transact", self)

    def __call__(self, work: Any, **options: Any) -> Any:
        self._transact(work, **options)
        return self._transact(work, **options)  # as `Database.transact` does it again


def test_a_step_whose_commit_was_not_heard_of_is_no_duplicate(
    archive: Archive, steps: ProcedureSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    _AnswerLost(archive, monkeypatch)
    make(steps)
    assert found(steps).status == "IN PROGRESS"


def test_the_same_request_at_the_same_moment_is_a_second_one(
    steps: ProcedureSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedure_steps, "wall_ms", lambda: 1_795_926_706_862)
    make(steps)
    with pytest.raises(DuplicateStepError):
        make(steps)
    steps.update(UID, tree_of(ended()))
    with pytest.raises(StepEndedError):
        steps.update(UID, tree_of(ended()))


def test_an_end_whose_commit_was_not_heard_of_is_no_second_one(
    archive: Archive, steps: ProcedureSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(steps)
    _AnswerLost(archive, monkeypatch)
    assert steps.update(UID, tree_of(ended())).status == "COMPLETED"


def test_values_that_a_database_takes_in_no_column_are_kept(steps: ProcedureSteps) -> None:
    tree = tree_of(started())
    long_uid = "1." * 5000
    tree[0x00400270] = Element(b"SQ", [tree_of(scheduled())])
    tree.sequence(0x00400270)[0][0x0020000D] = Element(b"UI", long_uid)
    tree[0x00100020] = Element(b"LO", "a\0b")
    steps.create(UID, tree, "CT\x0001")
    assert found(steps).dataset == tree


def test_a_database_that_fails_says_so(archive: Archive, steps: ProcedureSteps) -> None:
    with archive.index.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE procedure_step RENAME TO elsewhere")
    try:
        with pytest.raises(ArchiveError):
            make(steps)
        with pytest.raises(ArchiveError):
            steps.get(UID)
        with pytest.raises(ArchiveError):
            steps.steps()
    finally:
        with archive.index.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO procedure_step")


# The worklist


def status_of(archive: Archive, item_id: int) -> list[str]:
    item = Worklist(archive.index).get(item_id)
    assert item is not None
    return [step.text(STATUS) for step in item.dataset.sequence(STEPS)]


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_the_step_of_the_worklist_follows(
    archive: Archive, steps: ProcedureSteps, status: str
) -> None:
    both = (scheduled_step(), scheduled_step(ScheduledProcedureStepID="S2"))
    item = Worklist(archive.index).add(worklist_tree(1, *both))
    make(steps)
    assert status_of(archive, item) == ["STARTED", "SCHEDULED"]
    steps.update(UID, tree_of(changes(PerformedProcedureStepDescription="x")))
    assert status_of(archive, item) == ["STARTED", "SCHEDULED"]
    steps.update(UID, tree_of(ended(status=status)))
    assert status_of(archive, item) == [status, "SCHEDULED"]


def test_a_step_may_perform_several_of_the_worklist(
    archive: Archive, steps: ProcedureSteps
) -> None:
    worklist = Worklist(archive.index)
    first, second = worklist.add(worklist_tree(1)), worklist.add(worklist_tree(2))
    # The device groups two orders in one study: the second is found by its order.
    make(steps, UID, scheduled(), scheduled(AccessionNumber="A2"))
    assert (status_of(archive, first), status_of(archive, second)) == (["STARTED"], ["SCHEDULED"])
    other = worklist_tree(2).text(0x0020000D)
    make(steps, "1.2.3.5", scheduled(), scheduled(StudyInstanceUID=other, AccessionNumber="A2"))
    assert status_of(archive, second) == ["STARTED"]
    make(steps, "1.2.3.6", scheduled(StudyInstanceUID="1.9", AccessionNumber="A2"))
    steps.update("1.2.3.6", tree_of(ended()))
    assert status_of(archive, second) == ["COMPLETED"]


def test_a_step_that_nobody_planned_is_fine(steps: ProcedureSteps) -> None:
    make(steps, UID, scheduled(StudyInstanceUID="1.9", AccessionNumber=""))
    assert steps.update(UID, tree_of(ended())).status == "COMPLETED"


def test_a_worklist_that_fails_undoes_the_step(
    archive: Archive, steps: ProcedureSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise DataError("", None, psycopg.DataError("no"))  # one that is not tried again

    monkeypatch.setattr(procedure_steps.Worklist, "set_step_status", fail)
    with pytest.raises(ArchiveError):
        make(steps)
    assert steps.get(UID) is None


# Lists


def test_steps_come_newest_first_a_page_at_a_time(steps: ProcedureSteps) -> None:
    for number in range(5):
        make(steps, f"1.2.3.{number}")
    page = steps.steps(limit=2)
    assert [step.sop_instance_uid for step in page] == ["1.2.3.4", "1.2.3.3"]
    page = steps.steps(limit=3, after=page[-1].id)
    assert [step.sop_instance_uid for step in page] == ["1.2.3.2", "1.2.3.1", "1.2.3.0"]
    assert steps.steps(after=page[-1].id) == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("doe", True),
        ("JANE doe", True),
        ("P1", True),
        ("A1", True),
        (STUDY, True),
        (UID, True),
        ("", True),
        ("roe", False),
        ("%", False),
        ("_", False),
        ("doe roe", False),
    ],
)
def test_words_find_steps(steps: ProcedureSteps, text: str, is_found: bool) -> None:
    make(steps)
    assert bool(steps.steps(text=text)) is is_found


def test_steps_are_found_by_status_and_study(steps: ProcedureSteps) -> None:
    make(steps)
    make(steps, "1.2.3.5", scheduled(StudyInstanceUID="1.9"))
    steps.update(UID, tree_of(ended()))

    def uids(**wanted: Any) -> list[str]:
        return [step.sop_instance_uid for step in steps.steps(**wanted)]

    assert uids(statuses=["COMPLETED"]) == [UID]
    assert uids(statuses=["IN PROGRESS", "DISCONTINUED"]) == ["1.2.3.5"]
    assert uids(study_uid="1.9") == ["1.2.3.5"]


# What has arrived


def test_a_step_without_objects_waits_for_none(steps: ProcedureSteps) -> None:
    make(steps)
    assert steps.arrived(found(steps)) == (0, 0)


def test_objects_of_a_step_are_counted_once_and_found_by_uid(
    archive: Archive, steps: ProcedureSteps
) -> None:
    node = Node(archive, 0)
    stored = [image(study=STUDY, series=f"{STUDY}.1") for _ in range(3)]
    for each in stored:
        node.store(each)
    named = [each.SOPInstanceUID for each in stored] + [f"1.5.{n}" for n in range(1200)]
    make(steps)
    series = performed_series(named[:2] + named[:1], named[2:])
    steps.update(UID, tree_of(ended(series, performed_series(named[:2]))))
    assert steps.arrived(found(steps)) == (3, 1203)


def test_a_reference_without_a_uid_is_no_object(steps: ProcedureSteps) -> None:
    step = ProcedureStep(1, UID, "IN PROGRESS", Tree(), "", 0, 0)
    series = tree_of(performed_series(["1.2"]))
    series.sequence(0x00081140)[0].pop(0x00081155)
    step.dataset[0x00400340] = Element(b"SQ", [series])
    assert steps.arrived(step) == (0, 0)


def test_a_nul_in_a_value_is_kept_and_searched_for_as_what_stands_for_it(
    steps: ProcedureSteps,
) -> None:
    dataset = tree_of(started())
    dataset[0x00100020] = Element(b"LO", "P\x007")
    steps.create(UID, dataset, "CT01")
    assert found(steps).dataset.text(0x00100020) == "P\x007"
    assert steps.steps(text="P\ufffd7") == [found(steps)]
