"""Small DICOM objects of many kinds: pydicom's own test files, and some made here."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
VIDEO_PHOTOGRAPHIC = "1.2.840.10008.5.1.4.1.1.77.1.4.1"
MPEG2 = "1.2.840.10008.1.2.4.100"


@dataclass(frozen=True)
class Kind:
    """A kind of object: pydicom's file, and how DCMTK offers (-x…) and prefers (+x…) its syntax."""

    file: str
    syntax: str

    @property
    def propose(self) -> str:
        """The option of storescu."""
        return f"-x{self.syntax}"

    @property
    def prefer(self) -> str:
        """The option of getscu and storescp."""
        return f"+x{self.syntax}"


KINDS = (
    Kind("CT_small.dcm", "="),
    Kind("MR_small.dcm", "="),
    Kind("liver_1frame.dcm", "="),  # Segmentation
    Kind("reportsi.dcm", "="),  # Basic Text SR
    Kind("test-SR.dcm", "="),  # Comprehensive SR
    Kind("examples_palette.dcm", "="),  # Ultrasound
    Kind("waveform_ecg.dcm", "="),  # 12-lead ECG
    Kind("MR_small_implicit.dcm", "i"),
    Kind("rtplan.dcm", "i"),
    Kind("rtdose_1frame.dcm", "i"),
    Kind("ExplVR_BigEnd.dcm", "b"),  # Ultrasound
    Kind("rtdose_expb_1frame.dcm", "b"),
    Kind("image_dfl.dcm", "d"),  # Secondary Capture, deflated
    Kind("SC_rgb_jpeg_gdcm.dcm", "s"),  # JPEG lossless
    Kind("SC_rgb_jpeg_dcmtk.dcm", "y"),  # JPEG baseline
    Kind("JPGExtended.dcm", "x"),
    Kind("MR_small_jp2klossless.dcm", "v"),
    Kind("JPEG2000.dcm", "w"),
    Kind("MR_small_jpeg_ls_lossless.dcm", "t"),
    Kind("JPEGLSNearLossless_08.dcm", "u"),
    Kind("MR_small_RLE.dcm", "r"),
    Kind("rtdose_rle_1frame.dcm", "r"),
)


def sample(file: str, folder: Path, **attributes: Any) -> Path:
    """A copy of pydicom's test file as an instance of its own; `attributes` by keyword."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some files break small rules, as those of scanners do
        source = get_testdata_file(file)
        assert isinstance(source, str), f"pydicom comes without {file}"
        dataset = dcmread(source)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            if keyword not in dataset:
                setattr(dataset, keyword, generate_uid())
        dataset.SOPInstanceUID = generate_uid()
        return save(dataset, folder, **attributes)


def made(folder: Path, *, syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> Path:
    """A small CT made here; `attributes` by keyword, those that are None are left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientID = "P1"
    dataset.PatientName = "Doe^Jane"
    dataset.Modality = "CT"
    dataset.Rows, dataset.Columns = 16, 16
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = bytes(range(256)) * 2
    dataset["PixelData"].VR = "OB" if UID(syntax).is_encapsulated else "OW"
    return save(dataset, folder, **attributes)


def of_sender(folder: Path, sender: int, count: int, *, study: str, patient: str) -> list[Path]:
    """What one of several senders of the same study stores; every second one shares a series."""
    series = f"{study}.{sender % 2}"
    return [
        made(
            folder / str(sender),
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID=f"{series}.{sender}.{number}",
            PatientID=patient,
        )
        for number in range(count)
    ]


def video(folder: Path, **attributes: Any) -> Path:
    """An object in an MPEG2 transfer syntax, whose stream nobody need understand."""
    return made(
        folder,
        syntax=MPEG2,
        SOPClassUID=VIDEO_PHOTOGRAPHIC,
        Modality="XC",
        PixelData=encapsulate([b"\x00\x00\x01\xb3 no real stream"]),
        **attributes,
    )


def document(folder: Path, **attributes: Any) -> Path:
    """An object without pixels."""
    return made(
        folder,
        SOPClassUID=ENCAPSULATED_PDF,
        Modality="DOC",
        PixelData=None,
        EncapsulatedDocument=b"%PDF-1.4 no real document ",
        MIMETypeOfEncapsulatedDocument="application/pdf",
        **attributes,
    )


def save(dataset: Dataset, folder: Path, **attributes: Any) -> Path:
    """Write a dataset into a folder; `attributes` by keyword, those that are None are removed."""
    for keyword, value in attributes.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path, enforce_file_format=True)
    return path
