"""Reads a small dataset in DICOM JSON (PS3.18 annex F).

Rules:
- what is read is checked, and the first fault is named with its place;
- a keyword may stand for a tag, and a plain value for the object with `vr` and `Value`, so that a
  person can write {"PatientName": "DOE^JANE"}.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.valuerep import format_number_as_ds

from lfscp.dicom.encoding.value_representations import KNOWN, SQ, WIDTH
from lfscp.dicom.errors import named
from lfscp.dicom.models.bulk_data import BulkDataURI
from lfscp.dicom.models.element_tree import MAX_DEPTH, Element, Tree
from lfscp.dicom.models.json_values import BYTES, FLOATS, MAX_SAFE, NAME_GROUPS, NUMBERS, WHOLE
from lfscp.dicom.values.attributes import SINGLE_VALUE_VRS, SPECIFIC_CHARACTER_SET
from lfscp.dicom.values.value_faults import fault_of
from lfscp.errors import OperationError

_NOT_FINITE: Final = {"NaN": math.nan, "inf": math.inf, "-inf": -math.inf}
_MEMBERS: Final = frozenset({"vr", "Value", "InlineBinary", "BulkDataURI"})
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
# Command, file meta information, and the delimiters of sequences: no part of a dataset.
_FILE_META: Final = "0002"
_NO_GROUPS: Final = frozenset({0x0000, 0x0002, 0xFFFE})
_Path = tuple[str | int, ...]


class JSONModelError(OperationError):
    """A document is no dataset in DICOM JSON.

    Args:
        path: of what is wrong: keys of objects and indices of lists.
        keyword: of the attribute that is wrong, or its tag; empty when it is none.
        reason: what is wrong.
    """

    def __init__(self, path: _Path, keyword: str, reason: str) -> None:
        super().__init__("read the dataset", f"{keyword}: {reason}" if keyword else reason)
        self.path = path
        self.keyword = keyword
        self.fault = reason


def from_json(document: object, *, is_object: bool = False) -> Tree:
    """Read a dataset in DICOM JSON.

    Args:
        document: as `json.loads` makes it.
        is_object: it is an object to be kept as it is: values that break their value
            representation are taken, bulk data may be elsewhere (the value is a BulkDataURI), and
            file meta information, which some add, is left out.
    Raises:
        JSONModelError: it is none, or a value breaks its value representation.
    Source: PS3.18 section F.2.
    """
    return _read_tree(document, (), is_object=is_object)


def _read_tree(document: object, path: _Path, *, is_object: bool) -> Tree:
    if not isinstance(document, dict):
        raise JSONModelError(path, "", "expected an object with tags or keywords as its names")
    if sum(isinstance(part, int) for part in path) > MAX_DEPTH:
        raise JSONModelError(path, "", f"sequences are nested more than {MAX_DEPTH} deep")
    tree = Tree()
    for key, given in document.items():
        here = (*path, key)
        if is_object and key[:4] == _FILE_META:
            continue
        tag = _tag_of(key, here)
        if tag in tree:
            raise JSONModelError(here, _name(tag), "the attribute is there twice")
        element = _Reading(tag, here, is_object=is_object).element(given)
        if tag != SPECIFIC_CHARACTER_SET and tag & 0xFFFF:  # JSON is in UTF-8
            tree[tag] = element
    return tree


def _tag_of(key: str, path: _Path) -> int:
    tag = int(key, 16) if _TAG.fullmatch(key) else tag_for_keyword(key)
    if tag is None:
        raise JSONModelError(path, key[:64], "no attribute has this keyword or tag")
    if tag >> 16 in _NO_GROUPS:
        raise JSONModelError(path, _name(tag), "it is no part of a dataset")
    return tag


def _name(tag: int) -> str:
    return keyword_for_tag(tag) or named(tag)


class _Reading:
    """Reads one attribute."""

    def __init__(self, tag: int, path: _Path, *, is_object: bool) -> None:
        self._tag = tag
        self._path = path
        self._is_object = is_object

    def element(self, given: object) -> Element:
        if isinstance(given, dict) and given.keys() <= _MEMBERS:
            return self._of_object(given)
        vrs = self._vrs()
        if not vrs:
            raise self._fault("expected an object with `vr` and `Value`: the tag is not known")
        values = given if isinstance(given, list) else [given]
        vr = vrs[0]
        return self._of_values(vr, [] if values in ([None], [""]) else values, self._path)

    def _of_object(self, given: dict[str, Any]) -> Element:
        vr = given.get("vr")
        if not isinstance(vr, str) or vr.encode("utf-8", "replace") not in KNOWN:
            raise self._fault("`vr` must be a value representation, such as LO")
        if not self._is_object and self._vrs() and vr not in (*self._vrs(), "UN"):
            raise self._fault(f"its value representation is {' or '.join(self._vrs())}, not {vr}")
        if "BulkDataURI" in given:
            return Element(vr.encode(), self._elsewhere(vr, given["BulkDataURI"]))
        if "InlineBinary" in given:
            if "Value" in given:
                raise self._fault("give either Value or InlineBinary")
            return Element(vr.encode(), self._bytes(vr, given["InlineBinary"]))
        values = given.get("Value", [])
        if not isinstance(values, list):
            raise self._fault("`Value` must be a list")
        return self._of_values(vr, values, (*self._path, "Value"))

    def _elsewhere(self, vr: str, uri: object) -> BulkDataURI:
        if not self._is_object:
            raise self._fault("give the value itself: no BulkDataURI is read")
        if not isinstance(uri, str) or not uri or vr == "SQ":
            raise self._fault("BulkDataURI must be a text, and not that of a sequence")
        return BulkDataURI(uri.encode("utf-8", "replace"))

    def _vrs(self) -> list[str]:
        """The value representations that the dictionary allows; none when it has no such tag."""
        try:
            return dictionary_VR(self._tag).split(" or ")
        except KeyError:
            return []

    def _of_values(self, vr: str, values: list[Any], path: _Path) -> Element:
        encoded = vr.encode()
        if encoded == SQ:
            items = [
                _read_tree(each, (*path, at), is_object=self._is_object)
                for at, each in enumerate(values)
            ]
            return Element(SQ, items)
        if vr in BYTES:
            if values:
                raise self._fault("give its bytes in base 64 as InlineBinary")
            return Element(encoded, b"")
        if vr in NUMBERS or vr == "AT":
            packed = self._packed if vr in NUMBERS else self._packed_tag
            return Element(encoded, b"".join(packed(vr, each) for each in values))
        if vr in SINGLE_VALUE_VRS and len(values) > 1:
            raise self._fault("only one value is allowed")
        return Element(encoded, "\\".join(self._text(vr, each) for each in values))

    def _bytes(self, vr: str, given: object) -> bytes:
        if vr not in BYTES:
            raise self._fault(f"{vr} has a Value, not InlineBinary")
        try:
            value = base64.b64decode(given if isinstance(given, str) else "?", validate=True)
        except (binascii.Error, ValueError):
            raise self._fault("InlineBinary is not base 64") from None
        if len(value) % WIDTH.get(vr.encode(), 1):
            raise self._fault(f"{len(value)} bytes are no whole number of values")
        return value

    def _packed(self, vr: str, given: object) -> bytes:
        form = NUMBERS[vr]
        number: object = given
        if vr in FLOATS:
            number = _NOT_FINITE.get(given, given) if isinstance(given, str) else given
        elif isinstance(given, str) and WHOLE.fullmatch(given) and len(given) <= 20:
            number = int(given)  # as 64-bit numbers are written, which JavaScript cannot hold
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise self._fault("expected a number")
        try:
            return struct.pack(form, number)
        except (struct.error, OverflowError):
            raise self._fault(f"the number does not fit {vr}") from None

    def _packed_tag(self, _: str, given: object) -> bytes:
        if not isinstance(given, str) or not _TAG.fullmatch(given):
            raise self._fault("expected a tag such as 00100010")
        return struct.pack("<HH", int(given[:4], 16), int(given[4:], 16))

    def _text(self, vr: str, given: object) -> str:
        read: dict[str, Callable[[object], str]] = {
            "PN": self._person_name,
            "IS": self._whole_number,
            "DS": self._decimal,
        }
        if given is None:
            return ""
        text = read[vr](given) if vr in read else given
        if not isinstance(text, str):
            raise self._fault("expected a text")
        fault = fault_of(vr, text) if text and not self._is_object else ""
        if fault:
            raise self._fault(fault)
        return text

    def _person_name(self, given: object) -> str:
        if isinstance(given, str):
            return given
        if not isinstance(given, dict) or not given.keys() <= set(NAME_GROUPS):
            raise self._fault(f"expected an object with {', '.join(NAME_GROUPS)}")
        groups = [given.get(group) or "" for group in NAME_GROUPS]
        if not all(isinstance(group, str) and "=" not in group for group in groups):
            raise self._fault("each group of a name is a text without '='")
        return "=".join(groups).rstrip("=")

    def _whole_number(self, given: object) -> str:
        if isinstance(given, float) and given.is_integer():
            given = int(given)
        if isinstance(given, int) and not isinstance(given, bool):
            return str(given) if abs(given) <= MAX_SAFE else self._refuse("the number is too large")
        return given if isinstance(given, str) else self._refuse("expected a whole number")

    def _decimal(self, given: object) -> str:
        if isinstance(given, str):
            return given
        if isinstance(given, bool) or not isinstance(given, int | float):
            return self._refuse("expected a number")
        if isinstance(given, int) and abs(given) <= MAX_SAFE:
            return str(given) if len(str(given)) <= 16 else format_number_as_ds(float(given))
        if isinstance(given, int) or not math.isfinite(given):
            return self._refuse("the number is too large")
        return format_number_as_ds(given)

    def _refuse(self, reason: str) -> str:
        raise self._fault(reason)

    def _fault(self, reason: str) -> JSONModelError:
        return JSONModelError(self._path, _name(self._tag), reason)
