"""Writes the Store Instances Response Module as JSON or XML.

Source: PS3.18 annexes F and I; PS3.19 section A.1.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from fastapi import Request, Response

from lfscp.dicom.models.json_writer import to_json
from lfscp.dicom.models.native_model_writer import xml_of_json
from lfscp.web.dicomweb.accept import not_acceptable, wanted_forms
from lfscp.web.dicomweb.storing.outcome import Outcome
from lfscp.web.dicomweb.warning_header import warning_headers

JSON: Final = "application/dicom+json"
XML: Final = "application/dicom+xml"
_NAMES: Final = {JSON: (JSON, "application/json"), XML: (XML, "application/xml", "text/xml")}


def answer_type(request: Request) -> str:
    """The media type that a client wants.

    Raises:
        Problem: it accepts neither (406).
    """
    for form in wanted_forms(request):
        for media_type, names in _NAMES.items():
            if any(form.takes(name) for name in names):
                return media_type
    raise not_acceptable(tuple(_NAMES))


def answer_of(outcome: Outcome, media_type: str) -> Response:
    """The answer to a request."""
    document = to_json(outcome.module())
    text = json.dumps(document) if media_type == JSON else xml_of_json(document)
    status: HTTPStatus = outcome.status
    return Response(text, status, warning_headers(outcome.warnings), media_type)
