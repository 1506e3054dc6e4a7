"""Corrects studies and patients, and confirms or undoes it: for the page and the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lfscp.archive import correctable, correcting
from lfscp.archive.correctable import MAX_STUDIES, Asked
from lfscp.archive.correcting import CORRECTABLE, OF_PATIENT, CorrectionError, require_changes
from lfscp.archive.errors import StudyProtectedError
from lfscp.archive.index import correction_states
from lfscp.archive.index.correction_states import CorrectionState
from lfscp.jobs.model import Job, State
from lfscp.web.actions.jobs import job_of, submit
from lfscp.web.actions.studies import study_row
from lfscp.web.context import Web
from lfscp.web.problems import Problem, not_found

_UNDONE: Final = "undone"


def of_study(web: Web, study_uid: str, key: int | None, changes: Mapping[str, Any]) -> Asked:
    """The correction of one study.

    Raises:
        Problem: there is no such study, or objects cannot have such values.
        StudyProtectedError: it is protected.
    """
    return _asked(web, [study_row(web, study_uid, key)], changes)


def of_patient(web: Web, patient_key: int, changes: Mapping[str, Any]) -> Asked:
    """The correction of all studies of a patient; raises as `of_study`."""
    for keyword in changes:
        if keyword not in OF_PATIENT and keyword in CORRECTABLE:
            raise _wrong(keyword, f"one of {', '.join(OF_PATIENT)} for all studies of a patient")
    with web.index() as connection:
        rows = correctable.studies_of(connection, patient_key)
    if not rows:
        raise not_found("patient", str(patient_key))
    return _asked(web, rows, changes)


def identity_of(web: Web, patient_key: int) -> dict[str, str]:
    """What the objects of a patient say of it, by keyword.

    Raises:
        Problem: there is no such patient, or it has no Patient ID.
    """
    with web.index() as connection:
        found = correctable.identity_of(connection, patient_key)
    if found is None:
        raise not_found("patient", str(patient_key))
    if not found["PatientID"]:
        raise Problem(422, "that patient has no Patient ID, so that no study can be moved to it")
    return found


def patient_named(web: Web, patient_id: str, issuer: str = "") -> int:
    """The key of the patient with a Patient ID.

    Raises:
        Problem: there is none, or several that differ in their issuer.
    """
    with web.index() as connection:
        keys = correctable.patients_named(connection, patient_id, issuer)
    if len(keys) == 1:
        return keys[0]
    if keys:
        raise Problem(422, "several patients have this Patient ID; say the issuer as well")
    raise Problem(422, "no patient in the archive has this Patient ID")


def begin(web: Web, asked: Asked, user: str) -> Job:
    """Have it done by a job.

    Raises:
        Problem: nothing would change, or the node takes no more jobs.
    """
    if not asked.differences:
        raise Problem(422, "nothing would change: all studies have these values already")
    parameters = {
        "studies": [row["study_instance_uid"] for row in asked.rows],
        "study_keys": [row["id"] for row in asked.rows],
        "changes": dict(asked.changes),
        "user": user,
    }
    return submit(web, "correct", [], parameters)


def all_of(web: Web, limit: int = 100) -> list[dict[str, Any]]:
    """Corrections, the newest first."""
    with web.index() as connection:
        return correction_states.list_corrections(connection, limit=limit)


def one(web: Web, correction_id: str) -> dict[str, Any]:
    """One correction.

    Raises:
        Problem: there is none.
    """
    with web.index() as connection:
        found = correction_states.list_corrections(connection, correction_id=correction_id)
    if not found:
        raise not_found("correction", correction_id)
    return found[0]


def confirm(web: Web, correction_id: str) -> dict[str, Any]:
    """Give up the old objects of a correction.

    Raises:
        Problem: there is no such correction, or it does not wait for that.
    """
    _require_to_confirm(web, correction_id, "confirmed")
    correcting.confirm(web.archive, correction_id)
    return one(web, correction_id)


def undo(web: Web, correction_id: str) -> dict[str, Any]:
    """Bring back what a correction has changed.

    Raises:
        Problem: there is no such correction, it does not wait for that, or it cannot be done now.
    """
    _require_to_confirm(web, correction_id, _UNDONE)
    correcting.undo(web.archive, correction_id)
    return one(web, correction_id)


def _require_to_confirm(web: Web, correction_id: str, what: str) -> None:
    state = one(web, correction_id)["state"]
    if _runs(web, correction_id):
        state = CorrectionState.RUNNING
    elif state == CorrectionState.RUNNING and what == _UNDONE:
        return  # a command runs it, which then ends; or its job was ended by a crash, and cancelled
    if state != CorrectionState.TO_CONFIRM:
        raise Problem(409, f"a correction that is {state} cannot be {what}")


def _runs(web: Web, correction_id: str) -> bool:
    try:
        return job_of(web, correction_id).state in (State.ACTIVE, State.SLEEPING, State.PAUSED)
    except Problem:  # it is forgotten
        return False


def _asked(web: Web, rows: Sequence[Mapping[str, Any]], changes: Mapping[str, Any]) -> Asked:
    if len(rows) > MAX_STUDIES:
        raise Problem(422, f"more than {MAX_STUDIES:,} studies; correct them one by one")
    try:
        made = require_changes(changes)
    except CorrectionError as error:
        raise _wrong(error.keyword, error.expected) from None
    with web.index() as connection:
        protected = correctable.first_protected(connection, rows)
    if protected:
        raise StudyProtectedError(protected, "correct the study")
    return Asked(rows, made)


def _wrong(keyword: str, expected: str) -> Problem:
    pointer = "/changes" if keyword == "changes" else f"/changes/{keyword}"
    errors = [{"pointer": pointer, "detail": f"expected {expected}"}]
    return Problem(422, f"{keyword}: expected {expected}", errors=errors)
