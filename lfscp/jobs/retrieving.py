"""The work of retrieve and collect jobs: studies of one or several peers into the archive.

Study by study, so that a job that is interrupted, paused or tried again goes on where it was. The
peer is queried first: for the studies that match, and for the SOP classes in them, with which a
C-GET gets every object as it is stored there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset

from lfscp.archive.attributes import Level
from lfscp.archive.errors import ArchiveError
from lfscp.archive.objects import Received
from lfscp.jobs.model import InvalidRequest, Job, State
from lfscp.jobs.outcome import Ended
from lfscp.scu.errors import Kind, PeerError, Unsupported
from lfscp.scu.find import find
from lfscp.scu.identifiers import identifier
from lfscp.scu.peer import Peer
from lfscp.scu.retrieve import RetrieveProgress, RetrieveResult, get, move
from lfscp.services.storage import refusal

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings
    from lfscp.jobs.control import Control

_SUCCESS: Final = 0x0000
_RETURNED: Final = {
    "StudyInstanceUID": "",
    "SOPClassesInStudy": "",
    "NumberOfStudyRelatedInstances": "",
}


@dataclass(frozen=True, slots=True)
class _Unit:
    """What one retrieve asks for: a study, or what the keys name below it.

    Args:
        size: how many objects the peer says it has; 0 when it does not say.
    """

    peer: Peer
    level: str
    keys: Mapping[str, Any]
    study_uid: str
    sop_classes: tuple[str, ...] = ()
    size: int = 0

    @property
    def name(self) -> str:
        """What it is called among the things that are done."""
        return f"{self.peer}|{self.level}|{self.study_uid}"


def retrieve(job: Job, control: Control, archive: Archive, settings: Settings) -> Ended:
    """Retrieve what matches the job's keys.

    Raises:
        Stopped, PeerError, ArchiveError.
    """
    work = _Retrieving(job, control, archive, settings)
    work.prepare(work.units(job.peer))
    work.perform()
    return work.ended()


def collect(job: Job, control: Control, archive: Archive, settings: Settings) -> Ended:
    """Retrieve the studies that match from every peer; one that is down keeps no other back.

    Raises:
        Stopped, ArchiveError.
        PeerError: of a peer that was down, after all others were asked; it can be tried again.
    """
    work = _Retrieving(job, control, archive, settings)
    down: list[PeerError] = []
    for peer in job.peers:
        control.check()
        try:
            work.prepare(work.units(peer))
            work.perform()
        except PeerError as error:
            work.abandon()
            control.check()
            control.problem(str(peer), error.reason)
            if error.passing:
                down.append(error)
            else:
                control.progress.failed += 1
    if down:
        raise down[0]
    return work.ended()


class _Retrieving:
    """A retrieve or collect job at work."""

    def __init__(self, job: Job, control: Control, archive: Archive, settings: Settings) -> None:
        self._job = job
        self._control = control
        self._archive = archive
        self._own_title = settings.server.ae_title
        self._destination = job.parameters.get("destination") or self._own_title
        self._method: str = job.parameters.get("method", "auto")
        self._model = job.parameters.get("model", "study")
        self._is_ours = self._destination == self._own_title
        if not self._is_ours and self._method == "get":
            raise InvalidRequest("parameters.destination", 'a C-GET comes here; choose "move"')
        self._methods: dict[Peer, str] = {}
        self._todo: list[_Unit] = []
        self._studies: dict[str, None] = {}
        control.result = {"studies": [], "methods": {}, "problems": control.progress.problems}

    # --- what there is to do ---

    def units(self, peer: Peer) -> Iterator[_Unit]:
        """What the peer has that matches."""
        keys = {name: value for name, value in self._job.parameters["keys"].items() if value}
        level = self._job.parameters.get("level", "STUDY")
        if level in ("SERIES", "IMAGE"):
            name = "|".join(f"{key}={value}" for key, value in sorted(keys.items()))
            yield _Unit(peer, level, keys, str(keys.get("StudyInstanceUID", name)))
            return
        wanted = identifier({**_RETURNED, **_patient_key(keys), **keys}, "STUDY")
        for match in find(peer, wanted, self._model, cancel=self._control.stop):
            unit = self._study(peer, match)
            if unit is not None:
                yield unit
        self._control.check()

    def _study(self, peer: Peer, match: Dataset) -> _Unit | None:
        uid = str(match.get("StudyInstanceUID") or "")
        if not uid:
            self._control.problem(str(peer), "sent a match without StudyInstanceUID")
            return None
        keys = {"StudyInstanceUID": uid}
        if self._model == "patient":
            keys["PatientID"] = str(match.get("PatientID") or "")
        return _Unit(peer, "STUDY", keys, uid, _classes(match), _count(match))

    def prepare(self, units: Iterator[_Unit]) -> None:
        """Put together what is to be done, and leave out what is behind us."""
        progress = self._control.progress
        for unit in units:
            self._note_study(unit)
            if self._control.is_behind(unit.name):
                progress.done += unit.size
            else:
                self._todo.append(unit)
                progress.left += unit.size
        self._control.report()

    def _note_study(self, unit: _Unit) -> None:
        if unit.level == "STUDY":
            self._studies[unit.study_uid] = None
            self._control.result["studies"] = list(self._studies)

    def abandon(self) -> None:
        """What is still to do stays undone."""
        self._todo.clear()
        self._control.progress.left = 0

    # --- doing it ---

    def perform(self) -> None:
        """Retrieve one after another."""
        control = self._control
        while self._todo:
            control.check()
            unit = self._todo[0]
            expected = sum(each.size for each in self._todo[1:])
            try:
                result = self._one(unit, expected)
            except PeerError as error:
                if (
                    error.passing
                    or error.kind is not Kind.REFUSED
                    or isinstance(error, Unsupported)
                ):
                    raise
                control.progress.failed += unit.size or 1
                control.problem(unit.study_uid, error.reason)
            else:
                self._note(unit, result)
            self._todo.pop(0)
            control.progress.left = expected
            control.report()

    def _note(self, unit: _Unit, result: RetrieveResult) -> None:
        if result.is_cancelled:
            self._control.check()
        known = {problem["what"] for problem in self._control.progress.problems}
        for uid in result.failed_uids:
            if uid not in known:
                self._control.problem(uid, "the peer could not send it")
        if result.failed and not result.failed_uids and not known:
            reason = result.comment or "the peer does not say why"
            self._control.problem(unit.study_uid, f"{result.failed} objects not sent: {reason}")
        if not result.failed and not result.is_cancelled:
            self._control.put_behind(unit.name)

    def _one(self, unit: _Unit, expected: int) -> RetrieveResult:
        """Retrieve one unit by the method that the peer has."""
        method: str = self._methods.get(unit.peer, self._method)
        if method != "auto":
            result = self._by(method, unit, expected)
        elif self._is_ours:
            method, result = self._get_or_move(unit, expected)
        else:
            method, result = "move", self._by("move", unit, expected)
        self._methods[unit.peer] = method
        self._control.result["methods"][str(unit.peer)] = method
        return result

    def _get_or_move(self, unit: _Unit, expected: int) -> tuple[str, RetrieveResult]:
        """By C-GET; by C-MOVE when the peer has none, or could send nothing that way."""
        progress = self._control.progress
        before = progress.failed
        try:
            result = self._by("get", unit, expected)
        except Unsupported:
            return "move", self._by("move", unit, expected)
        if result.completed or result.warning or not result.failed:
            return "get", result
        try:
            progress.failed = before
            return "move", self._by("move", unit, expected)
        except PeerError:
            progress.failed = before + result.failed
            return "get", result

    def _by(self, method: str, unit: _Unit, expected: int) -> RetrieveResult:
        control, progress = self._control, self._control.progress
        done, failed = progress.done, progress.failed

        def follow(counters: RetrieveProgress) -> None:
            progress.done = done + counters.completed + counters.warning
            progress.failed = failed + counters.failed
            if counters.remaining is not None:
                progress.left = expected + counters.remaining
            control.report()

        asked = identifier(unit.keys, unit.level)
        if method == "get":
            result = get(
                unit.peer,
                asked,
                on_object=self._store,
                model=self._model,
                sop_classes=unit.sop_classes,
                progress=follow,
                cancel=control.stop,
                spool_dir=self._archive.incoming_dir,
            )
        else:
            result = move(
                unit.peer,
                asked,
                self._destination,
                model=self._model,
                progress=follow,
                cancel=control.stop,
            )
            self._count_moved(unit, result)
        follow(RetrieveProgress(0, result.completed, result.failed, result.warning))
        return result

    def _count_moved(self, unit: _Unit, result: RetrieveResult) -> None:
        """The bytes of a study that has come to our own SCP meanwhile."""
        if self._is_ours and unit.level == "STUDY" and result.completed:
            here = self._archive.select(Level.STUDY, {Level.STUDY: [unit.study_uid]})
            self._control.progress.bytes += sum(each.size for each in here)

    def _store(self, received: Received) -> int | Dataset:
        """Store an object of a C-GET; the peer is told what could not be."""
        try:
            stored = self._archive.store(received)
        except ArchiveError as error:
            self._control.problem(received.sop_instance_uid, error.reason)
            return refusal(error)
        self._control.progress.bytes += stored.size
        self._control.report()
        return _SUCCESS

    def ended(self) -> Ended:
        """What is to be said of it."""
        progress, result = self._control.progress, self._control.result
        if progress.failed:
            total = progress.done + progress.failed
            first = progress.problems[0]["reason"] if progress.problems else "see the peer's log"
            reason = f"{progress.failed} of {total} objects could not be retrieved: {first}"
            return Ended(State.FAILED, reason, result)
        if not progress.done and not self._studies:
            return Ended(State.FAILED, "nothing matches the keys", result)
        return Ended(result=result)


def _is_of_one(error: PeerError) -> bool:
    """Whether a peer refused one study, and may well send the next."""
    return error.kind is Kind.REFUSED and not error.passing and not isinstance(error, Unsupported)


def _patient_key(keys: Mapping[str, Any]) -> dict[str, str]:
    return {} if "PatientID" in keys else {"PatientID": ""}


def _classes(match: Dataset) -> tuple[str, ...]:
    value = match.get("SOPClassesInStudy")
    if not value:
        return ()
    return (str(value),) if isinstance(value, str) else tuple(map(str, value))


def _count(match: Dataset) -> int:
    try:
        return max(0, int(match.get("NumberOfStudyRelatedInstances") or 0))
    except (TypeError, ValueError):
        return 0
