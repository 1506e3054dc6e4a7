"""Writes a dataset as XML of the Native DICOM Model (PS3.19 section A.1).

Rules: what XML cannot hold, such as control characters, becomes U+FFFD. Values that JSON has as
numbers are written as JSON would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag

from lfscp.dicom.models.element_tree import Tree
from lfscp.dicom.models.json_writer import to_json

_NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_BEGIN: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    f'<NativeDicomModel xmlns="{_NAMESPACE}" xml:space="preserve">'
)
_END: Final = "</NativeDicomModel>\n"
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")


def to_xml(tree: Tree) -> str:
    """A dataset as a document."""
    return xml_of_json(to_json(tree))


def xml_of_json(model: dict[str, Any]) -> str:
    """A dataset in DICOM JSON as a document.

    Args:
        model: as `json_writer.to_json` makes it; its BulkDataURIs are kept.
    """
    return "".join((_BEGIN, *_dataset(model), _END))


def _dataset(model: dict[str, Any]) -> Iterator[str]:
    for name, attribute in model.items():
        tag = int(name, 16)
        keyword = "" if tag >> 16 & 1 else keyword_for_tag(tag)
        creator = _creator(model, tag)
        yield f'<DicomAttribute tag="{name}" vr="{attribute["vr"]}"'
        yield f' keyword="{keyword}"' if keyword else ""
        yield f" privateCreator={quoteattr(_allowed(creator))}" if creator else ""
        yield ">"
        yield from _content(attribute)
        yield "</DicomAttribute>"


def _creator(model: dict[str, Any], tag: int) -> str:
    """Whose a private attribute is; empty for others and where nothing says it."""
    if not tag >> 16 & 1 or not tag & 0xFF00:
        return ""
    values = model.get(f"{tag >> 16:04X}00{tag >> 8 & 0xFF:02X}", {}).get("Value") or [""]
    return str(values[0])


def _content(attribute: dict[str, Any]) -> Iterator[str]:
    if "BulkDataURI" in attribute:
        yield f"<BulkData uri={quoteattr(attribute['BulkDataURI'])}/>"
    elif "InlineBinary" in attribute:
        yield f"<InlineBinary>{attribute['InlineBinary']}</InlineBinary>"
    for number, value in enumerate(attribute.get("Value", ()), 1):
        if attribute["vr"] == "SQ":
            yield f'<Item number="{number}">'
            yield from _dataset(value or {})
            yield "</Item>"
        elif attribute["vr"] == "PN":
            yield f'<PersonName number="{number}">'
            yield from _name(value or {})
            yield "</PersonName>"
        else:
            yield f'<Value number="{number}">{_text(value)}</Value>'


def _name(value: dict[str, str]) -> Iterator[str]:
    for group in _GROUPS:
        text = value.get(group)
        if not text:
            continue
        yield f"<{group}>"
        for component, part in zip(_COMPONENTS, text.split("^", 4), strict=False):
            if part:
                yield f"<{component}>{_text(part)}</{component}>"
        yield f"</{group}>"


def _text(value: Any) -> str:
    return "" if value is None else escape(_allowed(str(value)))


def _allowed(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
