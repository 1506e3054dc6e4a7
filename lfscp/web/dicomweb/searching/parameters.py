"""Makes a query of a search's path and parameters: the one that a C-FIND would make.

Rules: a bad value is refused. What is known and not done is said in a warning, also an attribute
that the index lacks: it is returned if it is asked for, and not matched. Other parameters do not
count.
Source: PS3.18 sections 8.3.4 and 10.6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from typing import Final

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from lfscp.archive.query.key_limits import require_within_limits
from lfscp.archive.query.object_keys import ObjectKey, is_in_objects, object_key
from lfscp.archive.query.query import (
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    InvalidKeyError,
    Model,
    Query,
    parse_query,
)
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Element, Tree, encode_tree
from lfscp.dicom.reading.identifiers import read_identifier
from lfscp.dicom.values.attributes import BY_TAG, COMPUTED, LEVELS, SPECIFIC_CHARACTER_SET, Level
from lfscp.dicom.values.charset import UTF_8
from lfscp.web.dicomweb.searching.attribute_values import (
    Path,
    element_of,
    empty_of,
    is_empty,
    name_of,
    path_of,
    put,
    vr_of,
)
from lfscp.web.dicomweb.searching.returned import (
    INSTANCE_AVAILABILITY,
    OF_FIRST_OBJECT,
    RETRIEVE_URL,
    everything,
    without_being_asked,
)
from lfscp.web.dicomweb.whole_numbers import whole_number
from lfscp.web.problems import Problem

_KNOWN: Final = BY_TAG | {each.tag: each for each in COMPUTED}
# In every match, or of the message.
_ALWAYS: Final = frozenset(
    {
        *(SPECIFIC_CHARACTER_SET, INSTANCE_AVAILABILITY, RETRIEVE_URL),
        *(QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE),
    }
)
_NOT_ATTRIBUTES: Final = frozenset(
    {"includefield", "limit", "offset", "fuzzymatching", "accept", "charset"}
    | {"emptyvaluematching", "multiplevaluematching"}
)
_MAX_NUMBER: Final = 2**31 - 1
_FLAGS: Final = {
    "fuzzymatching": "",
    "emptyvaluematching": "emptyvaluematching is not supported.",
    "multiplevaluematching": "multiplevaluematching is not supported.",
}
Parameters = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for.

    Args:
        limit: the most matches that the client wants; None for all.
        is_vain: path and parameters name different studies or series.
        warnings: what of the request is not done.
        named: keywords that the client names, to be returned even if they are empty.
        identifier: the same as the identifier of a C-FIND, for the audit trail.
    """

    query: Query
    offset: int
    limit: int | None
    is_vain: bool
    warnings: tuple[str, ...]
    named: frozenset[str]
    identifier: bytes


def read_search(
    level: Level, within: Mapping[Level, str], parameters: Parameters, max_values: int
) -> Search:
    """Read a search.

    Args:
        level: of what is searched for.
        within: the UIDs of the path.
        parameters: of the query, decoded.
        max_values: see key_limits.
    Raises:
        Problem: a value is bad (400).
    """
    return _Reading(level, within, parameters).search(max_values)


class _Reading:
    def __init__(self, level: Level, within: Mapping[Level, str], parameters: Parameters) -> None:
        self._level = level
        self._depth = LEVELS.index(level)
        self._within = within
        self._parameters = parameters
        self._warnings: list[str] = []
        self._keys = Tree()  # the identifier of a C-FIND
        self._of_objects = Tree()  # what is read from the first object of a study or series
        self._private: list[int] = []
        self._named: set[str] = set()
        self._is_vain = False

    def search(self, max_values: int) -> Search:
        limit = self._number("limit")
        offset = self._number("offset") or 0
        self._flags()
        self._conditions()
        self._returned()
        identifier = self._identifier(self._keys)
        try:
            query = self._query(identifier, max_values)
        except InvalidKeyError as error:
            name = name_of((error.tag,))
            raise _bad(name, error.comment.removeprefix(f"{name}: ")) from None
        except DatasetError as error:
            raise Problem(HTTPStatus.BAD_REQUEST, error.reason) from None
        warnings = [f"{name} is not matched." for name in query.unsupported_keys]
        return Search(
            query,
            offset,
            limit,
            self._is_vain,
            (*self._warnings, *warnings),
            frozenset(self._named),
            identifier,
        )

    def _given(self, name: str) -> list[str]:
        return [value for key, value in self._parameters if key.lower() == name]

    def _number(self, name: str) -> int | None:
        given = self._given(name)
        if not given:
            return None
        text = given[-1]
        number = whole_number(text, _MAX_NUMBER)
        if number is None:
            raise _bad(name, "expected a whole number from 0 on")
        return number

    def _flags(self) -> None:
        for name, warning in _FLAGS.items():
            for text in self._given(name):
                if text.lower() not in ("true", "false"):
                    raise _bad(name, "expected true or false")
                if text.lower() == "true" and warning:
                    self._warnings.append(warning)

    # Conditions

    def _conditions(self) -> None:
        put(self._keys, (QUERY_RETRIEVE_LEVEL,), Element(b"CS", self._level.value))
        for path, values in self._attributes().items():
            text = "\\".join(values)
            if path[0] in _ALWAYS:
                continue
            if is_empty(vr_of(path[-1]), text):
                self._include_path(path)
                continue
            try:
                put(self._keys, path, element_of(path[-1], text))
            except ValueError as error:
                raise _bad(name_of(path), str(error)) from None
        for level, uid in self._within.items():
            self._require(level, uid)

    def _attributes(self) -> dict[Path, list[str]]:
        """The values of each attribute; one that is given twice has both."""
        found: dict[Path, list[str]] = {}
        for name, value in self._parameters:
            if name.lower() in _NOT_ATTRIBUTES:
                continue
            path = path_of(name)
            if path is None:
                self._warnings.append(f"{name[:64]} is no attribute and does not count.")
            else:
                found.setdefault(path, []).append(value)
        return found

    def _require(self, level: Level, uid: str) -> None:
        """Search in what the path names, whatever the parameters say."""
        name = "StudyInstanceUID" if level is Level.STUDY else "SeriesInstanceUID"
        tag = tag_for_keyword(name) or 0
        asked = self._keys.text(tag)
        self._is_vain |= bool(asked) and uid not in asked.split("\\")
        self._keys[tag] = Element(b"UI", uid)

    # What is returned

    def _returned(self) -> None:
        named = max(self._within, key=LEVELS.index, default=None)
        self._include_own(_own_paths(self._level, named))
        for value in self._given("includefield"):
            for name in filter(None, map(str.strip, value.split(","))):
                if name.lower() == "all":
                    self._include_own(_all_paths(self._level))
                else:
                    self._include(name)
                    self._named.add(name_of((path_of(name) or (0,))[:1]))

    def _include_own(self, paths: Iterable[Path]) -> None:
        """Return what the index has of each match of this level."""
        for path in paths:
            put(self._keys, path, empty_of(path[-1]))

    def _include(self, name: str) -> None:
        path = path_of(name)
        if path is None:
            self._warnings.append(f"includefield {name[:64]} is no attribute.")
        elif path[0] not in _ALWAYS:
            self._include_path(path)

    def _include_path(self, path: Path) -> None:
        tag = path[0]
        known = _KNOWN.get(tag)
        is_of_images = self._level is Level.IMAGE
        if known is not None and LEVELS.index(known.level) <= self._depth:
            put(self._keys, path, empty_of(path[-1]))
        elif is_of_images and tag >> 16 & 1 and len(path) == 1:
            self._private += [_creator_of(tag), tag]
        elif is_of_images and is_in_objects(tag):
            put(self._keys, path, empty_of(path[-1]))
        elif keyword_for_tag(tag) in OF_FIRST_OBJECT.get(self._level, ()):
            put(self._of_objects, path, empty_of(path[-1]))
        else:
            where = "series and instances" if self._level is Level.STUDY else "instances"
            hint = f"; ask for it with {where}" if not is_of_images else ""
            self._warnings.append(f"{name_of(path)} is not returned here{hint}.")

    # The query

    def _identifier(self, tree: Tree) -> bytes:
        try:
            return encode_tree(tree, EXPLICIT_VR_LITTLE_ENDIAN, UTF_8)
        except DatasetError as error:
            raise Problem(HTTPStatus.BAD_REQUEST, error.reason) from None

    def _query(self, encoded: bytes, max_values: int) -> Query:
        identifier = read_identifier(encoded, EXPLICIT_VR_LITTLE_ENDIAN)
        require_within_limits(identifier, max_values)
        is_fuzzy = any(text.lower() == "true" for text in self._given("fuzzymatching"))
        query = parse_query(identifier, Model.STUDY_ROOT, relational=True, fuzzy_names=is_fuzzy)
        added = [ObjectKey(tag) for tag in dict.fromkeys(self._private)]
        if self._of_objects:
            own = read_identifier(self._identifier(self._of_objects), EXPLICIT_VR_LITTLE_ENDIAN)
            added = [object_key(own, tag) for tag in sorted(self._of_objects)]
        return replace(query, object_keys=(*query.object_keys, *added)) if added else query


@cache
def _own_paths(level: Level, named: Level | None) -> tuple[Path, ...]:
    return _paths_of(without_being_asked(level, named))


@cache
def _all_paths(level: Level) -> tuple[Path, ...]:
    return _paths_of(everything(level))


def _paths_of(names: Iterable[str]) -> tuple[Path, ...]:
    paths = (path_of(name) for name in names)
    return tuple(path for path in paths if path is not None and path[0] not in _ALWAYS)


def _creator_of(tag: int) -> int:
    """The element that says whose a private attribute is (PS3.5 section 7.8.1)."""
    return tag & 0xFFFF0000 | (tag >> 8 & 0xFF)


def _bad(name: str, reason: str) -> Problem:
    errors = [{"parameter": name, "detail": reason}]
    return Problem(HTTPStatus.BAD_REQUEST, f"{name}: {reason}", errors=errors)
