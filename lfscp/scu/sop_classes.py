"""Which SOP classes a retrieve will bring, asked of the peer beforehand.

A C-GET can bring only objects of the SOP classes that it proposes, at most 128 with all their
transfer syntaxes; so what is proposed has to be what is there, private SOP classes included. Most
peers tell with the study (SOP Classes in Study); of others each object is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydicom.dataset import Dataset

from lfscp.scu.connection import Flag
from lfscp.scu.find import find
from lfscp.scu.identifiers import identifier
from lfscp.scu.peer import Peer

_MOST_SERIES: Final = 500  # that are asked one by one


def sop_classes_of(
    peer: Peer, keys: Mapping[str, Any], model: str, cancel: Flag | None = None
) -> list[str]:
    """The SOP classes of what a retrieve asks for, as far as the peer tells.

    Args:
        keys: of the retrieve. Without a patient's or study's nothing is asked.
        model: "study", "patient" or "patient-study".
    Raises:
        GivenUp: it was cancelled.
        PeerError: the peer cannot be reached, or refuses to be queried.
    """
    if not (keys.get("StudyInstanceUID") or keys.get("PatientID")):
        return []
    asking = _Asking(peer, keys, model, cancel)
    return list(dict.fromkeys(asking.classes()))


class _Asking:
    def __init__(
        self, peer: Peer, keys: Mapping[str, Any], model: str, cancel: Flag | None
    ) -> None:
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
        for study in self._find({**named, "SOPClassesInStudy": ""}, "STUDY"):
            told = _values(study.get("SOPClassesInStudy"))
            uid = str(study.get("StudyInstanceUID") or named["StudyInstanceUID"])
            yield from told or self._of_objects({**named, "StudyInstanceUID": uid})

    def _of_objects(self, study: Mapping[str, Any]) -> Iterator[str]:
        if self._model == "patient-study":
            return  # it has no levels below
        wanted = {**study, "SeriesInstanceUID": self._keys.get("SeriesInstanceUID") or ""}
        for series in self._find(wanted, "SERIES"):
            self._series += 1
            uid = str(series.get("SeriesInstanceUID") or "")
            if not uid or self._series > _MOST_SERIES:
                continue
            instance = self._keys.get("SOPInstanceUID") or ""
            of_one = {"SeriesInstanceUID": uid, "SOPInstanceUID": instance, "SOPClassUID": ""}
            for match in self._find({**study, **of_one}, "IMAGE"):
                yield from _values(match.get("SOPClassUID"))

    def _find(self, keys: Mapping[str, Any], level: str) -> list[Dataset]:
        asked = identifier(keys, level)
        return list(find(self._peer, asked, self._model, cancel=self._cancel))


def _values(value: Any) -> list[str]:
    if not value:
        return []
    return [str(value)] if isinstance(value, str) else [str(each) for each in value]
