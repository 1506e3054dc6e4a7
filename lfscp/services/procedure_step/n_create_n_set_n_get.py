"""Answers N-CREATE, N-SET and N-GET of modality performed procedure steps (PS3.4 annex F).

The answer is success only once the step is committed in the index, with what it changes in the
worklist. A dataset that is cut or broken is refused whole, with processing failure: PS3.7 has no
status of its own for it, and no attribute in it is to blame. No exception leaves a handler.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt

from lfscp.archive.archive import Archive
from lfscp.archive.workflow.procedure_steps.errors import UnknownStepError
from lfscp.archive.workflow.procedure_steps.rows import study_uid_of
from lfscp.archive.workflow.procedure_steps.steps import ProcedureSteps
from lfscp.archive.workflow.procedure_steps.table import STATUS
from lfscp.archive.workflow.worklist.item import PATIENT_ID, PATIENT_NAME
from lfscp.config.current import CurrentSettings
from lfscp.dicom.models.element_tree import Tree, read_tree
from lfscp.dicom.reading.header import is_uid
from lfscp.errors import OperationError
from lfscp.observe import audit
from lfscp.observe.audit.message import CREATE, READ, UPDATE, Patient
from lfscp.services import status
from lfscp.services.access.permissions import may
from lfscp.services.audit_events import peer_of
from lfscp.services.contexts import PROCEDURE_STEP
from lfscp.services.procedure_step import answers
from lfscp.services.refused import RefusedError
from lfscp.services.service_log import (
    Handlers,
    after_answer,
    calling_ae_title,
    failed_unexpectedly,
    performed,
)

Answer = tuple[Dataset, Dataset | None]


def handlers(archive: Archive, current: CurrentSettings) -> Handlers:
    """The handlers of N-CREATE, N-SET and N-GET requests."""
    steps = ProcedureSteps(archive.index)

    def handler(service: str, perform: Callable[[_Request], Answer]) -> Callable[[evt.Event], Any]:
        return lambda event: _Request(event, service, steps, archive, current).answer(perform)

    return [
        (evt.EVT_N_CREATE, handler("N-CREATE", _Request.create)),
        (evt.EVT_N_SET, handler("N-SET", _Request.set)),
        (evt.EVT_N_GET, handler("N-GET", _Request.get)),
    ]


class _Request:
    """One request being answered, by the thread that serves the association."""

    def __init__(
        self,
        event: evt.Event,
        service: str,
        steps: ProcedureSteps,
        archive: Archive,
        current: CurrentSettings,
    ) -> None:
        self._event = event
        self._service = service
        self._steps = steps
        self._space = archive.space
        self._settings = current.settings
        self._started = time.monotonic()
        self._transfer_syntax_uid = str(event.context.transfer_syntax)
        request: Any = event.request
        self._request = request
        is_create = service == "N-CREATE"
        prefix = "Affected" if is_create else "Requested"
        self._sop_class_uid = str(getattr(request, f"{prefix}SOPClassUID"))
        self._uid = str(getattr(request, f"{prefix}SOPInstanceUID") or "")
        self._names_attributes = not is_create
        self._dataset = Tree()
        self._fields: dict[str, Any] = {}

    def answer(self, perform: Callable[[_Request], Answer]) -> Answer:
        """Serve it: the status, and what pynetdicom's service class takes beside it."""
        try:
            self._require_right()
            given = perform(self)
        except OperationError as error:
            answer = answers.refusal(
                error,
                self._dataset,
                self._transfer_syntax_uid,
                names_attributes=self._names_attributes,
            )
            self._record(answer.Status, self._reason(error))
            return answer, None
        except Exception as error:  # noqa: BLE001 - the peer gets a status whatever happened
            code = status.PROCESSING_FAILURE
            failed_unexpectedly(self._event, self._service, error, code, **self._named())
            return answers.with_comment(code, "internal error, see the log"), None
        code = given[0].Status
        after_answer(self._event.assoc, lambda: self._record(code, ""))
        return given

    def create(self) -> Answer:
        """Make a step; its UID is the one that the peer gave, or a new one."""
        self._require_class()
        self._require_room()
        is_assigned = not self._uid
        if is_assigned:
            self._uid = f"2.25.{uuid.uuid4().int}"
        elif not is_uid(self._uid):
            raise RefusedError(status.INVALID_SOP_INSTANCE, "SOP Instance UID is no UID")
        self._dataset = self._read(self._request.AttributeList)
        self._steps.create(self._uid, self._dataset, calling_ae_title(self._event))
        self._note(CREATE, self._dataset)
        named = Dataset()
        named.AffectedSOPInstanceUID = self._uid  # pynetdicom takes it from there
        return answers.with_comment(status.SUCCESS), named if is_assigned else None

    def set(self) -> Answer:
        """Change a step."""
        self._require_class()
        self._dataset = self._read(self._request.ModificationList)
        if not self._dataset:
            reason = "the Modification List is missing or empty"
            raise RefusedError(status.MISSING_ATTRIBUTE, reason)
        step = self._steps.update(self._uid, self._dataset)
        self._note(UPDATE, step.dataset)
        return answers.with_comment(status.SUCCESS), None

    def get(self) -> Answer:
        """Give the attributes of a step."""
        step = self._steps.get(self._uid)
        if step is None:
            raise UnknownStepError
        self._note(READ, step.dataset)
        tags = [int(tag) for tag in self._event.attribute_identifiers]
        return answers.asked_for(step.dataset, tags, self._transfer_syntax_uid), None

    def _require_right(self) -> None:
        if not may(self._settings.peers, calling_ae_title(self._event), "procedure-step"):
            reason = "this AE title may not report procedure steps"
            raise RefusedError(status.NOT_AUTHORISED, reason)

    def _require_class(self) -> None:
        if self._sop_class_uid != PROCEDURE_STEP:
            raise RefusedError(
                status.UNRECOGNISED_OPERATION, f"this SOP class has no {self._service}"
            )

    def _require_room(self) -> None:
        """Leave the reserve of the disk alone; a step that has begun may still end."""
        shortage = self._space.shortage
        if shortage:
            raise RefusedError(status.RESOURCE_LIMITATION, f"out of resources: {shortage}")

    def _read(self, dataset: BytesIO | None) -> Tree:
        data = b"" if dataset is None else dataset.getvalue()
        return read_tree(data, self._transfer_syntax_uid)

    def _note(self, action: str, dataset: Tree) -> None:
        """Note what was done, for the log and the audit trail."""
        study_uid = study_uid_of(dataset)
        patient = Patient(dataset.text(PATIENT_ID), dataset.text(PATIENT_NAME))
        self._fields = {"study_uid": study_uid, "step_status": dataset.text(STATUS)}
        if self._settings.logging.patient_identifiers:
            self._fields["patient_id"] = patient.patient_id
        audited = (action, study_uid, self._uid, dataset.text(STATUS), patient)
        after_answer(
            self._event.assoc,
            lambda: audit.procedure_step_recorded(peer_of(self._event.assoc), *audited),
        )

    def _named(self) -> dict[str, Any]:
        return {"sop_class_uid": self._sop_class_uid, "sop_instance_uid": self._uid, **self._fields}

    def _record(self, code: int, reason: str) -> None:
        performed(self._event, self._service, code, self._started, reason=reason, **self._named())

    @staticmethod
    def _reason(error: OperationError) -> str:
        return error.reason if isinstance(error, RefusedError) else str(error)
