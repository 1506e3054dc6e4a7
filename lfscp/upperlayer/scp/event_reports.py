"""An N-EVENT-REPORT that we, as the SCP, send to the peer of an association (PS3.7 section 10.1.1).

The calling thread is the one that serves the association. What the peer asks meanwhile is served:
its request and our report may cross, and it may wait for our response before it answers the report.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from io import BytesIO
from typing import NoReturn

from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from lfscp.upperlayer.connection.errors import ReadTimeoutError
from lfscp.upperlayer.engine.association import InlineAssociation


class NotAnsweredError(Exception):
    """The peer has not answered the report; the text says why."""


@dataclass(frozen=True, slots=True)
class EventReport:
    """What is reported.

    Args:
        information: the Event Information, in the transfer syntax of the presentation context.
    """

    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    information: bytes


def send_event_report(assoc: InlineAssociation, context_id: int, report: EventReport) -> int:
    """Send a report, and wait for the peer's answer, at most for the DIMSE timeout.

    Returns:
        The status that the peer answered.
    Raises:
        NotAnsweredError: it did not. Its answer may still come, and is dropped then.
    """
    request = N_EVENT_REPORT()
    request.MessageID = message_id = assoc.next_message_id()
    request.AffectedSOPClassUID = UID(report.sop_class_uid)
    request.AffectedSOPInstanceUID = UID(report.sop_instance_uid)
    request.EventTypeID = report.event_type
    request.EventInformation = BytesIO(report.information)
    answers = assoc.receiver.report_answers
    answers[message_id] = None
    assoc.dimse.send_msg(request, context_id)
    timeout_s = assoc.dimse.dimse_timeout
    deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    while (answer := answers[message_id]) is None:
        if assoc.receiver.requests:
            began = time.monotonic()
            assoc.serve_next()
            deadline += time.monotonic() - began
            continue
        _read_on(assoc, deadline)
    del answers[message_id]
    if answer.Status is None:
        raise NotAnsweredError("the peer answered without a status")
    return int(answer.Status)


def _read_on(assoc: InlineAssociation, deadline: float) -> None:
    """Read a PDU of the peer."""
    if assoc.is_over:
        _ended(assoc)
    left_s = None if deadline == float("inf") else deadline - time.monotonic()
    if left_s is not None and left_s <= 0:
        raise NotAnsweredError("the peer did not answer in time")
    try:
        assoc.dul.read_pdu(left_s)
    except ReadTimeoutError:
        raise NotAnsweredError("the peer did not answer in time") from None


def _ended(assoc: InlineAssociation) -> NoReturn:
    why = f": {assoc.end_reason}" if assoc.end_reason else ""
    raise NotAnsweredError(f"the peer ended the association instead of an answer{why}")
