"""Retrieves objects from a DICOMweb server by WADO-RS (PS3.18 section 10.4).

Rules: objects are asked for as they are stored. The server is not trusted: an object that was not
asked for is refused, as one from a C-GET is. An answer of any size takes the room of one object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from lfscp.dicomweb.errors import BodyError
from lfscp.dicomweb.media_types import DICOM
from lfscp.dicomweb.multipart_reader import MultipartReader
from lfscp.scu.connection import NEVER, Flag
from lfscp.scu.dicomweb.answer import Answer
from lfscp.scu.dicomweb.find import find
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.dicomweb.retrieved_parts import RetrievedParts
from lfscp.scu.dicomweb.search_request import PATIENT, uids_of
from lfscp.scu.dicomweb.session import Session
from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind
from lfscp.scu.find import MAX_UNTOLD_BYTES
from lfscp.scu.identifiers import identifier as identifier_of
from lfscp.scu.parts import OnProgress, RetrieveProgress, RetrieveResult
from lfscp.scu.taking import OnObject, OnRefused, Taking
from lfscp.services.status import CANCELLED, SUB_OPERATIONS_COMPLETE_WITH_FAILURES, SUCCESS

_MULTIPART: Final = "multipart/related"
_IN_PARTS: Final = f'multipart/related; type="{DICOM}"'
# The second for servers that know no `*`: they decode what is compressed.
_ACCEPTED: Final = (f"{_IN_PARTS}; transfer-syntax=*", _IN_PARTS)
_PATHS: Final = {  # of each level, with the tags of its UIDs
    "STUDY": {"studies": 0x0020000D},
    "SERIES": {"studies": 0x0020000D, "series": 0x0020000E},
    "IMAGE": {"studies": 0x0020000D, "series": 0x0020000E, "instances": 0x00080018},
}
_NOTHING: Final = frozenset({204, 404, 410})


def get(
    peer: DICOMwebPeer,
    identifier: Dataset,
    *,
    on_object: OnObject,
    model: str = "study",  # noqa: ARG001 - callers ask any kind of peer alike
    progress: OnProgress | None = None,
    cancel: Flag = NEVER,
    spool_dir: Path | None = None,
    on_refused: OnRefused = lambda _uid, _reason: None,
    max_object_bytes: int = 0,
    shortage: Callable[[], str] = str,
) -> RetrieveResult:
    """Retrieve objects as the server has stored them.

    Args:
        identifier: unique keys and Query/Retrieve Level; those of a patient are its studies.
        on_object: gets each object, which is valid during the call; gives the C-STORE's status.
        model: as for C-GET; DICOMweb has only one, so it changes nothing.
        progress: called after each object; how many remain is not known.
        cancel: once set, the retrieve ends within two seconds.
        spool_dir: where objects go as they arrive; None is the system's folder for such files.
        on_refused: called with each object that was not requested or cannot be read, and why.
        max_object_bytes: largest object that is accepted; 0 is no limit.
        shortage: why a large object may not grow on the disk now; empty while it may.
    Raises:
        GivenUpError: it was cancelled before there was an answer.
        PeerError: the server cannot be reached, refuses, or breaks off; or the identifier lacks
            a UID that the server must be asked with.
    """
    asked = _of_patient(peer, identifier, cancel)
    taking = Taking(asked, on_object, on_refused)
    parts = RetrievedParts(taking, spool_dir, max_object_bytes, shortage)
    retrieve = _Retrieve(peer, taking, parts, progress, cancel)
    with Session(peer, cancel) as session:
        try:
            for path in _paths(peer, asked):
                retrieve.take_all(session, path)
        except GivenUpError:
            if not retrieve.has_begun:
                raise
            return retrieve.result(CANCELLED)
        except PeerError as error:
            if taking.came:
                error.reason += f", after {taking.came} objects"
            raise
        finally:
            parts.close()
    return retrieve.result(SUCCESS)


def _of_patient(peer: DICOMwebPeer, identifier: Dataset, cancel: Flag) -> Dataset:
    """The identifier of a patient's studies in place of the patient's; others as they are."""
    if str(identifier.get("QueryRetrieveLevel", "")).strip().upper() != PATIENT:
        return identifier
    patient_id = str(identifier.get("PatientID", ""))
    if not patient_id or set("*?\\") & set(patient_id):
        reason = "cannot be asked for a patient without one Patient ID"
        raise PeerError(PeerErrorKind.REFUSED, peer, reason)
    keys = {"PatientID": patient_id, "StudyInstanceUID": ""}
    found = find(peer, identifier_of(keys, "STUDY"), cancel=cancel, max_bytes=MAX_UNTOLD_BYTES)
    uids = [
        str(match.StudyInstanceUID)
        for match in found
        if str(match.get("PatientID", "")).strip() == patient_id.strip()
        and match.get("StudyInstanceUID")
    ]
    asked = copy(identifier)
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", uids
    return asked


def _paths(peer: DICOMwebPeer, identifier: Dataset) -> Iterator[str]:
    """The path of each study, series or instance that is asked for."""
    level = str(identifier.get("QueryRetrieveLevel", "")).strip().upper()
    kinds = _PATHS.get(level)
    if kinds is None:
        raise PeerError(PeerErrorKind.REFUSED, peer, "cannot be asked without a level")
    paths = [""]
    for kind, tag in kinds.items():
        if identifier.get(tag) is None or not identifier[tag].value:
            if level == "STUDY" and identifier.get("PatientID"):
                return  # a patient without studies
            reason = f"cannot be asked for {kind} without their UIDs; search for them first"
            raise PeerError(PeerErrorKind.REFUSED, peer, reason)
        uids = uids_of(identifier, tag)
        if not uids:
            reason = f"cannot be asked for {kind} by something that is no UID"
            raise PeerError(PeerErrorKind.REFUSED, peer, reason)
        paths = [f"{path}/{kind}/{uid}" for path in paths for uid in uids]
    yield from paths


class _Retrieve:
    def __init__(
        self,
        peer: DICOMwebPeer,
        taking: Taking,
        parts: RetrievedParts,
        progress: OnProgress | None,
        cancel: Flag,
    ) -> None:
        self._peer = peer
        self._taking = taking
        self._parts = parts
        self._progress = progress
        self._cancel = cancel
        self._accept = 0  # which of _ACCEPTED
        self._shown = 0
        self._comment = ""
        self.has_begun = False

    def take_all(self, session: Session, path: str) -> None:
        """Take the objects of one study, series or instance."""
        if self._cancel.is_set():
            raise GivenUpError(self._peer)
        headers = {"Accept": _ACCEPTED[self._accept]}
        with session.ask("GET", path, headers) as answer:
            if answer.status != 406 or self._accept:
                self.has_begun = True
                self._take(answer)
                return
        self._accept = 1
        self.take_all(session, path)

    def _take(self, answer: Answer) -> None:
        if answer.status in _NOTHING:
            return
        answer.require("the retrieve", 200, 206)
        warnings = answer.log_warnings()
        if answer.status == 206:
            told = warnings[0] if warnings else "it left out objects (HTTP 206)"
            self._comment = self._comment or told
        content_type = answer.content_type
        if content_type.media_type not in (_MULTIPART, DICOM):
            reason = "sent no objects: its answer is no multipart/related"
            raise PeerError(PeerErrorKind.REFUSED, self._peer, reason)
        try:
            if content_type.media_type == _MULTIPART:
                boundary = content_type.parameters.get("boundary", "").encode("latin_1")
                self._read_parts(answer, MultipartReader(boundary, self._parts))
            else:
                self._read_one(answer)
        except BodyError as error:
            reason = f"sent an answer that cannot be read: {error.reason}"
            raise PeerError(PeerErrorKind.ABORTED, self._peer, reason) from None

    def _read_parts(self, answer: Answer, reader: MultipartReader) -> None:
        for block in answer.blocks():
            reader.feed(block)
            self._follow()
        reader.close()

    def _read_one(self, answer: Answer) -> None:
        self._parts.begin({})
        for block in answer.blocks():
            self._parts.data(memoryview(block))
        self._parts.end()
        self._follow()

    def _follow(self) -> None:
        """Tell the progress; end a retrieve that brings what was not asked for, or is cancelled."""
        if self._taking.is_flooded:
            reason = "keeps sending objects that were not requested, cannot be read, or came before"
            raise PeerError(PeerErrorKind.REFUSED, self._peer, reason)
        done = self._taking.came + self._taking.refused
        if self._progress is not None and done != self._shown:
            taking = self._taking
            self._progress(RetrieveProgress(None, taking.completed, taking.refused, taking.warning))
        self._shown = done
        if self._cancel.is_set():
            raise GivenUpError(self._peer)

    def result(self, status: int) -> RetrieveResult:
        """What has come."""
        taking = self._taking
        failed = taking.refused
        if self._comment:
            failed = max(1, failed)  # at least
        if failed and status == SUCCESS:
            status = SUB_OPERATIONS_COMPLETE_WITH_FAILURES
        return RetrieveResult(
            status, taking.completed, failed, taking.warning, comment=self._comment
        )
