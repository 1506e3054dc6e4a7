"""A header read by a known layout is the header that a walk finds, or the walk is taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from lfscp.dicom.encoding.elements import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading import header
from lfscp.dicom.reading.header import Header, read_first, read_header
from lfscp.dicom.reading.header_cache import Layouts
from tests.support.archive_datasets import EXPLICIT, encoded

IMPLICIT = "1.2.840.10008.1.2"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins without any layout."""
    fresh = {
        encoding: Layouts(encoding, wanted, header._LAST_GROUP)
        for encoding, wanted in header._WANTED_RAW.items()
    }
    monkeypatch.setattr(header, "_LAYOUTS", fresh)


def known() -> int:
    """How many layouts of explicit VR little endian are kept."""
    return len(header._LAYOUTS[EXPLICIT_LITTLE]._known)


def dataset(number: int, **values: Any) -> bytes:
    """Instances of two digits, which are all laid out alike."""
    return encoded(10 + number, **values)


def walked(data: bytes, syntax: str = EXPLICIT) -> Header:
    """The header as the walk reads it: a memory view is never read by its layout."""
    return header._complete(
        header._read(
            memoryview(data), IMPLICIT_LITTLE if syntax == IMPLICIT else EXPLICIT_LITTLE, len(data)
        )
    )


def test_the_third_object_of_a_series_is_read_by_the_layout_of_the_others() -> None:
    read_header(dataset(0), EXPLICIT)
    assert known() == 0
    read_header(dataset(1), EXPLICIT)
    assert known() == 1
    third = read_header(dataset(2), EXPLICIT)
    assert third.values == walked(dataset(2)).values
    assert third.sop_instance_uid == "1.2.3.1.12"
    assert third.needed == len(dataset(2))
    assert known() == 1


def test_what_never_repeats_is_never_kept() -> None:
    for length in range(2, 60, 2):
        read_header(dataset(0, StudyDescription="x" * length), EXPLICIT)
    assert known() == 0


def test_of_many_layouts_those_used_last_are_kept() -> None:
    for length in [*range(2, 60, 2), 2]:
        for _ in range(3):
            text = "x" * length
            read = read_header(dataset(0, StudyDescription=text), EXPLICIT)
            assert read.text(0x00081030) == text
    assert known() == 16


def test_an_object_cut_short_is_refused_though_its_layout_is_known() -> None:
    for number in range(3):
        read_header(dataset(number), EXPLICIT)
    with pytest.raises(DatasetError, match="64 bytes of value, 62 are there"):
        read_header(dataset(3)[:-2], EXPLICIT)
    first = read_first(dataset(3)[:-60], EXPLICIT)
    assert first is not None
    assert first.needed == len(dataset(3))


def test_a_sequence_of_undefined_length_counts_as_a_whole() -> None:
    def with_items(number: int, codes: list[str]) -> bytes:
        items = []
        for code in codes:
            item = Dataset()
            item.CodeValue = code
            item.is_undefined_length_sequence_item = True
            items.append(item)
        data = Dataset()
        data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        data.SOPInstanceUID = f"1.2.3.1.{number}"
        data.StudyInstanceUID = "1.2.3"
        data.SeriesInstanceUID = "1.2.3.1"
        data.RequestAttributesSequence = Sequence(items)
        data["RequestAttributesSequence"].is_undefined_length = True
        data.PixelData = b"\0" * 64
        data["PixelData"].VR = "OW"
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = False, True
        write_dataset(buffer, data)
        return bytes(buffer.getvalue())

    for number in (10, 11, 12):
        data = with_items(number, ["1234", "5678"])
        assert read_header(data, EXPLICIT).values == walked(data).values
    assert known() == 1
    other = with_items(13, ["1234", "9999"])
    assert read_header(other, EXPLICIT).values == walked(other).values


UID = st.sampled_from(["1.2.3", "1.2.4", "1.2.3.44"])
TEXT = st.sampled_from(["", "A", "BC", "DEFGHI"])
ELEMENT = st.sampled_from(
    ["PatientID", "StudyDescription", "AccessionNumber", "InstanceNumber", "ImageComments"]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(UID, st.dictionaries(ELEMENT, TEXT), st.integers(0, 3)), min_size=3, max_size=8
    ),
    st.sampled_from([EXPLICIT, IMPLICIT]),
    st.randoms(use_true_random=False),
)
def test_whatever_came_before_the_header_is_the_one_of_this_object(
    described: list[tuple[str, dict[str, str], int]], syntax: str, chance: Any
) -> None:
    for study, texts, pixels in described * 2:
        data = bytearray(_implicit_or_not(study, texts, pixels, syntax))
        if chance.random() < 0.3:  # and now and then one byte is another
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            expected: Any = walked(bytes(data), syntax).values
        except DatasetError as error:
            expected = str(error)
        try:
            read: Any = read_header(bytes(data), syntax).values
        except DatasetError as error:
            read = str(error)
        assert read == expected


def _implicit_or_not(study: str, texts: dict[str, str], pixels: int, syntax: str) -> bytes:
    data = Dataset()
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.SOPInstanceUID = f"{study}.5.6"
    data.StudyInstanceUID = study
    data.SeriesInstanceUID = f"{study}.5"
    for keyword, text in texts.items():
        setattr(data, keyword, "7" if keyword == "InstanceNumber" else text[:16])
    data.PixelData = b"\0\1" * (pixels + 1)
    data["PixelData"].VR = "OW"
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax == IMPLICIT, True
    write_dataset(buffer, data)
    return bytes(buffer.getvalue())
