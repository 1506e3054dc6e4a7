"""The head of a DICOM file: what we write others read, what is broken is refused."""

from __future__ import annotations

import io

import pytest
from pydicom import dcmread

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header, read_part10
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded


@pytest.mark.parametrize("ae_title", ["", "SENDER", "ODD"])
def test_pydicom_reads_the_header_we_write(ae_title: str) -> None:
    head = part10_header(CT_IMAGE, "1.2.3.1.1", EXPLICIT, ae_title)
    dataset = dcmread(io.BytesIO(head + encoded(1)))
    assert dataset.file_meta.MediaStorageSOPClassUID == CT_IMAGE
    assert dataset.file_meta.MediaStorageSOPInstanceUID == "1.2.3.1.1"
    assert dataset.file_meta.TransferSyntaxUID == EXPLICIT
    assert dataset.file_meta.get("SourceApplicationEntityTitle", "") == ae_title
    assert dataset.file_meta.FileMetaInformationGroupLength == len(head) - 144
    assert dataset.file_meta.ImplementationClassUID.is_valid
    assert dataset.PatientName == "Doe^Jane"


def test_the_header_is_read_back() -> None:
    head = part10_header(CT_IMAGE, "1.2.3.1.1", EXPLICIT, "SENDER")
    meta = read_part10(head + b"rest")
    assert (meta.sop_class_uid, meta.sop_instance_uid) == (CT_IMAGE, "1.2.3.1.1")
    assert (meta.transfer_syntax_uid, meta.source_ae_title) == (EXPLICIT, "SENDER")
    assert meta.dataset_offset == len(head)


@pytest.mark.parametrize("size", [0, 100, 131, 132, 143, 150, 200])
def test_a_file_cut_in_its_header_is_refused(size: int) -> None:
    with pytest.raises(DatasetError):
        read_part10(part10_header(CT_IMAGE, "1.2.3.1.1", EXPLICIT)[:size])


def test_a_header_without_transfer_syntax_is_refused() -> None:
    head = bytearray(part10_header(CT_IMAGE, "1.2.3.1.1", EXPLICIT))
    at = head.index(b"\x02\x00\x10\x00UI")
    head[at + 2 : at + 4] = b"\x11\x00"
    with pytest.raises(DatasetError):
        read_part10(bytes(head))
