"""DICOM files as others write them: where their dataset is, in what syntax, and what is odd."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.part10.media import (
    MediaDirectoryError,
    NotDicomError,
    could_be_dicom,
    identity_of,
    read_media,
)
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded

IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UID = "1.2.3.1.1"


def written(transfer_syntax_uid: str, **values: Any) -> bytes:
    """The same dataset as `encoded` makes, in another encoding."""
    dataset = dcmread(BytesIO(encoded(1, **values)), force=True)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = transfer_syntax_uid == IMPLICIT
    buffer.is_little_endian = transfer_syntax_uid != BIG_ENDIAN
    plain = Dataset()
    plain.update(dataset)
    write_dataset(buffer, plain)
    return bytes(buffer.getvalue())


def meta_element(number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


HEAD = part10_header(CT_IMAGE, UID, EXPLICIT, "SENDER")
META = HEAD[144:]  # behind the group length
GROUP_LENGTH = HEAD[132:144]
PREAMBLE = HEAD[:128]
PREFIX = HEAD[:132]
NO_TRANSFER_SYNTAX = META.replace(meta_element(0x10, b"UI", EXPLICIT.encode() + b"\0"), b"")


def test_what_we_write_is_not_odd() -> None:
    found = read_media(memoryview(HEAD + encoded(1)))
    assert (found.sop_class_uid, found.sop_instance_uid) == (CT_IMAGE, UID)
    assert (found.transfer_syntax_uid, found.source_ae_title) == (EXPLICIT, "SENDER")
    assert found.dataset_offset == len(HEAD)
    assert found.notes_on(CT_IMAGE, UID) == ()


@pytest.mark.parametrize(
    ("head", "note"),
    [
        (HEAD[128:], "the preamble is missing"),
        (HEAD[132:], "preamble and prefix DICM are missing"),
        (PREAMBLE + HEAD[132:], "the prefix DICM is missing"),
        (HEAD[:132] + META, "the file meta information's group length is missing"),
        (HEAD[128:132] + META, "the file meta information's group length is missing"),
        (HEAD[:132], "the file meta information is missing"),
        (b"", "the file meta information is missing"),
    ],
)
def test_what_stands_before_the_dataset_may_be_missing(head: bytes, note: str) -> None:
    found = read_media(memoryview(head + encoded(1)))
    assert found.dataset_offset == len(head)
    assert found.transfer_syntax_uid == EXPLICIT
    assert note in found.notes


@pytest.mark.parametrize("stated", [0, 4, 26, len(META) - 30, len(META) + 8, len(META) + 5000])
def test_a_wrong_group_length_does_not_count(stated: int) -> None:
    head = HEAD[:140] + struct.pack("<L", stated) + META
    found = read_media(memoryview(head + encoded(1)))
    assert found.dataset_offset == len(head)
    assert found.notes == ("the file meta information's group length is wrong",)


def test_file_meta_information_in_implicit_vr_is_read() -> None:
    uid = EXPLICIT.encode() + b"\0"
    head = HEAD[:132] + struct.pack("<HHL", 2, 0x10, len(uid)) + uid
    found = read_media(memoryview(head + encoded(1)))
    assert (found.transfer_syntax_uid, found.dataset_offset) == (EXPLICIT, len(head))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("head", [b"", HEAD[:132], HEAD[:132] + NO_TRANSFER_SYNTAX])
def test_a_dataset_shows_its_own_transfer_syntax(head: bytes, syntax: str) -> None:
    found = read_media(memoryview(head + written(syntax)))
    assert (found.transfer_syntax_uid, found.dataset_offset) == (syntax, len(head))
    assert any(note.startswith("no transfer syntax is named") for note in found.notes)


@pytest.mark.parametrize(("named", "actual"), [(IMPLICIT, EXPLICIT), (EXPLICIT, IMPLICIT)])
def test_a_transfer_syntax_that_is_plainly_another_is_corrected(named: str, actual: str) -> None:
    found = read_media(memoryview(part10_header(CT_IMAGE, UID, named) + written(actual)))
    assert found.transfer_syntax_uid == actual
    (note,) = found.notes
    assert "is named, the dataset is in" in note


def test_which_codec_compressed_the_pixels_is_not_guessed() -> None:
    fragments = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0\x04\0\0\0\xff\xd8\xff\xd9"
    end = b"\xfe\xff\xdd\xe0\0\0\0\0"
    pixels = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + fragments + end
    dataset = encoded(1)
    dataset = dataset[: dataset.index(b"\xe0\x7f\x10\x00")] + pixels
    with pytest.raises(DatasetError, match="the pixel data is compressed"):
        read_media(memoryview(dataset))
    head = part10_header(CT_IMAGE, UID, "1.2.840.10008.1.2.4.70")
    assert read_media(memoryview(head + dataset)).dataset_offset == len(head)


@pytest.mark.parametrize(
    "named",
    [b"xyz\x1b[0m\xff\xfe", b"1.2.840.10008.1.2\\1.2.840.10008.1.2.1", b"1..2", b"1" * 66],
)
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_a_transfer_syntax_that_is_no_uid_names_none(named: bytes, syntax: str) -> None:
    named += b"\0" * (len(named) % 2)
    found = read_media(memoryview(PREFIX + meta_element(0x10, b"UI", named) + written(syntax)))
    assert found.transfer_syntax_uid == syntax
    assert any("is no UID, it is " in note and note.isprintable() for note in found.notes)


def test_a_bare_dataset_that_is_cut_off_is_refused() -> None:
    with pytest.raises(DatasetError):
        read_media(memoryview(encoded(1)[:-20]))


@pytest.mark.parametrize(
    "stray",
    [
        meta_element(0x10, b"UI", IMPLICIT.encode() + b"\0"),
        struct.pack("<HHL", 2, 0x10, 20) + EXPLICIT.encode() + b"\0",
    ],
    ids=["explicit", "implicit"],
)
def test_a_dataset_that_begins_with_group_2_is_no_longer_meta_information(stray: bytes) -> None:
    with pytest.raises(DatasetError, match=r"it begins with \(0002,0010\), which no dataset may"):
        read_media(memoryview(HEAD + stray + encoded(1)))


def test_deflated_bytes_that_look_like_meta_information_are_none() -> None:
    head = part10_header(CT_IMAGE, UID, DEFLATED)
    found = read_media(memoryview(head + b"\x02\x00\x10\x00UI\x00\x00more"))
    assert (found.dataset_offset, found.notes) == (len(head), ())


@pytest.mark.parametrize(
    "content",
    [
        part10_header("1.2.840.10008.1.3.10", "1.2.3", EXPLICIT) + b"\x04\x00\x30\x11CS\x00\x00",
        part10_header(CT_IMAGE, "1.2.3", EXPLICIT) + b"\x04\x00\x30\x11CS\x00\x00",
        b"\x04\x00\x30\x11CS\x00\x00",
    ],
)
def test_a_dicomdir_is_named_as_one(content: bytes) -> None:
    with pytest.raises(
        MediaDirectoryError, match="a DICOMDIR: it lists objects and is none itself"
    ):
        read_media(memoryview(content))


def test_an_object_that_begins_with_group_4_is_no_dicomdir() -> None:
    stray = struct.pack("<HH2sH", 4, 0x1130, b"CS", 2) + b"X "
    found = read_media(memoryview(HEAD + stray + encoded(1)))

    assert (found.sop_class_uid, found.dataset_offset) == (CT_IMAGE, len(HEAD))


@pytest.mark.parametrize(
    "content", [b"", b"P", b"hello", b"\0" * 5000, b"PK\x03\x04rest", b"\x08\x00\xff\xff" * 40]
)
def test_what_is_no_dicom_is_told_from_what_is_broken(content: bytes) -> None:
    with pytest.raises(NotDicomError, match="no DICOM file"):
        read_media(memoryview(content))


def test_what_begins_as_dicom_is_told_by_few_bytes() -> None:
    assert could_be_dicom(HEAD[:132])
    assert could_be_dicom(encoded(1)[:132])
    assert not could_be_dicom(b"\x89PNG" + bytes(200))


def test_what_differs_from_the_dataset_is_noted() -> None:
    found = read_media(memoryview(HEAD + encoded(1)))
    assert found.notes_on("1.9", "1.2.3.1.1") == (
        f"the file meta information has SOP Class UID {CT_IMAGE}, the dataset 1.9",
    )


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_the_dataset_says_what_it_is(syntax: str) -> None:
    dataset = written(EXPLICIT if syntax == DEFLATED else syntax)
    if syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        dataset = deflater.compress(dataset) + deflater.flush()
    assert identity_of(memoryview(dataset), syntax) == (CT_IMAGE, UID)


@pytest.mark.parametrize("content", [b"", b"\x08\x00\x16\x00UI\x20\x001.2", b"\xff" * 40])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED])
def test_a_broken_dataset_says_nothing(content: bytes, syntax: str) -> None:
    assert identity_of(memoryview(content), syntax) == ("", "")
