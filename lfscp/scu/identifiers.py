"""Makes the identifiers of queries and retrieves from plain values, and plain values of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from itertools import chain
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode

from lfscp.dicom.encoding.elements import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM,
    UNDEFINED_LENGTH,
    element_head,
)
from lfscp.dicom.errors import DatasetError

_MODELS: Final = ("patient", "study", "patient-study")  # the last one is retired
FIND_MODELS, MOVE_MODELS, GET_MODELS = (
    {name: f"1.2.840.10008.5.1.4.1.2.{number}.{end}" for number, name in enumerate(_MODELS, 1)}
    for end in (1, 2, 3)
)  # SOP classes by the name of their information model
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
_REALS: Final[Mapping[str, float]] = {"FL": 3.4028235e38, "FD": 1.7976931348623157e308}
_WITHOUT_TEXT: Final = frozenset({"AT", "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"})


def identifier(keys: Mapping[str, Any], level: str) -> Dataset:
    """Make an identifier of keywords and values; if a value is not ASCII, it is in UTF-8.

    Args:
        keys: texts, numbers, lists of them; None or "" for a key that is only returned.
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
    lists = (value if isinstance(value, list) else [value] for value in keys.values())
    is_ascii = all(str(each).isascii() for each in chain.from_iterable(lists))
    if "SpecificCharacterSet" not in made and not is_ascii:
        made.SpecificCharacterSet = _UTF_8
    return made


def _value(value: Any, vr: str) -> Any:
    if value is None or value == "":
        return [] if vr == "SQ" else None
    if vr in _WITHOUT_TEXT:
        raise ValueError(f"a key of VR {vr} can only be asked for, not matched")
    given = value if isinstance(value, list) else [value]
    if vr in _INTEGERS or vr in _REALS:
        given = [_number(each, vr) for each in given]
    else:
        given = [str(each) for each in given]
    return given if len(given) > 1 else given[0]


def _number(value: Any, vr: str) -> int | float:
    is_real = vr in _REALS
    smallest, largest = (-_REALS[vr], _REALS[vr]) if is_real else _INTEGERS[vr]
    with suppress(ValueError):
        number = float(value) if is_real else int(value)
        # NaN is in no range.
        if smallest <= number <= largest and (is_real or not isinstance(value, float)):
            return number
    raise ValueError(f"{value!r} is no value of VR {vr}")


def decoded(encoded: bytes, transfer_syntax_uid: str) -> Dataset:
    """Decode the identifier of a response.

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
    """Refuse a match with so many elements that decoding takes much memory.

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
            has_items = bytes(encoded[value : value + 4]) == b"\xfe\xff\x00\xe0"
            if length == UNDEFINED_LENGTH or (inner is encoding and has_items):
                at = value
            else:
                at = value + length
    except DatasetError:
        return False  # decoding will say what is wrong
    return count > MAX_ELEMENTS


def plain(dataset: Dataset) -> dict[str, Any]:
    """A dataset as {keyword: text, list of texts, or list of items}, without private elements.

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
