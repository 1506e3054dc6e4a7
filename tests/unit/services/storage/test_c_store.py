"""C-STORE: the archive's errors and the statuses that senders see (PS3.4 table B.2-1)."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest

from lfscp.archive.archive import Received, Stored, StoreOutcome
from lfscp.archive.errors import (
    ArchiveError,
    DuplicateRejectedError,
    IdentityMismatchError,
    OutOfResourcesError,
)
from lfscp.config import Settings
from lfscp.dicom.errors import DatasetError
from lfscp.services.storage import c_store

SETTINGS = Settings.model_validate(
    {"peers": {"SCREEN": {"host": "127.0.0.1", "port": 104, "may": ["query"]}}}
)


class FakeAssociation:
    def __init__(self, calling: str) -> None:
        request = SimpleNamespace(calling_ae_title=calling, called_ae_title="LFSCP")
        self.name, self.is_requestor = "association", False
        self.requestor = SimpleNamespace(
            ae_title=calling, address="127.0.0.1", port=4000, primitive=request
        )


class FakeArchive:
    def __init__(self, result: Stored | Exception) -> None:
        self.result = result
        self.received: list[Received] = []

    def store(self, received: Received) -> Stored:
        self.received.append(received)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def send(archive: Any, calling: str = "SENDER") -> Any:
    ((_, handle),) = c_store.handlers(archive, SETTINGS)
    request = SimpleNamespace(
        AffectedSOPClassUID="1.2.840.10008.5.1.4.1.1.2",
        AffectedSOPInstanceUID="1.2.3",
        DataSet=BytesIO(b"dataset!"),
    )
    context = SimpleNamespace(transfer_syntax="1.2.840.10008.1.2")
    return handle(SimpleNamespace(assoc=FakeAssociation(calling), request=request, context=context))


@pytest.mark.parametrize("outcome", list(StoreOutcome))
def test_stored_kept_or_replaced_is_success(outcome: StoreOutcome) -> None:
    archive = FakeArchive(Stored(outcome, "1.2", "1.2.1", 8))

    assert send(archive) == 0x0000
    assert type(send(archive)) is int  # a bare code takes the engine's short way

    (received, _) = archive.received
    assert received.dataset is not None
    assert bytes(received.dataset) == b"dataset!"
    assert received.calling_ae_title == "SENDER"
    assert received.transfer_syntax_uid == "1.2.840.10008.1.2"


@pytest.mark.parametrize(
    ("error", "status", "offending"),
    [
        (OutOfResourcesError("store", "no space left on device"), 0xA700, None),
        (IdentityMismatchError(0x00080018, "1.2.3", "1.2.4"), 0xA900, 0x00080018),
        (DatasetError("no StudyInstanceUID", 0x0020000D), 0xC000, 0x0020000D),
        (DatasetError("ends in mid-element"), 0xC000, None),
        (DuplicateRejectedError("1.2.3"), 0xA700, None),
        (ArchiveError("read the index", "disk I/O error"), 0xA700, None),
        (RuntimeError("a defect of ours, with Doe^Jane in it"), 0x0110, None),
    ],
)
def test_every_error_becomes_a_status_with_a_comment(
    error: Exception, status: int, offending: int | None
) -> None:
    answer = send(FakeArchive(error))

    assert answer.Status == status
    assert 0 < len(answer.ErrorComment) <= 64
    assert "Doe" not in answer.ErrorComment
    assert answer.get("OffendingElement") == offending


def test_peer_that_may_not_store_is_refused_before_the_archive_is_asked() -> None:
    archive = FakeArchive(Stored(StoreOutcome.STORED, "1.2", "1.2.1", 8))

    answer = send(archive, calling="SCREEN ")

    assert answer.Status == 0x0124
    assert archive.received == []
