"""Headers read plainly say what pydicom reads in the same files, and what is odd is left to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lfscp.dicom.part10.file_meta import read_part10
from lfscp.dicom.reading.header import encoding_of
from lfscp.web.imaging.functional_groups import value
from lfscp.web.imaging.object_header import place_of, read_header
from lfscp.web.imaging.plain_elements import plain_header

_PLAIN = (
    "CT_small.dcm",  # many private elements
    "MR_small_implicit.dcm",
    "JPEG2000.dcm",
    "examples_palette.dcm",
    "examples_overlay.dcm",
    "rtdose.dcm",  # sequences, implicit VR
    "liver_1frame.dcm",  # functional groups
)


def _sample(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def _plainly(content: bytes) -> Dataset | None:
    meta = read_part10(content)
    return plain_header(content, meta.dataset_offset, encoding_of(meta.transfer_syntax_uid))


def _written(dataset: Dataset, path: Path) -> bytes:
    dataset.save_as(path, enforce_file_format=True)
    return path.read_bytes()


def _values(dataset: Dataset) -> dict[int, Any]:
    return {int(each.tag): repr(each.value) for each in dataset if not each.tag.is_private}


@pytest.mark.parametrize("name", _PLAIN)
def test_a_plain_header_has_the_values_that_pydicom_reads(name: str) -> None:
    path = _sample(name)
    found = _plainly(path.read_bytes())

    assert found is not None
    assert _values(found) == _values(dcmread(path, stop_before_pixels=True))


@pytest.mark.parametrize("name", _PLAIN)
def test_values_of_a_header_are_those_that_pydicom_gives(name: str) -> None:
    path = _sample(name)
    for _ in range(2):  # converted, and known from before
        header, other = _plainly(path.read_bytes()), dcmread(path, stop_before_pixels=True)
        assert header is not None
        for each in other:
            found = value(header, each.keyword) if each.keyword else each.value
            is_empty = each.value is None or (each.value != 0 and not each.value)
            assert repr(found) == repr(each.value) or (found is None and is_empty)


@pytest.mark.parametrize("name", _PLAIN)
def test_a_plain_header_says_where_the_pixels_are(name: str) -> None:
    path = _sample(name)
    header = _plainly(path.read_bytes())
    assert header is not None
    element = dcmread(path)["PixelData"]

    place = place_of(header)

    assert place.begin == element.file_tell
    assert place.is_encapsulated == element.is_undefined_length


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("is_undefined", [False, True], ids=["length", "no length"])
def test_sequences_are_plain_with_and_without_a_length(
    tmp_path: Path, syntax: str, is_undefined: bool
) -> None:
    dataset = dcmread(_sample("CT_small.dcm"))
    dataset.file_meta.TransferSyntaxUID = syntax
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "inner"
    outer.AnatomicRegionSequence = [inner]
    dataset.SharedFunctionalGroupsSequence = [outer, Dataset()]
    for each in (dataset["SharedFunctionalGroupsSequence"], outer["AnatomicRegionSequence"]):
        each.is_undefined_length = is_undefined

    found = _plainly(_written(dataset, tmp_path / "object"))

    assert found is not None
    (first, second) = found.SharedFunctionalGroupsSequence
    assert first.AnatomicRegionSequence[0].CodeValue == "inner"
    assert not second
    assert place_of(found).end - place_of(found).begin == len(dataset.PixelData)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        (b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00  "),  # Modality, its VR left out
        (b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00XX"),  # a VR that does not exist
        (b"\x08\x00\x00\x01SH", b"\x08\x00\x00\x01  "),  # Code Value in a sequence
        (b"\x08\x00\x60\x00CS\x02\x00", b"\x08\x00\x60\x00CS\xff\xff"),  # a wrong length
        (b"\x20\x00\x13\x00", b"\xfe\xff\x0d\xe0"),  # a delimiter instead of Instance Number
    ],
)
def test_what_is_odd_is_left_to_pydicom(tmp_path: Path, written: bytes, instead: bytes) -> None:
    dataset = dcmread(_sample("CT_small.dcm"))
    item = Dataset()
    item.CodeValue = "A"
    dataset.AnatomicRegionSequence = [item]
    content = _written(dataset, tmp_path / "object")
    assert _plainly(content) is not None
    assert content.count(written) == 1

    assert _plainly(content.replace(written, instead)) is None


def test_a_header_of_many_bytes_is_read_to_its_end(tmp_path: Path) -> None:
    dataset = dcmread(_sample("CT_small.dcm"))
    dataset.add_new(0x60003000, "OW", bytes(1 << 18))
    path = tmp_path / "object"
    _written(dataset, path)

    header = read_header(path)

    assert header[0x60003000].value == bytes(1 << 18)
    assert place_of(header).begin == dcmread(path)["PixelData"].file_tell
