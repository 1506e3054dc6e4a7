"""Writes objects of the archive as files into a folder: an export, or a retrieve that names one.

A file is there whole or not at all, as `FOLDER/<StudyUID>/<InstanceUID>.dcm`, with exactly the
bytes of the archive. It replaces an older file of this name. With durability "full" the files are
on disk before the job counts them as written.
"""

from __future__ import annotations

import contextvars
import itertools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.archive.durability import sync_folder, whole_file
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job, State
from lfscp.jobs.roots import allowed_folder
from lfscp.jobs.tasks.named_objects import named_objects
from lfscp.observe import audit
from lfscp.services.audit_events import patients_of

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings


def export(job: Job, control: Control, archive: Archive, settings: Settings) -> JobEnd:
    """Write the studies and series of a job into its folder; see `tasks.perform`.

    A study counts as written once its folder is on disk. So a job that was interrupted goes on with
    the studies that are left.
    """
    instances = named_objects(job, control, archive)
    todo = [each for each in instances if not control.is_behind(each.sop_instance_uid)]
    control.progress.done = len(instances) - len(todo)
    control.progress.left = len(todo)
    control.note_counted()
    control.report()
    folder = str(job.parameters["folder"])
    by_study = itertools.groupby(sorted(todo, key=_study_of), key=_study_of)
    for study_uid, of_study in by_study:
        written = _export_study(list(of_study), folder, control, settings)
        if written:
            _record(archive, study_uid, folder, job.parameters.get("user", ""))
        for each in written:
            control.put_behind(each.sop_instance_uid)
        control.check()
    return _ended(control, folder)


def _study_of(instance: StoredInstance) -> str:
    return instance.study_uid


def _export_study(
    instances: Sequence[StoredInstance], folder: str, control: Control, settings: Settings
) -> list[StoredInstance]:
    """Write the objects of a study; those that were written."""
    written, progress = [], control.progress
    for instance, reason in write_files(instances, folder, settings):
        progress.left -= 1
        if reason:
            progress.failed += 1
            control.problem(instance.sop_instance_uid, reason)
        else:
            progress.done += 1
            progress.bytes += instance.size
            written.append(instance)
        control.report()
        control.check()
    return written


def _record(archive: Archive, study_uid: str, folder: str, user: str) -> None:
    """Write into the audit trail who has exported a study, and where to."""
    if not audit.is_on():
        return

    def work() -> None:
        if user:
            audit.act_as(user)
        for patient in patients_of(archive, study_uid) or (None,):
            audit.accessed(study_uid, f"exported to {folder}", patient)

    contextvars.copy_context().run(work)


def _ended(control: Control, folder: str) -> JobEnd:
    progress = control.progress
    problems = progress.problems
    if progress.failed:
        said = f"{progress.failed} of {progress.done + progress.failed} objects were not written"
        return JobEnd(State.FAILED, f"{said}: {problems[-1]['reason']}", logged=said)
    if not progress.done:
        said = "there is no DICOM object to export"
        return JobEnd(State.FAILED, said, logged=said)
    missing = f"; {len(problems)} passed over, see problems" if problems else ""
    return JobEnd(reason=f"{progress.done} files written to {folder}{missing}")


def write_files(
    instances: Iterable[StoredInstance], folder: str, settings: Settings
) -> Iterator[tuple[StoredInstance, str]]:
    """Write objects into a folder; gives each with the reason why it was not written, or "".

    Args:
        folder: below one of web.roots.
    Raises:
        InvalidRequestError: the folder may no longer be used.
        OSError: the names of the files cannot be put on disk.
    """
    roots, sync = settings.web.roots, settings.durability == "full"
    top = allowed_folder(folder, roots)
    written: set[Path] = set()
    for instance in instances:
        try:
            below = top / instance.study_uid
            below.mkdir(exist_ok=True)
            # A link that was put there may lead out of the roots.
            study = allowed_folder(below, roots)
            with (
                instance.path.open("rb") as source,
                whole_file(study / f"{instance.sop_instance_uid}.dcm", sync=sync) as file,
            ):
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            yield instance, f"not written: {error.strerror or error}"
        else:
            written.add(study)
            yield instance, ""
    if sync and written:
        for each in (*written, top):
            sync_folder(each)
