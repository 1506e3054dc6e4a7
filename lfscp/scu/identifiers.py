"""Identifiers of queries and retrieves: from plain values, and back to them."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode

from lfscp.dicom.elements import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM,
    UNDEFINED_LENGTH,
    element_head,
)
from lfscp.dicom.errors import DatasetError

_ROOT: Final = "1.2.840.10008.5.1.4.1.2"
FIND_MODELS: Final[Mapping[str, str]] = {
    "patient": f"{_ROOT}.1.1",
    "study": f"{_ROOT}.2.1",
    "patient-study": f"{_ROOT}.3.1",  # retired
}
MOVE_MODELS: Final[Mapping[str, str]] = {
    "patient": f"{_ROOT}.1.2",
    "study": f"{_ROOT}.2.2",
    "patient-study": f"{_ROOT}.3.2",
}
GET_MODELS: Final[Mapping[str, str]] = {
    "patient": f"{_ROOT}.1.3",
    "study": f"{_ROOT}.2.3",
    "patient-study": f"{_ROOT}.3.3",
}
_UTF_8: Final = "ISO_IR 192"
MAX_ELEMENTS: Final = 10_000  # of a response; each takes a hundred times its bytes in memory
# Smallest and largest value by VR (PS3.5 table 6.2-1).
_INTEGERS: Final[Mapping[str, tuple[int, int]]] = {
    "US": (0, 2**16 - 1),
    "SS": (-(2**15), 2**15 - 1),
    "UL": (0, 2**32 - 1),
    "SL": (-(2**31), 2**31 - 1),
    "UV": (0, 2**64 - 1),
    "SV": (-(2**63), 2**63 - 1),
}
_MAX: Final[Mapping[str, float]] = {"FL": 3.4028235e38, "FD": 1.7976931348623157e308}
_WITHOUT_TEXT: Final = frozenset({"AT", "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"})


def identifier(keys: Mapping[str, Any], level: str) -> Dataset:
    """An identifier from keywords and values; values that are no ASCII make it UTF-8.

    Args:
        keys: texts, numbers, lists of them, and None or "" for what is only to be returned.
        level: PATIENT, STUDY, SERIES or IMAGE.
    Raises:
        ValueError: an unknown keyword, or a value that cannot be one of its element.
    """
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword!r} is no keyword of the DICOM dictionary")
        vr = dictionary_VR(tag).partition(" or ")[0]  # "US or SS": both are encoded alike
        try:
            # Unchecked: wildcards and ranges are no valid values of their elements.
            element = DataElement(tag, vr, _value(value, vr), validation_mode=0)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{keyword}: {error}") from None
        made.add(element)
    texts = (text for value in keys.values() for text in _texts(value))
    if "SpecificCharacterSet" not in made and not all(text.isascii() for text in texts):
        made.SpecificCharacterSet = _UTF_8
    return made


def _value(value: Any, vr: str) -> Any:
    if value is None or value == "":
        return [] if vr == "SQ" else None
    if vr in _WITHOUT_TEXT:
        raise ValueError(f"a key of VR {vr} can only be asked for, not matched")
    given = value if isinstance(value, list) else [value]
    if vr in _INTEGERS or vr in _MAX:
        given = [_number(each, vr) for each in given]
    else:
        given = [str(each) for each in given]
    return given if len(given) > 1 else given[0]


def _number(value: Any, vr: str) -> int | float:
    """A number that an element of this VR can hold.

    Raises:
        ValueError: it is none.
    """
    try:
        number = float(value) if vr in _MAX else int(value)
    except ValueError:
        raise ValueError(f"{value!r} is no value of VR {vr}") from None
    if vr in _MAX:
        if not abs(number) <= _MAX[vr]:  # NaN is none either
            raise ValueError(f"{value!r} is no value of VR {vr}")
        return number
    smallest, largest = _INTEGERS[vr]
    if isinstance(value, float) or not smallest <= number <= largest:
        raise ValueError(f"{value!r} is no value of VR {vr}")
    return number


def _texts(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]


def decoded(encoded: bytes, transfer_syntax_uid: str) -> Dataset:
    """A response's identifier.

    Raises:
        ValueError: it cannot be decoded.
    """
    syntax = UID(transfer_syntax_uid)
    try:
        return decode(
            BytesIO(encoded), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated
        )
    except Exception as error:  # pydicom raises what it likes on bytes it cannot read
        raise ValueError(f"an identifier that cannot be decoded: {error}") from error


def require_few_elements(encoded: bytes, transfer_syntax_uid: str) -> None:
    """See whether a match may be decoded: elements and values take much memory then.

    Raises:
        ValueError: it has more than `MAX_ELEMENTS`.
    """
    explicit = not UID(transfer_syntax_uid).is_implicit_VR
    if _has_too_many_elements(memoryview(encoded), explicit=explicit):
        raise ValueError(f"an identifier of more than {MAX_ELEMENTS} elements")
    if encoded.count(b"\\") > MAX_ELEMENTS:
        raise ValueError(f"an identifier of more than {MAX_ELEMENTS} values")


def _has_too_many_elements(encoded: memoryview, *, explicit: bool) -> bool:
    """Count what is inside sequences as well, in one pass; what cannot be read ends the count."""
    if len(encoded) < 8 * MAX_ELEMENTS:
        return False
    encoding = EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE
    at, end, count = 0, len(encoded), 0
    try:
        while at + 8 <= end and count <= MAX_ELEMENTS:
            count += 1
            if encoding.raw_tag(encoding.unpack_length(encoded, at)[0]) >> 16 == ITEM >> 16:
                at += 8  # an item or a delimiter
                continue
            _, value, length, inner = element_head(encoded, at, end, encoding)
            if length == UNDEFINED_LENGTH or (inner is encoding and _has_items(encoded, value)):
                at = value
            else:
                at = value + length
    except DatasetError:
        return False  # whoever decodes it says what is wrong
    return count > MAX_ELEMENTS


def _has_items(encoded: memoryview, at: int) -> bool:
    return bytes(encoded[at : at + 4]) == b"\xfe\xff\x00\xe0"


def plain(dataset: Dataset) -> dict[str, Any]:
    """A dataset as {keyword: text, list of texts, or list of such}, without private elements.

    Elements that cannot be decoded come as None: one bad value must not hide the others.
    """
    values: dict[str, Any] = {}
    for tag in dataset.keys():  # noqa: SIM118 - iterating decodes
        try:
            element = dataset[tag]
            if element.keyword and element.keyword != "SpecificCharacterSet":
                values[element.keyword] = _plain_value(element)
        except Exception:  # noqa: BLE001 - see above
            values[str(tag)] = None
    return values


def _plain_value(element: DataElement) -> Any:
    value = element.value
    if element.VR == "SQ":
        return [plain(item) for item in value]
    if isinstance(value, bytes) or value is None:
        return ""
    if element.VM > 1:
        return [str(each) for each in value]
    return str(value) if element.VM else ""
