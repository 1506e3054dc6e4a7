"""Retrieves one study, or a part of it, from one peer into the archive or to another node.

Objects that come here are retrieved by C-GET if the peer has it: that needs no configuration there.
Objects that the peer cannot send that way, compressed ones above all, are retrieved by C-MOVE to
our own SCP; so is everything if the peer has no C-GET. A DICOMweb server sends all by WADO-RS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset

from lfscp.archive.store.received_objects import Received, StoredInstance
from lfscp.dicom.values.attributes import Level
from lfscp.errors import OperationError
from lfscp.jobs.matches import MEGABYTE
from lfscp.jobs.model import Job
from lfscp.jobs.peers.asking import Client, client_of
from lfscp.jobs.peers.described import ONLY_HERE, JobPeer, audited
from lfscp.jobs.request import InvalidRequestError
from lfscp.observe import metrics
from lfscp.scu.errors import PeerError, UnsupportedError
from lfscp.scu.find import MAX_UNTOLD_BYTES
from lfscp.scu.identifiers import identifier
from lfscp.scu.parts import RetrieveProgress, RetrieveResult
from lfscp.services import audit_events
from lfscp.services.contexts import require_stored_class
from lfscp.services.status import SUCCESS
from lfscp.services.storage.c_store import refusal

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings
    from lfscp.jobs.control import Control

_UNIQUE_KEYS: Final = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """What one retrieve asks for: a study, or a part of it that the keys name.

    Args:
        size: how many objects the peer reports; 0 if it does not say.
    """

    peer: JobPeer
    level: str
    keys: Mapping[str, Any]
    study_uid: str
    sop_classes: tuple[str, ...] = ()
    size: int = 0

    @property
    def name(self) -> str:
        """The name of the unit among the items that are done."""
        patient = f"|{self.keys['PatientID']}" if "PatientID" in self.keys else ""
        return f"{self.peer}|{self.level}|{self.study_uid}{patient}"

    def here(self, archive: Archive) -> Sequence[StoredInstance]:
        """The objects of the unit in the archive.

        Raises:
            OperationError: the index cannot be read.
        """
        given = {level: self.keys.get(key) for level, key in _UNIQUE_KEYS.items()}
        wanted = {level: _list(value) for level, value in given.items() if value}
        return archive.select(Level(self.level), wanted)


def _list(value: Any) -> list[str]:
    values = value if isinstance(value, list) else str(value).split("\\")
    return [str(each) for each in values]


class RetrieveMethod:
    """Retrieves the objects of one job; remembers which peers have no C-GET.

    Raises:
        InvalidRequestError: the job's method, destination and peers exclude each other.
    """

    def __init__(self, job: Job, control: Control, archive: Archive, settings: Settings) -> None:
        own_title = settings.server.ae_title
        self._control = control
        self._archive = archive
        self._settings = settings
        self._method: str = job.parameters.get("method", "auto")
        self._model: str = job.parameters.get("model", "study")
        self._destination: str = job.parameters.get("destination") or own_title
        self.is_ours = self._destination == own_title
        if not self.is_ours and self._method == "get":
            raise InvalidRequestError("parameters.destination", 'a C-GET comes here; choose "move"')
        self._without_get: set[JobPeer] = set()

    def fetch(self, unit: Unit, expected: int) -> tuple[str, RetrieveResult]:
        """Retrieve one unit by a method that the peer has.

        Args:
            expected: how many objects will come after this unit, as far as known.
        Returns:
            "get", "move", "get and move" or "wado-rs", and the result.
        Raises:
            PeerError: no object came.
        """
        client = client_of(unit.peer, self._settings)
        if not client.has_move:
            if not self.is_ours:
                raise InvalidRequestError("parameters.destination", ONLY_HERE)
            return client.get_name, self._all_of(unit, expected)
        if self._method != "auto":
            return self._method, self._by(self._method, unit, expected)
        if not self.is_ours or unit.peer in self._without_get:
            return "move", self._by("move", unit, expected)
        try:
            return self._get_and_move(unit, expected)
        except UnsupportedError:
            self._without_get.add(unit.peer)
            return "move", self._by("move", unit, expected)

    def _all_of(self, unit: Unit, expected: int) -> RetrieveResult:
        """Retrieve from a DICOMweb server, which does not say how many objects it sends."""
        failed_before = self._control.progress.failed
        result = self._by("get", unit, expected)
        missing = unit.size - result.completed - result.warning - result.failed
        if missing <= 0 or result.is_cancelled:
            return result
        comment = result.comment or f"the server says that it has {unit.size}, and sent fewer"
        failed = result.failed + missing
        self._control.progress.failed = failed_before + failed
        return replace(result, failed=failed, comment=comment)

    def _get_and_move(self, unit: Unit, expected: int) -> tuple[str, RetrieveResult]:
        """Retrieve by C-GET; then by C-MOVE the objects that failed."""
        progress = self._control.progress
        before = progress.failed
        result = self._by("get", unit, expected)
        if not result.failed or result.is_cancelled:
            return "get", result
        nothing_came = not (result.completed or result.warning)
        try:
            moved = RetrieveResult(0)
            for part in [unit] if nothing_came else self._missing(unit, result.failed_uids):
                progress.failed = before + moved.failed
                moved = _sum(moved, self._by("move", part, expected))
        except PeerError:  # perhaps the peer cannot reach us: the result of the C-GET stands
            progress.failed = before + result.failed
            return "get", result
        if nothing_came:
            if moved.completed:
                self._without_get.add(unit.peer)
            return "move", moved
        missing = max(0, result.failed - moved.completed - moved.warning)
        progress.failed = before + missing
        return "get and move", replace(
            moved,
            completed=result.completed + moved.completed,
            warning=result.warning + moved.warning,
            failed=missing,
            failed_uids=moved.failed_uids if missing else (),
        )

    def _missing(self, unit: Unit, failed_uids: Sequence[str]) -> Iterator[Unit]:
        """The objects that a C-GET failed to bring, by series; without those that we refused."""
        refused = {problem["what"] for problem in self._control.progress.problems}
        wanted = [uid for uid in failed_uids if uid not in refused]
        above = {
            key: unit.keys[key] for key in ("PatientID", "StudyInstanceUID") if key in unit.keys
        }
        if not wanted or "StudyInstanceUID" not in above:
            return
        are_wanted = frozenset(wanted)
        for uid in self._find({**above, "SeriesInstanceUID": ""}, "SERIES", unit.peer):
            series = {**above, "SeriesInstanceUID": uid}
            keys = {**series, "SOPInstanceUID": wanted}
            there = [each for each in self._find(keys, "IMAGE", unit.peer) if each in are_wanted]
            if there:
                keys = {**series, "SOPInstanceUID": there}
                yield Unit(unit.peer, "IMAGE", keys, unit.study_uid, size=len(there))

    def _find(self, keys: Mapping[str, Any], level: str, peer: JobPeer) -> list[str]:
        """The values of the level's unique key that the peer has."""
        matches = client_of(peer, self._settings).find(
            identifier(keys, level),
            self._model,
            cancel=self._control.stop,
            max_bytes=MAX_UNTOLD_BYTES,
        )
        found = [str(match.get(_UNIQUE_KEYS[Level(level)]) or "") for match in matches]
        self._control.check()
        return found

    def _by(self, method: str, unit: Unit, expected: int) -> RetrieveResult:
        """Retrieve a unit by "get" or "move", and count its objects."""
        follow = self._follower(unit, expected)
        result = self._by_get(unit, follow) if method == "get" else self._by_move(unit, follow)
        follow(RetrieveProgress(0, result.completed, result.failed, result.warning))
        return result

    def _follower(self, unit: Unit, expected: int) -> Callable[[RetrieveProgress], None]:
        """What puts the counters of a retrieve into the progress of the job."""
        control, progress = self._control, self._control.progress
        done, failed = progress.done, progress.failed

        def follow(counters: RetrieveProgress) -> None:
            progress.done = done + counters.completed + counters.warning
            progress.failed = failed + counters.failed
            sent = counters.completed + counters.failed + counters.warning
            remaining = counters.remaining
            if remaining is None and unit.size:
                remaining = max(0, unit.size - sent)
            if remaining is not None:
                progress.left = expected + remaining
            control.report()

        return follow

    def _by_get(self, unit: Unit, follow: Callable[[RetrieveProgress], None]) -> RetrieveResult:
        asked = identifier(unit.keys, unit.level)
        client = client_of(unit.peer, self._settings)
        patients = audit_events.Patients(self._archive)
        self._trail = audit_events.ReceivedObjects(audited(unit.peer), patients)
        try:
            return client.get(
                asked,
                on_object=self._store,
                model=self._model,
                sop_classes=unit.sop_classes or self._classes_of(client, unit),
                progress=follow,
                cancel=self._control.stop,
                spool_dir=self._archive.incoming_dir,
                on_refused=self._control.problem,
                max_object_bytes=self._settings.storage.max_object_mb * MEGABYTE,
                shortage=lambda: self._archive.space.shortage,
            )
        finally:
            self._trail.write()

    def _by_move(self, unit: Unit, follow: Callable[[RetrieveProgress], None]) -> RetrieveResult:
        result = client_of(unit.peer, self._settings).move(
            identifier(unit.keys, unit.level),
            self._destination,
            model=self._model,
            progress=follow,
            cancel=self._control.stop,
        )
        if not (self.is_ours and result.completed):
            return result
        here = unit.here(self._archive)  # the objects came to our own SCP
        self._control.progress.bytes += sum(each.size for each in here)
        return _of_what_came(result, len(here), unit) if unit.level == "STUDY" else result

    def _classes_of(self, client: Client, unit: Unit) -> list[str]:
        try:
            return client.sop_classes_of(unit.keys, self._model, self._control.stop)
        except PeerError:
            self._control.check()
            return []  # if something is wrong, the C-GET will say so

    def _store(self, received: Received) -> int | Dataset:
        """Store an object of a C-GET; gives the status for the peer."""
        try:
            require_stored_class(self._settings, received.sop_class_uid)
            stored = self._archive.store(received)
        except OperationError as error:
            self._control.problem(received.sop_instance_uid, error.reason)
            return refusal(error)
        self._control.progress.bytes += stored.size
        self._trail.stored(stored, received.sop_class_uid)
        metrics.RECEIVED_INSTANCES.of("C-GET").add()
        metrics.RECEIVED_BYTES.of("C-GET").add(stored.size)
        self._control.report()
        return SUCCESS


def _of_what_came(result: RetrieveResult, came: int, unit: Unit) -> RetrieveResult:
    """Correct the peer's count of objects sent to our own SCP by those that arrived."""
    said = result.completed + result.warning
    if came >= said or "PatientID" in unit.keys:  # objects may spell the Patient ID differently
        return result
    comment = f"the peer reports {said} objects sent, {came} arrived"
    failed = result.failed + said - came
    return replace(result, completed=came, warning=0, failed=failed, comment=comment)


def _sum(first: RetrieveResult, second: RetrieveResult) -> RetrieveResult:
    return replace(
        second,
        completed=first.completed + second.completed,
        warning=first.warning + second.warning,
        failed=first.failed + second.failed,
        failed_uids=(*first.failed_uids, *second.failed_uids),
    )
