"""Asks the receiver of a send job to commit to what it got, and waits for its reports.

Rules: once all objects are sent, the requests for them are in the index, then the peer is asked.
The job stays for some seconds on the association, where many peers report; then it sleeps, takes no
place, and is woken by the report or its time. An object is delivered when a report says so. A job
that is run again, or was interrupted, waits for no older report: it sends again what was not
committed to, and asks for the rest anew. A report that comes late counts nevertheless.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from lfscp.archive.workflow.commitment.failure_reasons import words_there
from lfscp.archive.workflow.commitment.references import Reference
from lfscp.archive.workflow.commitment.requests import (
    CommitmentRequest,
    CommitmentRequests,
    RequestState,
    Taken,
)
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import MAX_DELAY_S, Job, State
from lfscp.jobs.peers.asking import with_user
from lfscp.jobs.request import InvalidRequestError
from lfscp.observe.logging import get_logger
from lfscp.scu.commit import Question, ask, portions
from lfscp.scu.peer import Peer
from lfscp.services.commitment.n_event_report import Report

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

LOG: Final = get_logger("lfscp.jobs")
_STAY_S: Final = 5.0  # on the association, for a peer that reports there
_HOUR_S: Final = 3600.0


class Committing:
    """What one run of a send job has to do with commitment."""

    def __init__(self, job: Job, control: Control, archive: Archive, settings: Settings) -> None:
        if not isinstance(job.peer, Peer):
            raise InvalidRequestError("parameters.commit", f"{job.peer} has no storage commitment")
        self._job = job
        self._peer = job.peer
        self._settings = settings
        self._control = control
        self._requests = CommitmentRequests(archive.index)
        self._wait_s = settings.commitment.wait_hours * _HOUR_S

    def is_waiting(self) -> bool:
        """Whether all is sent and asked for: this run has to look for reports alone."""
        return self._control.is_woken and bool(self._open())

    def begin(self) -> tuple[set[str], set[str]]:
        """Wait for no older report; what has been committed to, and what has not, by UID."""
        self._requests.settle(self._job.id)
        return _outcome(self._requests.of_job(self._job.id))

    def ask(self, references: Sequence[Reference]) -> JobEnd | None:
        """Have the peer asked to commit to these; see `go_on`."""
        self._requests.add(self._peer.ae_title, portions(references), self._job.id)
        return self._ask_and_look(are_new=True)

    def go_on(self) -> JobEnd | None:
        """Ask what could not be asked before, and look for reports.

        Returns:
            How the job sleeps while reports are due; None when there are none.
        Raises:
            PeerError: the peer is down, has no storage commitment, or refuses.
        """
        progress, result = self._control.progress, self._job.result
        progress.failed, progress.bytes = self._job.failed, self._job.bytes
        if isinstance(result, dict):
            progress.problems = list(result.get("problems", ()))
        return self._ask_and_look(are_new=False)

    def _ask_and_look(self, *, are_new: bool) -> JobEnd | None:
        self._count()
        unasked = [each for each in self._open() if each.state is RequestState.ASKING]
        if unasked:
            self._ask(unasked, are_new=are_new)
            self._control.check()
            self._count()
        waiting = [each for each in self._open() if each.state is RequestState.WAITING]
        left_s = self._wait_s - max((each.waited_s for each in waiting), default=0.0)
        if waiting and left_s > 0:
            return self._sleep(waiting, left_s)
        self._settle(waiting)
        return None

    def _open(self) -> list[CommitmentRequest]:
        return [each for each in self._requests.of_job(self._job.id) if each.is_open]

    def _ask(self, unasked: Iterable[CommitmentRequest], *, are_new: bool) -> None:
        stay_s = _STAY_S
        for each in unasked:
            self._control.check()
            uid = each.transaction_uid
            if not are_new:
                uid = self._requests.renew(uid)
            self._ask_one(Question(uid, each.references), stay_s)
            if not self._requests.is_reported(uid):
                stay_s = 0.0  # it will not be quicker with the others

    def _ask_one(self, question: Question, stay_s: float) -> None:
        def note_asked() -> None:
            self._requests.asked(question.transaction_uid)
            LOG.info(
                "commitment asked for",
                job=self._job.id,
                peer=str(self._job.peer),
                transaction_uid=question.transaction_uid,
                instances=len(question.references),
            )

        def keep(report: Report, ae_title: str) -> Taken:
            return self._requests.report(
                report.transaction_uid, ae_title, report.committed, report.failures
            )

        ask(
            with_user(self._peer, self._settings),
            question,
            keep=keep,
            is_enough=lambda: self._requests.is_reported(question.transaction_uid),
            wait_s=stay_s,
            on_asked=note_asked,
            cancel=self._control.stop,
        )

    def _count(self) -> None:
        """Set the job's counters: done is what is committed to, left what is to be reported."""
        found = self._requests.of_job(self._job.id)
        committed, _ = _outcome(found)
        due = {
            uid for each in found if each.is_open and each.failures is None for uid in _uids(each)
        }
        self._control.progress.done = len(committed)
        self._control.progress.left = len(due - committed)
        self._control.note_counted()
        self._control.report()

    def _sleep(self, waiting: Collection[CommitmentRequest], left_s: float) -> JobEnd:
        number = sum(len(each.references) for each in waiting)
        objects = f"{number} object{'' if number == 1 else 's'}"
        reason = f"waiting for the report of {self._job.peer}, {objects}"
        return JobEnd(State.SLEEPING, reason, sleep_s=min(left_s, MAX_DELAY_S))

    def _settle(self, overdue: Iterable[CommitmentRequest]) -> None:
        """Count what was not committed to, or not reported in time."""
        found = self._requests.of_job(self._job.id)
        committed, failed = _outcome(found)
        for each in found:
            for failure in (each.failures or ()) if each.is_open else ():
                if failure.sop_instance_uid in failed:
                    words = f"not committed to: {words_there(failure.reason)}"
                    self._fail(failure.sop_instance_uid, words)
        for each in overdue:
            for uid in _uids(each):
                if uid not in committed:
                    hours = f"{self._wait_s / _HOUR_S:g} hours"
                    self._fail(uid, f"no report on its commitment came within {hours}")
        # A report may have come since they were counted.
        self._control.progress.done, self._control.progress.left = len(committed), 0
        self._requests.settle(self._job.id)

    def _fail(self, uid: str, reason: str) -> None:
        self._control.progress.failed += 1
        self._control.problem(uid, reason)


def _uids(asked: CommitmentRequest) -> list[str]:
    return [each.sop_instance_uid for each in asked.references]


def _outcome(requests: Iterable[CommitmentRequest]) -> tuple[set[str], set[str]]:
    """What has been committed to, and what the last report on it says was not."""
    committed: set[str] = set()
    failed: set[str] = set()
    for each in requests:
        failed.difference_update(_uids(each))
        if each.failures is not None:
            failed.update(failure.sop_instance_uid for failure in each.failures)
            committed.update(each.committed)
    return committed, failed - committed
