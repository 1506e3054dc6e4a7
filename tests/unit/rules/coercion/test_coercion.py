"""Coercions: what changes reads back exactly, and every other element keeps its bytes."""

from __future__ import annotations

import re
import warnings
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lfscp.config.coercion import CoercionSection
from lfscp.dicom.encoding.deflate import deflate, inflate
from lfscp.dicom.errors import DatasetError
from lfscp.rules.coercion.coercion import Coerced, coerce
from lfscp.rules.coercion.errors import CoercionError
from lfscp.rules.coercion.original_attributes import COERCE, Modification
from lfscp.rules.coercion.reading import read_coercions

ORIGINAL_ATTRIBUTES = 0x04000561
MODIFICATION = Modification("LFSCP", COERCE, "20260102030405.000000+0000", "SENDER")
SLOW = r"^(a|aa|a\w)*$"
SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def sample(**values: Any) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.1.1"
    dataset.StudyDate = "20260101"
    dataset.AccessionNumber = "A1"
    dataset.Modality = "CT"
    dataset.InstitutionName = "Städtisches Klinikum"
    dataset.StudyDescription = "Head CT"
    dataset.PatientName = "Müller^Jürgen"
    dataset.PatientID = "P1"
    dataset.PatientBirthDate = "19700101"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.1"
    dataset.StudyID = "S7"
    first, second = Dataset(), Dataset()
    first.ScheduledProcedureStepID = "STEP1"
    first.StudyInstanceUID = "1.2.3"
    second.ScheduledProcedureStepID = "STEP2"
    dataset.RequestAttributesSequence = [first, second]
    dataset.Rows = 2
    dataset.Columns = 2
    dataset.PixelData = b"\1\2\3\4"
    dataset["PixelData"].VR = "OW"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def encoded(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = syntax == ImplicitVRLittleEndian
    buffer.is_little_endian = syntax != ExplicitVRBigEndian
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def decoded(raw: bytes, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    return read_dataset(BytesIO(raw), implicit, little)


def rules(read_file: Any = lambda name: "", **section: Any) -> Any:
    made = CoercionSection.model_validate({"name": "rule", **section})
    return read_coercions([made], read_file)


def coerced(
    dataset: Dataset | bytes, syntax: str = ExplicitVRLittleEndian, table: str = "", **section: Any
) -> tuple[Dataset, Coerced]:
    raw = dataset if isinstance(dataset, bytes) else encoded(dataset, syntax)
    made = coerce(memoryview(raw), syntax, rules(lambda name: table, **section), MODIFICATION)
    return decoded(b"".join(made.pieces), syntax), made


def elements_of(raw: bytes, syntax: str) -> dict[int, bytes]:
    """The raw value of each element."""
    found = decoded(raw, syntax)
    return {tag: found.get_item(tag).value for tag in found.keys()}  # noqa: SIM118 - a Dataset's


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_value_is_set_and_all_other_elements_keep_their_bytes(syntax: str) -> None:
    raw = encoded(sample(), syntax)
    made = coerce(memoryview(raw), syntax, rules(set={"PatientID": "NEW"}), MODIFICATION)
    result = b"".join(made.pieces)
    before, after = elements_of(raw, syntax), elements_of(result, syntax)
    del after[ORIGINAL_ATTRIBUTES]
    assert after.pop(0x00100020) == b"NEW "
    del before[0x00100020]
    assert [*map(bytes_of, after.items())] == [*map(bytes_of, before.items())]


def bytes_of(pair: tuple[int, Any]) -> tuple[int, Any]:
    tag, value = pair
    return (int(tag), [encoded(item) for item in value] if isinstance(value, Sequence) else value)


def test_pixels_are_a_slice_of_what_was_given() -> None:
    raw = encoded(sample(PixelData=b"\7" * 100_000))
    source = memoryview(raw)
    made = coerce(source, ExplicitVRLittleEndian, rules(remove=["StudyID"]), MODIFICATION)
    last = made.pieces[-1]
    assert isinstance(last, memoryview)
    assert last.obj is raw
    assert len(last) > 100_000


def test_an_object_that_does_not_change_is_the_same_one() -> None:
    raw = memoryview(encoded(sample()))
    for section in (
        {"set": {"PatientID": "P1"}},
        {"remove": ["PatientComments"]},
        {"copy": {"PatientComments": "ImageComments"}},
        {"replace": {"StudyDescription": {"pattern": "xyz", "by": ""}}},
    ):
        made = coerce(raw, ExplicitVRLittleEndian, rules(**section), MODIFICATION)
        assert len(made.pieces) == 1
        assert made.pieces[0] is raw


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_each_action_does_what_it_says(syntax: str) -> None:
    found, made = coerced(
        sample(),
        syntax,
        "id,name\nP1,Doe^Jane\n",
        copy={"OtherPatientIDs": "PatientID", "AccessionNumber": "StudyID"},
        map={"PatientName": {"table": "names.csv", "attribute": "PatientID"}},
        replace={"StudyDescription": {"pattern": r"^(\w+) CT$", "by": r"CT of the \1"}},
        set={"InstitutionName": "Clinic", "SeriesNumber": 7, "LossyImageCompression": "00"},
        remove=["PatientBirthDate", "RequestAttributesSequence[1].ScheduledProcedureStepID"],
    )
    assert not made.notes
    assert found.OtherPatientIDs == "P1"
    assert found.AccessionNumber == "S7"
    assert found.PatientName == "Doe^Jane"
    assert found.StudyDescription == "CT of the Head"
    assert found.InstitutionName == "Clinic"
    assert found.SeriesNumber == 7
    assert "PatientBirthDate" not in found
    first, second = found.RequestAttributesSequence
    assert first.ScheduledProcedureStepID == "STEP1"
    assert "ScheduledProcedureStepID" not in second


def test_an_attribute_in_items_is_changed_in_each_or_in_one() -> None:
    path = "RequestAttributesSequence.ScheduledProcedureStepID"
    found, _ = coerced(sample(), set={path: "X"})
    assert [each.ScheduledProcedureStepID for each in found.RequestAttributesSequence] == ["X", "X"]
    path = "RequestAttributesSequence[1].ScheduledProcedureStepID"
    found, _ = coerced(sample(), set={path: "X"})
    ids = [each.ScheduledProcedureStepID for each in found.RequestAttributesSequence]
    assert ids == ["STEP1", "X"]


@pytest.mark.timeout(60)  # instead of hours
def test_a_value_on_which_an_expression_takes_too_long_stays() -> None:
    hostile = "RequestAttributesSequence[*].ScheduledProcedureStepDescription"
    dataset = sample(StudyDescription="Head CT")
    for item in dataset.RequestAttributesSequence:
        item.ScheduledProcedureStepDescription = "a" * 60 + "!"
    rules = {
        hostile: {"pattern": SLOW, "by": ""},
        "StudyDescription": {"pattern": "CT", "by": "MR"},
    }
    found, made = coerced(dataset, replace=rules)
    assert found.StudyDescription == "Head MR"
    for item in found.RequestAttributesSequence:
        assert item.ScheduledProcedureStepDescription == "a" * 60 + "!"
    assert len(made.notes) == 2
    assert all("takes less than 1 s" in note for note in made.notes)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_sequences_keep_the_form_of_their_lengths(syntax: str, undefined: bool) -> None:
    dataset = sample()
    dataset["RequestAttributesSequence"].is_undefined_length = undefined
    for item in dataset.RequestAttributesSequence:
        item.is_undefined_length_sequence_item = undefined
    path = "RequestAttributesSequence[0].ScheduledProcedureStepID"
    raw = memoryview(encoded(dataset, syntax))
    made = coerce(raw, syntax, rules(set={path: "LONGER1"}), None)
    expected = sample()
    expected["RequestAttributesSequence"].is_undefined_length = undefined
    for item in expected.RequestAttributesSequence:
        item.is_undefined_length_sequence_item = undefined
    expected.RequestAttributesSequence[0].ScheduledProcedureStepID = "LONGER1"
    assert b"".join(made.pieces) == encoded(expected, syntax)


def test_the_first_item_of_an_absent_sequence_is_made() -> None:
    path = "ReferencedStudySequence[0].ReferencedSOPInstanceUID"
    found, _ = coerced(sample(), set={path: "1.2.9"})
    assert found.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "1.2.9"
    found, made = coerced(sample(), set={path.replace("[0]", "[1]"): "1.2.9"})
    assert "ReferencedStudySequence" not in found
    assert len(made.pieces) == 1


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_object_says_what_its_attributes_were(syntax: str) -> None:
    found, _ = coerced(
        sample(), syntax, set={"PatientID": "NEW", "PatientComments": "x"}, remove=["StudyID"]
    )
    (item,) = found.OriginalAttributesSequence
    assert item.AttributeModificationDateTime == "20260102030405.000000+0000"
    assert item.ModifyingSystem == "LFSCP"
    assert item.SourceOfPreviousValues == "SENDER"
    assert item.ReasonForTheAttributeModification == "COERCE"
    (kept,) = item.ModifiedAttributesSequence
    names = {element.keyword for element in kept}
    assert names == {"PatientID", "StudyID", "PatientComments"}
    assert kept.PatientID == "P1"
    assert kept.StudyID == "S7"
    assert not kept.PatientComments


def test_an_earlier_change_stays_when_another_one_comes() -> None:
    first, _ = coerced(sample(), set={"PatientID": "TWO"})
    second, _ = coerced(first, set={"PatientID": "THREE"})
    kept = [
        each.ModifiedAttributesSequence[0].PatientID for each in second.OriginalAttributesSequence
    ]
    assert kept == ["P1", "TWO"]


def test_a_nested_attribute_is_kept_with_its_sequence() -> None:
    path = "RequestAttributesSequence[0].ScheduledProcedureStepID"
    found, _ = coerced(sample(), set={path: "X"})
    (kept,) = found.OriginalAttributesSequence[0].ModifiedAttributesSequence
    ids = [each.ScheduledProcedureStepID for each in kept.RequestAttributesSequence]
    assert ids == ["STEP1", "STEP2"]


def test_without_a_modification_nothing_is_said_of_it() -> None:
    raw = encoded(sample())
    made = coerce(memoryview(raw), ExplicitVRLittleEndian, rules(set={"PatientID": "NEW"}), None)
    assert "OriginalAttributesSequence" not in decoded(b"".join(made.pieces))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_name_that_the_character_set_lacks_makes_the_whole_dataset_utf_8(syntax: str) -> None:
    dataset = sample()
    item = Dataset()
    item.ScheduledProcedureStepDescription = "Schädel"
    dataset.RequestAttributesSequence.append(item)
    found, _ = coerced(dataset, syntax, set={"PatientName": "Иванов^Иван"})
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.PatientName == "Иванов^Иван"
    assert found.InstitutionName == "Städtisches Klinikum"
    assert found.RequestAttributesSequence[2].ScheduledProcedureStepDescription == "Schädel"
    (kept,) = found.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert kept.SpecificCharacterSet == "ISO_IR 100"
    assert kept.PatientName == "Müller^Jürgen"


def test_a_name_that_the_character_set_has_is_written_in_it() -> None:
    found, _ = coerced(sample(), set={"PatientName": "Größe^Ärmel"})
    assert found.SpecificCharacterSet == "ISO_IR 100"
    assert found.PatientName == "Größe^Ärmel"


def test_ascii_becomes_utf_8_when_it_has_to() -> None:
    dataset = sample(InstitutionName="Clinic", PatientName="Doe^Jane")
    del dataset.SpecificCharacterSet
    found, _ = coerced(dataset, set={"PatientName": "Yamada^Tarou=山田^太郎"})
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.PatientName == "Yamada^Tarou=山田^太郎"
    assert (
        "SpecificCharacterSet"
        not in (found.OriginalAttributesSequence[0].ModifiedAttributesSequence[0])
    )


def test_code_extensions_are_read_and_written() -> None:
    dataset = sample(InstitutionName="Clinic", PatientName="Doe^Jane")
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    found, _ = coerced(dataset, set={"PatientName": "Yamada^Tarou=山田^太郎"})
    assert list(found.SpecificCharacterSet) == ["", "ISO 2022 IR 87"]
    assert found.PatientName == "Yamada^Tarou=山田^太郎"


def test_a_deflated_dataset_is_changed_and_deflated_again() -> None:
    raw = deflate(encoded(sample()))
    syntax = DeflatedExplicitVRLittleEndian
    made = coerce(memoryview(raw), syntax, rules(set={"PatientID": "NEW"}), MODIFICATION)
    result = b"".join(inflate([b"".join(made.pieces)]))
    assert decoded(result).PatientID == "NEW"
    kept = coerce(memoryview(raw), syntax, rules(set={"PatientID": "P1"}), MODIFICATION)
    assert bytes(kept.pieces[0]) == raw


def test_a_group_length_changes_with_its_group() -> None:
    raw = encoded(sample())
    head = b"\x10\0\0\0UL\4\0" + (1000).to_bytes(4, "little")
    at = raw.index(b"\x10\0\x10\0PN")
    made = coerce(
        memoryview(raw[:at] + head + raw[at:]),
        ExplicitVRLittleEndian,
        rules(set={"PatientID": "LONGER"}),
        MODIFICATION,
    )
    result = b"".join(made.pieces)
    where = result.index(b"\x10\0\0\0UL\4\0") + 8
    assert int.from_bytes(result[where : where + 4], "little") == 1004


def test_a_value_that_is_not_in_the_table_stays_or_goes() -> None:
    table = "from,to\nX,Y\n"
    found, _ = coerced(sample(), table=table, map={"PatientID": {"table": "t"}})
    assert found.PatientID == "P1"
    found, _ = coerced(
        sample(), table=table, map={"PatientID": {"table": "t", "otherwise": "empty"}}
    )
    assert found.PatientID == ""


def test_columns_of_a_table_are_named() -> None:
    table = "old,remark,new\nP1,a,N1\n"
    found, _ = coerced(
        sample(), table=table, map={"PatientID": {"table": "t", "key": "old", "value": "new"}}
    )
    assert found.PatientID == "N1"


def test_all_maps_of_a_rule_see_the_object_as_it_was() -> None:
    found, _ = coerced(
        sample(),
        table="id,new,name\nP1,N1,Doe^Jane\n",
        map={
            "PatientID": {"table": "t"},
            "PatientName": {"table": "t", "attribute": "PatientID", "value": "name"},
        },
    )
    assert (found.PatientID, found.PatientName) == ("N1", "Doe^Jane")


def test_a_value_that_does_not_fit_stays_and_is_noted_without_patient_data() -> None:
    dataset = sample(PatientComments="Müller")
    found, made = coerced(dataset, copy={"PatientBirthDate": "PatientComments"})
    assert found.PatientBirthDate == "19700101"
    assert made.notes == (
        "rule: PatientBirthDate stays as it was: expected a value of VR DA, which is ASCII",
    )


def test_a_private_attribute_is_set_with_its_vr_and_removed() -> None:
    dataset = sample()
    block = dataset.private_block(0x0029, "LFSCP TEST", create=True)
    block.add_new(0x01, "LO", "secret")
    found, _ = coerced(dataset, remove=["(0029,1001)"])
    assert (0x0029, 0x1001) not in found
    found, _ = coerced(sample(), set={"(0029,0010)": {"vr": "LO", "value": "LFSCP TEST"}})
    assert found[0x00290010].value == "LFSCP TEST"
    found, _ = coerced(sample(), set={"(0029,1001)": {"vr": "DS", "value": 1.5}})
    assert found[0x00291001].VR == "DS"


def test_uids_change_by_a_table() -> None:
    found, _ = coerced(
        sample(), table="a,b\n1.2.3,1.9.9\n", map={"StudyInstanceUID": {"table": "t"}}
    )
    assert found.StudyInstanceUID == "1.9.9"


@pytest.mark.parametrize("how", ["cut", "long"])
def test_a_broken_dataset_is_an_error(how: str) -> None:
    raw = encoded(sample())
    broken = (
        raw[: raw.index(b"Head CT") + 3]
        if how == "cut"
        else raw[:30].replace(b"UI", b"U\1") + raw[30:]
    )
    with pytest.raises(DatasetError):
        coerce(memoryview(broken), ExplicitVRLittleEndian, rules(remove=["StudyID"]), MODIFICATION)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"set": {"PatientNam": "x"}}, "coercion.0.set.PatientNam", "the keyword of an attribute"),
    ({"set": {"PatientBirthDate": "today"}}, "coercion.0.set.PatientBirthDate", "VR DA"),
    ({"set": {"PatientID": "x" * 65}}, "coercion.0.set.PatientID", "VR LO"),
    ({"set": {"Rows": "many"}}, "coercion.0.set.Rows", "how pixels are encoded"),
    ({"set": {"SOPClassUID": "1.2"}}, "coercion.0.set.SOPClassUID", "the SOP class stays"),
    ({"set": {"SOPInstanceUID": "1.2"}}, "coercion.0.set.SOPInstanceUID", "objects of one UID"),
    ({"set": {"PixelData": "1"}}, "coercion.0.set.PixelData", "before Pixel Data"),
    ({"set": {"(0002,0010)": "1.2"}}, "coercion.0.set.(0002,0010)", "before Pixel Data"),
    ({"set": {"SpecificCharacterSet": "x"}}, "coercion.0.set.SpecificCharacterSet", "itself"),
    ({"set": {"PatientID.StudyID": "x"}}, "coercion.0.set.PatientID.StudyID", "a sequence"),
    ({"set": {"(0029,1001)": "x"}}, "coercion.0.set.(0029,1001)", "a table with the VR"),
    ({"set": {"RequestAttributesSequence": "x"}}, "", "VR is SQ"),
    ({"remove": ["StudyInstanceUID"]}, "coercion.0.remove", "can do without"),
    ({"replace": {"StudyID": {"pattern": "("}}}, "coercion.0.replace.StudyID.pattern", "regular"),
    ({"replace": {"StudyID": {"pattern": "a", "by": r"\2"}}}, "coercion.0.replace.StudyID.by", ""),
    ({"when": {"Modalit": "CT"}, "set": {"StudyID": "1"}}, "coercion.0.when.Modalit", "Modality"),
    ({}, "coercion.0", "something to do"),
]


@pytest.mark.parametrize(("section", "path", "expected"), WRONG, ids=lambda each: str(each)[:40])
def test_what_cannot_be_is_refused_with_its_key(
    section: dict[str, Any], path: str, expected: str
) -> None:
    with pytest.raises(CoercionError) as refused:
        rules(**section)
    if path:
        assert ".".join(refused.value.path) == path
    assert expected in refused.value.expected


TABLES = {
    "": "two columns",
    "one\n": "two columns",
    "a,b\n1\n": "2 columns in row 2",
    "a,b\n1,2\n1,3\n": "each value once",
    'a,b\n"1,2\n': "a CSV file",
    "a,b\nP1,notadate\n": "VR DA",
}


@pytest.mark.parametrize("text", TABLES)
def test_a_table_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(CoercionError, match=re.escape(TABLES[text])) as refused:
        rules(lambda name: text, map={"PatientBirthDate": {"table": "t.csv"}})
    assert refused.value.path == ("coercion", "0", "map", "PatientBirthDate", "table")


def test_a_table_that_is_missing_is_refused() -> None:
    def missing(name: str) -> str:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(CoercionError, match="No such file"):
        rules(missing, map={"PatientID": {"table": "t.csv"}})


TEXTS = {
    "LO": st.text(
        st.characters(codec="utf-8", exclude_characters="\\", exclude_categories=["C", "Z"]),
        min_size=1,
        max_size=40,
    ),
    "DA": st.dates().map(lambda day: f"{day.year:04}{day.month:02}{day.day:02}"),
    "UI": st.lists(st.integers(1, 99999), min_size=1, max_size=8).map(
        lambda parts: ".".join(map(str, parts))
    ),
}
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "PatientID": TEXTS["LO"],
        "InstitutionName": TEXTS["LO"],
        "PatientBirthDate": TEXTS["DA"],
        "FrameOfReferenceUID": TEXTS["UI"],
        "StudyDescription": TEXTS["LO"],
        "RequestAttributesSequence.ScheduledProcedureStepDescription": TEXTS["LO"],
        "IssuerOfPatientID": TEXTS["LO"],
        "PatientComments": TEXTS["LO"],
    },
)


@given(
    CHANGES.filter(bool),
    st.sampled_from(SYNTAXES),
    st.sampled_from(["", "ISO_IR 100", "ISO_IR 192"]),
)
@settings(max_examples=200, deadline=None)
def test_whatever_is_set_reads_back_and_the_rest_is_what_it_was(
    changes: dict[str, str], syntax: str, character_set: str
) -> None:
    dataset = sample()
    if character_set:
        dataset.SpecificCharacterSet = character_set
    else:
        del dataset.SpecificCharacterSet
        dataset.InstitutionName, dataset.PatientName = "Clinic", "Doe^Jane"
    raw = encoded(dataset, syntax)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, made = coerced(raw, syntax, set=changes)
        assert not made.notes
        for path, value in changes.items():
            *outer, keyword = path.split(".")
            places = found[outer[0]].value if outer else [found]
            assert all(str(each[keyword].value) == value for each in places)
        before = decoded(raw, syntax)
        changed = {path.split(".")[0] for path in changes}
        for element in before:
            if element.keyword not in {*changed, "SpecificCharacterSet"}:
                assert found[element.tag] == element, element.keyword
