"""Datasets made to hurt: memory and time of the header reader stay bounded, and it says why.

No test asserts a timing: what would explode runs into the test's time limit.
"""

import struct
import tracemalloc
import zlib

import pytest

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import read_first, read_header
from tests.support.archive_datasets import encoded

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNDEFINED = 0xFFFFFFFF
UIDS = {0x00080016: "1.2.3", 0x00080018: "1.2.4", 0x0020000D: "1.2.5", 0x0020000E: "1.2.6"}


def head(tag, vr, length):
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)


def element(tag, vr, value):
    return head(tag, vr, len(value)) + value


def short(tag, vr, value):
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def uid(tag):
    return short(tag, b"UI", UIDS[tag].encode() + b"\0")


IDENTITY = uid(0x00080016) + uid(0x00080018)
PLACE = uid(0x0020000D) + uid(0x0020000E)
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
ENDS = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)


def deflated(*pieces):
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return b"".join(deflate.compress(piece) for piece in pieces) + deflate.flush()


@pytest.mark.parametrize("dataset", [b"", b"\0", bytes(7), bytes(8), bytes(4096)])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.2"])
def test_nothing_and_zeros_are_no_dataset_however_often_they_come(dataset, syntax):
    for _ in range(4):  # from the second on its layout might be known
        with pytest.raises(DatasetError):
            read_header(dataset, syntax)


@pytest.mark.parametrize("depth", [10_000, 40_000])
def test_sequences_of_undefined_length_may_be_nested_deeply(depth):
    opened = (head(0x00081140, b"SQ", UNDEFINED) + ITEM) * depth
    header = read_header(IDENTITY + opened + ENDS * depth + PLACE, EXPLICIT)
    assert header.sop_instance_uid == "1.2.4"


def test_sequences_nested_without_end_are_refused():
    opened = (head(0x00081140, b"SQ", UNDEFINED) + ITEM) * 200_000
    with pytest.raises(DatasetError, match="deep"):
        read_header(IDENTITY + opened, EXPLICIT)


def test_a_million_empty_elements_are_walked_once():
    noise = b"".join(short(0x00090010 + n % 0xFF, b"LO", b"") for n in range(1000)) * 1000
    assert read_header(IDENTITY + noise + PLACE, EXPLICIT).study_instance_uid == "1.2.5"


def test_a_million_empty_items_are_walked_once():
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    asked = element(0x00400275, b"SQ", item * 1_000_000)
    header = read_header(IDENTITY + PLACE + asked, EXPLICIT)
    assert len(header.text(0x00400275)) < 100_000


@pytest.mark.parametrize("tag", [0x00091001, 0x00190010, 0x00080018, 0x0020000E])
@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFF, 100_000])
def test_a_length_that_lies_is_said_and_never_allocated(tag, length):
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError):
            read_header(IDENTITY + head(tag, b"UN", length) + bytes(50_000), EXPLICIT)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_deflated_dataset_whose_pixels_explode_is_read_as_far_as_its_header():
    pixels = [bytes(1 << 20)] * 200
    bomb = deflated(IDENTITY, PLACE, head(0x7FE00010, b"OW", 200 << 20), *pixels)
    tracemalloc.start()
    try:
        assert read_header(bomb, DEFLATED).series_instance_uid == "1.2.6"
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_layouts_of_huge_headers_are_not_kept():
    """A header of 400 KB that comes again and again leaves no copy of itself behind."""
    noise = short(0x00090010, b"LO", b"") * 50_000
    bomb = deflated(IDENTITY + noise + PLACE)
    read_header(bomb, DEFLATED)
    tracemalloc.start()
    try:
        for _ in range(3):
            read_header(bomb, DEFLATED)
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


def test_what_is_cut_anywhere_is_refused_or_read_the_same():
    whole = encoded(1)
    expected = dict(read_header(whole, EXPLICIT).values)
    for length in range(0, len(whole), 3):
        first = read_first(whole[:length], EXPLICIT)
        assert first is None or dict(first.values) == expected
        with pytest.raises(DatasetError):
            read_header(whole[:length], EXPLICIT)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("padding", [b"\0", bytes(100_000)])
def test_a_deflated_dataset_with_padding_behind_it_is_read(padding):
    """PS3.5 section A.5 asks for one byte, to make the length even."""
    filler = element(0x00091001, b"UN", bytes(200_000))
    dataset = deflated(IDENTITY + filler + PLACE) + padding
    assert read_header(dataset, DEFLATED).series_instance_uid == "1.2.6"
