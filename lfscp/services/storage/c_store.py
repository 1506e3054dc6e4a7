"""C-STORE: gives what was received to the archive, and its errors their status (PS3.4 annex B).

Success is answered only after the archive has the object safe. Every error becomes a status with
an Error Comment; nothing leaves this handler as an exception.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt

from lfscp.archive.errors import (
    ClassNotStoredError,
    DuplicateRejectedError,
    IdentityMismatchError,
    InstanceElsewhereError,
    OutOfResourcesError,
    StudyProtectedError,
)
from lfscp.archive.store.received_objects import Received, StoreOutcome
from lfscp.config.current import CurrentSettings
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.header import Header
from lfscp.errors import OperationError
from lfscp.services import status
from lfscp.services.access.permissions import may
from lfscp.services.service_log import (
    after_answer,
    calling_ae_title,
    failed_unexpectedly,
    performed,
)
from lfscp.upperlayer.receiving.received import ReceivedStore

if TYPE_CHECKING:  # they take their time, which a C-GET of ours would wait for
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings
    from lfscp.services.audit_events import Patients

Handlers = list[tuple[Any, Any]]

_SERVICE: Final = "C-STORE"


def handlers(
    archive: Archive, settings: Settings | CurrentSettings, patients: Patients | None = None
) -> Handlers:
    """The handler of C-STORE requests."""
    current = CurrentSettings.of(settings)
    names_patients = patients if current.settings.logging.patient_identifiers else None

    def handle_store(event: evt.Event) -> int | Dataset:
        started = time.monotonic()
        request: Any = event.request
        named = {
            "sop_class_uid": request.AffectedSOPClassUID,
            "sop_instance_uid": request.AffectedSOPInstanceUID,
        }
        caller = calling_ae_title(event)
        if not may(current.settings.peers, caller, "store"):
            answer = status.with_reason(status.NOT_AUTHORISED, "this AE title may not store")
            return _refused(event, answer, started, "this AE title may not store", named)
        try:
            stored = archive.store(received_object(event, caller))
        except OperationError as error:
            return _refused(event, refusal(error), started, str(error), named)
        except Exception as error:  # noqa: BLE001 - the sender gets a status whatever happened
            failed_unexpectedly(event, _SERVICE, error, status.PROCESSING_FAILURE, **named)
            return status.with_reason(status.PROCESSING_FAILURE, "internal error, see the log")
        if stored.outcome is not StoreOutcome.STORED:
            named["outcome"] = stored.outcome.value
        if stored.notes:
            named["notes"] = "; ".join(stored.notes)
        stored_in_s = time.monotonic() - started

        def record() -> None:
            if names_patients is not None:
                patient = names_patients.of(stored)
                named["patient_id"] = patient.patient_id if patient else ""
            performed(
                event,
                _SERVICE,
                status.SUCCESS,
                time.monotonic() - stored_in_s,
                **named,
                bytes=stored.size,
            )
            trail = getattr(event.assoc, "trail", None)
            if trail is not None:
                trail.stored(stored, named["sop_class_uid"])

        after_answer(event.assoc, record)
        return status.SUCCESS

    return [(evt.EVT_C_STORE, handle_store)]


def received_object(event: evt.Event, caller: str) -> Received:
    """What a C-STORE request brought, as the archive takes it; valid while the handler runs.

    Args:
        event: of the C-STORE.
        caller: AE title to note as the sender.
    Raises:
        DatasetError: it has no dataset.
    """
    request: Any = event.request
    spooled = header = None
    dataset: memoryview | None = None
    if isinstance(request, ReceivedStore):
        dataset, spooled = request.dataset, request.spooled
        header = request.examined if isinstance(request.examined, Header) else None
    elif request.DataSet is not None:  # served by pynetdicom's own server
        dataset = request.DataSet.getbuffer()
    if dataset is None and spooled is None:
        raise DatasetError("the request has no dataset")
    return Received(
        sop_class_uid=str(request.AffectedSOPClassUID),
        sop_instance_uid=str(request.AffectedSOPInstanceUID),
        transfer_syntax_uid=str(event.context.transfer_syntax),
        calling_ae_title=caller,
        dataset=dataset,
        spooled_path=spooled.name if spooled else None,
        dataset_offset=spooled.dataset_offset if spooled else 0,
        spooled_descriptor=spooled.descriptor if spooled else -1,
        header=header,
    )


def refusal(error: OperationError) -> Dataset:
    """The status of a C-STORE that the archive refused; no I/O.

    Source: PS3.4 table B.2-1. There is no code for duplicates; they are refused as A7xx.
    """
    match error:
        case DatasetError(tag=tag):
            offending = () if tag is None else (tag,)
            return status.with_reason(status.CANNOT_UNDERSTAND, error.reason, offending)
        case IdentityMismatchError(tag=tag):
            comment = "UID in the dataset differs from the command's"
            return status.with_reason(status.DATASET_DOES_NOT_MATCH, comment, (tag,))
        case InstanceElsewhereError(tag=tag):
            comment = "instance is stored for another patient, study or series"
            return status.with_reason(status.DATASET_DOES_NOT_MATCH, comment, (tag,))
        case ClassNotStoredError():
            return status.with_reason(status.SOP_CLASS_NOT_SUPPORTED, error.reason)
        case DuplicateRejectedError():
            comment = "instance is stored already with other content"
            return status.with_reason(status.OUT_OF_RESOURCES, comment)
        case StudyProtectedError():
            comment = "an instance of a protected study is not replaced"
            return status.with_reason(status.OUT_OF_RESOURCES, comment)
        case OutOfResourcesError():
            return status.with_reason(status.OUT_OF_RESOURCES, error.reason)
        case _:
            # The object is not at fault: the sender should try again later.
            return status.with_reason(status.OUT_OF_RESOURCES, "archive error, see the log")


def _refused(
    event: evt.Event, answer: Dataset, started: float, reason: str, named: dict[str, Any]
) -> Dataset:
    performed(event, _SERVICE, answer.Status, started, reason=reason, **named)
    return answer
