"""The modality worklist asked for by pynetdicom over real sockets: answers, statuses, limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pynetdicom.sop_class import (
    ModalityWorklistInformationFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from lfscp.archive.workflow.worklist.worklist import Worklist
from tests.support import dicom_peer
from tests.support.pynetdicom_client import association
from tests.support.served_archive import Node, served
from tests.support.worklist_items import scheduled_step, worklist_tree

WORKLIST = ModalityWorklistInformationFind
EXPLICIT = "1.2.840.10008.1.2.1"
SYNTAXES = ("1.2.840.10008.1.2", EXPLICIT, "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
Response = tuple[Dataset, Dataset | None]


def dataset(**values: Any) -> Dataset:
    """A dataset whose values need not be valid."""
    made = Dataset()
    for keyword, value in values.items():
        tag = Tag(keyword)
        vr = dictionary_VR(tag)
        made.add(DataElement(tag, vr, value, validation_mode=IGNORE))
    return made


def keys(step: dict[str, Any] | None = None, **values: Any) -> Dataset:
    """The keys of a query; those of the step are given first."""
    asked = dataset(**values)
    if step is not None:
        asked.ScheduledProcedureStepSequence = [dataset(**step)]
    return asked


def ask(node: Node, asked: Dataset, syntax: str = EXPLICIT, **options: Any) -> list[Response]:
    with association(node.port, [(WORKLIST, syntax)], **options) as assoc:
        assert assoc.is_established
        return list(assoc.send_c_find(asked, WORKLIST))


def matches(node: Node, asked: Dataset, **options: Any) -> list[Dataset]:
    """The identifiers of a query that succeeds."""
    *pending, (final, _) = ask(node, asked, **options)
    assert final.Status == 0x0000
    assert all(status.Status == 0xFF00 for status, _ in pending)
    return [identifier for _, identifier in pending if identifier is not None]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with served(tmp_path) as made:
        yield made


@pytest.fixture
def worklist(node: Node) -> Worklist:
    return Worklist(node.archive.index)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_item_is_answered_in_every_transfer_syntax(
    node: Node, worklist: Worklist, syntax: str
) -> None:
    step = scheduled_step(
        ScheduledProtocolCodeSequence=[dataset(CodeValue="C1", CodeMeaning="Kopf")]
    )
    worklist.add(worklist_tree(1, step, PregnancyStatus=4, PatientName="Müller^Jörg"))
    inside = {"Modality": "CT", "ScheduledProtocolCodeSequence": [dataset(CodeValue="")]}
    asked = keys(inside, PatientName="müller*", PregnancyStatus=None, AdmissionID="")
    (found,) = matches(node, asked, syntax=syntax)
    assert found.PatientName == "Müller^Jörg"
    assert found.PregnancyStatus == 4
    assert found.AdmissionID == ""
    (answered,) = found.ScheduledProcedureStepSequence
    assert answered.Modality == "CT"
    (code,) = answered.ScheduledProtocolCodeSequence
    assert [element.keyword for element in code] == ["CodeValue"]


def test_an_item_answers_with_the_steps_that_fit(node: Node, worklist: Worklist) -> None:
    steps = [
        scheduled_step(ScheduledProcedureStepID=f"S{n}", Modality=modality)
        for n, modality in enumerate(("CT", "MR", "CT"))
    ]
    worklist.add(worklist_tree(1, *steps))
    (found,) = matches(node, keys({"Modality": "CT", "ScheduledProcedureStepID": ""}))
    ids = [step.ScheduledProcedureStepID for step in found.ScheduledProcedureStepSequence]
    assert ids == ["S0", "S2"]


@pytest.mark.parametrize("asked", [keys(PatientID=""), keys({}, PatientID="")])
def test_steps_that_have_ended_are_left_out(node: Node, worklist: Worklist, asked: Dataset) -> None:
    for number, status in enumerate(("SCHEDULED", "STARTED", "COMPLETED", "DISCONTINUED")):
        worklist.add(worklist_tree(number, scheduled_step(ScheduledProcedureStepStatus=status)))
    assert [found.PatientID for found in matches(node, asked)] == ["P0", "P1"]
    (found,) = matches(node, keys({"ScheduledProcedureStepStatus": "COMPLETED"}, PatientID=""))
    assert found.PatientID == "P2"


@pytest.mark.parametrize("items", [[], [Dataset()]])
def test_an_empty_sequence_key_asks_for_all_of_it(
    node: Node, worklist: Worklist, items: list[Dataset]
) -> None:
    step = scheduled_step(PreMedication="none")
    worklist.add(worklist_tree(1, step))
    asked = Dataset()
    asked.ScheduledProcedureStepSequence = items
    (found,) = matches(node, asked)
    (answered,) = found.ScheduledProcedureStepSequence
    assert answered.pop("ScheduledProcedureStepStatus").value == "SCHEDULED"
    assert answered == step


def test_several_keys_of_a_sequence_fit_one_of_its_items(node: Node, worklist: Worklist) -> None:
    codes = [
        dataset(CodeValue=value, CodingSchemeDesignator=scheme)
        for value, scheme in (("A", "99X"), ("B", "DCM"))
    ]
    worklist.add(worklist_tree(1, RequestedProcedureCodeSequence=codes))

    def code(value: str, scheme: str) -> Dataset:
        asked = Dataset()
        asked.RequestedProcedureCodeSequence = [
            dataset(CodeValue=value, CodingSchemeDesignator=scheme)
        ]
        return asked

    assert matches(node, code("A", "DCM")) == []
    (found,) = matches(node, code("A", "99X"))
    assert list(found.RequestedProcedureCodeSequence) == codes[:1]


def test_items_come_in_the_order_of_their_start(node: Node, worklist: Worklist) -> None:
    for number, (date, time) in enumerate(
        [("20261202", "0800"), ("20261201", "1200"), ("20261201", "0900")]
    ):
        step = scheduled_step(
            ScheduledProcedureStepStartDate=date, ScheduledProcedureStepStartTime=time
        )
        worklist.add(worklist_tree(number, step))
    assert [found.PatientID for found in matches(node, keys(PatientID=""))] == ["P2", "P1", "P0"]


@pytest.mark.parametrize(
    ("charset", "name", "answered"),
    [
        ("ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
        ("ISO_IR 100", "Διονυσιος", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", ["", "ISO 2022 IR 87"]),
        (None, "Müller^Jörg", "ISO_IR 192"),
    ],
)
def test_text_comes_in_the_character_set_of_the_request_if_it_has_it(
    node: Node, worklist: Worklist, charset: Any, name: str, answered: Any
) -> None:
    worklist.add(worklist_tree(PatientName=name))
    asked = keys(PatientName="")
    if charset is not None:
        asked.SpecificCharacterSet = charset
    (found,) = matches(node, asked)
    assert found.SpecificCharacterSet == answered
    assert found.PatientName == name


def test_a_key_that_is_not_matched_is_told_with_each_match(node: Node, worklist: Worklist) -> None:
    worklist.add(worklist_tree())
    *pending, (final, _) = ask(node, keys(PatientID="", SeriesDescription="x"))
    assert [status.Status for status, _ in pending] == [0xFF01]
    assert final.Status == 0x0000
    (_, found), *_ = pending
    assert found is not None
    assert found.SeriesDescription == ""


def test_a_query_retrieve_level_is_not_looked_at(node: Node, worklist: Worklist) -> None:
    worklist.add(worklist_tree())
    (status, found), _ = ask(node, keys(PatientID="", QueryRetrieveLevel="STUDY"))
    assert status.Status == 0xFF01
    assert found is not None
    assert found.PatientID == "P1"


def two_items() -> Dataset:
    asked = Dataset()
    asked.ScheduledProcedureStepSequence = [dataset(Modality="CT"), dataset(Modality="MR")]
    return asked


@pytest.mark.parametrize(
    ("asked", "tag"),
    [
        (two_items(), 0x00400100),
        (keys({"ScheduledProcedureStepStartDate": "tomorrow"}), 0x00400002),
        (keys({"ScheduledProcedureStepStartTime": "-"}), 0x00400003),
        (keys(StudyInstanceUID="1.2.*"), 0x0020000D),
    ],
)
def test_an_identifier_that_does_not_fit_is_refused_with_its_element(
    node: Node, asked: Dataset, tag: int
) -> None:
    ((status, found),) = ask(node, asked)
    assert status.Status == 0xA900
    assert status.OffendingElement == tag
    assert found is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x00\x20\x00LO\x08\x00P1",  # cut inside its only element
        b"\x40\x00\x00\x01SQ\x00\x00\x40\x00\x00\x00\xfe\xff\x00\xe0\x20\x00\x00\x00ab",
        b"\xff" * 100,
    ],
)
def test_a_broken_identifier_is_refused(node: Node, worklist: Worklist, data: bytes) -> None:
    worklist.add(worklist_tree())
    with dicom_peer.Peer(("127.0.0.1", node.port)) as peer:
        peer.associate([(1, WORKLIST, [EXPLICIT])])
        peer.send(dicom_peer.message(1, dicom_peer.find_rq(1, WORKLIST), data))
        assert peer.status() == 0xC001
        good = b"\x10\x00\x20\x00LO\x02\x00P1"
        peer.send(dicom_peer.message(1, dicom_peer.find_rq(2, WORKLIST), good))
        assert [peer.status(), peer.status()] == [0xFF00, 0x0000]
        peer.release()


def test_a_query_is_cancelled(node: Node, worklist: Worklist) -> None:
    worklist.put_all("api", [(str(n), worklist_tree(n), "") for n in range(400)])
    asked = keys({}, PatientName="", PatientID="")
    for _ in range(20):  # a C-CANCEL that comes when all is answered means nothing
        with association(node.port, [(WORKLIST, EXPLICIT)]) as assoc:
            found = assoc.send_c_find(asked, WORKLIST, msg_id=3)
            assoc.send_c_cancel(3, query_model=WORKLIST)
            responses = list(found)
        if responses[-1][0].Status != 0x0000:
            break
    final, nothing = responses[-1]
    assert final.Status == 0xFE00
    assert nothing is None
    assert len(responses) <= 400


def test_more_matches_than_allowed_end_with_a_reason(tmp_path: Path) -> None:
    with served(tmp_path, query={"max_results": 2}) as node:
        for number in range(3):
            Worklist(node.archive.index).add(worklist_tree(number))
        *pending, (final, _) = ask(node, keys(PatientID=""))
    assert len(pending) == 2
    assert final.Status == 0xA700
    assert "first 2" in final.ErrorComment


@pytest.mark.parametrize(("may", "code"), [(["query"], 0x0124), (["worklist"], 0x0000)])
def test_only_who_may_sees_the_worklist(tmp_path: Path, may: list[str], code: int) -> None:
    peers = {"PYNETDICOM": {"host": "127.0.0.1", "port": 104, "may": may}}
    with served(tmp_path, peers=peers) as node:
        Worklist(node.archive.index).add(worklist_tree())
        *pending, (final, _) = ask(node, keys(PatientID=""))
        assert final.Status == code
        assert len(pending) == (code == 0x0000)


def test_who_may_see_the_worklist_only_queries_nothing_else(tmp_path: Path) -> None:
    model = StudyRootQueryRetrieveInformationModelFind
    peers = {"PYNETDICOM": {"host": "127.0.0.1", "port": 104, "may": ["worklist"]}}
    with (
        served(tmp_path, peers=peers) as node,
        association(node.port, [(model, EXPLICIT)]) as assoc,
    ):
        ((status, _),) = assoc.send_c_find(dataset(QueryRetrieveLevel="STUDY"), model)
    assert status.Status == 0x0124
