"""Does the work of a send job: sends files, folders and studies of the archive to a peer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.archive.workflow.commitment.references import Reference
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job, State
from lfscp.jobs.peers.asking import client_of
from lfscp.jobs.peers.described import audited
from lfscp.jobs.roots import allowed_path
from lfscp.jobs.tasks.committing import Committing
from lfscp.jobs.tasks.named_objects import named_objects, once
from lfscp.observe import audit
from lfscp.observe.logging import get_logger
from lfscp.scu.dicomweb.peer import DICOMwebPeer
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
    control.progress.left = len(todo)
    control.note_counted()
    control.report()
    delivery = _Delivery(job, control, archive, settings, is_delivery=is_delivery)
    if todo:
        delivery.send(todo)
    return delivery.failed


class _Delivery:
    """Objects that go to the peer of a job, with their audit records.

    Attributes:
        failed: the UIDs of those that failed.
    """

    def __init__(
        self,
        job: Job,
        control: Control,
        archive: Archive,
        settings: Settings,
        *,
        is_delivery: bool,
    ) -> None:
        self.failed: set[str] = set()
        self._peer = job.peer
        self._control = control
        self._archive = archive
        self._settings = settings
        self._is_delivery = is_delivery
        self._sent = SentObjects()

    def send(self, todo: list[StoredInstance]) -> None:
        """Send objects, and write what was sent into the audit trail, whatever happens."""
        client = client_of(self._peer, self._settings)
        try:
            client.send(
                self._not_withheld(todo),
                on_sent=self._note,
                cancel=self._control.stop,
                may_decode=self._settings.retrieve.decode_when_needed,
                locate=self._locate,
            )
        finally:
            self._write_audit()

    def _not_withheld(self, todo: list[StoredInstance]) -> list[StoredInstance]:
        """The objects that plug-ins let go; the others count as failed."""
        asked = self._archive.interceptor
        if asked is None:
            return todo
        title = self._peer.name if isinstance(self._peer, DICOMwebPeer) else self._peer.ae_title
        may_go = []
        for instance in todo:
            self._control.check()
            withheld = asked.before_send(instance, title)
            if withheld is not None:
                self._note(instance, SubOperationOutcome.FAILED, withheld.reason)
            else:
                may_go.append(instance)
        return may_go

    def _note(self, instance: StoredInstance, outcome: SubOperationOutcome, reason: str) -> None:
        control, progress = self._control, self._control.progress
        if self._is_delivery or not outcome.is_transferred:
            progress.left -= 1
        if instance.study_uid:  # a file has none
            self._sent.count(instance, failed=not outcome.is_transferred)
            if self._sent.is_due:
                self._write_audit()
        if outcome.is_transferred:
            progress.done += self._is_delivery
            progress.bytes += instance.size
            control.put_behind(instance.sop_instance_uid)
        else:
            progress.failed += 1
            self.failed.add(instance.sop_instance_uid)
            control.problem(instance.sop_instance_uid, reason)
        control.report()

    def _locate(self, instance: StoredInstance) -> StoredInstance | None:
        if not instance.study_uid:
            return None  # a file of a folder
        key = {Level.IMAGE: [instance.sop_instance_uid]}
        return next(iter(self._archive.select(Level.IMAGE, key)), None)

    def _write_audit(self) -> None:
        here = audit.AuditedPeer(self._settings.server.ae_title, "")
        self._sent.write(here, audited(self._peer), self._archive)


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
    return once([*instances, *named_objects(job, control, archive)])


def _ended(control: Control, any_objects: bool, what: str = "taken") -> JobEnd:
    progress, problems = control.progress, control.progress.problems
    if not any_objects:
        said = "there is no DICOM object to send"
        first = f": {problems[0]['what']}: {problems[0]['reason']}" if problems else ""
        return JobEnd(State.FAILED, f"{said}{first}", logged=said)
    if progress.failed:
        total = progress.done + progress.failed
        reasons = (each["reason"] for each in problems)
        first = next((reason for reason in reasons if not reason.startswith("not sent: ")), "")
        said = f"{progress.failed} of {total} objects were not {what}"
        return JobEnd(State.FAILED, f"{said}: {first}", logged=said)
    return JobEnd(reason=f"{len(problems)} passed over, see problems" if problems else "")
