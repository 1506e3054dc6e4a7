"""Tells a peer what the node commits to: an N-EVENT-REPORT on an association that is open.

The data set names the instances that the node commits to, and those that it does not with the
reason. Source: PS3.4 section J.3.3, table J.3-3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lfscp.archive.workflow.commitment.commitment import Commitment
from lfscp.archive.workflow.commitment.commitments import Commitments
from lfscp.archive.workflow.commitment.references import (
    FAILED_SOP_SEQUENCE,
    REFERENCED_SOP_SEQUENCE,
    item_of_failure,
    tree_of_references,
)
from lfscp.dicom.models.element_tree import Element, Tree, encode_tree
from lfscp.services import status
from lfscp.services.contexts import STORAGE_COMMITMENT
from lfscp.upperlayer.scp.event_reports import EventReport, NotAnsweredError, send_event_report

if TYPE_CHECKING:
    from pynetdicom.presentation import PresentationContext

STORAGE_COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
ALL_COMMITTED: Final = 1  # Event Type IDs
FAILURES_EXIST: Final = 2

_RETRIEVE_AE_TITLE: Final = 0x00080054
_UIDS_ALONE: Final = "ISO_IR 100"  # every peer knows it


class NotReportedError(Exception):
    """The peer has not taken the report; the text says why."""


class PeerAwayError(NotReportedError):
    """The peer takes no report now: it has no address, is away, refuses, or does not answer."""


def event_information(commitments: Commitments, commitment: Commitment) -> Tree:
    """The Event Information of a commitment that was verified.

    Raises:
        ArchiveError: the index cannot be read.
    """
    failures = commitments.failures(commitment.id)
    failed = {each[:2] for each in failures}
    committed = [each for each in commitments.references(commitment.id) if each not in failed]
    tree = tree_of_references(commitment.transaction_uid, committed)
    tree[_RETRIEVE_AE_TITLE] = Element(b"AE", commitment.called_ae_title)
    if not committed:
        del tree[REFERENCED_SOP_SEQUENCE]
    if failures:
        tree[FAILED_SOP_SEQUENCE] = Element(b"SQ", list(map(item_of_failure, failures)))
    return tree


def send_report(
    commitments: Commitments, commitment: Commitment, association: Any, context: PresentationContext
) -> None:
    """Send the report of a commitment that the caller holds, and note that it was taken.

    Args:
        association: established, served by the calling thread.
        context: of it, to send the report in.
    Raises:
        NotReportedError: the peer did not take it.
        ArchiveError: the index cannot be read or written to.
    """
    information = event_information(commitments, commitment)
    transfer_syntax_uid = str(context.transfer_syntax[0])
    report = EventReport(
        STORAGE_COMMITMENT,
        STORAGE_COMMITMENT_INSTANCE,
        FAILURES_EXIST if commitment.failed else ALL_COMMITTED,
        encode_tree(information, transfer_syntax_uid, _UIDS_ALONE),
    )
    try:
        answered = send_event_report(association, int(context.context_id or 0), report)
    except NotAnsweredError as error:
        raise PeerAwayError(str(error)) from None
    if not status.is_success(answered):
        raise NotReportedError(f"the peer answered 0x{answered:04X}")
    commitments.reported(commitment.id)
