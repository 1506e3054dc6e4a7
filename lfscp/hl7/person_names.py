"""Turns the names of HL7 into person names of DICOM: of patients, and of those who treat them."""

from __future__ import annotations

import re
from typing import Final

from lfscp.hl7.message import Part
from lfscp.hl7.values import MAX_CHARACTERS

_DELIMITERS: Final = re.compile(r"[\\^=]")


def patient_name(part: Part) -> str:
    """A name of XPN: the legal one; with ideographic and phonetic forms where they are given."""
    names = part.repetitions()
    groups = {"A": "", "I": "", "P": ""}
    for each in sorted(names, key=lambda name: name.component(7).text() != "L"):
        form = each.component(8).text().upper() or "A"
        if form in groups and not groups[form]:
            groups[form] = _name(each, 1)
    return "=".join(groups.values()).rstrip("=")


def person(part: Part) -> str:
    """The name of XCN, of the first person."""
    return next((_name(each, 2) for each in part.repetitions()), "")


def people(part: Part) -> str:
    """The names of several."""
    return "\\".join(filter(None, (_name(each, 2) for each in part.repetitions())))


def technician(part: Part) -> str:
    """The name in NDL, whose first component has the person in subcomponents."""
    first = next(iter(part.repetitions()), part)
    person = first.component(1)
    pieces = [person.subcomponent(number).text() for number in range(2, 8)]
    return _joined(*pieces) if any(pieces) else ""


def _name(part: Part, first: int) -> str:
    """Family, given, middle, suffix, prefix, degree from a component on."""
    return _joined(*(part.component(number).text() for number in range(first, first + 6)))


def _joined(family: str, given: str, middle: str, suffix: str, prefix: str, degree: str) -> str:
    """As DICOM orders them: the prefix comes before the suffix, degrees belong to that."""
    suffixes = " ".join(filter(None, (suffix, degree)))
    pieces = [_DELIMITERS.sub(" ", each) for each in (family, given, middle, prefix, suffixes)]
    return "^".join(" ".join(each.split()) for each in pieces).rstrip("^")[: MAX_CHARACTERS["PN"]]
