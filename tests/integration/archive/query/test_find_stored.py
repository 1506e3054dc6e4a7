"""Objects stored, and asked for with what they hold: what went in is found and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from lfscp.archive.archive import Archive, Received
from lfscp.archive.query.query import InvalidKeyError, Model, parse_query
from lfscp.dicom.reading.identifiers import read_identifier
from tests.support.archive_datasets import CT_IMAGE, encoded
from tests.support.index_rows import identifier

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., Archive]) -> Iterator[Archive]:
    with open_archive(tmp_path / "data", durability="os") as opened:
        yield opened


def store(archive: Archive, number: int, **values: Any) -> str:
    """Store an instance of a study and patient of its own; returns the study's UID."""
    study = f"1.2.{number}"
    ids = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1", "PatientID": f"P{number}"}
    data = encoded(number, **ids | values)
    archive.store(Received(CT_IMAGE, f"1.2.3.1.{number}", EXPLICIT, dataset=memoryview(data)))
    return study


def store_bytes(archive: Archive, number: int, values: dict[int, bytes]) -> str:
    """The same for values byte for byte, in implicit VR little endian."""
    study = f"1.2.{number}"
    values |= {
        0x00080016: CT_IMAGE.encode(),
        0x00080018: f"1.2.3.1.{number}".encode(),
        0x0020000D: study.encode(),
        0x0020000E: f"{study}.1".encode(),
    }
    data = elements(values)
    archive.store(Received(CT_IMAGE, f"1.2.3.1.{number}", IMPLICIT, dataset=memoryview(data)))
    return study


def elements(values: dict[int, bytes]) -> bytes:
    """Elements in implicit VR little endian."""
    parts = []
    for tag, value in sorted(values.items()):
        even = value + (b"\0" if value[-1:].isdigit() else b" ") * (len(value) % 2)
        parts.append(pack("<HHL", tag >> 16, tag & 0xFFFF, len(even)) + even)
    return b"".join(parts)


def _written(dataset: Dataset, *, implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def ask(archive: Archive, asked: Dataset, *, by_pydicom: bool = False) -> list[Dataset]:
    """The answers to an identifier as it comes from the network."""
    raw = _written(asked, implicit=False)
    received: Any = read_dataset(BytesIO(raw), False, True) if by_pydicom else None
    query = parse_query(received or read_identifier(raw, EXPLICIT), Model.STUDY_ROOT)
    found = archive.find(query, transfer_syntax_uid=EXPLICIT, retrieve_ae_title="LFSCP")
    return [read_dataset(BytesIO(data), False, True) for data in found]


def studies(archive: Archive, **keys: Any) -> list[str]:
    asked = identifier("STUDY", StudyInstanceUID="", SpecificCharacterSet="ISO_IR 192")
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    return sorted(str(each.StudyInstanceUID) for each in ask(archive, asked))


# ---- texts in which a backslash is a character like others


@pytest.mark.parametrize("keyword", ["AdditionalPatientHistory"])  # LT
@pytest.mark.parametrize(
    ("key", "numbers"),
    [
        ("a\\b", [1]),
        ("a", [2]),
        ("b", []),
        ("a\\*", [1]),
        ("?\\b", [1]),
        ("*\\*", [1, 4]),
        ("\\", [4]),
        (" a", [3]),  # a leading space counts, one at the end does not
        ("a ", [2]),
        ("", [1, 2, 3, 4]),
        ("*", [1, 2, 3, 4]),
    ],
)
def test_a_backslash_in_a_long_text_is_text(
    archive: Archive, keyword: str, key: str, numbers: list[int]
) -> None:
    for number, text in enumerate(["a\\b", "a", " a", "\\"], start=1):
        store(archive, number, **{keyword: text})
    assert studies(archive, **{keyword: key}) == [f"1.2.{number}" for number in numbers]


@pytest.mark.parametrize("by_pydicom", [False, True])
def test_a_long_text_comes_back_as_it_was_stored(archive: Archive, by_pydicom: bool) -> None:
    text = " left\\right\\\\\r\nand \\ so on"
    store(archive, 1, AdditionalPatientHistory=text, PatientComments="\\")
    asked = identifier("STUDY", AdditionalPatientHistory=text, PatientComments="")
    (found,) = ask(archive, asked, by_pydicom=by_pydicom)
    assert found.AdditionalPatientHistory == text
    assert found.PatientComments == "\\"


@pytest.mark.parametrize(
    ("character_set", "text"),
    [
        ("GB18030", "俓\\俓"),  # 82 5C: the second byte is a backslash's
        ("GBK", "俓\\a"),
        ("ISO_IR 13", "表\\ｱ"),  # as many objects have it: 95 5C of Shift JIS
        (["", "ISO 2022 IR 87"], "榮\\山"),  # 5C in kanji
        (["", "ISO 2022 IR 149"], "김=이^박\\최"),
        (["", "ISO 2022 IR 58"], "张=王\\山"),
    ],
)
def test_a_byte_of_a_character_is_no_backslash(
    archive: Archive, character_set: Any, text: str
) -> None:
    """In running text no sign but the end of a line ends a run of characters."""
    raw = b"".join(_in_one_run(text, character_set))
    first = character_set if isinstance(character_set, str) else "\\".join(character_set)
    store_bytes(archive, 1, {0x00080005: first.encode(), 0x001021B0: raw})
    store(archive, 2, AdditionalPatientHistory="other")
    (found,) = ask(
        archive,
        identifier("STUDY", StudyInstanceUID="1.2.1", AdditionalPatientHistory=""),
    )
    assert found.AdditionalPatientHistory == text
    assert studies(archive, AdditionalPatientHistory=text) == ["1.2.1"]
    assert studies(archive, AdditionalPatientHistory=f"{text[0]}?{text[2:]}") == ["1.2.1"]


def _in_one_run(text: str, character_set: Any) -> Iterator[bytes]:
    """The text with one escape sequence at its begin, and one where kanji ends."""
    if character_set == "ISO_IR 13":
        yield text.encode("cp932")
    elif isinstance(character_set, str):
        yield text.encode("gb18030")
    elif character_set[1] == "ISO 2022 IR 87":
        yield text.encode("iso2022_jp")
    else:
        korean = character_set[1] == "ISO 2022 IR 149"
        yield (b"\x1b$)C" + text.encode("euc_kr")) if korean else b"\x1b$)A" + text.encode("gb2312")


@pytest.mark.parametrize("key", ["Head\\Neck", "Head", "Neck", "He*\\N*"])
def test_two_values_where_one_is_allowed_are_found_by_what_they_are(
    archive: Archive, key: str
) -> None:
    """Study Description is one value (LO, VM 1); objects hold a backslash all the same."""
    store_bytes(archive, 1, {0x00081030: b"Head\\Neck"})
    store(archive, 2, StudyDescription="Neck")
    (found, *_) = ask(archive, identifier("STUDY", StudyInstanceUID="1.2.1", StudyDescription=""))
    assert found["StudyDescription"].value == ["Head", "Neck"]
    expected = {"Head": [], "Neck": ["1.2.2"]}
    assert studies(archive, StudyDescription=key) == expected.get(key, ["1.2.1", "1.2.2"])


@pytest.mark.parametrize("keyword", ["OtherPatientIDs", "OtherPatientNames"])
@pytest.mark.parametrize(
    ("key", "is_found"),
    [
        ("AB", True),
        ("CD", True),
        ("cd", None),  # as the case counts in the attribute
        ("?B", True),
        ("C?", True),
        ("A*D", False),  # across two values
        ("A?", True),
        ("AB\\XY", True),
        ("XY\\CD", True),
        ("XY\\ZZ", False),
        ("B", False),
        ("AB ", True),
        ("CD\0", True),
    ],
)
def test_one_of_several_values_is_enough(
    archive: Archive, keyword: str, key: str, is_found: bool | None
) -> None:
    store(archive, 1, **{keyword: ["AB ", "CD"]})
    store(archive, 2, **{keyword: "Other"})
    expected = keyword == "OtherPatientNames" if is_found is None else is_found
    assert studies(archive, **{keyword: key}) == (["1.2.1"] if expected else [])


@pytest.mark.parametrize(
    "keyword", ["StudyDescription", "ReferringPhysicianName", "OtherPatientIDs"]
)
@pytest.mark.parametrize("stored", ["Müller", "山田太郎", "Łódź"])
def test_a_question_mark_is_one_character_of_any_length(
    archive: Archive, keyword: str, stored: str
) -> None:
    store(archive, 1, SpecificCharacterSet="ISO_IR 192", **{keyword: stored})
    for at in range(len(stored)):
        key = stored[:at] + "?" + stored[at + 1 :]
        assert studies(archive, **{keyword: key}) == ["1.2.1"]
    assert studies(archive, **{keyword: "?" * len(stored)}) == ["1.2.1"]
    assert studies(archive, **{keyword: "?" * (len(stored) + 1)}) == []


@pytest.mark.parametrize(
    ("stored", "key", "is_found"),
    [
        ("Weiß^Jörg", "WEI?^J?RG", True),
        ("Weiß^Jörg", "Weiss^*", True),
        ("Weiß^Jörg", "Weiß^J?rg", True),
        ("Weiss^Jörg", "Wei?^*", False),
        ("Groß^Straße", "Gro?^?traße", True),
        ("İbrahim^Ali", "?brahim*", True),
        ("Jo\u0308rg", "J?rg", True),  # o and a diaeresis of its own are one letter
        ("Smith=李^?", "=李^?", True),
    ],
)
@pytest.mark.parametrize("keyword", ["PatientName", "OtherPatientNames", "ReferringPhysicianName"])
def test_a_question_mark_is_one_letter_of_a_name_as_it_was_written(
    archive: Archive, keyword: str, stored: str, key: str, is_found: bool
) -> None:
    store(archive, 1, SpecificCharacterSet="ISO_IR 192", **{keyword: stored})
    assert studies(archive, **{keyword: key}) == (["1.2.1"] if is_found else [])


@pytest.mark.parametrize("key", ["A\0B", "A\0*"])
def test_a_zero_byte_in_a_key_harms_no_index(archive: Archive, key: str) -> None:
    store_bytes(archive, 1, {0x00081030: b"A\0B"})
    store(archive, 2, StudyDescription="AB")
    assert studies(archive, StudyDescription=key) == ["1.2.1"]


def test_a_code_string_of_other_letters_comes_back_as_it_is(archive: Archive) -> None:
    store_bytes(archive, 1, {0x00080005: b"ISO_IR 100", 0x00180015: "SCHÄDEL".encode("latin-1")})
    asked = identifier("SERIES", StudyInstanceUID="1.2.1", BodyPartExamined="")
    for character_set, codec in (("ISO_IR 192", "utf-8"), ("ISO_IR 100", "latin-1")):
        asked.SpecificCharacterSet = character_set
        raw = _written(asked, implicit=True)
        query = parse_query(read_identifier(raw, IMPLICIT), Model.STUDY_ROOT)
        (found,) = archive.find(query, transfer_syntax_uid=IMPLICIT, retrieve_ae_title="LFSCP")
        assert "SCHÄDEL".encode(codec) in found
        key = elements(
            {
                0x00080005: character_set.encode(),
                0x00080052: b"SERIES",
                0x00180015: "SCHÄDEL".encode(codec),
                0x0020000D: b"1.2.1",
            }
        )
        query = parse_query(read_identifier(key, IMPLICIT), Model.STUDY_ROOT)
        options = {"transfer_syntax_uid": IMPLICIT, "retrieve_ae_title": "LFSCP"}
        assert len(list(archive.find(query, **options))) == 1


# ---- sequences


def code(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def meanings(archive: Archive, asked: Dataset, **options: bool) -> list[list[str]]:
    found = ask(archive, asked, **options)
    return [[str(item.CodeMeaning) for item in one.ProcedureCodeSequence] for one in found]


@pytest.mark.parametrize("by_pydicom", [False, True])
@pytest.mark.parametrize("of_dataset", ["ISO_IR 100", "ISO_IR 192", ""])
@pytest.mark.parametrize("of_item", ["ISO_IR 192", "GB18030", "ISO_IR 144"])
def test_an_item_is_read_by_its_own_character_set(
    archive: Archive, of_dataset: str, of_item: str, by_pydicom: bool
) -> None:
    """In the object, in the identifier, and in an answer that has one for all."""
    text = {"ISO_IR 192": "Schädel", "GB18030": "俓部", "ISO_IR 144": "Череп"}[of_item]
    own = code(SpecificCharacterSet=of_item, CodeValue="1", CodeMeaning=text)
    plain = code(CodeValue="2", CodeMeaning="Ohr")
    values = {"SpecificCharacterSet": of_dataset} if of_dataset else {}
    store(archive, 1, ProcedureCodeSequence=[own, plain], **values)
    store(archive, 2, ProcedureCodeSequence=[plain], **values)
    for answered in ("ISO_IR 192", "ISO_IR 100", ""):
        asked = identifier("STUDY", ProcedureCodeSequence=[code(CodeMeaning="", CodeValue="")])
        asked.StudyInstanceUID, asked.SpecificCharacterSet = "1.2.1", answered
        assert meanings(archive, asked, by_pydicom=by_pydicom) == [[text, "Ohr"]]
        asked.StudyInstanceUID = ""
        key = code(SpecificCharacterSet=of_item, CodeMeaning=text[:2] + "*")
        asked.ProcedureCodeSequence = [key]
        assert meanings(archive, asked, by_pydicom=by_pydicom) == [[text]]
        raw = _written(asked, implicit=False)
        assert parse_query(read_identifier(raw, EXPLICIT), Model.STUDY_ROOT).unsupported_keys == ()


def test_an_empty_character_set_of_an_item_is_none(archive: Archive) -> None:
    raw = elements({0x00080005: b"", 0x00080104: "Schädel".encode()})
    item = pack("<HHL", 0xFFFE, 0xE000, len(raw)) + raw
    store_bytes(archive, 1, {0x00080005: b"ISO_IR 192", 0x00081032: item})
    asked = identifier("STUDY", ProcedureCodeSequence=[code(CodeMeaning="Sch?del")])
    asked.SpecificCharacterSet = "ISO_IR 192"
    assert meanings(archive, asked) == [["Schädel"]]


@pytest.mark.parametrize(
    ("item", "steps"),
    [
        ({"RequestedProcedureID": "RP2"}, ["SPS2"]),
        ({"RequestedProcedureID": "RP?"}, ["SPS1", "SPS2"]),
        ({"RequestedProcedureID": "", "StudyInstanceUID": "1.9.1"}, ["SPS1"]),
        ({"StudyInstanceUID": ["1.9.2", "1.9.3"]}, ["SPS2"]),
        ({"RequestedProcedureID": "RP1", "StudyInstanceUID": "1.9.2"}, []),  # of two items
        ({}, ["SPS1", "SPS2"]),
    ],
)
def test_of_a_sequence_the_items_that_match_come_back(
    archive: Archive, item: dict[str, Any], steps: list[str]
) -> None:
    of_request = [
        code(
            RequestedProcedureID=f"RP{n}",
            ScheduledProcedureStepID=f"SPS{n}",
            StudyInstanceUID=f"1.9.{n}",
        )
        for n in (1, 2)
    ]
    store(archive, 1, RequestAttributesSequence=of_request)
    asked = identifier("SERIES", StudyInstanceUID="1.2.1")
    asked.RequestAttributesSequence = [code(ScheduledProcedureStepID="", **item)]
    found = ask(archive, asked)
    came = [i.ScheduledProcedureStepID for one in found for i in one.RequestAttributesSequence]
    assert came == steps
    assert len(found) == bool(steps)


def test_an_item_of_a_character_set_alone_asks_for_all(archive: Archive) -> None:
    store(archive, 1, ProcedureCodeSequence=[code(CodeValue="1", CodeMeaning="Ohr")])
    asked = identifier("STUDY", StudyInstanceUID="1.2.1")
    asked.ProcedureCodeSequence = [code(SpecificCharacterSet="ISO_IR 192")]
    assert meanings(archive, asked) == [["Ohr"]]


def test_a_wildcard_in_a_uid_of_an_item_is_refused() -> None:
    item = elements({0x0020000D: b"1.9.*"})
    item = pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    raw = elements({0x00080052: b"SERIES", 0x0020000D: b"1.2.1", 0x00400275: item})
    asked = read_identifier(raw, IMPLICIT)
    with pytest.raises(
        InvalidKeyError, match="RequestAttributesSequence: a UID takes no wildcards"
    ):
        parse_query(asked, Model.STUDY_ROOT)


def test_a_row_too_long_for_the_index_keeps_texts_and_sequences_whole(archive: Archive) -> None:
    """An index of PostgreSQL takes no value of 9,000 bytes; the other values need not suffer."""
    long = "".join(chr(0x4E00 + number) for number in range(3000)).encode()
    items = b""
    for number in range(9):
        item = elements({0x00080100: str(number).encode(), 0x00080104: b"m" * 60})
        items += pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    store_bytes(
        archive,
        1,
        {
            0x00080005: b"ISO_IR 192",
            0x00081032: items,
            0x001021B0: b"history " * 100,
            0x00200010: long,
        },
    )
    asked = identifier("STUDY", StudyInstanceUID="1.2.1", AdditionalPatientHistory="")
    asked.ProcedureCodeSequence = [code(CodeValue="7", CodeMeaning="")]
    (found,) = ask(archive, asked)
    assert found.AdditionalPatientHistory == ("history " * 100).rstrip()
    assert [item.CodeMeaning for item in found.ProcedureCodeSequence] == ["m" * 60]
