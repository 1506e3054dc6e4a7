"""Sub-operations: how their outcomes are counted and what the last response says."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.filereader import read_dataset
from pynetdicom import build_context
from pynetdicom.dsutils import encode

from lfscp.archive.archive import StoredInstance
from lfscp.services.sending import sub_operations
from lfscp.services.sending.retrieve_contexts import Accepted
from lfscp.services.sending.sub_operations import Counters, Sender, SubOperationOutcome
from lfscp.upperlayer.scu.receiver import StoreAnswer
from lfscp.upperlayer.scu.sending import FileSlice, SendRequest

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
INSTANCE = StoredInstance(
    sop_class_uid=CT,
    sop_instance_uid="1.2.3",
    transfer_syntax_uid=EXPLICIT,
    path=Path("/objects/1.2.3.dcm"),
    dataset_offset=336,
    size=1000,
    study_uid="1.2",
    series_uid="1.2.3",
)
SENDER = Sender(log_fields={}, priority=1, may_decode=True, locate=lambda _: None)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([SubOperationOutcome.COMPLETED, SubOperationOutcome.COMPLETED], 0x0000),
        ([], 0x0000),
        ([SubOperationOutcome.COMPLETED, SubOperationOutcome.FAILED], 0xB000),
        ([SubOperationOutcome.COMPLETED, SubOperationOutcome.WARNING], 0xB000),
        ([SubOperationOutcome.WARNING, SubOperationOutcome.FAILED], 0xB000),
        ([SubOperationOutcome.FAILED, SubOperationOutcome.BROKEN], 0xA702),
    ],
)
def test_final_status(outcomes: list[SubOperationOutcome], expected: int) -> None:
    counters = Counters(remaining=len(outcomes))
    for number, outcome in enumerate(outcomes):
        counters.count(outcome, f"1.{number}")

    assert counters.remaining == 0
    assert counters.final_status() == expected


def test_failed_list_names_the_failed_only() -> None:
    counters = Counters(remaining=3)
    counters.count(SubOperationOutcome.COMPLETED, "1.1")
    counters.count(SubOperationOutcome.FAILED, "1.2")
    counters.count(SubOperationOutcome.WARNING, "1.3")

    identifier = counters.failed_list()

    assert identifier is not None
    assert identifier.FailedSOPInstanceUIDList == "1.2"


def test_no_failures_no_identifier() -> None:
    assert Counters(remaining=0, completed=3).failed_list() is None


def test_failures_without_end_are_counted_and_some_of_them_listed() -> None:
    counters = Counters(remaining=100_010)
    for number in range(100_010):
        counters.count(SubOperationOutcome.FAILED, f"1.{number}")
    assert (counters.failed, counters.remaining) == (100_010, 0)
    assert len(counters.failed_uids) == 100_000


@pytest.mark.parametrize("implicit", [False, True])
def test_failed_list_of_thousands_can_be_encoded(implicit: bool) -> None:
    uids = [f"1.2.826.0.1.3680043.8.498.{number:030d}" for number in range(1, 3000)]
    identifier = Counters(remaining=0, failed_uids=uids).failed_list()
    assert identifier is not None

    encoded = encode(identifier, implicit, True)

    assert encoded is not None
    (element,) = read_dataset(BytesIO(encoded), implicit, True).values()
    assert element.tag == 0x00080058
    assert element.value.rstrip(b"\0").decode().split("\\") == uids


@pytest.fixture(autouse=True)
def sent_by_the_fake(monkeypatch):
    monkeypatch.setattr(
        sub_operations, "send_stored", lambda association, request: association.send_stored(request)
    )
    monkeypatch.setattr(
        sub_operations, "has_ended", lambda association: not association.is_established
    )


class FakeAssociation:
    """Answers each object with what it was told; None breaks it."""

    def __init__(self, answer: int | Exception | None) -> None:
        self.answer = answer
        self.is_established = True
        self.requests: list[SendRequest] = []

    def send_stored(self, request: SendRequest) -> StoreAnswer | None:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            self.is_established = False
            return None
        return StoreAnswer(self.answer, "no\x1b[31m room")


def accepted(sop_class: str = CT) -> Accepted:
    context = build_context(sop_class, EXPLICIT)
    context.context_id = 5
    context._as_scu = True
    return Accepted([context])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (0x0000, SubOperationOutcome.COMPLETED),
        (0xB000, SubOperationOutcome.WARNING),
        (0x0111, SubOperationOutcome.WARNING),
        (0xA700, SubOperationOutcome.FAILED),
        (0x0122, SubOperationOutcome.FAILED),
        (None, SubOperationOutcome.BROKEN),
        (FileNotFoundError("gone"), SubOperationOutcome.FAILED),
    ],
)
def test_outcome_of_an_answer(answer: Any, expected: SubOperationOutcome) -> None:
    assert SENDER.send(FakeAssociation(answer), accepted(), INSTANCE) is expected


def test_the_receiver_s_words_are_for_the_sender_not_for_the_log(capfd: Any) -> None:
    attempt = SENDER.attempt(FakeAssociation(0xA700), accepted(), INSTANCE)
    assert attempt == (SubOperationOutcome.FAILED, "the receiver answered 0xA700: no?[31m room")
    SENDER.send(FakeAssociation(0xA700), accepted(), INSTANCE)
    logged = capfd.readouterr().err
    assert "the receiver answered 0xA700" in logged
    assert "room" not in logged


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("of Doe^Jane"), "internal error, see the log"),
        (FileNotFoundError(2, "No such file", "/objects/1.dcm"), "No such file: /objects/1.dcm"),
    ],
)
def test_why_an_object_was_not_sent_is_said_in_words(
    error: Exception, reason: str, capfd: Any
) -> None:
    attempt = SENDER.attempt(FakeAssociation(error), accepted(), INSTANCE)
    assert attempt == (SubOperationOutcome.FAILED, reason)
    logged = capfd.readouterr().err
    assert "Doe" not in logged
    assert ("sending failed unexpectedly" in logged) is isinstance(error, RuntimeError)


def test_stored_syntax_is_sent_from_the_file() -> None:
    association = FakeAssociation(0x0000)
    sender = replace(SENDER, originator_ae_title="ASKER", originator_message_id=7)

    sender.send(association, accepted(), INSTANCE)

    assert association.requests == [
        SendRequest(
            sop_class_uid=CT,
            sop_instance_uid="1.2.3",
            context_id=5,
            body=FileSlice(INSTANCE.path, 336, 1000),
            priority=1,
            move_originator_ae_title="ASKER",
            move_originator_message_id=7,
        )
    ]


def test_without_a_context_nothing_is_sent() -> None:
    association = FakeAssociation(0x0000)

    outcome = SENDER.send(association, accepted("1.2.840.10008.5.1.4.1.1.4"), INSTANCE)

    assert outcome is SubOperationOutcome.FAILED
    assert association.requests == []


@pytest.fixture
def stored(tmp_path: Path) -> StoredInstance:
    path = tmp_path / "1.2.3.dcm"
    path.write_bytes(bytes(1336))
    return replace(INSTANCE, path=path)


def test_a_file_whose_name_was_given_to_other_content_is_looked_for(stored: StoredInstance) -> None:
    Path(stored.path).write_bytes(bytes(2000))  # it was deleted and stored again
    now = replace(stored, dataset_offset=400, size=1600)
    association = FakeAssociation(0x0000)
    sender = replace(SENDER, locate=lambda _: now)

    assert sender.send(association, accepted(), stored) is SubOperationOutcome.COMPLETED
    assert [each.body for each in association.requests] == [FileSlice(stored.path, 400, 1600)]


def test_no_part_of_a_changed_file_is_sent(stored: StoredInstance) -> None:
    Path(stored.path).write_bytes(bytes(2000))
    association = FakeAssociation(0x0000)

    attempt = SENDER.attempt(association, accepted(), stored)

    assert attempt == (SubOperationOutcome.FAILED, "its file has changed since it was selected")
    assert association.requests == []


def test_a_file_that_is_as_it_was_is_not_looked_for(stored: StoredInstance) -> None:
    sender = replace(SENDER, locate=lambda _: pytest.fail("it is there"))

    assert sender.send(FakeAssociation(0x0000), accepted(), stored) is SubOperationOutcome.COMPLETED
