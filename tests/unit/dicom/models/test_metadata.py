"""Metadata of stored datasets: what pydicom would write, and what it could not read."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from lfscp.archive.store.stored_dataset import read_stored_dataset
from lfscp.dicom.models.metadata import INLINE_BYTES, metadata_of
from lfscp.dicom.models.repeated_elements import Written
from lfscp.dicom.reading.header import encoding_of

WHERE = "https://pacs/studies/1/series/2/instances/3"
PIXEL_DATA = "7FE00010"
# Of pydicom's files, those whose text has spaces or empty values, which pydicom leaves as they are.
FILES = (
    *("CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"),
    *("image_dfl.dcm", "test-SR.dcm", "waveform_ecg.dcm"),
    *("JPEG2000.dcm", "liver_1frame.dcm", "nested_priv_SQ.dcm", "reportsi.dcm", "UN_sequence.dcm"),
    *("chrH31.dcm", "chrX1.dcm", "chrRuss.dcm", "chrKoreanMulti.dcm"),
)


def read(path: Any) -> Any:
    dataset = read_stored_dataset(Path(path))
    return json.loads(metadata_of(dataset.content, dataset.encoding, WHERE))


def of(dataset: Dataset, syntax: Any = ExplicitVRLittleEndian, cut: int = 0) -> Any:
    data = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian)
    assert data is not None
    content = memoryview(data)[: len(data) - cut]
    return json.loads(metadata_of(content, encoding_of(syntax), WHERE))


def differences(found: Any, expected: Any, path: str = "") -> list[Any]:
    """Where two datasets in JSON differ in what is not bulk data, padding or group lengths."""
    different: list[Any] = []
    for tag in sorted(found.keys() | expected.keys()):
        here, there = found.get(tag, {}), expected.get(tag, {})
        if tag.endswith("0000") or tag in ("00080005", "FFFCFFFC", PIXEL_DATA):
            continue
        if here.get("vr") == there.get("vr") == "SQ":
            items, others = here.get("Value", []), there.get("Value", [])
            pairs = zip(items, others, strict=True)
            different += [
                each for one, two in pairs for each in differences(one, two, f"{path}{tag}.")
            ]
        elif "BulkDataURI" in here or "BulkDataURI" in there:
            if "BulkDataURI" not in here or len(there.get("InlineBinary", "")) > INLINE_BYTES * 2:
                different.append((path + tag, here, there))
        elif here != there:
            different.append((path + tag, here, there))
    return different


@pytest.mark.parametrize("name", FILES)
def test_it_is_what_pydicom_writes(name):
    path = get_testdata_file(name) or get_charset_files(name)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that break their VR
        expected = json.loads(
            dcmread(path).to_json(
                bulk_data_threshold=INLINE_BYTES + 1,
                bulk_data_element_handler=lambda _: "there",
                suppress_invalid_tags=True,
            )
        )
    found = read(path)

    assert found
    assert differences(found, expected) == []
    if PIXEL_DATA in expected:
        assert found[PIXEL_DATA]["BulkDataURI"] == f"{WHERE}/bulkdata/{PIXEL_DATA}"


def test_long_binary_values_are_bulk_data_and_short_ones_inline():
    dataset = Dataset()
    dataset.EncapsulatedDocument = bytes(INLINE_BYTES + 2)
    dataset.ICCProfile = b"ab"
    waveform = Dataset()
    waveform.WaveformBitsAllocated = 16
    waveform.add_new(0x54001010, "OW", bytes(INLINE_BYTES + 2))
    dataset.WaveformSequence = Sequence([Dataset(), waveform])
    found = of(dataset)

    assert found["00420011"] == {"vr": "OB", "BulkDataURI": f"{WHERE}/bulkdata/00420011"}
    assert found["00282000"] == {"vr": "OB", "InlineBinary": "YWI="}
    inner = found["54000100"]["Value"][1]["54001010"]
    assert inner["BulkDataURI"] == f"{WHERE}/bulkdata/54000100/2/54001010"


def test_binary_values_of_big_endian_are_turned():
    dataset = Dataset()
    dataset.add_new(0x00281201, "OW", b"\1\2\3\4")
    dataset.Rows, dataset.FrameReferenceTime = 258, "1.5"
    dataset.add_new(0x00189087, "FD", 1.5)

    big, little = of(dataset, ExplicitVRBigEndian), of(dataset)
    assert big["00281201"]["InlineBinary"] == "AgEEAw=="
    assert (big["00280010"], big["00189087"]) == (little["00280010"], little["00189087"])
    assert little["00280010"] == {"vr": "US", "Value": [258]}


def test_signed_pixels_decide_in_implicit_vr_also_inside_items():
    dataset = Dataset()
    dataset.PixelRepresentation = 1
    dataset.add_new(0x00280106, "SS", -5)
    item = Dataset()
    item.add_new(0x00280107, "SS", -6)
    dataset.ModalityLUTSequence = [item]
    found = of(dataset, ImplicitVRLittleEndian)

    assert found["00280106"] == {"vr": "SS", "Value": [-5]}
    assert found["00283000"]["Value"] == [{"00280107": {"vr": "SS", "Value": [-6]}}]


def test_text_is_utf_8_and_items_have_character_sets_of_their_own():
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 144"
    item.CodeMeaning = "Жёлтый"
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "Müller^Anna"
    dataset.ProcedureCodeSequence = [item]
    found = of(dataset)

    assert found["00080005"]["Value"] == ["ISO_IR 192"]
    assert found["00100010"]["Value"] == [{"Alphabetic": "Müller^Anna"}]
    assert found["00081032"]["Value"][0] == {"00080104": {"vr": "LO", "Value": ["Жёлтый"]}}


def test_the_attributes_before_a_cut_are_there():
    dataset = dcmread(get_testdata_file("CT_small.dcm"))
    whole, cut = of(dataset), of(dataset, cut=1000)
    assert cut == whole
    short = of(dataset, cut=len(dataset.PixelData) + 200)
    assert short["00100020"] == whole["00100020"]
    assert PIXEL_DATA not in short


def test_what_is_nested_too_deep_is_left_out_and_the_rest_is_there():
    inner = b""
    for _ in range(10_000):
        item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
        inner = b"\x08\x00\x40\x11SQ\0\0" + len(item).to_bytes(4, "little") + item
    content = memoryview(inner + b"\x10\x00\x20\x00LO\x02\x00P1")
    found = json.loads(metadata_of(content, encoding_of(ExplicitVRLittleEndian), WHERE))

    assert found["00100020"] == {"vr": "LO", "Value": ["P1"]}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_any_cut_leaves_valid_json(syntax):
    dataset = dcmread(get_testdata_file("test-SR.dcm"))
    data = encode(dataset, syntax.is_implicit_VR, True)
    assert data is not None
    whole = json.loads(metadata_of(memoryview(data), encoding_of(syntax), WHERE))
    for end in range(0, len(data), 97):
        found = json.loads(metadata_of(memoryview(data)[:end], encoding_of(syntax), WHERE))
        assert found.keys() <= whole.keys()


def test_what_is_written_once_for_a_series_is_the_same():
    dataset = dcmread(get_testdata_file("CT_small.dcm"))
    data = encode(dataset, False, True)
    assert data is not None
    content, encoding = memoryview(data), encoding_of(ExplicitVRLittleEndian)
    shared = Written()
    first = metadata_of(content, encoding, WHERE, shared)
    assert shared.values
    assert (
        first
        == metadata_of(content, encoding, WHERE, shared)
        == metadata_of(content, encoding, WHERE)
    )


def instances_of(dataset: Dataset) -> list[Dataset]:
    """A dataset, and what may follow it in a series."""
    made = [copy.deepcopy(dataset) for _ in range(12)]
    made[1].SOPInstanceUID, made[1].InstanceNumber = "1.2.3", 1234
    made[2].SpecificCharacterSet, made[2].PatientName = "ISO_IR 100", "M\xfcller"
    made[3].SpecificCharacterSet, made[3].PatientName = "ISO_IR 192", "M\xfcller"
    made[4].pop(0x00080005, None)
    made[5].PixelRepresentation = 1 - dataset.get("PixelRepresentation", 0)
    made[5].SmallestImagePixelValue = dataset.get("PixelRepresentation", 0)
    for each in [tag for tag in made[6] if tag.tag.is_private_creator]:
        each.value = "ANOTHER"
    for tag in [each.tag for each in made[7] if each.tag.is_private]:
        del made[7][tag]
    made[8].ImageComments, made[8].PatientComments = "x" * 10_000, ""
    made[9].RedPaletteColorLookupTableData = bytes(2000)
    for tag in list(made[10].keys())[::2]:
        if tag not in (0x00080005, 0x7FE00010):
            del made[10][tag]
    return made


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "test-SR.dcm"])
def test_each_instance_is_written_as_if_it_were_alone(name, syntax):
    dataset, encoding = dcmread(get_testdata_file(name)), encoding_of(syntax)
    series = [
        encode(each, syntax.is_implicit_VR, syntax.is_little_endian)
        for each in instances_of(dataset)
    ]
    for first in (0, 3, 8):
        written = Written()
        for number, data in enumerate([*series[first:], *series[:first]] * 2):
            where = f"{WHERE}/{number}"
            content = memoryview(data or b"")
            found = metadata_of(content, encoding, where, written)
            assert found == metadata_of(content, encoding, where)


def test_an_instance_that_is_cut_off_is_written_as_if_it_were_alone():
    data = encode(dcmread(get_testdata_file("CT_small.dcm")), False, True) or b""
    encoding, written = encoding_of(ExplicitVRLittleEndian), Written()
    metadata_of(memoryview(data), encoding, WHERE, written)
    for end in range(0, 9000, 37):
        content = memoryview(data)[:end]
        found = metadata_of(content, encoding, WHERE, written)
        assert found == metadata_of(content, encoding, WHERE)


def test_elements_out_of_order_are_written_in_their_order():
    data = encode(dcmread(get_testdata_file("CT_small.dcm")), False, True) or b""
    late = b"\x08\x00\x08\x00CS\x02\x00XX"  # Image Type again, behind a later element
    at = data.index(b"\x10\x00\x10\x00PN")
    encoding, written = encoding_of(ExplicitVRLittleEndian), Written()
    for content in (data, data[:at] + late + data[at:], data):
        found = metadata_of(memoryview(content), encoding, WHERE, written)
        assert found == metadata_of(memoryview(content), encoding, WHERE)
        assert list(json.loads(found)) == sorted(json.loads(found))


def test_elements_that_are_all_others_are_written_too():
    encoding, written = encoding_of(ExplicitVRLittleEndian), Written()
    for value in (b"AA", b"BB", b"CC"):
        parts = [b"\x11\x00%c%cLO\x02\x00" % (at, 0x10) + value for at in range(256)]
        parts += [b"\x13\x00\x10%cLO\x02\x00" % at + value for at in range(256)]
        content = memoryview(b"".join(sorted(parts, key=lambda each: each[1::-1] + each[3:1:-1])))
        found = metadata_of(content, encoding, WHERE, written)
        assert found == metadata_of(content, encoding, WHERE)
        assert len(json.loads(found)) == 512
