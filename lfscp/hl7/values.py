"""Turns fields of HL7 into values of DICOM: texts, codes, identifiers, measures.

Each function takes a part of a message and gives the text of a value, or the items of a sequence;
an empty one stands for nothing. It raises ValueError, with what was expected, for a value that
cannot be one. Texts that people read are cut to what DICOM allows; identifiers never are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.hl7.message import Part

Value = str | list[Tree] | bytes
Convert = Callable[[Part], Value]

MAX_CHARACTERS: Final = {
    "SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "UT": 65536, "PN": 64, "CS": 16, "AE": 16
}  # fmt: skip
_LINES: Final = frozenset({"ST", "LT", "UT"})  # may have lines, and a backslash that is one
_UID: Final = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+", re.ASCII)
_SEXES: Final = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O"}  # HL7 table 0001; U: unknown
# HL7 priorities; RAD TF-2 appendix B.
_PRIORITIES: Final = {
    "S": "STAT", "A": "HIGH", "P": "HIGH", "C": "HIGH", "R": "ROUTINE", "T": "MEDIUM"
}  # fmt: skip
_KILOGRAMS: Final = {"": 1.0, "kg": 1.0, "g": 0.001, "lb": 0.45359237, "[lb_av]": 0.45359237}
_METRES: Final = {"": 1.0, "m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "[in_i]": 0.0254}


def tag_and_vr(keyword: str) -> tuple[int, str]:
    """The tag of an attribute and its VR."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword  # noqa: S101 - keywords stand in our own tables
    return tag, dictionary_VR(tag)


def fitted(value: str, vr: str) -> str:
    """A value as its VR has it: in one line, and not longer than it may be; so each of several."""
    longest = MAX_CHARACTERS.get(vr)
    if vr in _LINES:
        return value.replace("\n", "\r\n")[:longest].strip()
    values = (" ".join(each.split())[:longest].strip() for each in value.split("\\"))
    return "\\".join(values)


def text(part: Part) -> str:
    """What stands there, for people; several lines stay so."""
    return part.whole()


def line(part: Part) -> str:
    """What stands there, for people, as one value."""
    return part.whole().replace("\\", "/")


def texts(part: Part) -> str:
    """Several, each a value."""
    return "\\".join(each.text().replace("\\", "/") for each in part.repetitions())


def identifier(longest: int) -> Convert:
    """An identifier of at most so many characters."""

    def convert(part: Part) -> str:
        found = part.text()
        if "\n" in found or "\\" in found:
            raise ValueError("is no identifier that DICOM can hold")
        if len(found) > longest:
            raise ValueError(f"is longer than {longest} characters")
        return found

    return convert


def uid(part: Part) -> str:
    """A UID."""
    found = part.text()
    if found and (len(found) > 64 or not _UID.fullmatch(found)):
        raise ValueError("is not a UID")
    return found


def sex(part: Part) -> str:
    """M, F or O; nothing for what is unknown."""
    return _SEXES.get(part.text().upper(), "")


def priority(part: Part) -> str:
    """STAT, HIGH, MEDIUM or ROUTINE."""
    return _PRIORITIES.get(part.text().upper()[:1], "")


def location(part: Part) -> str:
    """A location of a patient: point of care, room, bed, facility."""
    first = next(iter(part.repetitions()), part)
    return " ".join(filter(None, (first.component(number).text() for number in range(1, 5))))


def pregnancy(part: Part) -> bytes:
    """3, definitely pregnant, when one of the ambulatory statuses is B6."""
    return b"\3\0" if any(each.text() == "B6" for each in part.repetitions()) else b""


def code(first: int) -> Convert:
    """A code of CE or CWE: code, meaning, scheme from a component on."""

    def convert(part: Part) -> list[Tree]:
        return [each for each in (_code(one, first) for one in part.repetitions()) if each]

    return convert


def meaning(component: int) -> Convert:
    """The text of a code, or the code when it has none."""

    def convert(part: Part) -> str:
        found = next(iter(part.repetitions()), part)
        said = found.component(component).whole() or found.component(component - 1).text()
        return said.replace("\\", "/")

    return convert


def _code(part: Part, first: int) -> Tree:
    value = part.component(first).text()
    if not value:
        return Tree()
    scheme = part.component(first + 2).text() or "L"
    said = part.component(first + 1).whole() or value
    kind = "CodeValue" if len(value) <= MAX_CHARACTERS["SH"] else "LongCodeValue"
    return tree(
        {kind: value, "CodingSchemeDesignator": scheme, "CodeMeaning": said.replace("\\", "/")}
    )


def issuer_qualifiers(part: Part) -> list[Tree]:
    """The universal ID of an assigning authority (HD)."""
    entity, kind = part.subcomponent(2).text(), part.subcomponent(3).text()
    if not (entity and kind):
        return []
    return [tree({"UniversalEntityID": entity, "UniversalEntityIDType": kind})]


def tree(texts: dict[str, str]) -> Tree:
    """Attributes by keyword, those that are not empty."""
    made = Tree()
    for keyword, each in texts.items():
        tag, vr = tag_and_vr(keyword)
        if each:
            made[tag] = Element(vr.encode(), fitted(each, vr))
    return made


def kilograms(value: str, unit: str) -> str:
    """A weight."""
    return _measured(value, unit, _KILOGRAMS)


def metres(value: str, unit: str) -> str:
    """A height."""
    return _measured(value, unit, _METRES)


def _measured(value: str, unit: str, units: dict[str, float]) -> str:
    factor = units.get(unit.lower())
    try:
        number = float(value.replace(",", ".")) * (factor or 0.0)
    except ValueError:
        return ""
    return f"{number:.6g}" if 0 < number < 1e6 else ""  # no unit that we know: say nothing


def joined_values(values: Iterable[str]) -> str:
    """Several values of one attribute."""
    return "\\".join(dict.fromkeys(each.replace("\\", "/") for each in values if each))
