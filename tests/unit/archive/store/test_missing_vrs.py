"""Elements whose VR was left out: read as other readers do, with a length of 16 bits."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import pytest
from pydicom import dcmread

from lfscp.archive.store.missing_vrs import open_with_vrs
from lfscp.dicom.encoding.elements import NO_VRS
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.reading.header import read_header
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded

HEAD = part10_header(CT_IMAGE, "1.2.3.1.1", EXPLICIT)
BIG_ENDIAN = "1.2.840.10008.1.2.2"
PIXELS = b"\xe0\x7f\x10\x00"


def short(tag: int, vr: bytes, value: bytes, order: str = "<") -> bytes:
    head = struct.pack(f"{order}HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value))
    return head + value


def a_dataset(*more: bytes) -> bytes:
    """The usual CT, with more elements before its pixels."""
    whole = encoded(1)
    at = whole.index(PIXELS)
    return whole[:at] + b"".join(more) + whole[at:]


@pytest.mark.parametrize("vr", sorted(NO_VRS))
def test_the_header_is_read(vr: bytes) -> None:
    name = encoded(1).replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00" + vr)
    header = read_header(name, EXPLICIT)
    assert header.text(0x00100020) == "P1"
    assert header.text(0x00200013) == "1"  # which stands behind it


def test_big_endian_is_read_too() -> None:
    elements = [
        short(0x00080016, b"UI", CT_IMAGE.encode() + b"\0", ">"),
        short(0x00080018, b"UI", b"1.2.3.1.1\0", ">"),
        short(0x00100020, b"  ", b"P1", ">"),
        short(0x0020000D, b"UI", b"1.2.3\0", ">"),
        short(0x0020000E, b"UI", b"1.2.3.1\0", ">"),
    ]
    assert read_header(b"".join(elements), BIG_ENDIAN).text(0x00100020) == "P1"


@pytest.mark.parametrize("vr", [b"\x01\x02", b"us", b"1A", b" U", b"\xff\xff"])
def test_other_bytes_are_no_vr(vr: bytes) -> None:
    broken = encoded(1).replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00" + vr)
    with pytest.raises(DatasetError, match="no value representation"):
        read_header(broken, EXPLICIT)


def opened(path: Path) -> BinaryIO:
    """The whole file, as pydicom sees it."""
    _, file = open_with_vrs(path)
    file.seek(0)
    return file


def written(tmp_path: Path, dataset: bytes) -> Path:
    path = tmp_path / "file.dcm"
    path.write_bytes(HEAD + dataset)
    return path


@pytest.mark.parametrize("vr", sorted(NO_VRS))
def test_pydicom_reads_what_stands_there(tmp_path: Path, vr: bytes) -> None:
    content = a_dataset(
        short(0x00280120, vr, b"\x07\x00"),
        short(0x00291020, vr, b"private "),
    )
    path = written(tmp_path, content)
    with opened(path) as file:
        dataset = dcmread(file)
    assert dataset.PixelPaddingValue == 7
    assert dataset[0x00291020].value == "private"
    assert dataset.PixelData == bytes(64)
    assert path.read_bytes() == HEAD + content


def test_items_of_sequences_are_looked_into(tmp_path: Path) -> None:
    item = short(0x00080100, b"  ", b"CODE")
    sequence = struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    sequence = struct.pack("<HH2sHL", 0x0040, 0xA043, b"SQ", 0, len(sequence)) + sequence
    with opened(written(tmp_path, a_dataset(sequence))) as file:
        dataset = dcmread(file)
    assert dataset.ConceptNameCodeSequence[0].CodeValue == "CODE"
    assert dataset.PixelData == bytes(64)


def test_a_file_with_all_its_vrs_is_not_copied(tmp_path: Path) -> None:
    path = written(tmp_path, a_dataset())
    with opened(path) as file:
        assert Path(file.name) == path
        assert file.read() == path.read_bytes()


FRAGMENTS = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + struct.pack(
    "<HHLHHL2sHHL", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, 2, b"AB", 0xFFFE, 0xE0DD, 0
)


def test_nothing_is_read_behind_compressed_pixels(tmp_path: Path) -> None:
    dataset = encoded(1)
    dataset = dataset[: dataset.index(PIXELS)] + FRAGMENTS
    path = written(tmp_path, dataset + short(0xFFFCFFFC, b"  ", b"padding "))
    with opened(path) as file:
        assert file.read() == path.read_bytes()
        assert Path(file.name) == path


@pytest.mark.parametrize("is_delimited", [False, True])
def test_compressed_pixels_of_an_icon_do_not_end_the_header(
    tmp_path: Path, is_delimited: bool
) -> None:
    length = 0xFFFFFFFF if is_delimited else 8 + len(FRAGMENTS)
    icon = struct.pack("<HH2sHL", 0x0088, 0x0200, b"SQ", 0, length)
    icon += struct.pack("<HHL", 0xFFFE, 0xE000, len(FRAGMENTS)) + FRAGMENTS
    icon += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) if is_delimited else b""
    content = a_dataset(icon, short(0x00880140, b"  ", b"1.2.3\0"))
    with opened(written(tmp_path, content)) as file:
        assert dcmread(file).StorageMediaFileSetUID == "1.2.3"


def test_a_long_value_of_64_kb_is_not_taken_for_one(tmp_path: Path) -> None:
    """The lower half of its length is two NULs."""
    value = struct.pack("<HH2sHL", 0x0029, 0x1020, b"OB", 0, 65_536) + bytes(65_536)
    with opened(written(tmp_path, a_dataset(value))) as file:
        assert dcmread(file)[0x00291020].value == bytes(65_536)


def test_sequences_are_walked_once_however_deep(tmp_path: Path) -> None:
    depth = 20_000
    begin = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    begin += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    bottom = short(0x00080100, b"  ", b"CODE")
    content = a_dataset(begin * depth + bottom + end * depth)
    with opened(written(tmp_path, content)) as file:
        repaired = file.read()
    assert repaired == HEAD + content.replace(bottom, short(0x00080100, b"SH", b"CODE"))
