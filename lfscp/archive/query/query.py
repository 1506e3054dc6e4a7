"""Checks the identifier of a C-FIND, C-MOVE or C-GET, and reads what it asks for.

Rules: hierarchical queries need the unique key of every level above (PS3.4 C.4.1.3.1.1);
relational ones, when negotiated, do not. Keys of the query level and of all levels above are
matched and returned, as administrators expect; keys of lower levels and unknown ones are
named in `unsupported_keys` and otherwise left alone. At IMAGE level, keys that the index lacks
are `object_keys` instead: returned from each match's object. No SQL, no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, NamedTuple

from pydicom.datadict import keyword_for_tag

from lfscp.archive.query.key_values import match_of
from lfscp.archive.query.keys import UNIVERSAL, Items, Match, has_wildcard
from lfscp.archive.query.object_keys import ObjectKey, is_in_objects, is_unsupported, object_key
from lfscp.dicom.errors import named
from lfscp.dicom.reading import identifiers
from lfscp.dicom.reading.identifiers import Identifier
from lfscp.dicom.values.attributes import (
    BY_TAG,
    COMPUTED,
    LEVELS,
    SPECIFIC_CHARACTER_SET,
    UNIQUE_KEY,
    Attribute,
    Level,
)

QUERY_RETRIEVE_LEVEL: Final = 0x00080052
RETRIEVE_AE_TITLE: Final = 0x00080054
INSTANCE_AVAILABILITY: Final = 0x00080056
_NO_KEYS: Final = frozenset(
    {SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY}
)
_KNOWN: Final = BY_TAG | {attribute.tag: attribute for attribute in COMPUTED}
_MAX_UID_LENGTH: Final = 64


class Model(Enum):
    """A query/retrieve information model (PS3.4 section C.6) and its levels, outermost first."""

    PATIENT_ROOT = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
    STUDY_ROOT = (Level.STUDY, Level.SERIES, Level.IMAGE)
    PATIENT_STUDY_ONLY = (Level.PATIENT, Level.STUDY)  # retired

    @property
    def levels(self) -> tuple[Level, ...]:
        """The model's levels, outermost first."""
        levels: tuple[Level, ...] = self.value
        return levels


class InvalidKeyError(ValueError):
    """The identifier does not fit the SOP class (0xA900).

    Args:
        tag: the offending element.
        comment: what is wrong and what was expected; at most 64 characters go into a response.
    """

    def __init__(self, tag: int, comment: str) -> None:
        super().__init__(comment)
        self.tag = tag
        self.comment = comment


@dataclass(frozen=True, slots=True)
class Key:
    """One supported key: what to match, and for a sequence which keys of its items to return.

    Args:
        is_whole: a sequence's items are asked for as they are, whatever they hold.
    """

    attribute: Attribute
    match: Match
    items: tuple[str, ...] = ()
    is_whole: bool = False


class _Unknown(NamedTuple):
    """A key of an item that the index does not keep."""

    name: str
    is_unsupported: bool  # also where the object is read


@dataclass(frozen=True, slots=True)
class Query:
    """A checked query.

    Attributes:
        keys: the supported keys in the order of their tags, unique keys included.
        unsupported_keys: keywords (or `(gggg,eeee)`) of keys not matched, though a value was
            given, or not returned; when there are any, matches are answered with 0xFF01 instead
            of 0xFF00.
        object_keys: what is returned from each match's object, at IMAGE level only; a sequence
            that the index keeps in part may be in `keys` as well.
        character_set: the request's Specific Character Set, several values with backslash.
        combined_date_time: a date and its time together bound one span of time.
        wants_availability: Instance Availability was asked for.
    """

    level: Level
    keys: tuple[Key, ...]
    unsupported_keys: tuple[str, ...] = ()
    object_keys: tuple[ObjectKey, ...] = ()
    character_set: str = ""
    combined_date_time: bool = False
    wants_availability: bool = False


def parse_query(
    identifier: Identifier,
    model: Model,
    *,
    relational: bool = False,
    combined_date_time: bool = False,
    fuzzy_names: bool = False,
) -> Query:
    """Read the identifier of a C-FIND request.

    Args:
        identifier: as received (its elements need not be valid for their VRs) or built.
        relational: relational queries were negotiated for this association.
        combined_date_time: combined date-time matching was negotiated.
        fuzzy_names: names outside sequences match without regard to accents too.
    Raises:
        InvalidKeyError: the level or a needed unique key is missing or wrong, or a key is
            malformed.
        DatasetError: a sequence key, received as bytes, is broken inside.
    Source: PS3.4 sections C.2.2.2, C.4.1.1.3, C.4.1.2, C.6.
    """
    level = _level(identifier, model)
    if not relational:
        for above in model.levels[: model.levels.index(level)]:
            _single_unique_key(identifier, above)
    charset = identifiers.character_set(identifier)
    keys: list[Key] = []
    unsupported: list[str] = []
    of_objects: list[ObjectKey] = []
    depth = LEVELS.index(level)
    for tag in identifiers.tags(identifier):
        if tag in _NO_KEYS:
            continue
        attribute = _KNOWN.get(tag)
        if attribute is None or LEVELS.index(attribute.level) > depth:
            if level is Level.IMAGE and is_in_objects(tag):
                of_objects.append(object_key(identifier, tag))
                if not is_unsupported(identifier, tag):
                    continue
            unsupported.append(_keyword(tag))
            continue
        key, inside = _key(identifier, attribute, charset, fuzzy=fuzzy_names)
        keys.append(key)
        if inside or key.is_whole:
            if level is Level.IMAGE:
                of_objects.append(replace(object_key(identifier, tag), match=key.match))
                inside = [each for each in inside if each.is_unsupported]
            unsupported += [each.name for each in inside]
    return Query(
        level=level,
        keys=tuple(keys),
        unsupported_keys=tuple(unsupported),
        object_keys=tuple(of_objects),
        character_set=charset,
        combined_date_time=combined_date_time,
        wants_availability=INSTANCE_AVAILABILITY in identifier,
    )


def unique_keys(
    identifier: Identifier, model: Model, *, relational: bool = False
) -> tuple[Level, dict[Level, list[str]]]:
    """Read the identifier of a C-MOVE or C-GET request; other keys than unique ones do not count.

    Args:
        relational: relational retrieval was negotiated: keys of higher levels may be left out.
    Returns:
        The level, and the values of each level's unique key down to it: one value above the
        level, one or more UIDs (one Patient ID) at it. A level left out is not in the mapping.
    Raises:
        InvalidKeyError: the level is missing or wrong; a unique key is missing, empty or a pattern.
            An empty key never means everything.
    Source: PS3.4 sections C.4.2.1.4, C.4.2.2.1, C.4.3.1.3.
    """
    level = _level(identifier, model)
    found: dict[Level, list[str]] = {}
    for above in model.levels[: model.levels.index(level)]:
        if relational and not _unique_text(identifier, above):
            continue
        found[above] = [_single_unique_key(identifier, above)]
    if level is Level.PATIENT:
        found[level] = [_single_unique_key(identifier, level)]
    else:
        found[level] = _unique_uids(identifier, level)
    return level, found


def _keyword(tag: int) -> str:
    return keyword_for_tag(tag) or named(tag)


def _level(identifier: Identifier, model: Model) -> Level:
    text = identifiers.text(identifier, QUERY_RETRIEVE_LEVEL, "CS")
    if not text:
        raise InvalidKeyError(QUERY_RETRIEVE_LEVEL, "Query/Retrieve Level is missing")
    for level in model.levels:
        if level.value == text:
            return level
    expected = ", ".join(level.value for level in model.levels)
    raise InvalidKeyError(QUERY_RETRIEVE_LEVEL, f"Query/Retrieve Level is none of {expected}")


def _unique_text(identifier: Identifier, level: Level) -> str:
    attribute = UNIQUE_KEY[level]
    charset = identifiers.character_set(identifier)
    return identifiers.text(identifier, attribute.tag, attribute.vr, charset)


def _single_unique_key(identifier: Identifier, level: Level) -> str:
    attribute = UNIQUE_KEY[level]
    text = _unique_text(identifier, level)
    if not text.strip("\\"):
        raise InvalidKeyError(attribute.tag, f"{attribute.keyword} is missing or empty")
    if "\\" in text or has_wildcard(text):
        raise InvalidKeyError(attribute.tag, f"{attribute.keyword} must be a single value")
    return text


def _unique_uids(identifier: Identifier, level: Level) -> list[str]:
    attribute = UNIQUE_KEY[level]
    uids = [uid for uid in _unique_text(identifier, level).split("\\") if uid]
    if not uids:
        raise InvalidKeyError(attribute.tag, f"{attribute.keyword} is missing or empty")
    for uid in uids:
        if not _is_uid(uid):
            raise InvalidKeyError(attribute.tag, f"{attribute.keyword} holds something not a UID")
    return list(dict.fromkeys(uids))


def _is_uid(text: str) -> bool:
    return len(text) <= _MAX_UID_LENGTH and re.fullmatch(r"[0-9.]+", text) is not None


def _key(
    identifier: Identifier, attribute: Attribute, charset: str, *, fuzzy: bool
) -> tuple[Key, list[_Unknown]]:
    """One key, and the unknown ones inside its item."""
    try:
        if attribute.vr == "SQ":
            return _sequence_key(identifier, attribute, charset)
        text = identifiers.text(identifier, attribute.tag, attribute.vr, charset)
        match = match_of(text, attribute.vr, several=attribute.several, fuzzy=fuzzy)
        return Key(attribute, match), []
    except InvalidKeyError:
        raise
    except ValueError as error:
        raise InvalidKeyError(attribute.tag, f"{attribute.keyword}: {error}") from error


def _sequence_key(
    identifier: Identifier, attribute: Attribute, charset: str
) -> tuple[Key, list[_Unknown]]:
    found = identifiers.items(identifier, attribute.tag)
    if len(found) > 1:
        raise ValueError("a sequence key holds one item")
    keys: list[tuple[str, Match]] = []
    unknown: list[_Unknown] = []
    for item in found:
        for tag, keyword, match in _item_keys(item, attribute, charset):
            if match is None:
                unknown.append(
                    _Unknown(f"{attribute.keyword}.{keyword}", is_unsupported(item, tag))
                )
            else:
                keys.append((keyword, match))
    if not (keys or unknown):
        return Key(attribute, UNIVERSAL, attribute.items, is_whole=True), []
    asked = tuple((keyword, match) for keyword, match in keys if match is not UNIVERSAL)
    returned = tuple(keyword for keyword, _ in keys)
    return Key(attribute, Items(asked) if asked else UNIVERSAL, returned), unknown


def _item_keys(
    item: Identifier, attribute: Attribute, charset: str
) -> Iterator[tuple[int, str, Match | None]]:
    """The item's keys in the order of their tags; None for one that the index does not keep."""
    charset = identifiers.character_set(item) or charset
    for tag in identifiers.tags(item):
        if tag == SPECIFIC_CHARACTER_SET:
            continue
        keyword = _keyword(tag)
        if keyword not in attribute.items:
            yield tag, keyword, None
            continue
        kept = attribute.item_attribute(keyword)
        text = identifiers.text(item, tag, kept.vr, charset)
        yield tag, keyword, match_of(text, kept.vr, several=kept.several)
