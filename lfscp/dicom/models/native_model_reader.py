"""Reads a dataset in XML, the Native DICOM Model, as the document that `json_reader` reads.

Rules: a document type, and with it every entity, is refused; so are elements that the model does
not have. Memory and depth are bounded. Values are checked by `json_reader`.
Source: PS3.19 section A.1.
"""

from __future__ import annotations

from typing import Any, Final
from xml.parsers import expat

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import MAX_DEPTH

_ROOT: Final = "NativeDicomModel"
_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_NAME_PARTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_IN: Final = {
    _ROOT: ("DicomAttribute",),
    "Item": ("DicomAttribute",),
    "DicomAttribute": ("Value", "Item", "PersonName", "BulkData", "InlineBinary"),
    "PersonName": _NAME_GROUPS,
    **dict.fromkeys(_NAME_GROUPS, _NAME_PARTS),
}
_MAX_LEVELS: Final = 2 * MAX_DEPTH + 8  # of XML elements
_MAX_ELEMENTS: Final = 200_000  # of XML
_MAX_GAP: Final = 32  # empty values that are left out between two
_FLOATS: Final = ("FD", "FL")
_FIRST_BLOCK: Final = 0x10


def document_of_xml(text: bytes) -> dict[str, Any]:
    """The dataset as DICOM JSON has it.

    Args:
        text: a whole document.
    Raises:
        DatasetError: it is not XML, has a document type, or is no dataset.
    """
    reading = _Reading()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler = reading.begin
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.text
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise DatasetError(f"it is not XML: {reason} in line {error.lineno}") from None
    except (ValueError, LookupError):  # an encoding that Python does not have
        raise DatasetError("it is not XML: its encoding is not known") from None
    return reading.document


def _refuse_document_type(*_: object) -> None:
    raise DatasetError("XML with a document type is not read")


class _Attribute:
    """An attribute that is being read."""

    __slots__ = ("creator", "other", "tag", "values", "vr")

    def __init__(self, tag: str, vr: str, creator: str) -> None:
        self.tag = tag
        self.vr = vr
        self.creator = creator
        self.values: list[Any] = []
        self.other: dict[str, str] = {}  # BulkDataURI or InlineBinary

    def place(self, number: str | None, value: Any) -> None:
        """Put a value in its place: `number` counts from 1."""
        at = len(self.values) + 1
        if number is not None:
            if not (number.isascii() and number.isdecimal() and len(number) < 9):
                raise DatasetError(f"{self.tag}: the number of a value is no number")
            at = int(number)
        if not 0 < at - len(self.values) <= _MAX_GAP:
            raise DatasetError(f"{self.tag}: its values are out of order")
        empty: dict[str, Any] | None = {} if self.vr == "SQ" else None
        self.values += [empty] * (at - 1 - len(self.values))
        self.values.append(value)

    @property
    def document(self) -> dict[str, Any]:
        """As DICOM JSON has it."""
        found: dict[str, Any] = {"vr": self.vr, **self.other}
        if self.values:
            found["Value"] = self.values
        return found


class _Reading:
    """Builds the document from what the parser finds."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        self._count = 0
        self._open: list[str] = []
        self._numbers: list[str | None] = []
        self._datasets: list[list[_Attribute]] = []
        self._attributes: list[_Attribute] = []
        self._name: dict[str, str] = {}
        self._parts: dict[str, str] = {}
        self._text: list[str] = []

    def begin(self, name: str, given: dict[str, str]) -> None:
        """An element begins."""
        local = name.rpartition(" ")[2]
        inside = self._open[-1] if self._open else ""
        if local not in (_IN.get(inside, ()) if inside else (_ROOT,)):
            raise DatasetError(f"<{local[:64]}> is not where the Native DICOM Model has it")
        if len(self._open) >= _MAX_LEVELS:
            raise DatasetError(f"sequences nested more than {MAX_DEPTH} deep")
        self._count += 1
        if self._count > _MAX_ELEMENTS:
            raise DatasetError(f"it has more than {_MAX_ELEMENTS} XML elements")
        self._open.append(local)
        self._numbers.append(given.get("number"))
        self._text = []
        if local in (_ROOT, "Item"):
            self._datasets.append([])
        elif local == "DicomAttribute":
            tag, vr = given.get("tag", ""), given.get("vr", "")
            self._attributes.append(_Attribute(tag, vr, given.get("privateCreator", "")))
        elif local == "PersonName":
            self._name = {}
        elif local in _NAME_GROUPS:
            self._parts = {}
        elif local == "BulkData":
            uri = given.get("uri") or given.get("uuid", "")
            self._attributes[-1].other["BulkDataURI"] = uri

    def text(self, text: str) -> None:
        """Text of an element; between elements there is only white space."""
        if self._open[-1] in ("Value", "InlineBinary", *_NAME_PARTS):
            self._text.append(text)

    def end(self, _: str) -> None:
        """An element ends."""
        local, number = self._open.pop(), self._numbers.pop()
        text = "".join(self._text)
        if local == "Value":
            attribute = self._attributes[-1]
            attribute.place(number, _value(attribute, text))
        elif local == "InlineBinary":
            self._attributes[-1].other["InlineBinary"] = "".join(text.split())
        elif local in _NAME_PARTS:
            self._parts[local] = text
        elif local in _NAME_GROUPS:
            parts = [self._parts.get(part, "") for part in _NAME_PARTS]
            self._name[local] = "^".join(parts).rstrip("^")
        elif local == "PersonName":
            self._attributes[-1].place(number, self._name or None)
        elif local == "DicomAttribute":
            self._datasets[-1].append(self._attributes.pop())
        elif local == "Item":
            self._attributes[-1].place(number, _dataset(self._datasets.pop()))
        elif local == _ROOT:
            self.document = _dataset(self._datasets.pop())


def _value(attribute: _Attribute, text: str) -> Any:
    if not text:
        return None
    if attribute.vr not in _FLOATS:
        return text
    try:
        return float(text)
    except ValueError:
        raise DatasetError(f"{attribute.tag}: a value is no number") from None


def _dataset(attributes: list[_Attribute]) -> dict[str, Any]:
    """The document of a dataset or item: private elements get the block of their creator."""
    blocks = {
        (each.tag[:4], each.values[0]): each.tag[6:]
        for each in attributes
        if each.tag[4:6] == "00" and each.tag[6:] >= "10" and each.values and _is_private(each.tag)
    }
    found: dict[str, Any] = {}
    for each in attributes:
        tag = each.tag
        if each.creator and _is_private(tag) and tag[4:6].lower() in ("00", "xx"):
            tag = _in_block(tag, each.creator, blocks, found)
        if tag in found:
            raise DatasetError(f"{tag[:8]}: the attribute is there twice")
        found[tag] = each.document
    return found


def _is_private(tag: str) -> bool:
    return len(tag) == 8 and tag[3] in "13579bdfBDF"


def _in_block(
    tag: str, creator: str, blocks: dict[tuple[str, Any], str], found: dict[str, Any]
) -> str:
    group = tag[:4]
    block = blocks.get((group, creator))
    if block is None:
        taken = [int(number, 16) for (other, _), number in blocks.items() if other == group]
        block = f"{max(taken, default=_FIRST_BLOCK - 1) + 1:02X}"
        blocks[group, creator] = block
        found[f"{group}00{block}"] = {"vr": "LO", "Value": [creator]}
    return f"{group}{block}{tag[6:]}"
