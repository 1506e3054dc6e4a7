"""Tells in which form a client takes attributes: JSON, or XML in parts (PS3.18 section 8.7.3)."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from lfscp.web.dicomweb.accept import not_acceptable, wanted_forms

DICOM_JSON: Final = "application/dicom+json"
DICOM_XML: Final = "application/dicom+xml"
_JSON: Final = (DICOM_JSON, "application/json")
_IN_PARTS: Final = f'multipart/related; type="{DICOM_XML}"'


def form_of(request: Request) -> str:
    """The media type of the answer, or of its parts if it is DICOM_XML.

    Raises:
        Problem: the client takes neither (406), or Accept cannot be read (400).
    """
    for wanted in wanted_forms(request):
        if wanted.is_multipart is not True:
            for media_type in _JSON:
                if wanted.takes(media_type):
                    return media_type
        if wanted.is_multipart is not False and wanted.takes(DICOM_XML):
            return DICOM_XML
    raise not_acceptable((DICOM_JSON, _IN_PARTS))
