"""Modality performed procedure steps, as a modality meets them: every answer of the SCP."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from pynetdicom.dsutils import encode

from lfscp.archive.store.space import Space
from lfscp.archive.workflow.procedure_steps.steps import ProcedureSteps
from lfscp.archive.workflow.worklist.item import STATUS, STEPS
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.upperlayer.receiving import long_dataset
from tests.support.element_trees import tree_of
from tests.support.procedure_step_peer import (
    N_CREATE,
    N_GET,
    N_SET,
    Modality,
    Response,
    modality,
)
from tests.support.procedure_steps import (
    MPPS,
    MPPS_RETRIEVE,
    changes,
    ended,
    performed_series,
    scheduled,
    started,
)
from tests.support.pynetdicom_client import association
from tests.support.served_archive import EXPLICIT, IMPLICIT, Node, served
from tests.support.worklist_items import worklist_tree

BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UID_1 = "1.2.3.4"
NOBODY = {"host": "127.0.0.1", "port": 9, "may": ["store"]}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with served(tmp_path / "node", peers={"NOBODY": NOBODY}) as running:
        yield running


@pytest.fixture
def device(node: Node) -> Iterator[Modality]:
    with modality(node.port) as associated:
        yield associated


def encoded(dataset: Dataset, transfer_syntax: str = EXPLICIT) -> bytes:
    syntax = UID(transfer_syntax)
    data = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    assert data is not None
    return data


def decoded(response: Response) -> Dataset:
    assert response.data is not None
    found = read_dataset(BytesIO(response.data), is_implicit_VR=False, is_little_endian=True)
    found.decode()
    return found


def create(device: Modality, uid: str = UID_1, dataset: Dataset | None = None) -> Response:
    return device.ask(N_CREATE, uid, encoded(started() if dataset is None else dataset))


def change(device: Modality, dataset: Dataset, uid: str = UID_1) -> Response:
    return device.ask(N_SET, uid, encoded(dataset))


def status_of(node: Node, uid: str = UID_1) -> str:
    step = ProcedureSteps(node.archive.index).get(uid)
    return "" if step is None else step.status


# A step's life, with pynetdicom as the modality


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_a_step_from_its_start_to_its_end(node: Node, transfer_syntax: str) -> None:
    offered = [(MPPS, transfer_syntax), (MPPS_RETRIEVE, transfer_syntax)]
    with association(node.port, offered) as assoc:
        status, _ = assoc.send_n_create(started(), MPPS, UID_1)
        assert status.Status == 0x0000
        assert status_of(node) == "IN PROGRESS"
        status, _ = assoc.send_n_set(ended(), MPPS, UID_1)
        assert status.Status == 0x0000
        assert status_of(node) == "COMPLETED"
        status, step = assoc.send_n_get([], MPPS_RETRIEVE, UID_1)
        assert status.Status == 0x0000
        assert step is not None
        assert step.PerformedProcedureStepStatus == "COMPLETED"
        assert step.PerformedSeriesSequence == ended().PerformedSeriesSequence
        assert step.PatientName == "Doe^Jane"


def test_a_step_without_a_uid_is_given_one(node: Node) -> None:
    with association(node.port, [(MPPS, EXPLICIT)]) as assoc:
        status, _ = assoc.send_n_create(started(), MPPS, None)
        assert status.Status == 0x0000
    with modality(node.port) as device:
        uid = create(device, "").text(0x1000)
    assert UID(uid).is_valid
    assert status_of(node, uid) == "IN PROGRESS"


def test_the_item_of_the_worklist_follows(node: Node, device: Modality) -> None:
    worklist = Worklist(node.archive.index)
    key = worklist.add(worklist_tree(1))

    def item_status() -> str:
        item = worklist.get(key)
        assert item is not None
        return item.dataset.sequence(STEPS)[0].text(STATUS)

    assert create(device).status == 0x0000
    assert item_status() == "STARTED"
    assert change(device, ended(status="DISCONTINUED")).status == 0x0000
    assert item_status() == "DISCONTINUED"


def test_names_in_the_device_s_character_set(node: Node, device: Modality) -> None:
    dataset = started(PatientName="Müller^Jörg")
    dataset.SpecificCharacterSet = "ISO_IR 100"
    assert create(device, dataset=dataset).status == 0x0000
    comment = changes(PerformedProcedureStepDescription="Голова")
    comment.SpecificCharacterSet = "ISO_IR 144"
    assert change(device, comment).status == 0x0000
    step = decoded(device.ask(N_GET, UID_1))
    assert step.PatientName == "Müller^Jörg"
    assert step.PerformedProcedureStepDescription == "Голова"


# Refusals of N-CREATE


def test_a_uid_that_is_taken(device: Modality) -> None:
    assert create(device).status == 0x0000
    response = create(device)
    assert response.status == 0x0111
    assert response.text(0x1000) == UID_1


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_uid_that_is_none(node: Node, device: Modality) -> None:
    for uid in ("abc", "1..2", "1.2."):
        assert create(device, uid=uid).status == 0x0117
        assert status_of(node, uid) == ""


def test_a_step_that_does_not_begin(node: Node, device: Modality) -> None:
    response = create(device, dataset=started(PerformedProcedureStepStatus="COMPLETED"))
    assert response.status == 0x0106
    assert decoded(response).PerformedProcedureStepStatus == "COMPLETED"
    assert response.comment.startswith("(0040,0252) with a wrong value")
    assert status_of(node) == ""


def test_an_attribute_that_is_missing(node: Node, device: Modality) -> None:
    response = create(device, dataset=started(Modality=None))
    assert (response.status, response.comment) == (0x0120, "(0008,0060) missing: Modality")
    assert response.data is None
    assert status_of(node) == ""


def test_an_attribute_without_a_value(node: Node, device: Modality) -> None:
    response = create(device, dataset=started(scheduled(), scheduled(StudyInstanceUID="")))
    assert response.status == 0x0121
    (item,) = decoded(response).ScheduledStepAttributesSequence
    assert [element.keyword for element in item] == ["StudyInstanceUID"]
    assert response.comment.startswith("(0020,000D) of item 2 of (0040,0270) without a value")
    assert status_of(node) == ""


def test_a_creation_without_a_dataset(node: Node, device: Modality) -> None:
    assert device.ask(N_CREATE, UID_1).status == 0x0120
    assert status_of(node) == ""


# Refusals of N-SET


@pytest.mark.parametrize("status", ["COMPLETED", "ODD"])
def test_a_change_before_the_creation(device: Modality, status: str) -> None:
    assert change(device, ended(status=status)).status == 0x0112


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_a_change_after_the_end(node: Node, device: Modality, status: str) -> None:
    create(device)
    assert change(device, ended(status=status)).status == 0x0000
    response = change(device, changes(PerformedProcedureStepStatus="IN PROGRESS"))
    assert (response.status, response.error_id) == (0x0110, 0xA710)
    assert response.comment == "Performed Procedure Step Object may no longer be updated"
    assert status_of(node) == status


def test_an_end_without_what_it_needs(node: Node, device: Modality) -> None:
    create(device)
    response = change(device, changes(PerformedProcedureStepStatus="COMPLETED"))
    assert (response.status, response.tags) == (0x0121, [0x00400250, 0x00400251, 0x00400340])
    assert [element.keyword for element in decoded(response)][-3:] == [
        "PerformedProcedureStepEndDate",
        "PerformedProcedureStepEndTime",
        "PerformedSeriesSequence",
    ]
    assert status_of(node) == "IN PROGRESS"


def test_a_series_without_what_it_needs(node: Node, device: Modality) -> None:
    create(device)
    response = change(device, ended(performed_series(ProtocolName=None)))
    assert (response.status, response.tags) == (0x0120, [0x00181030])
    assert status_of(node) == "IN PROGRESS"


def test_an_attribute_that_does_not_change(device: Modality) -> None:
    create(device)
    response = change(device, changes(PatientID="P2", PerformedProcedureStepDescription="x"))
    assert (response.status, response.tags) == (0x0106, [0x00100020])
    assert decoded(response).PatientID == "P2"
    assert decoded(device.ask(N_GET, UID_1)).PerformedProcedureStepDescription == ""


def test_a_status_that_is_none(device: Modality) -> None:
    create(device)
    response = change(device, changes(PerformedProcedureStepStatus="SCHEDULED"))
    assert (response.status, response.tags) == (0x0106, [0x00400252])


# N-GET


@pytest.mark.parametrize("sop_class", [MPPS, MPPS_RETRIEVE])
def test_some_attributes_of_a_step(node: Node, device: Modality, sop_class: str) -> None:
    create(device)
    with modality(node.port, sop_class=sop_class) as reader:
        response = reader.ask(N_GET, UID_1, tags=(0x00080005, 0x00400252, 0x00080060))
    assert response.status == 0x0000
    assert [element.keyword for element in decoded(response)] == [
        "SpecificCharacterSet",
        "Modality",
        "PerformedProcedureStepStatus",
    ]


def test_an_attribute_that_the_step_does_not_have(device: Modality) -> None:
    create(device)
    response = device.ask(N_GET, UID_1, tags=(0x00080060, 0x00400280))
    assert (response.status, response.tags) == (0x0001, [0x00400280])
    assert decoded(response).Modality == "CT"


def test_an_attribute_that_nobody_knows(device: Modality) -> None:
    create(device)
    response = device.ask(N_GET, UID_1, tags=(0x00080060, 0x00091001))
    assert (response.status, response.tags) == (0x0107, [0x00091001])
    assert decoded(response).Modality == "CT"


def test_a_step_that_is_not_there(device: Modality) -> None:
    assert device.ask(N_GET, "1.2.3.9").status == 0x0112


# Requests that do not fit


@pytest.mark.parametrize(("operation", "data"), [(N_CREATE, b""), (N_SET, b""), (N_GET, None)])
def test_a_peer_that_may_not(node: Node, operation: int, data: bytes | None) -> None:
    with modality(node.port, calling="NOBODY") as stranger:
        assert stranger.ask(operation, UID_1, data).status == 0x0124


@pytest.mark.parametrize("operation", [N_CREATE, N_SET])
def test_the_retrieve_class_only_reads(node: Node, operation: int) -> None:
    with modality(node.port, sop_class=MPPS_RETRIEVE) as reader:
        response = reader.ask(operation, UID_1, encoded(started()))
    assert response.status == 0x0211
    assert status_of(node) == ""


def test_another_sop_class_than_the_context_s(node: Node, device: Modality) -> None:
    response = device.ask(N_CREATE, UID_1, encoded(started()), sop_class=MPPS_RETRIEVE)
    assert response.status == 0x0122
    assert status_of(node) == ""


# Bytes that are no dataset

WHOLE = encoded(started())
CHANGES = encoded(ended())


def test_a_creation_that_is_cut_anywhere_is_not_taken(node: Node, device: Modality) -> None:
    for length in range(len(WHOLE)):
        response = device.ask(N_CREATE, UID_1, WHOLE[:length])
        assert response.status in (0x0110, 0x0120), length  # 0x0120: cut between two elements
    assert status_of(node) == ""


@pytest.mark.parametrize("cut", [1, 7, 9, len(CHANGES) // 2])
def test_a_change_that_is_cut_is_not_taken(node: Node, device: Modality, cut: int) -> None:
    create(device)
    response = device.ask(N_SET, UID_1, CHANGES[:-cut])
    assert (response.status, response.error_id) == (0x0110, None)
    assert status_of(node) == "IN PROGRESS"


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with served(tmp_path_factory.mktemp("shared")) as running:
        yield running


def _damage(data: bytes) -> st.SearchStrategy[bytes]:
    places = st.integers(0, len(data) - 1)
    edits = st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)

    def apply(changed: list[tuple[int, int]]) -> bytes:
        damaged = bytearray(data)
        for at, byte in changed:
            damaged[at] = byte
        return bytes(damaged)

    return edits.map(apply)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.one_of(st.binary(max_size=300), _damage(WHOLE), _damage(CHANGES)),
    transfer_syntax=st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED]),
)
@example(data=WHOLE, transfer_syntax=EXPLICIT)
@example(data=b"", transfer_syntax=DEFLATED)
def test_any_bytes_are_answered(shared_node: Node, data: bytes, transfer_syntax: str) -> None:
    with modality(shared_node.port, transfer_syntax=transfer_syntax) as device:
        created = device.ask(N_CREATE, "", data)
        assert created.status in (0x0000, 0x0106, 0x0110, 0x0120, 0x0121)
        uid = created.text(0x1000)
        assert (created.status == 0x0000) == bool(uid)
        if not uid:
            uid = device.ask(N_CREATE, "", encoded(started(), transfer_syntax)).text(0x1000)
        changed = device.ask(N_SET, uid, data)
        assert changed.status in (0x0000, 0x0106, 0x0110, 0x0120, 0x0121)
        assert "internal" not in created.comment + changed.comment
        got = device.ask(N_GET, uid)  # what was taken can be given again
        assert got.status == 0x0000


# What is said about it


def test_many_objects_of_a_step(node: Node, device: Modality) -> None:
    """The request is larger than budgets.request_mb."""
    create(device)
    uids = [f"1.2.826.0.1.3680043.8.498.1.1.{number}" for number in range(15_000)]
    response = change(device, ended(performed_series(uids)))
    assert response.status == 0x0000
    steps = ProcedureSteps(node.archive.index)
    step = steps.get(UID_1)
    assert step is not None
    assert steps.arrived(step) == (0, 15_000)
    assert step.dataset == {**tree_of(started()), **tree_of(ended(performed_series(uids)))}


@pytest.mark.parametrize("operation", [N_CREATE, N_SET])
def test_what_the_disk_did_not_keep_is_never_acknowledged(
    node: Node, device: Modality, monkeypatch: pytest.MonkeyPatch, operation: int
) -> None:
    def fail(_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    if operation == N_SET:
        assert device.ask(N_CREATE, UID_1, encoded(started())).status == 0x0000
    before = ProcedureSteps(node.archive.index).get(UID_1)
    request = encoded(started() if operation == N_CREATE else ended())
    with monkeypatch.context() as patched:
        patched.setattr(long_dataset, "_read", fail)
        refused = device.ask(operation, UID_1, request)

    assert refused.status == 0x0213
    assert refused.comment == "out of resources: No space left on device"
    assert ProcedureSteps(node.archive.index).get(UID_1) == before
    assert device.ask(operation, UID_1, request).status == 0x0000


@pytest.mark.parametrize("data", [None, b""])
def test_a_modification_that_modifies_nothing_is_refused(
    device: Modality, data: bytes | None
) -> None:
    assert device.ask(N_CREATE, UID_1, encoded(started())).status == 0x0000

    refused = device.ask(N_SET, UID_1, data)

    assert refused.status == 0x0120
    assert refused.comment == "the Modification List is missing or empty"


def test_the_reserve_of_the_disk_is_left_alone_and_a_step_may_still_end(
    node: Node, device: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device.ask(N_CREATE, UID_1, encoded(started())).status == 0x0000
    monkeypatch.setattr(Space, "shortage", "1 MB are free, below the reserve of 512 MB")

    refused = device.ask(N_CREATE, "1.2.3.5", encoded(started()))

    assert refused.status == 0x0213
    assert refused.comment.startswith("out of resources: 1 MB are free")
    assert ProcedureSteps(node.archive.index).get("1.2.3.5") is None
    assert device.ask(N_SET, UID_1, encoded(ended())).status == 0x0000
