"""Reads the text of one key as the condition that it is, by its VR (PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from lfscp.archive.query.keys import (
    UNIVERSAL,
    WILDCARD_VRS,
    Match,
    Names,
    Numbers,
    Texts,
    has_wildcard,
)
from lfscp.dicom.values.attributes import SINGLE_VALUE_VRS
from lfscp.dicom.values.temporal import date_span, date_time_span, time_span

_MAX_ASTERISKS: Final = 32  # of one value; those next to each other are one
_MAX_JOINED: Final = 1_024  # characters of several values that may be one text of an object
_MAX_GROUPS: Final = 3  # PS3.5 section 6.2.1
_MAX_COMPONENTS: Final = 16  # the standard has 5; names made of HL7's have more
_ASTERISKS: Final = re.compile(r"\*+")


def match_of(text: str, vr: str, *, several: bool, fuzzy: bool = False) -> Match:
    """Read a key.

    Args:
        text: its value, several values with backslash.
        vr: of the attribute, by the data dictionary.
        several: the attribute may hold several values.
        fuzzy: names match without regard to accents too.
    Raises:
        ValueError: it is no value of its VR, and no pattern or range of them.
    """
    if not text.strip("*" if vr in SINGLE_VALUE_VRS else "*\\"):
        return UNIVERSAL
    match = _READERS.get(vr, _exact_texts)(text, vr, several)
    if fuzzy and isinstance(match, Names):
        return Names.of(text, several=several, fuzzy=True)
    return match


def _values(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in text.split("\\") if value))


def _exact_texts(text: str, _: str, several: bool) -> Match:
    return Texts(_values(text), several=several)


def _wildcard_texts(text: str, vr: str, several: bool) -> Match:
    values = (text,) if vr in SINGLE_VALUE_VRS else _values(text)
    _require_few_asterisks(values)
    if any(not value.strip("*") for value in values):
        return UNIVERSAL
    if len(values) > 1 and not several and len(text) <= _MAX_JOINED:
        values = (*values, text)  # what holds two values where one is allowed is kept as one text
    return Texts(values, wildcards=has_wildcard(text), several=several)


def _names(text: str, _: str, several: bool) -> Match:
    """A name of empty components ("^^^^", "*^*") asks for nothing, as clients mean it."""
    _require_few_asterisks(text.split("\\"))
    names = Names.of(text, several=several)
    for name in names.names:
        if len(name.groups) > _MAX_GROUPS:
            raise ValueError(
                f"{len(name.groups)} component groups, at most {_MAX_GROUPS} are allowed"
            )
        if max(group.count("^") for group in name.groups) >= _MAX_COMPONENTS:
            raise ValueError(f"more than {_MAX_COMPONENTS} components")
    if all(name.pattern.strip("*^=") for name in names.names) and names.names:
        return names
    return UNIVERSAL


def _require_few_asterisks(values: Sequence[str]) -> None:
    for value in values:
        if value.count("*") > _MAX_ASTERISKS and len(_ASTERISKS.findall(value)) > _MAX_ASTERISKS:
            raise ValueError(f"more than {_MAX_ASTERISKS} asterisks in a value")


def _uids(text: str, vr: str, several: bool) -> Match:
    if has_wildcard(text):
        raise ValueError("a UID takes no wildcards")
    return _exact_texts(text, vr, several)


_READERS: Final[dict[str, Callable[[str, str, bool], Match]]] = {
    **dict.fromkeys(WILDCARD_VRS, _wildcard_texts),
    "PN": _names,
    "UI": _uids,
    "DA": lambda text, *_: date_span(text),
    "TM": lambda text, *_: time_span(text),
    "DT": lambda text, *_: date_time_span(text),
    **dict.fromkeys(("IS", "US"), lambda text, *_: Numbers.of(text, whole=True)),
    "DS": lambda text, *_: Numbers.of(text, whole=False),
}
