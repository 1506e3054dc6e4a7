"""Encoded responses, read back by pydicom: every transfer syntax, every character set."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from lfscp.archive.query.query import Model, parse_query
from lfscp.archive.query.responses import response_encoder
from tests.support.index_rows import identifier

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
SYNTAXES = [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED]


def encoded(asked: Dataset, syntax: str, values: dict[str, Any]) -> bytes:
    query = parse_query(asked, Model.PATIENT_ROOT, relational=True)
    row = [values.get(key.attribute.keyword, "") for key in query.keys]
    encode = response_encoder(query, transfer_syntax_uid=syntax, retrieve_ae_title="ARCHIVE")
    return encode(row)


def response(asked: Dataset, syntax: str = EXPLICIT, **values: Any) -> Dataset:
    data = encoded(asked, syntax, values)
    assert len(data) % 2 == 0
    if syntax == DEFLATED:
        data = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
    dataset = read_dataset(BytesIO(data), syntax == IMPLICIT, syntax != BIG_ENDIAN)
    tags = [int(tag) for tag in dataset.keys()]  # noqa: SIM118 - iterating gives elements
    assert tags == sorted(tags)
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_row_comes_back_in_every_transfer_syntax(syntax: str) -> None:
    item = Dataset()
    item.CodeValue = ""
    item.CodeMeaning = ""
    asked = identifier(
        "IMAGE",
        PatientName="",
        StudyInstanceUID="",
        StudyDate="",
        Rows=None,
        InstanceNumber="",
        SOPInstanceUID="",
        PatientComments="",
        ConceptNameCodeSequence=[item],
        NumberOfStudyRelatedInstances="",
        ModalitiesInStudy="",
        SpecificCharacterSet="ISO_IR 100",
    )
    found = response(
        asked,
        syntax,
        PatientName="Müller^Hans",
        StudyInstanceUID="1.2.3",
        StudyDate="20200105",
        Rows="512",
        InstanceNumber="7",
        SOPInstanceUID="1.2.3.4",
        PatientComments="x" * 501,
        ConceptNameCodeSequence='[{"CodeValue": "121", "CodeMeaning": "Größe"}]',
        NumberOfStudyRelatedInstances=0,
        ModalitiesInStudy="SR,CT",
    )
    assert str(found.PatientName) == "Müller^Hans"
    assert found.StudyInstanceUID == "1.2.3"
    assert found.StudyDate == "20200105"
    assert found.Rows == 512
    assert found.InstanceNumber == 7
    assert found.SOPInstanceUID == "1.2.3.4"
    assert found.PatientComments == "x" * 501
    assert found.ConceptNameCodeSequence[0].CodeValue == "121"
    assert found.ConceptNameCodeSequence[0].CodeMeaning == "Größe"
    assert found.NumberOfStudyRelatedInstances == 0
    assert list(found.ModalitiesInStudy) == ["CT", "SR"]
    assert found.QueryRetrieveLevel == "IMAGE"
    assert found.RetrieveAETitle == "ARCHIVE"
    assert found.SpecificCharacterSet == "ISO_IR 100"
    assert "InstanceAvailability" not in found


def test_the_bytes_of_a_small_response() -> None:
    """Golden: implicit VR little endian, UID padded by zero, text by a space."""
    asked = identifier("STUDY", StudyInstanceUID="", StudyID="")
    data = encoded(asked, IMPLICIT, {"StudyInstanceUID": "1.2", "StudyID": ""})
    assert data == (
        b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 192"
        b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY "
        b"\x08\x00\x54\x00\x08\x00\x00\x00ARCHIVE "
        b"\x20\x00\x0d\x00\x04\x00\x00\x001.2\x00"
        b"\x20\x00\x10\x00\x00\x00\x00\x00"
    )


def test_availability_is_online_when_asked_for() -> None:
    found = response(identifier("STUDY", InstanceAvailability=""))
    assert found.InstanceAvailability == "ONLINE"


def test_a_key_without_a_value_has_zero_length() -> None:
    found = response(
        identifier("STUDY", AccessionNumber="", ProcedureCodeSequence=[], StudyDate="")
    )
    assert found.AccessionNumber == ""
    assert found.StudyDate == ""
    assert len(found.ProcedureCodeSequence) == 0


@pytest.mark.filterwarnings("ignore:The value length")  # pydicom, reading it back
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_a_text_longer_than_a_short_vr_holds_is_not_cut(syntax: str) -> None:
    found = response(identifier("STUDY", PatientComments=""), syntax, PatientComments="y" * 70_001)
    value = found[0x00104000].value
    assert (value.decode() if isinstance(value, bytes) else value).rstrip() == "y" * 70_001


def test_rows_that_are_no_number_are_left_empty() -> None:
    found = response(identifier("IMAGE", Rows=None), Rows="many")
    assert found.Rows is None


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 101", "Wałęsa^Lech"),
        ("ISO_IR 126", "Διονυσιος"),
        ("ISO_IR 144", "Ярошенко"),
        ("ISO_IR 127", "قباني^لنزار"),
        ("ISO_IR 138", "שרון^דבורה"),
        ("ISO_IR 148", "Çavuşoğlu"),
        ("ISO_IR 166", "นามสกุล"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("GBK", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        (["", "ISO 2022 IR 100", "ISO 2022 IR 144"], "Müller^Люк"),
        (["ISO 2022 IR 6", "ISO 2022 IR 159"], "丂"),
    ],
)
def test_the_requests_character_set_is_used(character_set: Any, name: str) -> None:
    asked = identifier("PATIENT", PatientName="", SpecificCharacterSet=character_set)
    found = response(asked, PatientName=name)
    expected = [character_set] if isinstance(character_set, str) else character_set
    assert [found.SpecificCharacterSet] == expected or list(found.SpecificCharacterSet) == expected
    assert str(found.PatientName) == name


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (None, "Müller"),
        ("", "Smith"),
        ("ISO_IR 6", "Müller"),
        ("ISO_IR 100", "Wałęsa"),
        ("ISO_IR 13", "山田"),
        (["", "ISO 2022 IR 87"], "홍^길동"),
        (["", "ISO 2022 IR 87"], "Müller"),
        ("ISO_IR 999", "Smith"),
    ],
)
def test_what_the_character_set_cannot_hold_comes_in_utf_8(character_set: Any, name: str) -> None:
    asked = identifier("PATIENT", PatientName="", PatientID="")
    if character_set is not None:
        asked.SpecificCharacterSet = character_set
    found = response(asked, PatientName=name, PatientID="Ä1")
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert (str(found.PatientName), found.PatientID) == (name, "Ä1")


def test_one_row_in_utf_8_leaves_the_next_as_asked() -> None:
    asked = identifier("PATIENT", PatientName="", SpecificCharacterSet="ISO_IR 100")
    query = parse_query(asked, Model.PATIENT_ROOT)
    encode = response_encoder(query, transfer_syntax_uid=EXPLICIT, retrieve_ae_title="A")
    sets = [
        read_dataset(BytesIO(encode([name])), False, True).SpecificCharacterSet
        for name in ("Müller", "Wałęsa", "Jörg")
    ]
    assert sets == ["ISO_IR 100", "ISO_IR 192", "ISO_IR 100"]
