"""Writes a small dataset as DICOM JSON (PS3.18 annex F).

What is written is always valid JSON, also for a value that breaks its value representation: a
number that is none is a text, and bytes of a wrong length are UN.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from typing import Any, Final

from lfscp.dicom.encoding.value_representations import KNOWN, WIDTH
from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.dicom.models.json_values import BYTES, MAX_SAFE, NAME_GROUPS, NUMBERS, WHOLE
from lfscp.dicom.values.attributes import SINGLE_VALUE_VRS

_PACKED: Final = NUMBERS | {"AT": "<HH"}
_DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def to_json(tree: Tree) -> dict[str, Any]:
    """A dataset in DICOM JSON, as `json.dumps` takes it.

    Source: PS3.18 section F.2.
    """
    return {f"{tag:08X}": element_to_json(tree[tag]) for tag in sorted(tree)}


def element_to_json(element: Element) -> dict[str, Any]:
    """One element in DICOM JSON."""
    vr, value = element
    if not value:  # also of an attribute that is text elsewhere
        return {"vr": vr.decode() if vr in KNOWN else "UN"}
    if isinstance(value, list):
        return _with_values("SQ", [to_json(each) for each in value])
    name = vr.decode() if vr in KNOWN else "UN"
    if isinstance(value, str):
        return _with_values(name, _values_of_text(name, value))
    form = _PACKED.get(name)
    if form is None or len(value) % struct.calcsize(form):
        return _binary(name, value)
    values = struct.iter_unpack(form, value)
    if name == "AT":
        return _with_values(name, [f"{group:04X}{element:04X}" for group, element in values])
    return _with_values(name, [_number(each) for (each,) in values])


def _with_values(vr: str, values: list[Any]) -> dict[str, Any]:
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def _binary(vr: str, value: bytes) -> dict[str, Any]:
    """Bytes in base 64; those that are no whole values are of unknown VR."""
    is_whole = vr in BYTES and len(value) % WIDTH.get(vr.encode(), 1) == 0
    kind = vr if is_whole else "UN"
    return {"vr": kind, "InlineBinary": base64.b64encode(value).decode()} if value else {"vr": kind}


def _number(value: float) -> float | str:
    if isinstance(value, int):
        return value if abs(value) <= MAX_SAFE else str(value)
    return value if math.isfinite(value) else {math.inf: "inf", -math.inf: "-inf"}.get(value, "NaN")


def _values_of_text(vr: str, text: str) -> list[Any]:
    values = [text] if vr in SINGLE_VALUE_VRS else text.split("\\")
    return [value_of_text(vr, each) if each else None for each in values]


def value_of_text(vr: str, value: str) -> Any:
    """One value of text as JSON has it; a number that is none stays text."""
    if vr == "PN":
        groups = zip(NAME_GROUPS, value.split("=", 2), strict=False)
        return {group: text for group, text in groups if text} or None
    if vr == "IS" and WHOLE.fullmatch(value.strip(" ")) and len(value) < 16:
        return int(value)
    if vr == "DS" and _DECIMAL.fullmatch(value.strip(" ")) and math.isfinite(float(value)):
        return int(value) if WHOLE.fullmatch(value.strip(" ")) else float(value)
    return value
