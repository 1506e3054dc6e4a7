"""Queries a peer level by level from the top, as PS3.4 section C.4.1.3.1.1 asks of an SCU.

A query for series has to name one study, and one for studies in the Patient Root model one patient.
If its keys do not, the studies or patients that fit are asked for first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from lfscp.dicom.values.attributes import ATTRIBUTES, COMPUTED, Level
from lfscp.errors import OperationError
from lfscp.jobs.peers.asked_for import is_single
from lfscp.scu.identifiers import identifier

MAX_ABOVE: Final = 500  # matches of a level above the one that is asked for
_LEVELS: Final[Mapping[str, tuple[Level, ...]]] = {
    "study": (Level.STUDY, Level.SERIES, Level.IMAGE),
    "patient": (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE),
    "patient-study": (Level.PATIENT, Level.STUDY),
}
_UNIQUE: Final = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}
_LEVEL: Final = tag_for_keyword("QueryRetrieveLevel")
_OF_LEVEL: Final = {
    level: {each.keyword for each in (*ATTRIBUTES, *COMPUTED) if each.level is level}
    for level in Level
}
Find = Callable[[Dataset], Iterator[Dataset]]


def find_by_levels(
    find: Find, keys: Mapping[str, Any], level: str, model: str
) -> Iterator[Dataset]:
    """The matches at a level, each with what the levels above tell of it.

    Args:
        find: gives the peer's matches of one identifier.
        keys: of all levels.
    Raises:
        OperationError: more than MAX_ABOVE studies or patients fit.
    """
    levels = _LEVELS[model]
    yield from _below(find, keys, levels[: levels.index(Level(level)) + 1], {}, Dataset())


def _below(
    find: Find,
    keys: Mapping[str, Any],
    levels: Sequence[Level],
    above: Mapping[str, str],
    told: Dataset,
) -> Iterator[Dataset]:
    here, *lower = levels
    unique = _UNIQUE[here]
    if lower and is_single(keys.get(unique)):
        yield from _below(find, keys, lower, {**above, unique: str(keys[unique])}, told)
        return
    matches = find(identifier({unique: "", **_keys_of(keys, levels, above), **above}, here.value))
    if not lower:
        yield from (_merged(match, told) for match in matches)
        return
    for match in _few(matches, here):
        value = str(match.get(unique) or "")
        if value:
            known = {**above, unique: value}
            yield from _below(find, keys, lower, known, _merged(match, told))


def _few(matches: Iterator[Dataset], level: Level) -> list[Dataset]:
    """The matches above, read to their end before the peer is asked again."""
    found: list[Dataset] = []
    for match in matches:
        if len(found) == MAX_ABOVE:
            what = {Level.PATIENT: "patients", Level.STUDY: "studies"}.get(level, "series")
            reason = f"more than {MAX_ABOVE} {what} fit"
            raise OperationError("search level by level", reason, "give more keys")
        found.append(match)
    return found


def _keys_of(
    keys: Mapping[str, Any], levels: Sequence[Level], above: Mapping[str, str]
) -> dict[str, Any]:
    """The keys of the first level; of the highest one also those of the patient."""
    lower = {name for level in levels[1:] for name in _OF_LEVEL[level]}
    higher = _higher(levels[0]) if above or levels[0] is not Level.STUDY else set()
    return {name: value for name, value in keys.items() if name not in lower | higher}


def _higher(level: Level) -> set[str]:
    order = list(Level)
    return {name for one in order[: order.index(level)] for name in _OF_LEVEL[one]}


def _merged(match: Dataset, told: Dataset) -> Dataset:
    """A match with the elements that only the levels above have told."""
    for element in told:
        if element.tag not in match and element.tag != _LEVEL:
            match.add(element)
    return match
