"""Does the work of a send job: sends files, folders and studies of the archive to a peer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.archive.workflow.commitment.references import Reference
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.committing import Committing
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job, State
from lfscp.jobs.peers.asking import client_of
from lfscp.jobs.peers.described import audited
from lfscp.jobs.roots import allowed_path
from lfscp.observe import audit
from lfscp.observe.logging import get_logger
from lfscp.scu.send import objects_in
from lfscp.services.audit_events import SentObjects
from lfscp.services.sending.sub_operations import SubOperationOutcome

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

LOG: Final = get_logger("lfscp.jobs")


def send_objects(job: Job, control: Control, archive: Archive, settings: Settings) -> JobEnd:
    """Send the objects that the job names, without those that an earlier run has sent.

    When the receiver is to commit to them, they count as done only when it has; see `Committing`.

    Raises:
        JobStoppedError: the job was asked to stop.
        PeerError: the peer is down or refuses.
        ArchiveError: the index cannot be read.
        InvalidRequestError: a path may no longer be used.
    """
    if job.is_committed_to:
        return _send_for_keeping(job, control, archive, settings)
    instances = _objects(job, control, archive, settings)
    todo = [each for each in instances if not control.is_behind(each.sop_instance_uid)]
    control.progress.done = len(instances) - len(todo)
    _send(job, control, archive, settings, todo)
    if control.progress.left:
        control.check()
    return _ended(control, bool(instances))


def _send_for_keeping(job: Job, control: Control, archive: Archive, settings: Settings) -> JobEnd:
    """Send, and have the receiver commit to what it got."""
    committing = Committing(job, control, archive, settings)
    if committing.is_waiting():
        return committing.go_on() or _ended(control, True, "delivered")
    committed, again = committing.begin()
    named = _objects(job, control, archive, settings)
    instances = [each for each in named if each.sop_instance_uid not in committed]
    todo = [
        each
        for each in instances
        if each.sop_instance_uid in again or not control.is_behind(each.sop_instance_uid)
    ]
    control.progress.done = len(committed)
    failed = _send(job, control, archive, settings, todo, is_delivery=False)
    control.check()
    sent = [
        Reference(each.sop_class_uid, each.sop_instance_uid)
        for each in instances
        if each.sop_instance_uid not in failed
    ]
    asleep = committing.ask(sent) if sent else None
    return asleep or _ended(control, bool(named), "delivered")


def _send(
    job: Job,
    control: Control,
    archive: Archive,
    settings: Settings,
    todo: list[StoredInstance],
    *,
    is_delivery: bool = True,
) -> set[str]:
    """Send objects; the UIDs of those that failed.

    Args:
        is_delivery: an object that is sent is done; else it is still left.
    """
    failed: set[str] = set()
    progress = control.progress
    progress.left = len(todo)
    control.report()
    sent = SentObjects()
    here = audit.AuditedPeer(settings.server.ae_title, "")
    receiver = audited(job.peer)

    def note(instance: StoredInstance, outcome: SubOperationOutcome, reason: str) -> None:
        if is_delivery or not outcome.is_transferred:
            progress.left -= 1
        if instance.study_uid:  # a file has none
            sent.count(instance, failed=not outcome.is_transferred)
            if sent.is_due:
                sent.write(here, receiver, archive)
        if outcome.is_transferred:
            progress.done += is_delivery
            progress.bytes += instance.size
            control.put_behind(instance.sop_instance_uid)
        else:
            progress.failed += 1
            failed.add(instance.sop_instance_uid)
            control.problem(instance.sop_instance_uid, reason)
        control.report()

    def locate(instance: StoredInstance) -> StoredInstance | None:
        if not instance.study_uid:
            return None  # a file of a folder
        key = {Level.IMAGE: [instance.sop_instance_uid]}
        return next(iter(archive.select(Level.IMAGE, key)), None)

    if todo:
        may_decode, stop = settings.retrieve.decode_when_needed, control.stop
        client = client_of(job.peer, settings)
        try:
            client.send(todo, on_sent=note, cancel=stop, may_decode=may_decode, locate=locate)
        finally:
            sent.write(here, receiver, archive)
    return failed


def _objects(
    job: Job, control: Control, archive: Archive, settings: Settings
) -> list[StoredInstance]:
    def other(file: Path, reason: str) -> None:
        control.check()
        control.problem(str(file), f"not sent: {reason}")

    def odd(file: Path, note: str) -> None:
        LOG.info("sending an odd file", file=str(file), notes=note)

    paths = [allowed_path(path, settings.web.roots) for path in job.parameters.get("paths", [])]
    instances = objects_in(paths, on_other=other, on_note=odd)
    for study in job.parameters.get("studies", []):
        found = archive.select(Level.STUDY, {Level.STUDY: [study]})
        if not found:
            control.problem(study, "there is no such study in the archive")
        instances += found
    return list({each.sop_instance_uid: each for each in instances}.values())


def _ended(control: Control, any_objects: bool, what: str = "taken") -> JobEnd:
    progress, problems = control.progress, control.progress.problems
    if not any_objects:
        first = f": {problems[0]['what']} {problems[0]['reason']}" if problems else ""
        return JobEnd(State.FAILED, f"there is no DICOM object to send{first}")
    if progress.failed:
        total = progress.done + progress.failed
        reasons = (each["reason"] for each in problems)
        first = next((reason for reason in reasons if not reason.startswith("not sent: ")), "")
        reason = f"{progress.failed} of {total} objects were not {what}: {first}"
        return JobEnd(State.FAILED, reason)
    return JobEnd(reason=f"{len(problems)} passed over, see problems" if problems else "")
