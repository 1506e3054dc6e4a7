"""Corrects studies and patients, and confirms or undoes it: for the page and the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom.datadict import tag_for_keyword
from sqlalchemy import Connection, select

from lfscp.archive import correcting
from lfscp.archive.correcting import CORRECTABLE, OF_PATIENT, CorrectionError, require_changes
from lfscp.archive.errors import StudyProtectedError
from lfscp.archive.index import correction_states
from lfscp.archive.index.correction_states import CorrectionState
from lfscp.archive.index.protection import protected_among
from lfscp.archive.index.tables.schema import patient, study
from lfscp.dicom.values.attributes import BY_TAG
from lfscp.jobs.model import Job, State
from lfscp.web.actions.jobs import job_of, submit
from lfscp.web.actions.studies import study_row
from lfscp.web.context import Web
from lfscp.web.problems import Problem, not_found

COLUMNS: Final = {keyword: BY_TAG[tag_for_keyword(keyword) or 0].column for keyword in CORRECTABLE}
MAX_STUDIES: Final = 10_000  # of one correction
_AT_ONCE: Final = 500  # UIDs in one question


@dataclass(frozen=True, slots=True)
class Asked:
    """A correction that somebody asks for.

    Args:
        rows: of the studies that change.
        changes: new values by keyword.
    """

    rows: Sequence[Mapping[str, Any]]
    changes: Mapping[str, str]

    @property
    def differences(self) -> list[dict[str, Any]]:
        """What changes: keyword, the values before, and the value after."""
        found = []
        for keyword, after in self.changes.items():
            before = sorted({str(row[COLUMNS[keyword]]) for row in self.rows})
            if before != [after]:
                found.append({"keyword": keyword, "before": before, "after": after})
        return found


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
        rows = _studies_of(connection, patient_key)
    if not rows:
        raise not_found("patient", str(patient_key))
    return _asked(web, rows, changes)


def identity_of(web: Web, patient_key: int) -> dict[str, str]:
    """What the objects of a patient say of it, by keyword.

    Raises:
        Problem: there is no such patient, or it has no Patient ID.
    """
    with web.index() as connection:
        wanted = select(patient).where(patient.c.id == patient_key)
        row = connection.execute(wanted).mappings().first()
    if row is None:
        raise not_found("patient", str(patient_key))
    if not row["patient_id"]:
        raise Problem(422, "that patient has no Patient ID, so that no study can be moved to it")
    return {keyword: str(row[COLUMNS[keyword]]) for keyword in OF_PATIENT}


def patient_named(web: Web, patient_id: str, issuer: str = "") -> int:
    """The key of the patient with a Patient ID.

    Raises:
        Problem: there is none, or several that differ in their issuer.
    """
    wanted = select(patient.c.id).where(patient.c.patient_id == patient_id)
    if issuer:
        wanted = wanted.where(patient.c.issuer_of_patient_id == issuer)
    with web.index() as connection:
        keys = connection.execute(wanted).scalars().all() if patient_id else []
    if len(keys) == 1:
        return int(keys[0])
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
    _require_to_confirm(web, correction_id, "undone")
    correcting.undo(web.archive, correction_id)
    return one(web, correction_id)


def _require_to_confirm(web: Web, correction_id: str, what: str) -> None:
    state = one(web, correction_id)["state"]
    if _runs(web, correction_id):
        state = CorrectionState.RUNNING
    elif state == CorrectionState.RUNNING:
        return  # its job was ended by a crash, and cancelled
    if state != CorrectionState.TO_CONFIRM:
        raise Problem(409, f"a correction that is {state} cannot be {what}")


def _runs(web: Web, correction_id: str) -> bool:
    try:
        return job_of(web, correction_id).state in (State.ACTIVE, State.SLEEPING, State.PAUSED)
    except Problem:  # it is forgotten
        return False


def _studies_of(connection: Connection, patient_key: int) -> list[Mapping[str, Any]]:
    wanted = select(study).where(study.c.patient_id_fk == patient_key).order_by(study.c.id)
    rows = connection.execute(wanted.limit(MAX_STUDIES + 1)).mappings()
    return [dict(row) for row in rows]


def _asked(web: Web, rows: Sequence[Mapping[str, Any]], changes: Mapping[str, Any]) -> Asked:
    if len(rows) > MAX_STUDIES:
        raise Problem(422, f"more than {MAX_STUDIES:,} studies; correct them one by one")
    try:
        made = require_changes(changes)
    except CorrectionError as error:
        raise _wrong(error.keyword, error.expected) from None
    uids = [str(row["study_instance_uid"]) for row in rows]
    with web.index() as connection:
        for start in range(0, len(uids), _AT_ONCE):
            for uid in protected_among(connection, uids[start : start + _AT_ONCE]):
                raise StudyProtectedError(uid, "correct the study")
    return Asked(rows, made)


def _wrong(keyword: str, expected: str) -> Problem:
    pointer = "/changes" if keyword == "changes" else f"/changes/{keyword}"
    errors = [{"pointer": pointer, "detail": f"expected {expected}"}]
    return Problem(422, f"{keyword}: expected {expected}", errors=errors)
