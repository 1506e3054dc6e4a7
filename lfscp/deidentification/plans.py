"""Prepares what is done with an element of one tag and one VR, so that it is decided only once.

Rules: the VR of the dictionary counts. A value under another one stays only if it is valid for that
of the dictionary; numbers and pixels of another width are taken as what they say they are.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from lfscp.deidentification.actions import TIMEZONE, Action, Profile
from lfscp.deidentification.table import vm_of, vr_of
from lfscp.deidentification.values import PATTERNS
from lfscp.deidentification.values import TIMEZONE as TIMEZONE_PATTERN
from lfscp.dicom.encoding.value_representations import MAX_SHORT_LENGTH, SHORT_FORM, WIDTH
from lfscp.dicom.values.attributes import TEXT_VRS
from lfscp.dicom.values.charset import codecs_of

SPECIFIC_CHARACTER_SET: Final = 0x00080005
_NUMBERS: Final = frozenset(b"AT FD FL SL SS SV UL US UV".split())
_WIDTH: Final = {vr: 4 if vr == b"AT" else WIDTH[vr] for vr in _NUMBERS}  # a tag is two words
_BULK: Final = frozenset(b"OB OD OF OL OV OW".split())
_TEXT: Final = frozenset(vr.encode() for vr in TEXT_VRS)
_CAUGHT: Final = frozenset({b"AE", b"DA", b"DT", b"PN", b"TM", b"UI", b"UR"})
_MULTIPLE: Final = frozenset(b"AS CS DA DS DT IS TM UI".split())


class Plan(NamedTuple):
    """What is done with an element.

    Args:
        vr: to write.
        pattern: that the bytes of a value match which stays; None if any do.
        width: of a number, in bytes; 0 if it is no number.
        most: bytes of a value that stays; 0 if there is no limit.
        copies: whether head and value are copied if the value stays.
    """

    action: Action
    vr: bytes
    pattern: re.Pattern[bytes] | None
    width: int
    most: int
    copies: bool


def plan_of(profile: Profile, tag: int, declared: bytes) -> Plan:
    """The plan for an element.

    Args:
        declared: the VR that the element has; empty in implicit VR.
    """
    choices = [vr.encode() for vr in vr_of(tag).split(" or ")]
    action = profile.action(tag)
    written = _vr(choices, declared)
    if written is None:
        written = choices[0]
        if action is not Action.REMOVE:
            action = Action.EMPTY if written == b"SQ" else Action.DUMMY
    if action in (Action.KEEP, Action.UID) and declared == b"SQ" and written != b"SQ":
        action = Action.DUMMY
    if action is Action.KEEP and declared in _CAUGHT and declared not in choices:
        action = Action.DUMMY
    width = _WIDTH.get(written, 0)
    return Plan(
        action,
        written,
        TIMEZONE_PATTERN if tag == TIMEZONE else PATTERNS.get(written),
        width or (WIDTH.get(written, 1) if written in _BULK else 0),
        vm_of(tag) * width,
        declared in (b"", written),
    )


def _vr(choices: list[bytes], declared: bytes) -> bytes | None:
    """The VR to write; None if the declared one and the dictionary's have nothing in common."""
    if not declared or declared in choices:
        return declared or choices[-1]
    vr = choices[0]
    if declared == b"UN" or declared not in _TEXT | _NUMBERS | _BULK | {b"SQ"}:
        return choices[-1]
    for kind in (_TEXT, _NUMBERS, _BULK):
        if vr in kind and declared in kind:
            return vr if kind is _TEXT else declared
    return vr if vr in _TEXT and declared in _BULK else None


def fits(vr: bytes, length: int) -> bool:
    """Whether a value of this length can be written with a VR in explicit VR."""
    return vr not in SHORT_FORM or length <= MAX_SHORT_LENGTH


def is_multiple(vr: bytes) -> bool:
    """Whether single values of an invalid one can be replaced."""
    return vr in _MULTIPLE


def character_set(value: bytes) -> bytes:
    """A Specific Character Set of which only known terms stay."""
    from pydicom.charset import python_encoding

    terms = [part.strip(b" \0") for part in value.split(b"\\")]
    known = [term for term in terms if term.decode("latin_1") in python_encoding]
    if len(known) == len(terms):
        return value
    # Misspelled terms are read as what they mean; the right spelling is written.
    codec = codecs_of(value.decode("latin_1"))[0]
    spelled = {"utf8": b"ISO_IR 192", "utf_8": b"ISO_IR 192", "UTF8": b"ISO_IR 192"}
    return spelled.get(codec, b"ISO_IR 100")
