"""What an identifier may ask, and by which element a wrong one is refused."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from lfscp.archive.query.keys import UNIVERSAL, Names, Texts
from lfscp.archive.query.query import InvalidKeyError, Model, Query, parse_query, unique_keys
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.identifiers import read_identifier
from lfscp.dicom.values.attributes import Level
from tests.support.index_rows import identifier

LEVEL = 0x00080052
PATIENT_ID = 0x00100020
STUDY_UID = 0x0020000D
SERIES_UID = 0x0020000E
SOP_INSTANCE_UID = 0x00080018


def keywords(query: Query) -> list[str]:
    return [key.attribute.keyword for key in query.keys]


def received(asked: Dataset) -> Dataset:
    """The identifier as it comes out of the network: nothing converted yet."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = buffer.is_little_endian = True
    write_dataset(buffer, asked)
    return read_dataset(BytesIO(buffer.getvalue()), True, True)


SYNTAXES = {
    "1.2.840.10008.1.2": (True, True),
    "1.2.840.10008.1.2.1": (False, True),
    "1.2.840.10008.1.2.2": (False, False),
}


def on_the_wire(asked: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = SYNTAXES[syntax]
    write_dataset(buffer, asked)
    return bytes(buffer.getvalue())


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined_length", [False, True])
def test_a_request_reads_the_same_with_pydicom_and_without(
    syntax: str, undefined_length: bool
) -> None:
    item = Dataset()
    item.ScheduledProcedureStepID = "7*"
    item.RequestedProcedureID = ""
    item.is_undefined_length_sequence_item = undefined_length
    asked = identifier(
        "IMAGE",
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        PatientName="Yamada^Tarou=山田^太郎",
        PatientID="P1 ",
        StudyInstanceUID="1.2",
        SeriesInstanceUID="1.2.3",
        SOPInstanceUID=["1.2.3.4", "1.2.3.5"],
        RequestAttributesSequence=[item],
        Rows=512,
        NumberOfFrames="1",
        ContentDate="20240101-",
        StudyComments="unknown to the index",
    )
    asked["RequestAttributesSequence"].is_undefined_length = undefined_length
    raw = on_the_wire(asked, syntax)
    by_pydicom = read_dataset(BytesIO(raw), *SYNTAXES[syntax])
    without = read_identifier(raw, syntax)
    for model in (Model.PATIENT_ROOT, Model.STUDY_ROOT):
        assert parse_query(without, model) == parse_query(by_pydicom, model)
        assert unique_keys(without, model) == unique_keys(by_pydicom, model)
    assert parse_query(without, Model.PATIENT_ROOT).unsupported_keys == ("StudyComments",)


@pytest.mark.parametrize(
    ("raw", "syntax"),
    [
        (b"\x08\x00\x52\x00\x08\x00\x00\x00STUDY ", "1.2.840.10008.1.2"),  # cut short
        (b"\x08\x00\x52\x00CS\x06\x00STUDY ", "1.2.840.10008.1.2"),  # explicit instead
        (b"\x20\0\x0d\0\0\0\0\0\x08\0\x52\0\0\0\0\0", "1.2.840.10008.1.2"),  # out of order
        (b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY ", "1.2.840.10008.1.2.1"),  # implicit
        (b"\x4b\x04\x00", "1.2.840.10008.1.2.1.99"),  # deflated
    ],
)
def test_what_is_not_laid_out_as_it_should_is_left_to_pydicom(raw: bytes, syntax: str) -> None:
    with pytest.raises(DatasetError):
        read_identifier(raw, syntax)


@pytest.mark.parametrize(
    ("model", "level"),
    [
        (Model.PATIENT_ROOT, ""),
        (Model.PATIENT_ROOT, "INSTANCE"),
        (Model.PATIENT_ROOT, "study"),
        (Model.STUDY_ROOT, "PATIENT"),
        (Model.PATIENT_STUDY_ONLY, "SERIES"),
        (Model.PATIENT_STUDY_ONLY, "IMAGE"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, when the bad value is made
def test_a_level_that_is_not_of_the_model_is_refused(model: Model, level: str) -> None:
    asked = identifier(level, PatientID="1", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")
    for read in (parse_query, unique_keys):
        with pytest.raises(InvalidKeyError) as refused:
            read(asked, model)
        assert refused.value.tag == LEVEL
        assert len(refused.value.comment) <= 64


def test_a_missing_level_is_refused() -> None:
    with pytest.raises(InvalidKeyError) as refused:
        parse_query(Dataset(), Model.STUDY_ROOT)
    assert refused.value.tag == LEVEL


@pytest.mark.parametrize(
    ("model", "level", "keys", "guilty"),
    [
        (Model.PATIENT_ROOT, "STUDY", {}, PATIENT_ID),
        (Model.PATIENT_ROOT, "STUDY", {"PatientID": ""}, PATIENT_ID),
        (Model.PATIENT_ROOT, "STUDY", {"PatientID": "12*"}, PATIENT_ID),
        (Model.STUDY_ROOT, "SERIES", {}, STUDY_UID),
        (Model.STUDY_ROOT, "SERIES", {"StudyInstanceUID": ["1.2", "1.3"]}, STUDY_UID),
        (Model.STUDY_ROOT, "IMAGE", {"StudyInstanceUID": "1.2"}, SERIES_UID),
        (Model.PATIENT_ROOT, "IMAGE", {"StudyInstanceUID": "1.2"}, PATIENT_ID),
    ],
)
def test_a_hierarchical_query_needs_one_value_of_every_level_above(
    model: Model, level: str, keys: dict[str, Any], guilty: int
) -> None:
    with pytest.raises(InvalidKeyError) as refused:
        parse_query(identifier(level, **keys), model)
    assert refused.value.tag == guilty


def test_a_relational_query_needs_none_of_them() -> None:
    query = parse_query(identifier("IMAGE", SOPInstanceUID=""), Model.PATIENT_ROOT, relational=True)
    assert query.level is Level.IMAGE


def test_study_root_has_patient_keys_at_its_study_level() -> None:
    query = parse_query(identifier("STUDY", PatientName="A*", PatientID=""), Model.STUDY_ROOT)
    assert keywords(query) == ["PatientName", "PatientID"]
    assert query.unsupported_keys == ()


def test_keys_of_higher_levels_are_taken_and_those_of_lower_ones_named() -> None:
    asked = identifier(
        "SERIES", StudyInstanceUID="1.2", PatientName="", Modality="CT", InstanceNumber=""
    )
    asked.ModalitiesInStudy = ""
    asked.PatientTelephoneNumbers = ""
    asked.add_new(0x00091001, "LO", "private")
    query = parse_query(asked, Model.STUDY_ROOT)
    assert keywords(query) == ["Modality", "ModalitiesInStudy", "PatientName", "StudyInstanceUID"]
    assert query.unsupported_keys == (
        "(0009,1001)",
        "PatientTelephoneNumbers",
        "InstanceNumber",
    )


def test_counts_of_lower_levels_belong_to_the_level_counted_for() -> None:
    asked = identifier("PATIENT", NumberOfPatientRelatedStudies="", NumberOfStudyRelatedSeries="")
    query = parse_query(asked, Model.PATIENT_ROOT)
    assert keywords(query) == ["NumberOfPatientRelatedStudies"]
    assert query.unsupported_keys == ("NumberOfStudyRelatedSeries",)


@pytest.mark.parametrize("value", ["", "*", "**"])
def test_nothing_and_nothing_but_asterisks_is_universal(value: str) -> None:
    query = parse_query(
        identifier("STUDY", PatientName=value, StudyDescription=value), Model.STUDY_ROOT
    )
    assert [key.match for key in query.keys] == [UNIVERSAL, UNIVERSAL]


@pytest.mark.parametrize("value", ["^^^^", "*^*", "^", "=", "Smith\\*"])
def test_a_name_of_empty_components_is_universal(value: str) -> None:
    """Some clients always write the carets."""
    query = parse_query(identifier("STUDY", PatientName=value), Model.STUDY_ROOT)
    assert query.keys[0].match is UNIVERSAL


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, when the bad value is made
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDate", "2020"),
        ("StudyDate", "20201301"),
        ("StudyDate", "20200101-20200102-20200103"),
        ("StudyDate", "-"),
        ("StudyTime", "25"),
        ("StudyTime", "1060"),
        ("StudyInstanceUID", "1.2.*"),
    ],
)
def test_a_malformed_key_is_refused_by_name(keyword: str, value: str) -> None:
    asked = identifier("STUDY", **{keyword: value})
    with pytest.raises(InvalidKeyError, match=keyword) as refused:
        parse_query(received(asked), Model.STUDY_ROOT)
    assert refused.value.tag == asked.data_element(keyword).tag  # type: ignore[union-attr]


def test_a_number_that_is_none_is_refused_though_pydicom_would_raise() -> None:
    data = b"\x08\x00\x52\x00\x06\x00\x00\x00SERIES\x20\x00\x11\x00\x02\x00\x00\x001*"
    with pytest.raises(InvalidKeyError, match="SeriesNumber"):
        parse_query(read_dataset(BytesIO(data), True, True), Model.STUDY_ROOT, relational=True)


def test_keys_are_read_in_the_identifiers_character_set() -> None:
    asked = identifier("STUDY", PatientName="Ярош*", SpecificCharacterSet="ISO_IR 144")
    query = parse_query(received(asked), Model.STUDY_ROOT)
    assert query.character_set == "ISO_IR 144"
    assert query.keys[0].match == Names.of("ярош*")


def test_padding_of_a_key_does_not_count() -> None:
    query = parse_query(identifier("STUDY", AccessionNumber=" A1 "), Model.STUDY_ROOT)
    assert query.keys[0].match == Texts(("A1",))


def test_a_sequence_key_with_two_items_is_refused() -> None:
    asked = identifier("STUDY", ProcedureCodeSequence=[Dataset(), Dataset()])
    with pytest.raises(InvalidKeyError, match="one item"):
        parse_query(asked, Model.STUDY_ROOT)


def test_keys_of_an_item_that_are_not_kept_are_named() -> None:
    item = Dataset()
    item.CodeValue = "1"
    item.MappingResource = "DCMR"
    query = parse_query(identifier("STUDY", ProcedureCodeSequence=[item]), Model.STUDY_ROOT)
    assert query.keys[0].items == ("CodeValue",)
    assert query.unsupported_keys == ("ProcedureCodeSequence.MappingResource",)


# ---- C-MOVE and C-GET


def test_unique_keys_of_a_retrieve_are_one_value_above_and_a_list_at_its_level() -> None:
    asked = identifier(
        "IMAGE",
        StudyInstanceUID="1.2",
        SeriesInstanceUID="1.2.3",
        SOPInstanceUID=["1.2.3.4", "1.2.3.5", "1.2.3.4"],
        PatientName="ignored*",
    )
    assert unique_keys(received(asked), Model.STUDY_ROOT) == (
        Level.IMAGE,
        {
            Level.STUDY: ["1.2"],
            Level.SERIES: ["1.2.3"],
            Level.IMAGE: ["1.2.3.4", "1.2.3.5"],
        },
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, when the bad value is made
@pytest.mark.parametrize(
    ("model", "level", "keys", "guilty"),
    [
        (Model.STUDY_ROOT, "STUDY", {}, STUDY_UID),
        (Model.STUDY_ROOT, "STUDY", {"StudyInstanceUID": ""}, STUDY_UID),
        (Model.STUDY_ROOT, "STUDY", {"StudyInstanceUID": "*"}, STUDY_UID),
        (Model.STUDY_ROOT, "STUDY", {"StudyInstanceUID": "../../etc"}, STUDY_UID),
        (Model.STUDY_ROOT, "STUDY", {"StudyInstanceUID": "1" * 65}, STUDY_UID),
        (Model.STUDY_ROOT, "SERIES", {"SeriesInstanceUID": "1.2"}, STUDY_UID),
        (
            Model.STUDY_ROOT,
            "SERIES",
            {"StudyInstanceUID": ["1.2", "1.3"], "SeriesInstanceUID": "1"},
            STUDY_UID,
        ),
        (Model.PATIENT_ROOT, "PATIENT", {"PatientID": ""}, PATIENT_ID),
        (Model.PATIENT_ROOT, "PATIENT", {"PatientID": "*"}, PATIENT_ID),
        (Model.PATIENT_ROOT, "STUDY", {"StudyInstanceUID": "1.2"}, PATIENT_ID),
    ],
)
def test_a_retrieve_never_means_everything(
    model: Model, level: str, keys: dict[str, Any], guilty: int
) -> None:
    with pytest.raises(InvalidKeyError) as refused:
        unique_keys(received(identifier(level, **keys)), model)
    assert refused.value.tag == guilty


def test_a_relational_retrieve_may_leave_out_the_levels_above() -> None:
    asked = identifier("IMAGE", SOPInstanceUID="1.2.3")
    assert unique_keys(asked, Model.PATIENT_ROOT, relational=True) == (
        Level.IMAGE,
        {Level.IMAGE: ["1.2.3"]},
    )
    with pytest.raises(InvalidKeyError):
        unique_keys(identifier("IMAGE", StudyInstanceUID="1"), Model.STUDY_ROOT, relational=True)
