"""The header reader: every encoding read alike, every broken one refused, nothing else happens."""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import read_first, read_header

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_LS = "1.2.840.10008.1.2.4.80"
PATIENT_NAME = 0x00100010


def a_dataset(**values: Any) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.1"
    dataset.PatientName = "Doe^Jane"
    dataset.PatientID = "P 1"
    dataset.Rows = 512
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def encoded(dataset: Dataset, transfer_syntax_uid: str = EXPLICIT) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = transfer_syntax_uid == IMPLICIT
    buffer.is_little_endian = transfer_syntax_uid != BIG_ENDIAN
    write_dataset(buffer, dataset)
    raw = bytes(buffer.getvalue())
    if transfer_syntax_uid == DEFLATED:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(raw) + deflater.flush()
    return raw


def an_item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """One explicit little-endian element with a short or long length, which may lie."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"OW", b"OB", b"SQ", b"UN"):
        return head + struct.pack("<HL", 0, size) + value
    return head + struct.pack("<H", size) + value


ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN])
def test_every_encoding_gives_the_same_header(syntax: str) -> None:
    dataset = a_dataset(
        ImageType=["ORIGINAL", "PRIMARY"],
        ProcedureCodeSequence=[
            an_item(CodeValue="1", CodingSchemeDesignator="L", CodeMeaning="Head")
        ],
        AccessionNumber=" A1 ",
    )
    header = read_header(encoded(dataset, syntax), syntax)
    assert header.sop_instance_uid == "1.2.3.4"
    assert header.study_instance_uid == "1.2.3"
    assert header.text(PATIENT_NAME) == "Doe^Jane"
    assert header.text(0x00280010) == "512"
    assert header.text(0x00080008) == "ORIGINAL\\PRIMARY"
    assert header.text(0x00080050) == "A1"
    assert json.loads(header.text(0x00081032)) == [
        {"CodeValue": "1", "CodingSchemeDesignator": "L", "CodeMeaning": "Head"}
    ]
    assert header.values[PATIENT_NAME] == "Doe^Jane"
    assert header.text(0x00081030) == ""


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_sequences_of_undefined_length_are_skipped_and_read(syntax: str) -> None:
    item = an_item(CodeValue="7", CodeMeaning="Chest")
    item.is_undefined_length_sequence_item = True
    dataset = a_dataset(ProcedureCodeSequence=[item])
    dataset["ProcedureCodeSequence"].is_undefined_length = True
    private = Dataset()
    private.add_new(0x00091001, "LO", "inner")
    private.is_undefined_length_sequence_item = True
    dataset.add_new(0x00090010, "LO", "MAKER")
    dataset.add_new(0x00091002, "SQ", [private])
    dataset[0x00091002].is_undefined_length = True
    header = read_header(encoded(dataset, syntax), syntax)
    assert json.loads(header.text(0x00081032)) == [{"CodeValue": "7", "CodeMeaning": "Chest"}]
    assert header.text(PATIENT_NAME) == "Doe^Jane"


def test_a_sequence_sent_as_un_is_implicit_inside() -> None:
    inside = struct.pack("<HHL", 0x0009, 0x1001, 4) + b"abcd"
    nested = struct.pack("<HHL", 0x0009, 0x1002, 0xFFFFFFFF) + ITEM + inside + ITEM_END
    unknown = ITEM + inside + nested + SEQUENCE_END + ITEM_END + SEQUENCE_END
    raw = element(0x00080001, b"UN", unknown, 0xFFFFFFFF) + encoded(a_dataset())
    assert read_header(raw, EXPLICIT).text(PATIENT_NAME) == "Doe^Jane"


@pytest.mark.parametrize("syntax", [EXPLICIT, JPEG_LS, "1.2.3.4.5.6.777"])
def test_encapsulated_pixel_data_ends_the_reading(syntax: str) -> None:
    fragments = struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"\xff\xd8\xff\xd9" + SEQUENCE_END
    raw = encoded(a_dataset()) + element(0x7FE00010, b"OB", fragments, 0xFFFFFFFF)
    assert read_header(raw, syntax).sop_instance_uid == "1.2.3.4"


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED])
def test_what_lies_behind_the_first_window_is_read(syntax: str) -> None:
    dataset = a_dataset()
    dataset.add_new(0x00090010, "LO", "MAKER")
    dataset.add_new(0x00091001, "OB", bytes(range(256)) * 1000)
    for number in range(3000):
        dataset.add_new(0x00111000 + number, "LO", "something private")
    dataset.add_new(0x00110010, "LO", "MAKER")
    dataset.add_new(0x7FE00010, "OW", b"\0" * 600_000)
    header = read_header(memoryview(bytearray(encoded(dataset, syntax))), syntax)
    assert header.text(0x00280010) == "512"
    assert header.study_instance_uid == "1.2.3"


def test_a_memory_map_is_read_and_can_be_closed(tmp_path: Path) -> None:
    dataset = a_dataset()
    dataset.add_new(0x00091001, "OB", bytes(100_000))
    path = tmp_path / "spooled"
    path.write_bytes(encoded(dataset))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        header = read_header(mapped, EXPLICIT)
    assert header.text(PATIENT_NAME) == "Doe^Jane"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "Διονυσιος^Ω"),
        ("ISO_IR 126", "Διονυσιος"),
        ("ISO_IR 144", "Люксембург"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_names_are_decoded_by_their_character_set(
    character_set: str, name: str, syntax: str
) -> None:
    dataset = a_dataset(SpecificCharacterSet=character_set.split("\\"), PatientName=name)
    assert read_header(encoded(dataset, syntax), syntax).text(PATIENT_NAME) == name


@pytest.mark.parametrize("term", ["ISO-IR 192", "iso ir 192", "ISO_IR 192\\ISO 2022 IR 87"])
def test_misspelt_character_sets_are_understood(term: str) -> None:
    raw = element(0x00080005, b"CS", term.encode()) + encoded(a_dataset())
    raw += element(0x00101010, b"AS", b"050Y") + element(0x00104000, b"LT", "Größe".encode())
    assert read_header(raw, EXPLICIT).text(0x00104000) == "Größe"


@pytest.mark.parametrize("term", [b"ISO_IR 192", b"NO SUCH SET", b"\xff\xfe", b"\\\\"])
def test_undecodable_text_never_fails(term: bytes) -> None:
    raw = element(0x00080005, b"CS", term) + encoded(a_dataset())
    raw += element(0x00104000, b"LT", b"a\xff\x1b$B\xff\x1b%z")
    assert read_header(raw, EXPLICIT).text(0x00104000).startswith("a")


def test_control_characters_in_a_name_stay_text() -> None:
    raw = encoded(a_dataset()) + element(0x00104000, b"LT", b"a\x00\x07\r\nb\x1b")
    assert read_header(raw, EXPLICIT).text(0x00104000).startswith("a\x00\x07\r\nb")


@pytest.mark.parametrize(
    ("tag", "vr", "stored", "text"),
    [
        (0x00080020, b"DA", b"2024.01.31", "20240131"),
        (0x00080030, b"TM", b"10:30:59", "103059"),
        (0x00080030, b"TM", b"10:30:59.123 ", "103059.123"),
        (0x00080030, b"TM", b"10:30 ", "1030"),
        (0x00080020, b"DA", b"20240131", "20240131"),
        (0x00080020, b"DA", b"31.01.2024", "31.01.2024"),  # of no standard: kept as it came
        (0x0008002A, b"DT", b"20240131103059.5", "20240131103059.5"),
    ],
)
def test_dates_and_times_of_acr_nema_are_read_as_today(
    tag: int, vr: bytes, stored: bytes, text: str
) -> None:
    raw = encoded(a_dataset(SOPClassUID="1.2", SOPInstanceUID="1.3"))
    raw = raw[: raw.index(b"\x10\x00\x10\x00")] + element(tag, vr, stored)
    raw += element(0x0020000D, b"UI", b"1.2") + element(0x0020000E, b"UI", b"1.23")
    assert read_header(raw, EXPLICIT).text(tag) == text


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_ten_thousand_nested_sequences_are_skipped(syntax: str) -> None:
    order = ">" if syntax == BIG_ENDIAN else "<"
    tag = struct.pack(order + "HH", 0x0009, 0x1001)
    vr = b"" if syntax == IMPLICIT else b"SQ\0\0"
    undefined = struct.pack(order + "L", 0xFFFFFFFF)
    item = struct.pack(order + "HH", 0xFFFE, 0xE000) + undefined
    item_end = struct.pack(order + "HHL", 0xFFFE, 0xE00D, 0)
    end = struct.pack(order + "HHL", 0xFFFE, 0xE0DD, 0)
    deep = (tag + vr + undefined + item) * 10_000 + (item_end + end) * 10_000
    assert read_header(deep + encoded(a_dataset(), syntax), syntax).study_instance_uid == "1.2.3"
    with pytest.raises(DatasetError):
        read_header(deep[:-8] + encoded(a_dataset(), syntax), syntax)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 64,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        encoded(a_dataset())[:-3],
        encoded(a_dataset()) + b"\x10\x00",
        encoded(a_dataset()) + element(0x00104000, b"LT", b"ab", 0xFFFF),
        encoded(a_dataset()) + element(0x00091001, b"OB", b"ab", 0xFFFFFFF0),
        encoded(a_dataset()) + element(0x00091001, b"SQ", b"ab", 0xFFFFFFFF),
        encoded(a_dataset()) + element(0x7FE00010, b"OW", b"ab", 0x7FFFFFF0),
        encoded(a_dataset()) + element(0x7FE00010, b"OW", b"")[:9],
        encoded(a_dataset()) + element(0x00091001, b"SQ", ITEM + ITEM, 0xFFFFFFFF),
        encoded(a_dataset()) + element(0x00091001, b"SQ", ITEM_END, 0xFFFFFFFF),
        encoded(a_dataset()) + element(0x00091001, b"\x01\x02", b"ab"),
    ],
)
def test_broken_datasets_are_refused(raw: bytes) -> None:
    with pytest.raises(DatasetError):
        read_header(raw, EXPLICIT)


@pytest.mark.parametrize("cut", range(1, 64, 3))
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_a_dataset_cut_inside_its_last_values_is_refused(syntax: str, cut: int) -> None:
    dataset = a_dataset()
    dataset.add_new(0x00700084, "LO", "X" * 64)
    whole = encoded(dataset, syntax)
    with pytest.raises(DatasetError):
        read_header(whole[:-cut], syntax)


@pytest.mark.parametrize(
    "raw", [b"\xff" * 50, encoded(a_dataset(), DEFLATED)[:-20], zlib.compress(b"a" * 99)]
)
def test_broken_deflated_datasets_are_refused(raw: bytes) -> None:
    with pytest.raises(DatasetError):
        read_header(raw, DEFLATED)


def test_a_deflated_bomb_ends_at_the_bound() -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    huge = element(0x00091001, b"UN", b"", 0x7FFFFFFE)
    bomb = deflater.compress(huge) + deflater.compress(b"\0" * (80 << 20)) + deflater.flush()
    with pytest.raises(DatasetError, match="16 MB"):
        read_header(bomb, DEFLATED)


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize(
    "uid", ["", "../../etc/passwd", "1..2", ".1", "1.", "1/2", "1" * 65, "1.2\\1.3", "1.2.a"]
)
def test_missing_and_malformed_uids_are_refused_by_name(keyword: str, uid: str) -> None:
    dataset = a_dataset()
    tag = dataset[keyword].tag
    del dataset[keyword]
    raw = element(tag, b"UI", uid.encode() + b"\0" * (len(uid) % 2))
    with pytest.raises(DatasetError) as caught:
        read_header(raw + encoded(dataset), EXPLICIT)
    assert caught.value.tag == tag
    if uid:
        assert uid not in str(caught.value)


def test_a_uid_of_64_characters_and_leading_zeros_is_accepted() -> None:
    uid = b"1." + b"0" * 62
    header = read_header(encoded(a_dataset()) + element(0x00080018, b"UI", uid), EXPLICIT)
    assert header.sop_instance_uid == uid.decode()


SAMPLES = {
    syntax: encoded(
        a_dataset(
            SpecificCharacterSet=["", "ISO 2022 IR 87"],
            PatientName="Yamada^Tarou=山田^太郎",
            ProcedureCodeSequence=[an_item(CodeValue="1", CodeMeaning="Head")],
        ),
        syntax,
    )
    for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
}


@settings(max_examples=400, deadline=None)
@given(
    syntax=st.sampled_from(sorted(SAMPLES)),
    changes=st.lists(
        st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=6)), max_size=4
    ),
    cut=st.integers(0, 40),
)
def test_whatever_is_changed_gives_a_header_or_a_refusal(
    syntax: str, changes: list[tuple[int, bytes]], cut: int
) -> None:
    raw = bytearray(SAMPLES[syntax])
    for at, change in changes:
        at %= len(raw)
        raw[at : at + len(change)] = change
    try:
        header = read_header(memoryview(raw)[: len(raw) - cut], syntax)
    except DatasetError:
        return
    assert all(isinstance(value, str) for value in header.values.values())


@pytest.mark.parametrize("tag", [0x00000000, 0x00000002, 0x00020000, 0x00020010])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, JPEG_LS])
def test_a_dataset_does_not_begin_with_a_command_or_file_meta(syntax: str, tag: int) -> None:
    """Behind file meta information it would be read as more of that (PS3.5 section 7.1)."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    stray = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    stray += struct.pack("<L", 4) if syntax == IMPLICIT else b"UI" + struct.pack(order + "H", 4)
    plain = EXPLICIT if syntax == DEFLATED else syntax
    raw = stray + b"1.2\0" + encoded(a_dataset(), plain)
    if syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        raw = deflater.compress(raw) + deflater.flush()

    for _ in range(3):  # the layout of what is refused is never learned
        with pytest.raises(DatasetError, match="it begins with") as raised:
            read_header(raw, syntax)

    assert raised.value.tag == tag
    assert read_first(raw, syntax) is None
