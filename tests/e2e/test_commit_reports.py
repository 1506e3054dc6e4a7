"""What a node answers to reports on commitments that it has, or has not, asked for."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_role
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from lfscp.archive.errors import ArchiveError
from lfscp.archive.workflow.commitment.failure_reasons import NOT_IN_REPORT
from lfscp.archive.workflow.commitment.references import Failure, Reference
from lfscp.archive.workflow.commitment.requests import (
    CommitmentRequests,
    RequestState,
)
from tests.support.committing_peer import (
    COMMITMENT,
    IMPLICIT,
    INSTANCE,
    CommittingPeer,
    item,
    report,
)
from tests.support.pynetdicom_reactor import paused
from tests.support.served_archive import CT, Node, served

REFERENCES = [Reference(CT, f"1.2.3.{number}") for number in range(1, 4)]
DONE, NO_INSTANCE, NO_EVENT, INVALID, FAILED = 0x0000, 0x0112, 0x0113, 0x0115, 0x0110


@pytest.fixture
def node(tmp_path: Path, index_url: str | None) -> Iterator[Node]:
    index = {"index": {"url": index_url}} if index_url else {}
    with served(tmp_path, **index) as listening:
        yield listening


@pytest.fixture
def requests(node: Node) -> CommitmentRequests:
    return CommitmentRequests(node.archive.index)


@pytest.fixture
def transaction(requests: CommitmentRequests) -> str:
    """The Transaction UID of a request that the peer PACS has taken."""
    [uid] = requests.add("PACS", [REFERENCES])
    requests.asked(uid)
    return uid


def good(transaction: str) -> Dataset:
    """A report that commits to everything."""
    asked = Dataset()
    asked.TransactionUID = transaction
    asked.ReferencedSOPSequence = [item(*each) for each in REFERENCES]
    return report(asked)[1]


def send(node: Node, information: Dataset | None, kind: int = 1, **options: Any) -> Dataset:
    return CommittingPeer().send_report(("127.0.0.1", node.port), information, kind, **options)


def send_bytes(node: Node, information: bytes) -> int:
    """Report with a data set that no toolkit would send; the status answered."""
    ae = AE("PACS")
    ae.add_requested_context(COMMITMENT, IMPLICIT)
    association = ae.associate(
        "127.0.0.1", node.port, ext_neg=[build_role(COMMITMENT, scp_role=True)]
    )
    assert association.is_established
    request = N_EVENT_REPORT()
    request.MessageID = 1
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = UID(COMMITMENT), UID(INSTANCE)
    request.EventTypeID = 1
    request.EventInformation = BytesIO(information)
    try:
        with paused(association):
            association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
            _, answer = association.dimse.get_msg(block=True)
        return int(answer.Status)
    finally:
        association.release()


def state(requests: CommitmentRequests, transaction: str) -> RequestState:
    found = requests.get(transaction)
    assert found is not None
    return found.state


def test_a_report_is_kept_and_a_second_one_changes_nothing(
    node: Node, requests: CommitmentRequests, transaction: str
) -> None:
    assert send(node, good(transaction)).Status == DONE
    kept = requests.get(transaction)
    assert kept is not None
    assert (kept.state, kept.failures) == (RequestState.REPORTED, ())
    assert kept.committed == [uid for _, uid in REFERENCES]

    other = Dataset()
    other.TransactionUID = transaction
    other.FailedSOPSequence = [item(*each, 0x0112) for each in REFERENCES]
    assert send(node, other, 2).Status == DONE
    after = requests.get(transaction)
    assert after is not None
    assert (after.state, after.failures) == (kept.state, kept.failures)


def test_failures_are_kept_with_their_reasons_and_what_is_left_out_is_one(
    node: Node, requests: CommitmentRequests, transaction: str
) -> None:
    partly = Dataset()
    partly.TransactionUID = transaction
    partly.ReferencedSOPSequence = [item(*REFERENCES[0])]
    partly.FailedSOPSequence = [item(*REFERENCES[1], 0x0119)]
    assert send(node, partly, 2).Status == DONE
    found = requests.get(transaction)
    assert found is not None
    assert found.committed == [REFERENCES[0].sop_instance_uid]
    assert found.failures == (
        Failure(*REFERENCES[1], 0x0119),
        Failure(*REFERENCES[2], NOT_IN_REPORT),
    )


def test_a_report_may_come_before_the_answer_to_the_request(
    node: Node, requests: CommitmentRequests
) -> None:
    [uid] = requests.add("PACS", [REFERENCES])
    assert send(node, good(uid)).Status == DONE
    requests.asked(uid)
    assert state(requests, uid) is RequestState.REPORTED


def test_what_is_no_report_to_a_request_is_refused(
    node: Node, requests: CommitmentRequests, transaction: str
) -> None:
    nothing = Dataset()
    nothing.TransactionUID = transaction
    nameless = good(transaction)
    nameless.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = ""
    no_transaction = good(transaction)
    del no_transaction.TransactionUID
    for information, options, status in (
        (good("1.2.3.4.5"), {}, INVALID),
        (good(transaction), {"calling": "OTHER"}, INVALID),
        (good(transaction), {"kind": 3}, NO_EVENT),
        (good(transaction), {"instance": "1.2.3"}, NO_INSTANCE),
        (nothing, {}, INVALID),
        (nameless, {}, INVALID),
        (no_transaction, {}, INVALID),
        (None, {}, INVALID),
    ):
        assert send(node, information, **options).Status == status, options
    assert state(requests, transaction) is RequestState.WAITING


def test_a_data_set_that_is_cut_or_garbage_is_refused(
    node: Node, requests: CommitmentRequests, transaction: str
) -> None:
    value = transaction.encode() + b"\0" * (len(transaction) % 2)
    whole = struct.pack("<HHI", 0x0008, 0x1195, len(value)) + value
    for garbage in (whole[:-4], whole + b"\x08\0\x99\x11\xff", b"\xff" * 64, b"\0"):
        assert send_bytes(node, garbage) == INVALID
    assert state(requests, transaction) is RequestState.WAITING


def test_a_report_that_cannot_be_kept_may_come_again(
    node: Node, requests: CommitmentRequests, transaction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = node.archive.index
    with monkeypatch.context() as patched:

        def fail(*_: Any, **__: Any) -> None:
            raise ArchiveError("keep a commitment report", "the disk is full")

        patched.setattr(index, "transact", fail)
        assert send(node, good(transaction)).Status == FAILED
    assert state(requests, transaction) is RequestState.WAITING
    assert send(node, good(transaction)).Status == DONE


def test_a_report_is_kept_once_though_it_comes_on_many_associations(
    node: Node, requests: CommitmentRequests, transaction: str
) -> None:
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(send(node, good(transaction)).Status))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [DONE] * 4
    assert state(requests, transaction) is RequestState.REPORTED
