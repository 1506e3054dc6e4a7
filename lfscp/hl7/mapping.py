"""The table of where each attribute of a worklist item comes from in an HL7 message.

The document config/hl7.md has the same table, made by `markdown`. Of several fields the first that
has a value is taken. Source: IHE RAD TF-2 appendix B, table B-1; PS3.4 table K.6-1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.hl7 import person_names, times, values
from lfscp.hl7.errors import DATA_TYPE, MessageError
from lfscp.hl7.message import Part, Segment
from lfscp.hl7.values import Convert, Value, fitted, tag_and_vr

Scope = Mapping[str, list[Segment]]  # the segments that are about one thing, by name

_PATH: Final = re.compile(r"([A-Z]\w\w)-(\d+)(?:\.(\d+))?")
_WEIGHT: Final = frozenset({"3141-9", "29463-7", "3142-7", "WEIGHT", "BODY WEIGHT"})
_HEIGHT: Final = frozenset({"8302-2", "3137-7", "3138-5", "HEIGHT", "BODY HEIGHT"})


@dataclass(frozen=True, slots=True)
class Row:
    """An attribute and the fields that it may come from.

    Args:
        fields: as "PID-3" or "PID-3.4" (a component), in order of preference.
        convert: makes the value.
        note: more for the document.
    """

    keyword: str
    fields: tuple[str, ...]
    convert: Convert
    note: str = ""

    def value(self, scope: Scope) -> Value:
        """The value; an empty one for nothing.

        Raises:
            MessageError: what stands there cannot be one.
        """
        for path in self.fields:
            for part in parts_at(scope, path):
                try:
                    found = self.convert(part)
                except ValueError as error:
                    raise MessageError("AE", DATA_TYPE, str(error), part.place) from error
                if found:
                    return found
        return ""

    @property
    def source(self) -> str:
        """Where it comes from, for the document."""
        return ", ".join(self.fields)


@dataclass(frozen=True, slots=True)
class Gathered:
    """An attribute that is gathered from several segments.

    Args:
        source: where it comes from, for the document.
        gather: makes the value.
    """

    keyword: str
    source: str
    gather: Callable[[Scope], str]
    note: str = ""

    def value(self, scope: Scope) -> Value:
        """The value; an empty one for nothing."""
        return self.gather(scope)


def parts_at(scope: Scope, path: str) -> list[Part]:
    """What a path names in each of the segments, where it is not empty.

    Of a field with repetitions a component is that of the first.
    """
    found = _PATH.fullmatch(path)
    assert found is not None, path  # noqa: S101 - paths stand in our own tables
    name, field, component = found[1], int(found[2]), int(found[3] or 0)
    parts = []
    for segment in scope.get(name, ()):
        part = segment.field(field)
        if component:
            first = next(iter(part.repetitions()), part)
            part = first.component(component)
        if part:
            parts.append(part)
    return parts


def first_text(scope: Scope, *paths: str) -> str:
    """The text of the first of these fields that has any."""
    return next((part.text() for path in paths for part in parts_at(scope, path) if part), "")


def fill(tree: Tree, rows: Iterable[Row | Gathered], scope: Scope) -> Tree:
    """Put what rows find into a tree.

    Raises:
        MessageError: a field has what cannot be its value.
    """
    for row in rows:
        value = row.value(scope)
        tag, vr = tag_and_vr(row.keyword)
        if isinstance(value, str):
            value = fitted(value, vr)
        if value:
            tree[tag] = Element(vr.encode(), value)
    return tree


def _allergies(scope: Scope) -> str:
    fields = (segment.field(3) for segment in scope.get("AL1", ()))
    found = (each.component(2).whole() or each.component(1).whole() for each in fields)
    return values.joined_values(found)


def _observed(names: frozenset[str], convert: Callable[[str, str], str]) -> Callable[[Scope], str]:
    def gather(scope: Scope) -> str:
        for segment in scope.get("OBX", ()):
            what = segment.field(3)
            if {what.component(1).text().upper(), what.component(2).text().upper()} & names:
                found = convert(segment.field(5).text(), segment.field(6).text())
                if found:
                    return found
        return ""

    return gather


def _comments(scope: Scope) -> str:
    return "\n".join(filter(None, (each.field(3).whole() for each in scope.get("NTE", ()))))


SCHEDULED: Final = ("TQ1-7", "OBR-27.4", "ORC-7.4", "OBR-36", "OBR-6")  # the date and time
_SHORT: Final = values.identifier(16)
_LONG: Final = values.identifier(64)

PATIENT: Final[tuple[Row | Gathered, ...]] = (
    Row(
        "PatientName",
        ("PID-5",),
        person_names.patient_name,
        "the legal one (XPN.7 is L), else the first; suffix and degree (XPN.4, 6) are its suffix; "
        "ideographic and phonetic forms by XPN.8",
    ),
    Row("PatientBirthDate", ("PID-7",), times.date, "empty when it is not known to the day"),
    Row("PatientSex", ("PID-8",), values.sex, "M, F, O; A and N become O, others empty"),
    Row("PatientMotherBirthName", ("PID-6",), person_names.patient_name),
)
VISIT: Final[tuple[Row | Gathered, ...]] = (
    Row("AdmissionID", ("PV1-19", "PID-18"), _LONG),
    Row(
        "CurrentPatientLocation",
        ("PV1-3",),
        values.location,
        "point of care, room, bed, facility with spaces between",
    ),
    Row("ReferringPhysicianName", ("PV1-8",), person_names.person, "the first"),
    Row("PregnancyStatus", ("PV1-15",), values.pregnancy, "3 for B6"),
    Row("PatientState", ("OBR-12",), values.meaning(2), "the text of the code, else the code"),
    Row("MedicalAlerts", ("OBR-13",), values.line),
    Gathered("Allergies", "AL1-3", _allergies, "the text of each code, else the code"),
    Gathered(
        "PatientWeight",
        "OBX-5, OBX-6",
        _observed(_WEIGHT, values.kilograms),
        "where OBX-3 is LOINC 3141-9, 29463-7, 3142-7, or WEIGHT; kg, g or lb",
    ),
    Gathered(
        "PatientSize",
        "OBX-5, OBX-6",
        _observed(_HEIGHT, values.metres),
        "where OBX-3 is LOINC 8302-2, 3137-7, 3138-5, or HEIGHT; m, cm, mm or in",
    ),
)
ORDER: Final[tuple[Row | Gathered, ...]] = (
    Row("PlacerOrderNumberImagingServiceRequest", ("ORC-2", "OBR-2"), _LONG),
    Row("FillerOrderNumberImagingServiceRequest", ("ORC-3", "OBR-3"), _LONG),
    Row("RequestingPhysician", ("ORC-12", "OBR-16"), person_names.person, "the first"),
    Row("RequestingService", ("ORC-17",), values.meaning(2)),
    Row("OrderEnteredBy", ("ORC-10",), person_names.person, "the first"),
    Row("OrderEntererLocation", ("ORC-13",), values.location),
    Row("IssueDateOfImagingServiceRequest", ("ORC-9",), times.local_date),
    Row("IssueTimeOfImagingServiceRequest", ("ORC-9",), times.stamped_time),
)
PROCEDURE: Final[tuple[Row | Gathered, ...]] = (
    Row(
        "AccessionNumber",
        ("IPC-1", "OBR-18"),
        _SHORT,
        "else the filler order number, if it has at most 16 characters",
    ),
    Row(
        "StudyInstanceUID",
        ("IPC-3", "ZDS-1"),
        values.uid,
        "else one that is made from the order numbers, always the same",
    ),
    Row("RequestedProcedureID", ("IPC-2", "OBR-19"), _SHORT, "else made from the order numbers"),
    Row("RequestedProcedureDescription", ("OBR-44.2", "OBR-4.2", "OBR-4.1"), values.line),
    Row(
        "RequestedProcedureCodeSequence",
        ("OBR-44", "OBR-4"),
        values.code(1),
        "components 1 to 3; the scheme L when there is none",
    ),
    Row("ReasonForTheRequestedProcedure", ("OBR-31",), values.meaning(2)),
    Row(
        "RequestedProcedurePriority",
        ("TQ1-9", "OBR-27.6", "ORC-7.6", "OBR-5"),
        values.priority,
        "S: STAT; A, P, C: HIGH; T: MEDIUM; R: ROUTINE",
    ),
    Row("PatientTransportArrangements", ("OBR-30",), values.line),
    Row("NamesOfIntendedRecipientsOfResults", ("OBR-28",), person_names.people, "all of them"),
    Gathered("RequestedProcedureComments", "NTE-3", _comments, "of the notes to the order"),
)
STEP: Final[tuple[Row | Gathered, ...]] = (
    Row(
        "ScheduledProcedureStepID", ("IPC-4", "OBR-20"), _SHORT, "else made from the order numbers"
    ),
    Row(
        "ScheduledProcedureStepStartDate",
        SCHEDULED,
        times.local_date,
        "on this node's clock when it has an offset",
    ),
    Row(
        "ScheduledProcedureStepStartTime",
        SCHEDULED,
        times.local_time,
        "midnight when there is none",
    ),
    Row(
        "ScheduledPerformingPhysicianName",
        ("OBR-34",),
        person_names.technician,
        "the person in the first component",
    ),
    Row(
        "ScheduledProcedureStepDescription",
        ("IPC-6.2", "OBR-4.5", "OBR-44.2", "OBR-4.2", "OBR-4.1"),
        values.line,
    ),
    Row("ScheduledStationName", ("IPC-7",), values.line),
    Row("ScheduledProcedureStepLocation", ("IPC-8",), values.meaning(2)),
)
# An IPC segment has the protocol where a CE has its first three components, OBR-4 in the next ones.
PROTOCOL: Final = (
    Row("ScheduledProtocolCodeSequence", ("IPC-6",), values.code(1)),
    Row("ScheduledProtocolCodeSequence", ("OBR-4",), values.code(4), "components 4 to 6"),
)
# What the code does by itself; see `patients`, `orders` and `stations`.
_OWN: Final = (
    (
        "PatientID",
        "PID-3, else PID-2",
        "of the repetition whose type (CX.5) is MR, else PI, else the first",
    ),
    ("IssuerOfPatientID", "PID-3.4", "the name of its assigning authority"),
    ("IssuerOfPatientIDQualifiersSequence", "PID-3.4", "its universal ID and type"),
    (
        "Modality",
        "IPC-5, OBR-24",
        "a term of DICOM; others by `worklist.hl7_modalities`, then by a small table",
    ),
    ("ScheduledStationAETitle", "IPC-9", "else by `worklist.hl7_stations`, from the modality"),
    ("ScheduledProcedureStepStatus", "", "SCHEDULED; a step that a device has begun keeps its own"),
)


def markdown() -> str:
    """The table of the document."""
    lines = ["| attribute | tag | from | how |", "|---|---|---|---|"]
    rows: list[tuple[str, str, str]] = list(_OWN)
    for part in (PATIENT, VISIT, ORDER, PROCEDURE, STEP, PROTOCOL):
        rows += [(row.keyword, row.source, row.note) for row in part]
    for keyword, source, note in sorted(rows, key=lambda row: tag_and_vr(row[0])[0]):
        tag = tag_and_vr(keyword)[0]
        lines.append(f"| {keyword} | ({tag >> 16:04X},{tag & 0xFFFF:04X}) | {source} | {note} |")
    return "\n".join(lines)
