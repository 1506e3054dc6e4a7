"""Answers C-STORE: stores the object, and turns errors into statuses (PS3.4 annex B).

The answer is success only once the archive has the object safe. Every error becomes a status with
an Error Comment; no exception leaves this handler.
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
    StoreRefusedError,
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
    Handlers,
    after_answer,
    calling_ae_title,
    failed_unexpectedly,
    performed,
)
from lfscp.services.storage.received import received_object

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
            reason = "this AE title may not store"
            answer = status.with_reason(status.NOT_AUTHORISED, reason)
            return _refused(event, answer, started, reason, named)
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
            began = time.monotonic() - stored_in_s
            performed(event, _SERVICE, status.SUCCESS, began, **named, bytes=stored.size)
            trail = getattr(event.assoc, "trail", None)
            if trail is not None:
                trail.stored(stored, named["sop_class_uid"])

        after_answer(event.assoc, record)
        return status.SUCCESS

    return [(evt.EVT_C_STORE, handle_store)]


def refusal(error: OperationError) -> Dataset:
    """The status for an object that the archive refused; no I/O.

    Source: PS3.4 table B.2-1. It has no code for duplicates; they get A7xx.
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
        case StoreRefusedError(is_temporary=is_temporary):
            code = status.OUT_OF_RESOURCES if is_temporary else status.NOT_AUTHORISED
            return status.with_reason(code, error.reason)
        case OutOfResourcesError():
            return status.with_reason(status.OUT_OF_RESOURCES, error.reason)
        case _:
            # The object is in order: the sender should try again later.
            return status.with_reason(status.OUT_OF_RESOURCES, "archive error, see the log")


def _refused(
    event: evt.Event, answer: Dataset, started: float, reason: str, named: dict[str, Any]
) -> Dataset:
    performed(event, _SERVICE, answer.Status, started, reason=reason, **named)
    return answer
