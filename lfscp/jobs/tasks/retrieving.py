"""Does the work of retrieve and collect jobs: studies of one or several peers into the archive.

A job retrieves study by study, so that it goes on where it was after an interruption, a pause or a
failed attempt. It first queries the peer for the studies that match and for their SOP classes; with
these a C-GET gets every object as it is stored there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset

from lfscp.dicom.reading.header import is_uid
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.matches import MEGABYTE
from lfscp.jobs.model import Job, State
from lfscp.jobs.peers.asked_for import is_single, other_than_asked, other_than_listed
from lfscp.jobs.peers.asking import client_of
from lfscp.jobs.peers.described import JobPeer
from lfscp.jobs.request import PATIENT_KEYS, listed_key
from lfscp.jobs.tasks.exporting import write_files
from lfscp.jobs.tasks.fetching import RetrieveMethod, Unit
from lfscp.scu.errors import PeerError, PeerErrorKind, TooManyMatchesError, UnsupportedError
from lfscp.scu.identifiers import identifier
from lfscp.scu.parts import RetrieveResult

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

_RETURNED: Final = {
    "StudyInstanceUID": "",
    "SOPClassesInStudy": "",
    "NumberOfStudyRelatedInstances": "",
}
_MAX_CLASSES: Final = 200  # of one study; if it has more, the peer is asked again
_UNIT_BYTES: Final = 700  # of memory that a study takes, about
_CLASS_BYTES: Final = 120
_MISSING_SAID: Final = 10  # values that the reason of a job names
_MEMORY_OF_A_BYTE: Final = 4  # bytes of memory for one of the budget, once it is decoded


def _merged(units: Iterable[Unit]) -> Iterable[Unit]:
    """The units, each once: patients may share a Study Instance UID, and come together."""
    merged: dict[str, Unit] = {}
    for unit in units:
        other = merged.setdefault(unit.name, unit)
        if other is not unit:
            both = other.sop_classes and unit.sop_classes  # else the peer is asked again
            classes = dict.fromkeys((*other.sop_classes, *unit.sop_classes)) if both else ()
            size = other.size + unit.size
            merged[unit.name] = replace(other, sop_classes=tuple(classes), size=size)
    return merged.values()


def retrieve(job: Job, control: Control, archive: Archive, settings: Settings) -> JobEnd:
    """Retrieve the studies that match the job's keys.

    Raises:
        JobStoppedError: the job was asked to stop.
        PeerError: the peer is down or refuses.
        ArchiveError: the archive cannot be used.
    """
    work = _Retrieving(job, control, archive, settings)
    work.prepare(work.units(job.peer))
    control.note_counted()
    work.perform()
    return work.ended()


def collect(job: Job, control: Control, archive: Archive, settings: Settings) -> JobEnd:
    """Retrieve the studies that match from every peer, also if one of the peers is down.

    Raises:
        JobStoppedError: the job was asked to stop.
        ArchiveError: the archive cannot be used.
        PeerError: a peer was down; raised after all others were asked.
    """
    work = _Retrieving(job, control, archive, settings)
    down: list[PeerError] = []
    for peer in job.peers:
        control.check()
        try:
            work.prepare(work.units(peer))
            if peer == job.peers[-1]:
                control.note_counted()
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
    """The run of a retrieve or collect job."""

    def __init__(self, job: Job, control: Control, archive: Archive, settings: Settings) -> None:
        self._job = job
        self._control = control
        self._archive = archive
        self._settings = settings
        self._max_bytes = settings.budgets.job_mb * MEGABYTE
        self._folder: str = job.parameters.get("folder") or ""
        self._model: str = job.parameters.get("model", "study")
        self._fetching = RetrieveMethod(job, control, archive, settings)
        self._todo: list[Unit] = []
        self._weight = 0
        self._studies: dict[str, None] = {}
        # The values of a list; True: no peer has a study for it.
        self._missing: dict[str, bool] = defaultdict(lambda: True)
        control.result = {"studies": [], "methods": {}, "problems": control.progress.problems}
        if self._folder:
            control.result |= {"folder": self._folder, "written": 0}

    # --- finding out what to do ---

    def units(self, peer: JobPeer) -> Iterator[Unit]:
        keys = {name: value for name, value in self._job.parameters["keys"].items() if value}
        level = self._job.parameters.get("level", "STUDY")
        if level in ("SERIES", "IMAGE"):
            name = "|".join(f"{key}={value}" for key, value in sorted(keys.items()))
            yield Unit(peer, level, keys, str(keys.get("StudyInstanceUID", name)))
            return
        listed = listed_key(keys)
        for asked in _one_by_one(keys, listed):
            is_there = False
            for unit in self._studies_of(peer, asked, listed):
                is_there = True
                yield unit
            if listed:
                self._missing[str(asked[listed])] &= not is_there

    def _studies_of(self, peer: JobPeer, keys: Mapping[str, Any], listed: str) -> Iterator[Unit]:
        """The studies that match keys with one value each."""
        for patient in self._patients(peer, keys):
            wanted = {**_RETURNED, **keys, **patient}
            for match in self._find(peer, wanted, "STUDY"):
                unit = self._study(peer, match, keys, listed)
                if unit is not None:
                    yield unit

    def _patients(self, peer: JobPeer, keys: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """The Patient IDs of studies; Patient Root needs a single one (PS3.4 C.4.1.3.1.1)."""
        if self._model == "study":
            yield {} if "PatientID" in keys else {"PatientID": ""}
            return
        if is_single(keys.get("PatientID")):
            yield {}
            return
        of_patient = {key: value for key, value in keys.items() if key in PATIENT_KEYS}
        for match in self._find(peer, {"PatientID": "", **of_patient}, "PATIENT"):
            yield {"PatientID": str(match.get("PatientID") or "")}

    def _find(self, peer: JobPeer, keys: Mapping[str, Any], level: str) -> Iterator[Dataset]:
        yield from client_of(peer, self._settings).find(
            identifier(keys, level),
            self._model,
            cancel=self._control.stop,
            max_bytes=self._max_bytes,
        )
        self._control.check()

    def _study(
        self, peer: JobPeer, match: Dataset, asked: Mapping[str, Any], listed: str
    ) -> Unit | None:
        uid = str(match.get("StudyInstanceUID") or "")
        if not uid:
            self._control.problem(str(peer), "sent a match without StudyInstanceUID")
            return None
        if other := other_than_asked(peer, match, asked) or other_than_listed(match, asked, listed):
            self._control.problem(str(peer), f"sent a match with another {other} than asked for")
            return None
        keys = {"StudyInstanceUID": uid}
        if self._model != "study":
            keys["PatientID"] = str(match.get("PatientID") or "")
        return Unit(peer, "STUDY", keys, uid, _classes(match), _count(match))

    def prepare(self, units: Iterator[Unit]) -> None:
        """Add what there is to do, without what an earlier run has done."""
        progress = self._control.progress
        for unit in _merged(self._weighed(units)):
            if unit.level == "STUDY":
                self._studies[unit.study_uid] = None
                self._control.result["studies"] = list(self._studies)
            if self._control.is_behind(unit.name):
                progress.done += unit.size or self._came(unit)
                if not self._control.is_behind(_written(unit)):
                    self._write(unit)
            else:
                self._todo.append(unit)
                progress.left += unit.size
        self._control.report()

    def _came(self, unit: Unit) -> int:
        """How many objects of a unit came here, if its peer does not say how many it has."""
        return len(unit.here(self._archive)) if self._fetching.is_ours else 0

    def _weighed(self, units: Iterator[Unit]) -> Iterator[Unit]:
        """The units, or an error once they take too much memory."""
        for unit in units:
            self._weight += _UNIT_BYTES + _CLASS_BYTES * len(unit.sop_classes)
            if self._weight > _MEMORY_OF_A_BYTE * self._max_bytes:
                raise TooManyMatchesError(unit.peer, self._max_bytes)
            yield unit

    def abandon(self) -> None:
        self._todo.clear()
        self._control.progress.left = 0

    # --- doing it ---

    def perform(self) -> None:
        control = self._control
        while self._todo:
            control.check()
            unit = self._todo[0]
            expected = sum(each.size for each in self._todo[1:])
            try:
                method, result = self._fetching.fetch(unit, expected)
            except PeerError as error:
                if not _is_of_one(error):
                    raise
                control.progress.failed += unit.size or 1
                control.problem(unit.study_uid, error.reason)
            else:
                control.result["methods"][str(unit.peer)] = method
                self._note(unit, result)
                self._write(unit)
            self._todo.pop(0)
            control.progress.left = expected
            control.report()

    def _note(self, unit: Unit, result: RetrieveResult) -> None:
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

    def _write(self, unit: Unit) -> None:
        """Write the objects of a unit as files, if the job has a folder."""
        if not self._folder:
            return
        control, progress = self._control, self._control.progress
        complete = True
        for instance, reason in write_files(unit.here(self._archive), self._folder, self._settings):
            if reason:
                complete = False
                progress.done -= 1
                progress.failed += 1
                control.problem(instance.sop_instance_uid, reason)
            else:
                control.result["written"] += 1
            control.report()
            control.check()
        if complete and control.is_behind(unit.name):
            control.put_behind(_written(unit))

    def ended(self) -> JobEnd:
        progress, result = self._control.progress, self._control.result
        if progress.failed:
            total = progress.done + progress.failed
            first = progress.problems[0]["reason"] if progress.problems else "see the peer's log"
            what = "retrieved and written" if self._folder else "retrieved"
            said = f"{progress.failed} of {total} objects could not be {what}"
            return JobEnd(State.FAILED, f"{said}: {first}", result, logged=said)
        if not progress.done and not self._studies:
            said = "nothing matches the keys"
            return JobEnd(State.FAILED, said, result, logged=said)
        remarks = [self._said_of_missing()]
        if self._folder:
            remarks.append(f"{result['written']} files written to {self._folder}")
        return JobEnd(reason="; ".join(filter(None, remarks)), result=result)

    def _said_of_missing(self) -> str:
        """Which values of a list no study has; all of them are in the result."""
        missing = [value for value, is_missing in self._missing.items() if is_missing]
        if not missing:
            return ""
        self._control.result["missing"] = missing
        more = " …" if len(missing) > _MISSING_SAID else ""
        said = ", ".join(missing[:_MISSING_SAID])
        return f"no study for {len(missing)} of {len(self._missing)} values: {said}{more}"


def _one_by_one(keys: Mapping[str, Any], listed: str) -> Iterator[Mapping[str, Any]]:
    """The keys with each value of a list, or as they are."""
    if not listed:
        yield keys
        return
    for value in dict.fromkeys(str(each).strip() for each in keys[listed]):
        yield {**keys, listed: value}


def _written(unit: Unit) -> str:
    return f"{unit.name}|written"


def _is_of_one(error: PeerError) -> bool:
    """Whether a peer refused one study, but may send the next."""
    is_final = error.kind is PeerErrorKind.REFUSED and not error.passing
    return is_final and not isinstance(error, UnsupportedError)


def _classes(match: Dataset) -> tuple[str, ...]:
    value = match.get("SOPClassesInStudy")
    if not value:
        return ()
    values = [value] if isinstance(value, str) else list(value)
    found = dict.fromkeys(str(each) for each in values[: _MAX_CLASSES + 1] if is_uid(str(each)))
    return tuple(found) if len(values) <= _MAX_CLASSES else ()


def _count(match: Dataset) -> int:
    try:
        return max(0, int(match.get("NumberOfStudyRelatedInstances") or 0))
    except (TypeError, ValueError):
        return 0
