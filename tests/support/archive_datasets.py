"""Datasets for the archive's tests, and how to store them."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from lfscp.archive.archive import Received

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def encoded(number: int, *, pixels: bytes = b"\0" * 64, **values: Any) -> bytes:
    """A small CT in explicit VR little endian: instance 1.2.3.1.<number> of study 1.2.3."""
    dataset = Dataset()
    dataset.SOPClassUID = CT_IMAGE
    dataset.SOPInstanceUID = f"1.2.3.1.{number}"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.1"
    dataset.PatientName = "Doe^Jane"
    dataset.PatientID = "P1"
    dataset.Modality = "CT"
    dataset.InstanceNumber = number
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OW"
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = False
    buffer.is_little_endian = True
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def received(number: int, **values: Any) -> Received:
    """The same, as the storage service hands it to the archive."""
    uid = values.get("SOPInstanceUID", f"1.2.3.1.{number}")
    raw = memoryview(bytearray(encoded(number, **values)))
    return Received(CT_IMAGE, uid, EXPLICIT, "SENDER", dataset=raw)
