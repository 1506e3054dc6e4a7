"""Takes the reports of peers that were asked to commit to instances (N-EVENT-REPORT).

A report comes on the association that the peer was asked on, or on one that it opens. It is kept
before it is answered with success. Rules for others:
- not the well-known instance: no such SOP instance;
- an event type that the class does not have: no such event type;
- what cannot be read, and a transaction that is unknown, or was another peer's: invalid argument
  value;
- the index cannot take it: processing failure, and the peer may report again.
Source: PS3.4 section J.3.3, PS3.3 section C.14.1.1, PS3.7 section 10.1.1.1.8.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt

from lfscp.archive.workflow.commitment.references import (
    FAILED_SOP_SEQUENCE,
    REFERENCED_SOP_INSTANCE_UID,
    REFERENCED_SOP_SEQUENCE,
    TRANSACTION_UID,
    Failure,
    failure_in,
)
from lfscp.archive.workflow.commitment.requests import CommitmentRequests, Taken
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Tree, read_tree
from lfscp.dicom.reading.header import is_uid
from lfscp.errors import OperationError
from lfscp.services import status
from lfscp.services.commitment.report import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    STORAGE_COMMITMENT_INSTANCE,
)
from lfscp.services.refused import RefusedError
from lfscp.services.service_log import (
    Handlers,
    after_answer,
    calling_ae_title,
    describe,
    failed_unexpectedly,
    performed,
)

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

_SERVICE: Final = "N-EVENT-REPORT"

# Keeps a report of a peer with this AE title.
Keep = Callable[["Report", str], Taken]


@dataclass(frozen=True, slots=True)
class Report:
    """What a peer reports on one transaction.

    Args:
        committed: SOP Instance UIDs.
    """

    transaction_uid: str
    committed: tuple[str, ...]
    failures: tuple[Failure, ...]


def read_report(event_information: bytes, transfer_syntax_uid: str) -> Report:
    """Read the Event Information of a report (PS3.4 table J.3-3).

    Raises:
        RefusedError: it cannot be read, or names no transaction or no instance.
    """
    try:
        tree = read_tree(event_information, transfer_syntax_uid)
    except DatasetError as error:
        reason = f"the Event Information cannot be read: {error.reason}"
        raise RefusedError(status.INVALID_ARGUMENT_VALUE, reason) from None
    transaction_uid = tree.text(TRANSACTION_UID)
    if not is_uid(transaction_uid):
        raise RefusedError(status.INVALID_ARGUMENT_VALUE, "Transaction UID (0008,1195) is no UID")
    committed = tree.sequence(REFERENCED_SOP_SEQUENCE)
    failed = tree.sequence(FAILED_SOP_SEQUENCE)
    if not committed and not failed:
        raise RefusedError(status.INVALID_ARGUMENT_VALUE, "the report names no instance")
    committed_uids, _ = _uids(committed), _uids(failed)
    return Report(transaction_uid, tuple(committed_uids), tuple(map(failure_in, failed)))


def _uids(items: Iterable[Tree]) -> list[str]:
    uids = [item.text(REFERENCED_SOP_INSTANCE_UID) for item in items]
    if not all(map(is_uid, uids)):
        reason = "a Referenced SOP Instance UID (0008,1155) is no UID"
        raise RefusedError(status.INVALID_ARGUMENT_VALUE, reason)
    return uids


def handlers(archive: Archive) -> Handlers:
    """The handler of reports that come on associations of peers."""
    requests = CommitmentRequests(archive.index)

    def keep(report: Report, ae_title: str) -> Taken:
        return requests.report(report.transaction_uid, ae_title, report.committed, report.failures)

    def handle_report(event: evt.Event) -> tuple[Any, None]:
        return take_report(event, keep), None

    return [(evt.EVT_N_EVENT_REPORT, handle_report)]


def take_report(event: evt.Event, keep: Keep) -> int | Dataset:
    """Take one report; the status to answer, with its reason.

    Args:
        event: of a peer's association, or of one of ours.
    """
    started = time.monotonic()
    facts: dict[str, Any] = {}
    try:
        report = _report_of(event)
        failed = len(report.failures)
        facts = {
            "transaction_uid": report.transaction_uid,
            "instances": len(report.committed) + failed,
            "failed": failed,
        }
        _require_kept(keep(report, _reporter(event)))
    except RefusedError as error:
        performed(event, _SERVICE, error.code, started, reason=error.reason, **facts)
        return status.with_reason(error.code, error.reason)
    except Exception as error:  # noqa: BLE001 - any error is a status
        code = status.PROCESSING_FAILURE
        if not isinstance(error, OperationError):
            failed_unexpectedly(event, _SERVICE, error)
        performed(event, _SERVICE, code, started, reason=describe(error), **facts)
        return status.with_reason(code, "the report cannot be kept now")
    after_answer(event.assoc, lambda: performed(event, _SERVICE, status.SUCCESS, started, **facts))
    return status.SUCCESS


def _report_of(event: evt.Event) -> Report:
    request: Any = event.request
    if request.AffectedSOPInstanceUID != STORAGE_COMMITMENT_INSTANCE:
        raise RefusedError(status.NO_SUCH_SOP_INSTANCE, "not the well-known SOP instance")
    if request.EventTypeID not in (ALL_COMMITTED, FAILURES_EXIST):
        reason = f"event type {request.EventTypeID} is none of storage commitment"
        raise RefusedError(status.NO_SUCH_EVENT_TYPE, reason)
    information = request.EventInformation
    data = information.getvalue() if information is not None else b""
    return read_report(data, str(event.context.transfer_syntax))


def _reporter(event: evt.Event) -> str:
    """The AE title of the peer that reports."""
    if event.assoc.is_requestor:
        return str(event.assoc.acceptor.ae_title).strip()
    return calling_ae_title(event)


def _require_kept(taken: Taken) -> None:
    if taken is Taken.UNKNOWN_TRANSACTION:
        raise RefusedError(status.INVALID_ARGUMENT_VALUE, "nobody waits for this Transaction UID")
    if taken is Taken.OTHER_PEER:
        raise RefusedError(status.INVALID_ARGUMENT_VALUE, "another AE title was asked")
