"""Asks a peer which SOP classes a retrieve will bring.

A C-GET brings only objects of the SOP classes that it proposes, at most 128 with all their transfer
syntaxes. So it must propose those that the peer has, private ones included. Most peers tell them
with the study (SOP Classes in Study); the others are asked for each object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from lfscp.dicom.reading.header import is_uid
from lfscp.scu.connection import NEVER, Flag
from lfscp.scu.find import MAX_UNTOLD_BYTES, find
from lfscp.scu.identifiers import identifier
from lfscp.scu.peer import Peer

_MAX_SERIES: Final = 500  # that are asked one by one
_MAX_CLASSES: Final = 1000  # the standard has fewer than 200


def sop_classes_of(
    peer: Peer, keys: Mapping[str, Any], model: str, cancel: Flag = NEVER
) -> list[str]:
    """The SOP classes of the objects of a retrieve, as far as the peer tells.

    Args:
        keys: of the retrieve. Without one of a patient or study the peer is not asked.
        model: "study", "patient" or "patient-study".
    Raises:
        GivenUpError: it was cancelled.
        PeerError: the peer cannot be reached, or refuses to be queried.
    """
    if not (keys.get("StudyInstanceUID") or keys.get("PatientID")):
        return []
    asking = _Asking(peer, keys, model, cancel)
    found: dict[str, None] = {}
    for uid in asking.classes():
        if is_uid(uid):
            found[uid] = None
        if len(found) == _MAX_CLASSES:
            break
    return list(found)


class _Asking:
    def __init__(self, peer: Peer, keys: Mapping[str, Any], model: str, cancel: Flag) -> None:
        self._peer = peer
        self._keys = keys
        self._model = model
        self._cancel = cancel
        self._series = 0

    def classes(self) -> Iterator[str]:
        """The SOP classes, some of them several times."""
        named = {"StudyInstanceUID": self._keys.get("StudyInstanceUID") or ""}
        if self._keys.get("PatientID") or self._model != "study":
            named["PatientID"] = self._keys.get("PatientID") or ""
        asked = {**named, "SOPClassesInStudy": ""}
        for uids, told in self._find(asked, "STUDY", "StudyInstanceUID", "SOPClassesInStudy"):
            uid = uids[0] if uids else named["StudyInstanceUID"]
            yield from told or self._of_objects({**named, "StudyInstanceUID": uid})

    def _of_objects(self, study: Mapping[str, Any]) -> Iterator[str]:
        if self._model == "patient-study":
            return  # it has no levels below
        wanted = {**study, "SeriesInstanceUID": self._keys.get("SeriesInstanceUID") or ""}
        for (uids,) in self._find(wanted, "SERIES", "SeriesInstanceUID"):
            self._series += 1
            if not uids or self._series > _MAX_SERIES:
                continue
            instance = self._keys.get("SOPInstanceUID") or ""
            of_one = {"SeriesInstanceUID": uids[0], "SOPInstanceUID": instance, "SOPClassUID": ""}
            for (classes,) in self._find({**study, **of_one}, "IMAGE", "SOPClassUID"):
                yield from classes

    def _find(self, keys: Mapping[str, Any], level: str, *wanted: str) -> list[list[list[str]]]:
        """The values of the wanted keys in each match."""
        matches = find(
            self._peer,
            identifier(keys, level),
            self._model,
            cancel=self._cancel,
            max_bytes=MAX_UNTOLD_BYTES,
        )
        return [[_values(match.get(each)) for each in wanted] for match in matches]


def _values(value: Any) -> list[str]:
    if not value:
        return []
    values = [value] if isinstance(value, str) else list(value)[:_MAX_CLASSES]
    return [str(each) for each in values if isinstance(each, str)]
