"""C-STORE: gives what was received to the archive, and its errors their status (PS3.4 annex B).

Success is answered only after the archive has the object safe. Every error becomes a status with
an Error Comment; nothing leaves this handler as an exception.
"""

from __future__ import annotations

import time
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.errors import (
    ClassNotStoredError,
    DuplicateRejectedError,
    IdentityMismatchError,
    InstanceElsewhereError,
    OutOfResourcesError,
    StudyProtectedError,
)
from lfscp.config import Settings
from lfscp.config.current import CurrentSettings
from lfscp.dicom.errors import DatasetError
from lfscp.errors import OperationError
from lfscp.services import status
from lfscp.services.access.permissions import may
from lfscp.services.audit_events import Patients
from lfscp.services.service_log import (
    after_answer,
    calling_ae_title,
    failed_unexpectedly,
    performed,
)
from lfscp.services.storage.received import received_object

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
