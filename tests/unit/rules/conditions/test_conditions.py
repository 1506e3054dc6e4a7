"""A condition of the configuration, asked about objects as they arrive."""

from __future__ import annotations

import fnmatch
import time
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from lfscp.dicom.reading.header import read_header
from lfscp.rules.conditions.attributes import (
    DatasetAttributes,
    HeaderAttributes,
    attributes_of,
)
from lfscp.rules.conditions.errors import ConditionError
from lfscp.rules.conditions.reading import read_condition
from lfscp.rules.conditions.subject import Attributes, Subject
from tests.support.archive_datasets import EXPLICIT, encoded

DEFLATED = "1.2.840.10008.1.2.1.99"


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


OBJECT = {
    "StudyDescription": "CT Chest with contrast",
    "StudyDate": "20240315",
    "StudyTime": "101530",
    "AcquisitionDateTime": "20240315101530+0100",
    "PatientName": "Müller^Jörg=山田^太郎",
    "SpecificCharacterSet": "ISO_IR 192",
    "PatientAge": "007Y",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "SliceThickness": "1.25",
    "KVP": "120",
    "Rows": 512,
    "BodyPartExamined": "CHEST",
    "ProtocolName": "Low Dose*",
    "RequestAttributesSequence": Sequence(
        [item(RequestedProcedureID="RP1"), item(RequestedProcedureID="RP2", AccessionNumber="A7")]
    ),
    "RevealedFiducials": None,
}
OBJECT.pop("RevealedFiducials")


def subjects() -> list[Subject]:
    """One object in the three forms in which conditions meet it."""
    data = encoded(1, **OBJECT)
    header = read_header(data, EXPLICIT)
    deflated = zlib.compressobj(wbits=-15)
    squeezed = deflated.compress(data) + deflated.flush()
    whole = Dataset()
    whole.update(item(**OBJECT, Modality="CT", PatientID="P1", InstanceNumber=1))
    forms: list[Attributes] = [
        HeaderAttributes(header, lambda: attributes_of(data, EXPLICIT)),
        attributes_of(squeezed, DEFLATED),
        DatasetAttributes(whole),
    ]
    return [Subject(form, "CT_ROOM_1", "ARCHIVE", "10.1.2.3", EXPLICIT) for form in forms]


SUBJECTS = subjects()

HOLD: list[dict[str, Any]] = [
    {},
    {"Modality": "CT"},
    {"Modality": ["MR", "CT"]},
    {"0008,0060": "CT"},
    {"(0008,0060)": "CT"},
    {"StudyDescription": "*Chest*"},
    {"StudyDescription": {"matches": "*CHEST*", "ignore_case": True}},
    {"StudyDescription": {"equals": "ct chest WITH contrast", "ignore_case": True}},
    {"StudyDate": "20240101-20241231"},
    {"StudyDate": "20240315"},
    {"StudyDate": "2024*"},
    {"StudyDate": {"from": "20240315"}},
    {"StudyTime": {"from": "08", "to": "18"}},
    {"AcquisitionDateTime": {"from": "202403150900+0000", "to": "202403151000+0000"}},
    {"PatientName": "müller^*"},
    {"PatientName": "山田^太郎"},
    {"PatientName": {"equals": "MÜLLER^JÖRG"}},
    {"PatientAge": {"to": "017Y"}},
    {"PatientAge": "084M"},
    {"ImageType": "AXIAL"},
    {"ImageType": "A?IAL"},
    {"SliceThickness": {"from": 0.5, "to": 1.25}},
    {"SliceThickness": 1.25},
    {"SliceThickness": "1.250"},
    {"KVP": [100, 120]},
    {"Rows": {"from": 512}},
    {"ProtocolName": {"equals": "Low Dose*"}},
    {"ProtocolName": {"one_of": ["x", "Low Dose*"]}},
    {"BodyPartExamined": {"present": True}},
    {"ContrastBolusAgent": {"present": False}},
    {"RequestAttributesSequence": {"present": True}},
    {"RequestAttributesSequence": {"RequestedProcedureID": "RP2", "AccessionNumber": "A7"}},
    {"calling_ae_title": "CT_*"},
    {"called_ae_title": ["ARCHIVE", "OTHER"]},
    {"address": "10.1.0.0/16"},
    {"address": ["192.168.0.1", "10.1.2.3"]},
    {"TransferSyntaxUID": EXPLICIT},
    {"all": [{"Modality": "CT"}, {"address": "10.1.2.3"}]},
    {"any": [{"Modality": "MR"}, {"Rows": 512}]},
    {"not": {"Modality": "SR"}},
    {"not": {"ContrastBolusAgent": "*"}},
]
FAIL: list[dict[str, Any]] = [
    {"Modality": "ct"},
    {"Modality": ["MR", "PT"]},
    {"StudyDescription": "*chest*"},
    {"StudyDate": "20250101-"},
    {"StudyTime": {"from": "11"}},
    {"AcquisitionDateTime": {"from": "202403151000+0000"}},
    {"PatientName": "Muller*"},
    {"PatientAge": {"from": "018Y"}},
    {"SliceThickness": {"to": 1}},
    {"Rows": 256},
    {"ProtocolName": {"equals": "Low Dose"}},
    {"BodyPartExamined": {"present": False}},
    {"ContrastBolusAgent": {"present": True}},
    {"ContrastBolusAgent": "*"},
    {"RequestAttributesSequence": {"RequestedProcedureID": "RP1", "AccessionNumber": "A7"}},
    {"ReferencedStudySequence": {"ReferencedSOPInstanceUID": "*"}},
    {"calling_ae_title": "MR_*"},
    {"address": "10.2.0.0/16"},
    {"all": [{"Modality": "CT"}, {"Rows": 1}]},
    {"any": [{"Modality": "MR"}, {"Rows": 1}]},
    {"not": {"Modality": "CT"}},
    {"Modality": "CT", "Rows": 1},
]


@pytest.mark.parametrize("form", range(3), ids=["header", "deflated", "pydicom"])
@pytest.mark.parametrize("table", HOLD, ids=str)
def test_an_object_meets_a_condition(form: int, table: dict[str, Any]) -> None:
    condition = read_condition(table)
    assert condition.holds(SUBJECTS[form]), condition.explain(SUBJECTS[form])
    assert "wanted" not in condition.explain(SUBJECTS[form]) or "not" in table


@pytest.mark.parametrize("form", range(3), ids=["header", "deflated", "pydicom"])
@pytest.mark.parametrize("table", FAIL, ids=str)
def test_an_object_fails_a_condition(form: int, table: dict[str, Any]) -> None:
    condition = read_condition(table)
    assert not condition.holds(SUBJECTS[form])
    assert condition.explain(SUBJECTS[form])


def test_an_explanation_names_attribute_value_and_wish() -> None:
    condition = read_condition({"Modality": ["MR", "PT"], "Rows": 512})
    assert condition.explain(SUBJECTS[0]) == 'Modality is "CT", wanted "MR" or "PT"'


def test_a_message_without_sender_meets_no_condition_on_the_sender() -> None:
    subject = Subject(SUBJECTS[0].attributes)
    assert not read_condition({"calling_ae_title": "*"}).holds(subject)
    assert read_condition({"calling_ae_title": "*"}).explain(subject) == (
        'calling_ae_title is not known, wanted "*"'
    )


@pytest.mark.parametrize(
    ("table", "path", "expected"),
    [
        ({"Modalty": "CT"}, "Modalty", "did you mean Modality"),
        ({"Modality": []}, "Modality", "at least one value"),
        ({"Modality": ""}, "Modality", "present = false"),
        ({"Modality": 3}, "Modality", "text in quotes"),
        ({"Modality": ["CT", 3]}, "Modality.1", "text in quotes"),
        ({"Modality": {"equal": "CT"}}, "Modality.equal", "did you mean equals"),
        ({"Modality": {"equals": "CT", "matches": "C*"}}, "Modality", "one of equals, matches"),
        ({"Modality": {"from": "A"}}, "Modality.from", "no range"),
        ({"Modality": {"present": "yes"}}, "Modality.present", "true or false"),
        ({"Modality": {"present": False, "equals": "CT"}}, "Modality.equals", "nothing beside"),
        ({"StudyDate": "2024-03-15"}, "StudyDate", "a date YYYYMMDD"),
        ({"StudyDate": "20240230x"}, "StudyDate", "a date YYYYMMDD"),
        ({"StudyDate": {"from": "20250101", "to": "20240101"}}, "StudyDate.from", "not below"),
        ({"Rows": {"from": 5, "to": 2}}, "Rows.from", "not below"),
        ({"Rows": "many"}, "Rows", "a number"),
        ({"SOPClassUID": "CT"}, "SOPClassUID", "a UID"),
        ({"PixelData": {"present": True}}, "PixelData", "before Pixel Data"),
        ({"RequestAttributesSequence": "x"}, "RequestAttributesSequence", "for the items"),
        ({"address": "ten"}, "address", "an address or a network"),
        ({"calling_ae_title": "A_TITLE_THAT_IS_TOO_LONG"}, "calling_ae_title", "at most 16"),
        ({"any": []}, "any", "at least one"),
        ({"any": [{"Modality": "CT"}, {}]}, "any.1", "not empty"),
        ({"not": {}}, "not", "must not hold"),
        ({"all": {"Modality": "CT"}}, "all", "a list of tables"),
        ({"any": [{"Rows": True}]}, "any.0.Rows", "text, a number"),
        ("CT", "", "a table"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_by_key(
    table: object, path: str, expected: str
) -> None:
    with pytest.raises(ConditionError) as refused:
        read_condition(table)
    assert ".".join(refused.value.path) == path
    assert expected in refused.value.expected
    assert "expected" not in refused.value.expected


WORDS = st.text("ABab*?.[]{}^ \\", min_size=1, max_size=8)


@given(st.text("ABab.[]^", min_size=1, max_size=8), WORDS.filter(lambda text: text.strip()))
def test_a_wildcard_means_what_it_means_in_a_shell(value: str, pattern: str) -> None:
    quoted = pattern.replace("[", "[[]")
    subject = Subject(DatasetAttributes(item(StudyDescription=value)))
    condition = read_condition({"StudyDescription": {"matches": pattern}})
    assert condition.holds(subject) == fnmatch.fnmatchcase(value, quoted)


@pytest.mark.timeout(60)  # instead of hours
def test_a_long_value_does_not_make_a_wildcard_slow() -> None:
    subject = Subject(DatasetAttributes(item(PatientComments="ab" * 5000)))
    condition = read_condition({"PatientComments": "*a*b*a*b*a*c"})
    assert not condition.holds(subject)


TABLES = st.recursive(
    st.sampled_from([table for table in HOLD + FAIL if table]),
    lambda tables: st.one_of(
        st.lists(tables, min_size=1, max_size=3).map(lambda them: {"all": them}),
        st.lists(tables, min_size=1, max_size=3).map(lambda them: {"any": them}),
        tables.map(lambda table: {"not": table}),
    ),
    max_leaves=6,
)


@given(st.lists(TABLES, min_size=1, max_size=3))
def test_conditions_combine_as_in_logic(tables: list[dict[str, Any]]) -> None:
    for subject in SUBJECTS:
        each = [read_condition(table).holds(subject) for table in tables]
        assert read_condition({"all": tables}).holds(subject) == all(each)
        assert read_condition({"any": tables}).holds(subject) == any(each)
        none = read_condition({"not": {"any": tables}}).holds(subject)
        assert none == read_condition({"all": [{"not": one} for one in tables]}).holds(subject)


@given(st.integers(-9999, 9999), st.integers(-9999, 9999), st.integers(-9999, 9999))
def test_a_range_holds_its_ends(low: int, high: int, value: int) -> None:
    subject = Subject(DatasetAttributes(item(InstanceNumber=value)))
    if low > high:
        with pytest.raises(ConditionError):
            read_condition({"InstanceNumber": {"from": low, "to": high}})
    else:
        condition = read_condition({"InstanceNumber": {"from": low, "to": high}})
        assert condition.holds(subject) == (low <= value <= high)


KEYS = st.sampled_from(["Modality", "Rows", "any", "all", "not", "address", "x", "StudyDate"])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(KEYS | st.just("from"), inner, max_size=3)
    ),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_table_is_a_condition_or_is_refused(table: dict[str, Any]) -> None:
    try:
        condition = read_condition(table)
    except ConditionError:
        return
    for subject in SUBJECTS:
        assert condition.holds(subject) in (True, False)
        assert condition.explain(subject)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_broken_bytes_only_lack_attributes(noise: bytes, at: int) -> None:
    data = encoded(1, **OBJECT)
    broken = data[:at] + noise + data[at:]
    for table in HOLD + FAIL:
        subject = Subject(attributes_of(broken, EXPLICIT))
        assert read_condition(table).holds(subject) in (True, False)


def test_what_the_header_has_is_not_read_again() -> None:
    def further() -> Attributes:
        raise AssertionError("read again")

    header = read_header(encoded(1, **OBJECT), EXPLICIT)
    subject = Subject(HeaderAttributes(header, further), "CT_ROOM_1")
    condition = read_condition({"Modality": "CT", "StudyDescription": "*Chest*", "Rows": 512})
    assert condition.holds(subject)


def test_the_rest_is_read_once_for_all_conditions() -> None:
    data = encoded(1, SOPInstanceUID=generate_uid(), **OBJECT)
    readings = []

    def further() -> Attributes:
        readings.append(time.thread_time())
        return attributes_of(data, EXPLICIT)

    subject = Subject(HeaderAttributes(read_header(data, EXPLICIT), further))
    assert read_condition({"KVP": 120, "SliceThickness": {"to": 2}}).holds(subject)
    assert read_condition({"KVP": 120}).holds(subject)
    assert len(readings) == 1


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "there is no condition"),
        ({"Modality": ["CT", "MR"]}, 'Modality is "CT" or "MR"'),
        ({"Rows": {"from": 256}, "calling_ae_title": "CT1"},
         'Rows is from 256 and calling_ae_title is "CT1"'),
        ({"Modality": "CT", "any": [{"PatientID": {"present": False}}, {"KVP": 120}]},
         'Modality is "CT" and (PatientID is absent or empty or KVP is 120)'),
        ({"not": {"StudyDescription": "*chest*"}}, 'not (StudyDescription is "*chest*")'),
        ({"any": [{"Modality": "CT"}, {"RequestAttributesSequence": {"AccessionNumber": "A7"}}]},
         'Modality is "CT" or (in an item of RequestAttributesSequence, '
         'AccessionNumber is "A7")'),
    ],
)  # fmt: skip
def test_a_condition_says_in_words_what_it_wants(table: dict[str, Any], words: str) -> None:
    assert read_condition(table).words == words
