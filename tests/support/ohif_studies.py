"""Studies to look at in OHIF: a CT that is a volume, colours, a document."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    EncapsulatedPDFStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)

from tests.support.web_objects import CT_STUDY, ct_slice, new, set_pixels

SLICES = 40
FRAME_OF_REFERENCE = f"{CT_STUDY}.9"
COLOUR_STUDY, DOCUMENT_STUDY = "1.2.826.0.1.3680043.10.8", "1.2.826.0.1.3680043.10.9"
COLOURS = ((220, 30, 30), (30, 200, 60), (40, 60, 220), (230, 220, 40))  # of the quarters


def ct_volume() -> list[Dataset]:
    """A CT of a chest, in JPEG 2000."""
    return [_in_place(ct_slice(number, SLICES, 128), number) for number in range(1, SLICES + 1)]


def _in_place(dataset: Dataset, number: int) -> Dataset:
    dataset.FrameOfReferenceUID = FRAME_OF_REFERENCE
    dataset.ImagePositionPatient = [0, 0, number * 3.0]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1.4, 1.4], 3
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    return dataset


def colours() -> list[Dataset]:
    """Four quarters of a colour each: as RGB, and as JPEG with half of the colours' columns."""
    pixels = np.zeros((256, 256, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        top, left = number // 2 * 128, number % 2 * 128
        pixels[top : top + 128, left : left + 128] = colour
    jpeg = _capture(2, pixels, PhotometricInterpretation="YBR_FULL_422")
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=95, subsampling="4:2:2")
    jpeg.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    jpeg.PixelData = encapsulate([content.getvalue()])
    jpeg["PixelData"].VR, jpeg["PixelData"].is_undefined_length = "OB", True
    return [_capture(1, pixels), jpeg]


def _capture(number: int, pixels: np.ndarray, **values: str) -> Dataset:
    series = f"{COLOUR_STUDY}.{number}"
    dataset = new(
        SecondaryCaptureImageStorage,
        f"{series}.1",
        COLOUR_STUDY,
        series,
        PatientName="Colour^Carl",
        PatientID="C-1",
        StudyDate="20250101",
        StudyTime="100000",
        StudyDescription="Colours",
        Modality="OT",
        SeriesNumber=number,
        SeriesDescription="Plain" if number == 1 else "Compressed",
        InstanceNumber=1,
    )
    return set_pixels(dataset, pixels, **values)


def document() -> Dataset:
    """A PDF of one red page."""
    dataset = new(
        EncapsulatedPDFStorage,
        f"{DOCUMENT_STUDY}.1.1",
        DOCUMENT_STUDY,
        f"{DOCUMENT_STUDY}.1",
        PatientName="Document^Dora",
        PatientID="D-1",
        StudyDate="20250102",
        StudyTime="100000",
        StudyDescription="Letter",
        Modality="DOC",
        SeriesNumber=1,
        InstanceNumber=1,
        MIMETypeOfEncapsulatedDocument="application/pdf",
    )
    content = BytesIO()
    Image.new("RGB", (200, 200), (200, 0, 0)).save(content, "PDF")
    octets = content.getvalue()
    dataset.EncapsulatedDocument = octets + bytes(len(octets) % 2)
    dataset.EncapsulatedDocumentLength = len(octets)
    return dataset
