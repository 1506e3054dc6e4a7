"""Makes the URL of a search of the identifier of a query (PS3.18 section 10.6.1).

Rules: a study or series that has one UID stands in the path. Every other key that has a value is a
query parameter, and every key is asked for by `includefield`. Inside sequences, keys are paths with
dots. The patient level is one of C-FIND alone: its keys are asked of the studies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from lfscp.dicom.reading.header import is_uid

PATIENT: Final = "PATIENT"
_LEVELS: Final = (PATIENT, "STUDY", "SERIES", "IMAGE")
_COMMAND_KEYS: Final = frozenset({0x00080005, 0x00080052, 0x00080053})  # they are about the query
_STUDY_UID, _SERIES_UID, _INSTANCE_UID = 0x0020000D, 0x0020000E, 0x00080018
_UNIQUE: Final = {"STUDY": _STUDY_UID, "SERIES": _SERIES_UID, "IMAGE": _INSTANCE_UID}
_SAFE: Final = "*,^-:"


class SearchRequest:
    """One search.

    Attributes:
        level: PATIENT, STUDY, SERIES or IMAGE.
        path: below the URL of the server.
        named: the UIDs in the path, by their tags; matches need not repeat them.
        wanted: tags of the keys, whose values a match is asked for.
        is_unique: whether at most one object can match.
    Raises:
        ValueError: the identifier has no level.
    """

    def __init__(self, identifier: Dataset) -> None:
        self.level = str(identifier.get("QueryRetrieveLevel", "")).strip().upper()
        if self.level not in _LEVELS:
            raise ValueError(f"QueryRetrieveLevel: expected one of {', '.join(_LEVELS)}")
        self.named: dict[int, str] = {}
        self.path = self._path(identifier)
        self.wanted = frozenset(int(element.tag) for element in _keys(identifier))
        key = _UNIQUE.get(self.level, 0)
        self.is_unique = bool(key) and bool(_only_uid(identifier, key))
        self._parameters = list(self._matched(identifier))
        self._parameters += [("includefield", f"{tag:08X}") for tag in sorted(self.wanted)]

    def target(self, limit: int, offset: int) -> str:
        """Path and query of one page."""
        pages = [("limit", str(limit)), ("offset", str(offset))]
        parameters = [*self._parameters, *(pages if offset else pages[:1])]
        return f"{self.path}?{urlencode(parameters, safe=_SAFE, quote_via=quote)}"

    def _path(self, identifier: Dataset) -> str:
        if self.level in (PATIENT, "STUDY"):
            return "/studies"
        path = self._named("/studies", identifier, _STUDY_UID)
        if self.level == "SERIES":
            return f"{path}/series"
        if path:
            path += self._named("/series", identifier, _SERIES_UID)
        return f"{path}/instances"

    def _named(self, kind: str, identifier: Dataset, tag: int) -> str:
        uid = _only_uid(identifier, tag)
        if not uid:
            return ""
        self.named[tag] = uid
        return f"{kind}/{uid}"

    def _matched(self, dataset: Dataset, within: str = "") -> Iterator[tuple[str, str]]:
        for element in _keys(dataset):
            if not within and element.tag in self.named:
                continue
            name = f"{within}{keyword_for_tag(element.tag) or f'{int(element.tag):08X}'}"
            if element.VR == "SQ":
                for item in element.value or ():
                    yield from self._matched(item, f"{name}.")
            elif text := _text(element):
                yield name, text


def uids_of(identifier: Dataset, tag: int) -> list[str]:
    """The UIDs of a key; none if it has a wildcard or something else that is no UID."""
    value = identifier.get(tag)
    values = _values(value.value) if value is not None else []
    return values if all(map(is_uid, values)) else []


def _only_uid(identifier: Dataset, tag: int) -> str:
    uids = uids_of(identifier, tag)
    return uids[0] if len(uids) == 1 else ""


def _keys(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        if int(element.tag) not in _COMMAND_KEYS and element.tag.element:
            yield element


def _text(element: DataElement) -> str:
    """The value of a key; the values of a list of UIDs are joined by commas, as servers expect."""
    joint = "," if element.VR == "UI" else "\\"
    return joint.join(_values(element.value))


def _values(value: Any) -> list[str]:
    if value is None or isinstance(value, bytes):
        return []
    # pydicom's lists are sequences; a person's name is iterable, and is one value.
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    values = list(value) if is_list else [value]
    texts = (part.strip(" \0") for each in values for part in str(each).split("\\"))
    return [text for text in texts if text]
