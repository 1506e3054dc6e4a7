"""Writes values of text as DICOM JSON without a document in between, for what is read often.

What it writes is what `json_writer` would.
Source: PS3.18 section F.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from json.encoder import encode_basestring
from typing import Final

from lfscp.dicom.models.json_writer import value_of_text
from lfscp.dicom.values.attributes import SINGLE_VALUE_VRS

quoted: Final[Callable[[str], str]] = encode_basestring
_NUMBERS: Final = frozenset({"DS", "IS"})
_NAMED_GROUPS: Final = ('"Alphabetic":', '"Ideographic":', '"Phonetic":')


def head_of(tag: int, vr: str) -> str:
    """The begin of an attribute, up to its VR."""
    return f'"{tag:08X}":{{"vr":"{vr}"'


@cache
def values_writer(vr: str) -> Callable[[str], str]:
    """What writes a text that is not empty as values joined by commas.

    Args:
        vr: of the attribute; of a number that is kept as text, IS.
    """
    if vr in SINGLE_VALUE_VRS:
        return quoted
    one = _name if vr == "PN" else _number_of(vr) if vr in _NUMBERS else quoted

    def values(text: str) -> str:
        if "\\" not in text:
            return one(text)
        return ",".join([one(each) if each else "null" for each in text.split("\\")])

    return values


def _name(text: str) -> str:
    groups = zip(_NAMED_GROUPS, text.split("=", 2), strict=False)
    written = [name + quoted(group) for name, group in groups if group]
    return "{" + ",".join(written) + "}" if written else "null"


def _number_of(vr: str) -> Callable[[str], str]:
    def number(text: str) -> str:
        if text.isdecimal() and text.isascii() and len(text) < 10 and text[0] != "0":
            return text
        return json.dumps(value_of_text(vr, text), ensure_ascii=False)

    return number
