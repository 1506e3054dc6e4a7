"""DICOM JSON (PS3.18 annex F): what comes out is valid, what goes in is checked and named."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.models.element_tree import (
    MAX_DEPTH,
    Element,
    Tree,
    encode_tree,
    read_own,
    read_tree,
)
from lfscp.dicom.models.json_reader import JSONModelError, from_json
from lfscp.dicom.models.json_writer import to_json
from tests.support.element_trees import tree_of

ITEM = {
    "00080050": {"vr": "SH", "Value": ["A-1"]},
    "00100010": {
        "vr": "PN",
        "Value": [
            {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
        ],
    },
    "00101030": {"vr": "DS", "Value": [71.5]},
    "00101010": {"vr": "AS"},
    "00280010": {"vr": "US", "Value": [512, 3]},
    "00209165": {"vr": "AT", "Value": ["00100020"]},
    "00189087": {"vr": "FD", "Value": [0.25]},
    "00201206": {"vr": "IS", "Value": [3]},
    "00400100": {
        "vr": "SQ",
        "Value": [
            {
                "00080060": {"vr": "CS", "Value": ["CT"]},
                "00400001": {"vr": "AE", "Value": ["CT1", None, "CT2"]},
            }
        ],
    },
    "00091001": {"vr": "UN", "InlineBinary": "AAEC"},
}


def test_a_dataset_comes_out_as_it_went_in():
    tree = from_json(ITEM)

    assert tree.text(0x00100010) == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert tree.sequence(0x00400100)[0].texts(0x00400001) == ["CT1", "", "CT2"]
    assert tree[0x00280010].value == b"\x00\x02\x03\x00"
    assert to_json(tree) == ITEM
    stored = read_tree(encode_tree(tree), EXPLICIT_VR_LITTLE_ENDIAN)
    assert to_json(stored) | {"00091001": ITEM["00091001"]} == ITEM, "but for the padding of UN"


def test_pydicom_reads_what_comes_out_and_its_own_goes_in():
    dataset = Dataset()
    dataset.PatientName = "Doe^Jane"
    dataset.PatientWeight = "71.5"
    dataset.Rows = 7
    dataset.OtherPatientIDs = ["1", "2"]
    dataset.ScheduledProcedureStepSequence = [Dataset()]
    dataset.ScheduledProcedureStepSequence[0].Modality = "MR"

    assert from_json(json.loads(dataset.to_json())) == tree_of(dataset)
    assert Dataset.from_json(to_json(tree_of(dataset))) == dataset


def test_keywords_and_plain_values_are_understood():
    short = {
        "PatientName": "DOE^JANE",
        "PatientBirthDate": None,
        "PatientWeight": 71.5,
        "OtherPatientIDs": ["1", "2"],
        "ReferringPhysicianName": {"Ideographic": "山田"},
        "00101040": "",
        "ScheduledProcedureStepSequence": {"Modality": "CT"},
    }
    tree = from_json(short)

    assert tree.text(0x00100010) == "DOE^JANE"
    assert tree[0x00100030] == Element(b"DA", "")
    assert tree[0x00101040] == Element(b"LO", "")
    assert tree.text(0x00101030) == "71.5"
    assert tree.texts(0x00101000) == ["1", "2"]
    assert tree.text(0x00080090) == "=山田"
    assert tree.sequence(0x00400100) == [Tree({0x00080060: Element(b"CS", "CT")})]


def step(**values):
    return {"ScheduledProcedureStepSequence": [{"Modality": "CT"}, values]}


@pytest.mark.parametrize(
    ("document", "path", "says"),
    [
        ([], (), "expected an object"),
        ("x", (), "expected an object"),
        ({"Nonsense": 1}, ("Nonsense",), "Nonsense: no attribute has this keyword"),
        ({"00020010": {"vr": "UI"}}, ("00020010",), "no part of a dataset"),
        ({"00100010": 5}, ("00100010",), "PatientName: expected an object with Alphabetic"),
        ({"00100010": {"vr": "LO"}}, ("00100010",), "PatientName: its value representation is PN"),
        ({"00100010": {"Value": ["A"]}}, ("00100010",), "`vr` must be"),
        ({"00100010": {"vr": "\ud800"}}, ("00100010",), "`vr` must be"),
        ({"00100010": {"vr": "PN", "Value": "A"}}, ("00100010",), "`Value` must be a list"),
        ({"00100010": {"vr": "PN", "BulkDataURI": "http://x"}}, ("00100010",), "BulkDataURI"),
        (
            {"00100010": {"vr": "PN", "Value": [], "InlineBinary": ""}},
            ("00100010",),
            "either Value or InlineBinary",
        ),
        ({"PatientName": "A=B=C=D"}, ("PatientName",), "at most three groups"),
        ({"PatientName": {"Alphabetic": "A=B"}}, ("PatientName",), "without '='"),
        ({"PatientName": "\ud800"}, ("PatientName",), "surrogate"),
        ({"PatientID": "a\0b"}, ("PatientID",), "control characters"),
        ({"PatientID": "a\\b"}, ("PatientID",), "a backslash separates values"),
        ({"PatientID": "x" * 65}, ("PatientID",), "at most 64 characters"),
        ({"PatientBirthDate": "20240230"}, ("PatientBirthDate",), "expected a date YYYYMMDD"),
        ({"PatientBirthDate": "٢٠٢٤٠١٠١"}, ("PatientBirthDate",), "expected a date YYYYMMDD"),
        ({"PatientBirthTime": "2500"}, ("PatientBirthTime",), "expected a time"),
        ({"PatientSex": "f"}, ("PatientSex",), "only capitals"),
        ({"StudyInstanceUID": "1.02"}, ("StudyInstanceUID",), "expected a UID"),
        ({"PatientWeight": True}, ("PatientWeight",), "expected a number"),
        ({"PatientWeight": math.inf}, ("PatientWeight",), "too large"),
        ({"PatientWeight": "heavy"}, ("PatientWeight",), "expected a number"),
        ({"SeriesNumber": 1.5}, ("SeriesNumber",), "expected a whole number"),
        ({"SeriesNumber": 2**31}, ("SeriesNumber",), "too large"),
        ({"SeriesNumber": 10**400}, ("SeriesNumber",), "too large"),
        ({"Rows": 70000}, ("Rows",), "does not fit US"),
        ({"Rows": "many"}, ("Rows",), "expected a number"),
        ({"PixelData": "AAAA"}, ("PixelData",), "base 64"),
        ({"00091001": {"vr": "UN", "InlineBinary": "?"}}, ("00091001",), "not base 64"),
        ({"00091001": {"vr": "OW", "InlineBinary": "AA=="}}, ("00091001",), "no whole number"),
        ({"00091001": "x"}, ("00091001",), "the tag is not known"),
        ({"PatientID": "1", "00100020": "2"}, ("00100020",), "there twice"),
        ({"PatientComments": ["a", "b"]}, ("PatientComments",), "only one value"),
        (
            step(ScheduledProcedureStepStartDate="tomorrow"),
            ("ScheduledProcedureStepSequence", 1, "ScheduledProcedureStepStartDate"),
            "ScheduledProcedureStepStartDate: expected a date YYYYMMDD",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(document, path, says):
    with pytest.raises(JSONModelError) as caught:
        from_json(document)

    assert caught.value.path == path
    assert says in caught.value.reason


def test_sequences_are_nested_as_deep_as_a_dataset_can_be_read_again():
    document: dict = {}
    for _ in range(MAX_DEPTH):
        document = {"RequestedProcedureCodeSequence": [document]}

    assert to_json(read_own(encode_tree(from_json(document)))) == to_json(from_json(document))
    with pytest.raises(JSONModelError, match="nested more than 50 deep"):
        from_json({"RequestedProcedureCodeSequence": [document]})


@pytest.mark.parametrize(
    ("vr", "value", "written"),
    [
        (b"DS", "heavy", {"vr": "DS", "Value": ["heavy"]}),
        (b"DS", "1e999", {"vr": "DS", "Value": ["1e999"]}),
        (b"IS", "1\\two\\", {"vr": "IS", "Value": [1, "two", None]}),
        (b"US", b"\1\0\2", {"vr": "UN", "InlineBinary": "AQAC"}),
        (b"AT", b"\x10\0", {"vr": "UN", "InlineBinary": "EAA="}),
        (b"FD", b"\0\0\0\0\0\0\xf8\x7f", {"vr": "FD", "Value": ["NaN"]}),
        (b"UV", b"\xff" * 8, {"vr": "UV", "Value": [str(2**64 - 1)]}),
        (
            b"PN",
            "A=B=C=D",
            {
                "vr": "PN",
                "Value": [{"Alphabetic": "A", "Ideographic": "B", "Phonetic": "C=D"}],
            },
        ),
        (b"ST", "a\\b", {"vr": "ST", "Value": ["a\\b"]}),
        (b"ZZ", b"ab", {"vr": "UN", "InlineBinary": "YWI="}),
    ],
)
def test_a_value_that_breaks_its_vr_comes_out_as_valid_json(vr, value, written):
    found = to_json(Tree({0x00091001: Element(vr, value)}))

    assert found == {"00091001": written}
    json.dumps(found, allow_nan=False)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a loaded machine
@given(
    st.dictionaries(
        st.integers(0x00080006, 0x0FFFFFFF),
        st.one_of(
            st.builds(Element, st.binary(min_size=2, max_size=2), st.binary(max_size=20)),
            st.builds(
                Element,
                st.sampled_from([b"US", b"FL", b"FD", b"AT", b"UN", b"OW", b"SV"]),
                st.binary(max_size=20),
            ),
            st.builds(
                Element,
                st.sampled_from([b"IS", b"DS", b"PN", b"LO", b"UT", b"DA"]),
                st.text(max_size=20),
            ),
        ),
        max_size=5,
    )
)
def test_whatever_is_stored_comes_out_as_valid_json(elements):
    json.dumps(to_json(Tree(elements)), allow_nan=False, ensure_ascii=False).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["vr", "Value", "InlineBinary", "00100010", "00400100", "Rows", "AccessionNumber"]
            ),
            inner | st.sampled_from(["PN", "SQ", "US", "DS", "OB"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_is_sent_is_a_dataset_or_a_named_fault(document):
    try:
        tree = from_json(document)
    except JSONModelError:
        return
    read_tree(encode_tree(tree), EXPLICIT_VR_LITTLE_ENDIAN)
