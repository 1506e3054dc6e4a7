"""Corrects patients and studies of the archive: a job without a peer.

Rules: a study is corrected whole or not at all. A job that was interrupted goes on with the studies
that are left. What it has corrected can be confirmed, or undone, once it does not run.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

from lfscp.archive.correcting import Correction
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.correction_states import CorrectionEndedError
from lfscp.dicom.errors import DatasetError
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job, State
from lfscp.observe import audit

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings


def correct(job: Job, control: Control, archive: Archive, settings: Settings) -> JobEnd:
    """Correct the studies of a job, as the user who asked for it; see `tasks.perform`."""

    def work() -> JobEnd:
        if user := job.parameters.get("user", ""):
            audit.act_as(user)
        return _correct(job, control, archive, settings)

    return contextvars.copy_context().run(work)


def _correct(job: Job, control: Control, archive: Archive, settings: Settings) -> JobEnd:
    progress, parameters = control.progress, job.parameters

    def look(size: int) -> None:
        control.check()
        progress.done += 1
        progress.bytes += size
        control.report()

    ae_title, user = settings.server.ae_title, parameters.get("user", "")
    correction = Correction(archive, job.id, parameters["changes"], ae_title, user, look)
    try:
        correction.begin()
    except CorrectionEndedError as error:
        return JobEnd(State.FAILED, str(error))
    failed = 0
    try:
        for uid, key in zip(parameters["studies"], parameters["study_keys"], strict=True):
            control.check()
            try:
                correction.correct(key)
            except CorrectionEndedError as error:
                return JobEnd(State.FAILED, str(error))
            except (ArchiveError, DatasetError) as error:
                failed += 1
                progress.failed += 1
                control.problem(uid, str(error))
    finally:
        correction.end()
    control.result = {"correction": job.id}
    if failed:
        said = f"{failed} of {len(parameters['studies'])} studies were not corrected"
        first = control.progress.problems[0]["reason"]
        control.result["problems"] = control.progress.problems
        return JobEnd(State.FAILED, f"{said}: {first}", control.result, logged=said)
    return JobEnd(reason="confirm or undo it", result=control.result)
