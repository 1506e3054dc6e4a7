"""Answers N-ACTION: keeps the request, then the peer has its answer, then it is verified.

The answer is success only once the index has the request safe. What the peer sends meanwhile on its
association is served as usual.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt

from lfscp.archive.workflow.commitment.commitment import Commitment, TransactionInUseError
from lfscp.errors import OperationError
from lfscp.services import status
from lfscp.services.access.permissions import may
from lfscp.services.called import called_ae_title
from lfscp.services.commitment.report import STORAGE_COMMITMENT_INSTANCE
from lfscp.services.commitment.request import read_request
from lfscp.services.commitment.same_association import Asked, SameAssociationReporter
from lfscp.services.refused import RefusedError
from lfscp.services.service_log import (
    Handlers,
    after_answer,
    calling_ae_title,
    failed_unexpectedly,
    performed,
)

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config.current import CurrentSettings

Answer = tuple[int | Dataset, None]

_SERVICE: Final = "N-ACTION"
_REQUEST_COMMITMENT: Final = 1  # Action Type ID (PS3.4 table J.3-1)


def handlers(archive: Archive, current: CurrentSettings) -> Handlers:
    """The handler of N-ACTION requests."""
    here = SameAssociationReporter(archive, current)

    def handle_action(event: evt.Event) -> Answer:
        started = time.monotonic()
        try:
            _require_allowed(event, current)
            _require_room(archive)
            commitment, is_held = _taken(event, here)
        except RefusedError as error:
            performed(event, _SERVICE, error.code, started, reason=error.reason)
            return status.with_reason(error.code, error.reason), None
        except OperationError as error:
            performed(event, _SERVICE, status.RESOURCE_LIMITATION, started, reason=str(error))
            return status.with_reason(status.RESOURCE_LIMITATION, "index error, see the log"), None
        except Exception as error:  # noqa: BLE001 - the peer gets a status whatever happened
            failed_unexpectedly(event, _SERVICE, error, status.PROCESSING_FAILURE)
            reason = "internal error, see the log"
            return status.with_reason(status.PROCESSING_FAILURE, reason), None
        if is_held:
            _go_on(event, here, commitment)
        taken_in_s = time.monotonic() - started
        uid, instances = commitment.transaction_uid, commitment.instances

        def record() -> None:
            began = time.monotonic() - taken_in_s
            named: dict[str, Any] = {"transaction_uid": uid, "instances": instances}
            performed(event, _SERVICE, status.SUCCESS, began, **named)

        after_answer(event.assoc, record)
        return status.SUCCESS, None

    return [(evt.EVT_N_ACTION, handle_action)]


def _require_allowed(event: evt.Event, current: CurrentSettings) -> None:
    """Refuse who may not ask, and what is not asked of Storage Commitment."""
    request: Any = event.request
    if not may(current.settings.peers, calling_ae_title(event), "commit"):
        raise RefusedError(status.NOT_AUTHORISED, "this AE title may not ask for commitment")
    if request.RequestedSOPInstanceUID != STORAGE_COMMITMENT_INSTANCE:
        reason = f"the SOP Instance UID is not {STORAGE_COMMITMENT_INSTANCE}"
        raise RefusedError(status.NO_SUCH_SOP_INSTANCE, reason)
    if request.ActionTypeID != _REQUEST_COMMITMENT:
        reason = f"Action Type ID {request.ActionTypeID} is not known"
        raise RefusedError(status.NO_SUCH_ACTION, reason)


def _require_room(archive: Archive) -> None:
    """Leave the reserve of the disk alone: peers may ask without end."""
    shortage = archive.space.shortage
    if shortage:
        reason = f"out of resources: {shortage}"
        raise RefusedError(status.RESOURCE_LIMITATION, reason)


def _taken(event: evt.Event, here: SameAssociationReporter) -> tuple[Commitment, bool]:
    """The request, once it is safe, and whether this process is to go on with it."""
    request: Any = event.request
    stream = request.ActionInformation
    information = b"" if stream is None else stream.getvalue()
    if not information:
        raise RefusedError(status.MISSING_ATTRIBUTE, "the Action Information is missing")
    transfer_syntax_uid = str(event.context.transfer_syntax)
    transaction_uid, references = read_request(information, transfer_syntax_uid)
    try:
        return here.commitments.add(
            transaction_uid,
            references,
            calling_ae_title=calling_ae_title(event),
            called_ae_title=called_ae_title(event.assoc),
            peer_address=event.assoc.requestor.address or "",
        )
    except TransactionInUseError as error:
        raise RefusedError(status.INVALID_ARGUMENT_VALUE, error.reason) from None


def _go_on(event: evt.Event, here: SameAssociationReporter, commitment: Commitment) -> None:
    """Have it verified once the peer has its answer."""
    association: Any = event.assoc
    expect_call = getattr(association, "expect_call", None)
    # Served by pynetdicom's own server, or asked on our own association; or there are too many.
    if expect_call is None or here.is_full:
        here.commitments.free(commitment.id)
        return
    expect_call()
    context_id = event.context.context_id
    context = next(each for each in association.accepted_contexts if each.context_id == context_id)
    after_answer(association, lambda: here.put(Asked(commitment, association, context)))
