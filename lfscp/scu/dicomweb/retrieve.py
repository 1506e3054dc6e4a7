"""Retrieves objects from a DICOMweb server by WADO-RS (PS3.18 section 10.4)."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset

from lfscp.scu.connection import NEVER, Flag
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.parts import OnProgress, RetrieveResult
from lfscp.scu.taking import OnObject, OnRefused


def get(
    peer: DICOMwebPeer,
    identifier: Dataset,
    *,
    on_object: OnObject,
    model: str = "study",
    progress: OnProgress | None = None,
    cancel: Flag = NEVER,
    spool_dir: Path | None = None,
    on_refused: OnRefused = lambda _uid, _reason: None,
    max_object_bytes: int = 0,
) -> RetrieveResult:
    """Retrieve objects as the server has stored them.

    Args:
        identifier: unique keys and Query/Retrieve Level.
        on_object: gets each object, which is valid during the call; gives the C-STORE's status.
        model: as for C-GET; DICOMweb has only one, so it changes nothing.
        progress: called after each object; how many remain is not known.
        cancel: once set, the retrieve ends within two seconds.
        spool_dir: where objects go as they arrive; None is the system's folder for such files.
        on_refused: called with each object that was not requested or cannot be read, and why.
        max_object_bytes: largest object that is accepted; 0 is no limit.
    Raises:
        GivenUpError: it was cancelled before there was an answer.
        PeerError: the server cannot be reached, refuses, or breaks off.
        ValueError: the identifier has no study or patient.
    """
    raise NotImplementedError
