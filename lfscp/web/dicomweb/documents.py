"""Tells which objects hold a document, such as a PDF (PS3.3 section A.45, PS3.6 annex A)."""

from __future__ import annotations

from typing import Final

_ROOT: Final = "1.2.840.10008.5.1.4.1.1.104."
_TYPES: Final = {
    f"{_ROOT}1": "application/pdf",
    f"{_ROOT}2": "text/xml",
    f"{_ROOT}3": "model/stl",
    f"{_ROOT}4": "model/obj",
    f"{_ROOT}5": "model/mtl",
}


def document_type(sop_class_uid: str) -> str:
    """The media type of the encapsulated document of this SOP class; empty if it has none."""
    return _TYPES.get(sop_class_uid, "")
