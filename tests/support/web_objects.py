"""DICOM files with something to see, for tests of the page: a phantom CT, a loop, a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.10.1"
CT_STUDY, CT_SERIES = f"{ROOT}.1", f"{ROOT}.1.1"
LOOP_STUDY, LOOP_SERIES, LOOP_INSTANCE = f"{ROOT}.2", f"{ROOT}.2.1", f"{ROOT}.2.1.1"
REPORT_INSTANCE = f"{ROOT}.2.2.1"
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
LOOP_CLASS = "1.2.840.10008.5.1.4.1.1.3.1"
REPORT_CLASS = "1.2.840.10008.5.1.4.1.1.88.11"
EVIL_NAME = "<b>Evil</b>^<script>alert(1)</script>"


def new(sop_class: str, uid: str, study: str, series: str, **values: Any) -> FileDataset:
    """A dataset with file meta information and what every object has."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def set_pixels(dataset: FileDataset, pixels: np.ndarray, **values: Any) -> FileDataset:
    """Put pixels in: (rows, columns) or (frames, rows, columns, 3)."""
    is_colour = pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if is_colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if is_colour else 1
    dataset.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        dataset.PlanarConfiguration = 0
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
    return dataset


def ct_slice(number: int, count: int, edge: int = 192) -> FileDataset:
    """One slice of a chest that nobody has."""
    y, x = np.mgrid[-1 : 1 : edge * 1j, -1 : 1 : edge * 1j]
    depth = (number - count / 2) / count
    values = np.full((edge, edge), -1000.0)
    values[(x / 0.85) ** 2 + (y / 0.62) ** 2 < 1] = 40
    lung = 0.3 * np.sqrt(max(0.05, 1 - 3 * depth**2))
    for side in (-0.38, 0.38):
        values[((x - side) / lung) ** 2 + (y / (lung * 1.45)) ** 2 < 1] = -820
    values[(x - 0.08) ** 2 + y**2 < (0.5 * lung) ** 2] = 110
    values[x**2 + (y - 0.46) ** 2 < 0.011] = 700
    values[x**2 + (y - 0.46) ** 2 < 0.003] = 20
    for angle in np.linspace(0, 2 * np.pi, 22):
        across, along = 0.79 * np.cos(angle + depth), 0.56 * np.sin(angle + depth)
        values[(x - across) ** 2 + (y - along) ** 2 < 0.0011] = 600
    values += np.random.default_rng(number).normal(0, 18, values.shape)
    dataset = new(
        CT_CLASS,
        f"{CT_SERIES}.{number}",
        CT_STUDY,
        CT_SERIES,
        PatientName="Müller^Johanna^^Dr.",
        PatientID="P-0007",
        PatientBirthDate="19610312",
        PatientSex="F",
        StudyDate="20240517",
        StudyTime="093011",
        StudyDescription="CT Thorax with contrast",
        AccessionNumber="A-10442",
        ReferringPhysicianName="Weber^Klaus",
        Modality="CT",
        SeriesNumber=2,
        SeriesDescription="Axial 5 mm",
        BodyPartExamined="CHEST",
        StationName="CT01",
        InstanceNumber=number,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        WindowCenter=40,
        WindowWidth=400,
        PixelSpacing=[0.7, 0.7],
    )
    return set_pixels(dataset, (np.clip(values, -1024, 3000) + 1024).astype("<u2"))


def colour_loop(frames: int = 8) -> FileDataset:
    """A multi-frame object in colour, whose patient has HTML for a name; frame k is red at k."""
    pixels = np.zeros((frames, 60, 80, 3), np.uint8)
    pixels[:, 10:50, 10:70] = 90
    for frame in range(frames):
        pixels[frame, 20:30, 10 + frame * 5 : 15 + frame * 5] = (230, 0, 0)
    dataset = new(
        LOOP_CLASS,
        LOOP_INSTANCE,
        LOOP_STUDY,
        LOOP_SERIES,
        PatientName=EVIL_NAME,
        PatientID='X<>&"1',
        StudyDate="20240601",
        StudyDescription="Echo & <i>Doppler</i>",
        Modality="US",
        SeriesNumber=1,
        SeriesDescription="Four chamber",
        InstanceNumber=1,
        NumberOfFrames=frames,
        FrameTime=50,
    )
    return set_pixels(dataset, pixels)


def report() -> FileDataset:
    """An object without any picture."""
    return new(
        REPORT_CLASS,
        REPORT_INSTANCE,
        LOOP_STUDY,
        f"{LOOP_STUDY}.2",
        PatientName=EVIL_NAME,
        PatientID='X<>&"1',
        StudyDate="20240601",
        Modality="SR",
        SeriesNumber=2,
        InstanceNumber=1,
    )


def write_all(folder: Path, slices: int = 12) -> Path:
    """Write them as files: `ct*.dcm`, `loop.dcm`, `report.dcm`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, slices + 1):
        ct_slice(number, slices).save_as(folder / f"ct{number:02d}.dcm", enforce_file_format=True)
    colour_loop().save_as(folder / "loop.dcm", enforce_file_format=True)
    report().save_as(folder / "report.dcm", enforce_file_format=True)
    return folder
