"""Objects of every kind of pixel data, and their URLs, for tests of WADO."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    VideoEndoscopicImageStorage,
)

from tests.support.web_objects import CT_CLASS, new

STUDY, SERIES = "1.2.826.0.1.3680043.10.5", "1.2.826.0.1.3680043.10.5.1"
RLE, J2K, NO_TABLE, DEFLATED, BIG_ENDIAN, BITS, PDF_UID, VIDEO = (
    f"{SERIES}.{number}" for number in range(1, 9)
)
FRAMES, ROWS, COLUMNS = 3, 65, 67
PDF_BYTES = b"%PDF-1.4 of a test\n%%EOF\n"
BIG_VALUE = bytes(range(256)) * 20  # of 16-bit words
VIDEO_BYTES = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 4


def url(instance: str, series: str = SERIES, study: str = STUDY) -> str:
    """The URL of an instance."""
    return f"/dicom-web/studies/{study}/series/{series}/instances/{instance}"


def cells() -> NDArray[np.uint16]:
    """The values of the frames. Shape: (frames, rows, columns)."""
    return (np.arange(FRAMES * ROWS * COLUMNS, dtype="<u2") * 613).reshape(FRAMES, ROWS, COLUMNS)


def bits() -> NDArray[np.uint8]:
    """The values of frames of one bit, whose ends are within bytes."""
    return (cells() % 3 == 0).astype(np.uint8)


def multi_frame(uid: str, *, bits: int = 16) -> FileDataset:
    """Three frames of 65 by 67 cells: their bits fill no bytes."""
    dataset = new(CT_CLASS, uid, STUDY, SERIES, PatientID="R1", PatientName="Doe^Jane")
    dataset.Modality, dataset.NumberOfFrames = "CT", FRAMES
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = ROWS, COLUMNS, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.ModalityLUTSequence = [_item(b"\0\0" * 5), _item(BIG_VALUE)]
    content = cells().tobytes() if bits == 16 else _packed()
    dataset.PixelData = content + bytes(len(content) % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
    return dataset


def _item(content: bytes) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(content) // 2, 0, 16]
    item.add_new("LUTData", "OW", content)
    return item


def _packed() -> bytes:
    return np.packbits(bits().reshape(-1), bitorder="little").tobytes()


def turned(uid: str, syntax: str) -> bytes:
    """The same in big endian, or deflated, as a file."""
    dataset = multi_frame(uid)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = cells().astype(">u2").tobytes()
        for item in dataset.ModalityLUTSequence:
            item.LUTData = np.frombuffer(item.LUTData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    plain = Dataset(dataset)
    plain.file_meta = dataset.file_meta
    out = BytesIO()
    plain.save_as(out, enforce_file_format=True)
    return out.getvalue()


def pdf(uid: str) -> FileDataset:
    """An encapsulated PDF, of an odd length."""
    dataset = new(EncapsulatedPDFStorage, uid, STUDY, f"{SERIES}.9", PatientID="R1")
    dataset.Modality, dataset.MIMETypeOfEncapsulatedDocument = "DOC", "application/pdf"
    dataset.EncapsulatedDocument = PDF_BYTES + bytes(len(PDF_BYTES) % 2)
    dataset.EncapsulatedDocumentLength = len(PDF_BYTES)
    return dataset


def video(uid: str) -> FileDataset:
    """Something that says it is a video."""
    dataset = multi_frame(uid)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = VideoEndoscopicImageStorage
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    dataset.PixelData = encapsulate([VIDEO_BYTES], has_bot=False)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def as_file(dataset: Dataset) -> bytes:
    """A DICOM file."""
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()
