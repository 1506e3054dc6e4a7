"""Answers of any JSON: matches and outcomes come of them, or one known error, never another."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from lfscp.scu.dicomweb.matches import Matches
from lfscp.scu.dicomweb.search_request import SearchRequest
from lfscp.scu.dicomweb.store_response import StoreResponse
from lfscp.scu.identifiers import identifier, plain
from lfscp.services.sending.sub_operations import SubOperationOutcome

TAGS = st.sampled_from(
    [
        *("00100010", "00100020", "00080061", "00201208", "0020000D", "00400275", "00081199"),
        *("00081198", "0008119A", "00081155", "00081197", "00081196"),
        *("vr", "Value", "BulkDataURI"),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["PN", "UI", "SQ", "US", "IS", "DS", "OB", "1.2.3", "=", "\\\\"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TAGS, inner, max_size=4),
    max_leaves=20,
)
ELEMENT = st.fixed_dictionaries(
    {"vr": st.sampled_from(["PN", "UI", "SQ", "US", "IS", "DS", "OB", "AT", "LO"])},
    optional={"Value": st.lists(JSON, max_size=3), "InlineBinary": st.text(max_size=8)},
)
DOCUMENTS = st.dictionaries(TAGS, JSON | ELEMENT, max_size=6)
KEYS = {"PatientName": "", "PatientID": "", "ModalitiesInStudy": "", "StudyInstanceUID": ""}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a loaded machine
@given(DOCUMENTS, st.sampled_from(["PATIENT", "STUDY"]))
def test_a_match_comes_of_any_object(document: dict[str, Any], level: str) -> None:
    asked: Dataset = identifier({**KEYS, "RequestAttributesSequence": None}, level)
    match = Matches(SearchRequest(asked)).match_of(document)
    assert match is not None
    assert plain(match)["QueryRetrieveLevel"] == level


@given(JSON | DOCUMENTS | ELEMENT, st.sampled_from([200, 202, 409]))
def test_an_outcome_comes_of_any_answer(document: Any, status: int) -> None:
    response = StoreResponse(status, "application/dicom+json", json.dumps(document).encode())
    outcome, reason = response.fate_of("1.2.3.4.5")
    assert (outcome is SubOperationOutcome.FAILED) == bool(reason)


@given(st.binary(max_size=200), st.sampled_from(["application/dicom+json", "application/xml"]))
def test_what_is_no_module_leaves_the_status(content: bytes, media_type: str) -> None:
    outcome, _ = StoreResponse(409, media_type, content).fate_of("1.2.3")
    assert outcome is SubOperationOutcome.FAILED


def test_outcomes_in_xml_are_read() -> None:
    xml = """<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
      <DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence"><Item number="1">
        <DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2.3</Value></DicomAttribute>
        <DicomAttribute tag="00081197" vr="US"><Value number="1">42752</Value></DicomAttribute>
      </Item></DicomAttribute></NativeDicomModel>"""
    response = StoreResponse(202, "application/dicom+xml", xml.encode())
    assert response.fate_of("1.2.3")[1] == "the server answered 0xA700, out of resources"
