"""Reads a structured report as text: its tree, line by line (PS3.3 section C.17.3).

Rules: the tree is walked without recursion, in the order of the report, and no further than a page
of lines. A value says what it is: a measurement has its unit, a code its meaning, a reference its
class and UID. Nothing is left out in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pydicom.dataelem import RawDataElement
from pydicom.uid import UID

from lfscp.dicom.errors import DatasetError
from lfscp.web.documents.attributes import (
    PLACE,
    Attributes,
    Content,
    Place,
    TooManyElementsError,
    Wanted,
    opened,
    read,
)
from lfscp.web.imaging.errors import NoPictureError

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

MAX_LINES: Final = 5000
MAX_DEPTH: Final = 64
MAX_CHARACTERS: Final = 1 << 20  # of all lines
_CODE: Final[Wanted] = {
    "CodeValue": None,
    "CodingSchemeDesignator": None,
    "CodeMeaning": None,
    "LongCodeValue": None,
    "URNCodeValue": None,
}
_REFERENCE: Final[Wanted] = {
    "ReferencedSOPClassUID": None,
    "ReferencedSOPInstanceUID": None,
    "ReferencedFrameNumber": None,
}
_ITEM: Final[Wanted] = {
    "ReferencedSOPSequence": _REFERENCE,
    "RelationshipType": None,
    "ValueType": None,
    "ConceptNameCodeSequence": _CODE,
    "ContinuityOfContent": None,
    "DateTime": None,
    "Date": None,
    "Time": None,
    "PersonName": None,
    "UID": None,
    "TemporalRangeType": None,
    "TextValue": None,
    "ConceptCodeSequence": _CODE,
    "MeasuredValueSequence": {"NumericValue": None, "MeasurementUnitsCodeSequence": _CODE},
    "NumericValueQualifierCodeSequence": _CODE,
    "ReferencedContentItemIdentifier": None,
    "GraphicData": None,
    "GraphicType": None,
    "ContentSequence": PLACE,
}
_ROOT: Final[Wanted] = {
    **_ITEM,
    "SOPClassUID": None,
    "CompletionFlag": None,
    "VerificationFlag": None,
    "ContentDate": None,
    "VerifyingObserverSequence": {"VerifyingObserverName": None, "VerificationDateTime": None},
}
_PLAIN: Final = {
    "TEXT": "TextValue",
    "DATETIME": "DateTime",
    "DATE": "Date",
    "TIME": "Time",
    "PNAME": "PersonName",
    "UIDREF": "UID",
    "TCOORD": "TemporalRangeType",
}
_OBJECTS: Final = ("IMAGE", "COMPOSITE", "WAVEFORM")


@dataclass(frozen=True, slots=True)
class Line:
    """One content item.

    Args:
        depth: of the tree; the report itself is 0.
        number: its place in the tree, such as 1.2.3, as references name it.
        name: meaning of its concept name.
        code: of its concept name, such as (121071, DCM).
        value: as text.
        units: of a measurement.
        value_code: of a coded value.
        reference: SOP Instance UID of the object that it refers to.
    """

    depth: int
    number: str
    relationship: str
    value_type: str
    name: str
    code: str = ""
    value: str = ""
    units: str = ""
    value_code: str = ""
    reference: str = ""


@dataclass(slots=True)
class Report:
    """A report as lines.

    Args:
        left_out: why lines are missing; empty if none is.
    """

    completion: str = ""
    verification: str = ""
    content_date: str = ""
    observers: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    left_out: str = ""


def report(path: StoredFile) -> Report:
    """Read a report.

    Raises:
        NoPictureError: it is none, or it cannot be read.
    """
    with opened(path) as content:
        root = read(content, content.whole, _ROOT)
        if not root.text("ValueType"):
            raise NoPictureError("this object holds no report")
        found = Report(
            completion=root.text("CompletionFlag"),
            verification=root.text("VerificationFlag"),
            content_date=root.text("ContentDate"),
            observers=_observers(root),
        )
        _walk(content, root, found)
    return found


def _observers(root: Attributes) -> list[str]:
    return [
        f"{each.text('VerifyingObserverName')} {each.text('VerificationDateTime')}".strip()
        for each in root.items("VerifyingObserverSequence")
    ]


@dataclass(slots=True)
class _Open:
    """A content item whose children are being read."""

    number: str
    children: Iterator[Place]
    character_set: RawDataElement | None
    count: int = 0


def _walk(content: Content, root: Attributes, found: Report) -> None:
    characters = 0
    stack: list[_Open] = []
    item, number = root, "1"
    while True:
        line = _line(item, len(stack), number)
        characters += sum(map(len, (line.name, line.value, line.code, line.value_code)))
        found.lines.append(line)
        if len(found.lines) >= MAX_LINES or characters > MAX_CHARACTERS:
            found.left_out = (
                f"The report goes on. Only its first {len(found.lines):,} lines are shown."
            )
            return
        place = item.place("ContentSequence")
        if place is not None and len(stack) < MAX_DEPTH:
            stack.append(_Open(number, content.items(place), item.character_set))
        elif place is not None:
            found.left_out = f"What is nested more than {MAX_DEPTH} deep is not shown."
        following = _next(content, stack, found)
        if following is None:
            return
        item, number = following


def _next(content: Content, stack: list[_Open], found: Report) -> tuple[Attributes, str] | None:
    """The next content item in the order of the report; None at its end, or where it is broken."""
    try:
        while stack:
            around = stack[-1]
            place = next(around.children, None)
            if place is None:
                stack.pop()
                continue
            around.count += 1
            return read(
                content, place, _ITEM, around.character_set
            ), f"{around.number}.{around.count}"
    except DatasetError as error:
        found.left_out = f"The rest cannot be read: {error.reason}."
    except TooManyElementsError as error:
        found.left_out = f"The rest is not shown: {error}."
    return None


def _line(item: Attributes, depth: int, number: str) -> Line:
    concept = item.item("ConceptNameCodeSequence")
    kind = item.text("ValueType").upper()
    value = _value(item, kind)
    measured = item.item("MeasuredValueSequence")
    coded = item.item("ConceptCodeSequence") if kind == "CODE" else Attributes()
    return Line(
        depth=depth,
        number=number,
        relationship=item.text("RelationshipType"),
        value_type=kind,
        name=_meaning(concept),
        code=_code(concept),
        value=value,
        units=_units(measured.item("MeasurementUnitsCodeSequence")) if kind == "NUM" else "",
        value_code=_code(coded),
        reference=_reference(item).text("ReferencedSOPInstanceUID") if kind in _OBJECTS else "",
    )


def _value(item: Attributes, kind: str) -> str:
    by_reference = item.text("ReferencedContentItemIdentifier")
    if by_reference and not kind:
        return "see " + by_reference.replace("\\", ".")
    if kind in _PLAIN:
        return item.text(_PLAIN[kind])
    if kind == "CODE":
        return _meaning(item.item("ConceptCodeSequence"))
    if kind == "NUM":
        return _measured(item)
    if kind in _OBJECTS:
        return _object(item)
    if kind in ("SCOORD", "SCOORD3D"):
        return _shape(item, 3 if kind == "SCOORD3D" else 2)
    return "" if kind == "CONTAINER" else item.text("TextValue")


def _measured(item: Attributes) -> str:
    """The number as it is stored; without one, the qualifier says why."""
    number = item.item("MeasuredValueSequence").text("NumericValue")
    qualifier = _meaning(item.item("NumericValueQualifierCodeSequence"))
    return number + (f" ({qualifier})" if number and qualifier else qualifier) or "no value"


def _reference(item: Attributes) -> Attributes:
    return item.item("ReferencedSOPSequence")


def _object(item: Attributes) -> str:
    found = _reference(item)
    uid = found.text("ReferencedSOPClassUID")
    name = UID(uid).name if uid else "object"
    frames = found.text("ReferencedFrameNumber").replace("\\", ", ")
    return f"{name}, frame {frames}" if frames else name


def _shape(item: Attributes, axes: int) -> str:
    kind = item.text("GraphicType").lower()
    count = len(item.numbers("GraphicData")) // axes
    return f"{kind} of {count} point{'' if count == 1 else 's'}"


def _meaning(code: Attributes) -> str:
    return code.text("CodeMeaning") or _code_value(code)


def _code_value(code: Attributes) -> str:
    return code.text("CodeValue") or code.text("LongCodeValue") or code.text("URNCodeValue")


def _code(code: Attributes) -> str:
    value, scheme = _code_value(code), code.text("CodingSchemeDesignator")
    return f"({value}, {scheme})" if value and scheme else f"({value})" if value else ""


def _units(code: Attributes) -> str:
    """The unit's symbol in UCUM, else its meaning; 1 and annotations in braces are no unit."""
    value = _code_value(code)
    if code.text("CodingSchemeDesignator") == "UCUM" and value:
        return "" if value == "1" or value.startswith("{") else value
    return _meaning(code)
