"""The patient of a message: PID, and MRG for who it was before."""

from __future__ import annotations

from typing import Final

from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.hl7 import values
from lfscp.hl7.errors import DATA_TYPE, FIELD_MISSING, MessageError, Place
from lfscp.hl7.mapping import PATIENT, Scope, fill
from lfscp.hl7.message import NULL, Part
from lfscp.hl7.values import tag_and_vr

_TYPES: Final = ("MR", "PI")  # of identifiers (HL7 table 0203), best first
_LONGEST: Final = 64


def patient(scope: Scope) -> Tree:
    """The attributes of the patient.

    Raises:
        MessageError: the ID or the name is missing, or a field cannot be what it should be.
    """
    tree = fill(identifiers(scope, "PID", (3, 2)), PATIENT, scope)
    if not tree.text(tag_and_vr("PatientName")[0]).strip("^="):
        raise MessageError("AE", FIELD_MISSING, "no patient's name", Place("PID", 1, 5))
    return tree


def changes(scope: Scope) -> Tree:
    """What a message changes of its patient: a null value ("") is an empty element.

    Fields that are empty change nothing.

    Raises:
        MessageError: as `patient`.
    """
    found = patient(scope)
    for row in PATIENT:
        tag, vr = tag_and_vr(row.keyword)
        segment, _, number = row.source.partition("-")
        if tag not in found and scope[segment][0].field(int(number)).raw == NULL:
            found[tag] = Element(vr.encode(), "")
    return found


def identifiers(scope: Scope, name: str, fields: tuple[int, ...]) -> Tree:
    """Patient ID and its issuer, from the first of these fields that has one.

    Raises:
        MessageError: none has one, or it is too long.
    """
    segment = next(iter(scope.get(name, ())), None)
    if segment is None:
        raise MessageError("AE", FIELD_MISSING, "the segment is missing", Place(name))
    for number in fields:
        parts = [each for each in segment.field(number).repetitions() if each.component(1).text()]
        if parts:
            return _identified(min(parts, key=_rank))
    place = Place(name, segment.sequence, fields[0])
    raise MessageError("AE", FIELD_MISSING, "no patient ID", place)


def _rank(part: Part) -> int:
    kind = part.component(5).text().upper()
    return _TYPES.index(kind) if kind in _TYPES else len(_TYPES)


def _identified(part: Part) -> Tree:
    authority = part.component(4)
    issuer = authority.subcomponent(1).text()
    texts = {"PatientID": part.component(1).text(), "IssuerOfPatientID": issuer}
    for each in texts.values():
        if len(each) > _LONGEST or "\\" in each or "\n" in each:
            raise MessageError("AE", DATA_TYPE, "is no ID that DICOM can hold", part.place)
    tree = values.tree(texts)
    qualifiers = values.issuer_qualifiers(authority)
    if qualifiers:
        tag, vr = tag_and_vr("IssuerOfPatientIDQualifiersSequence")
        tree[tag] = Element(vr.encode(), qualifiers)
    return tree
