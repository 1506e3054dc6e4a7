"""Objects with compressed pixels whose codestream and header are chosen apart from each other."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from lfscp.archive.store.stored_dataset import read_stored_dataset
from lfscp.dicom.encoding.image_pixel import image_pixel, read_pixel_element
from lfscp.dicom.errors import DatasetError
from lfscp.services.transcoding.decoded import DecodedFrame, DecodingError
from lfscp.services.transcoding.frames import Frames
from lfscp.services.transcoding.native_frames import NativeFrames

Array = NDArray[Any]


def described(
    rows: int,
    columns: int,
    *,
    syntax: str = ExplicitVRLittleEndian,
    allocated: int = 8,
    stored: int | None = None,
    high_bit: int | None = None,
    signed: bool = False,
    photometric: str = "MONOCHROME2",
    frames: int = 1,
) -> Dataset:
    """A Secondary Capture without pixel data; three samples when it is in colour."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    dataset.PatientName = "Doe^Jane"
    dataset.SamplesPerPixel = 1 if photometric.startswith(("MONO", "PALETTE")) else 3
    dataset.PhotometricInterpretation = photometric
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.Rows, dataset.Columns = rows, columns
    stored = stored or allocated
    dataset.BitsAllocated, dataset.BitsStored = allocated, stored
    dataset.HighBit = stored - 1 if high_bit is None else high_bit
    dataset.PixelRepresentation = int(signed)
    return dataset


def save(dataset: Dataset, folder: Path) -> Path:
    """Write it as a file."""
    path = folder / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def with_fragments(
    dataset: Dataset, fragments: Sequence[bytes], folder: Path, *, has_table: bool = False
) -> Path:
    """Write it with these fragments of pixel data, one a frame where there is a table."""
    dataset.PixelData = encapsulate(list(fragments), has_bot=has_table)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return save(dataset, folder)


def ramp(rows: int, columns: int, bits: int, *, signed: bool = False, samples: int = 1) -> Array:
    """Values over the whole range of so many bits; the first are 0 and the extremes."""
    count = rows * columns * samples
    values = np.arange(count, dtype=np.int64) * 40503 % (1 << bits)
    values[:3] = 0, (1 << bits) - 1, (1 << bits) // 2
    if signed:
        values -= (values >> (bits - 1)) << bits
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    return values.reshape(shape)


def of_type(values: Array, bits: int) -> Array:
    """The same values in the smallest type that holds cells of so many bits."""
    width = 1 if bits <= 8 else 2 if bits <= 16 else 4
    return values.astype(f"<{'i' if values.min() < 0 else 'u'}{width}")


def decoded_frame(path: Path, number: int) -> DecodedFrame:
    """One frame of an object with compressed pixels."""
    try:
        return Frames(read_stored_dataset(path)).decode(number, alone=True)
    except DatasetError as error:
        raise DecodingError(error.reason) from None


def native_frame(path: Path, number: int) -> DecodedFrame:
    """One frame of an object whose pixels are not compressed, with their sign."""
    dataset = read_stored_dataset(path)
    element, values = read_pixel_element(dataset.content, dataset.encoding)
    assert element is not None
    image = image_pixel(values, dataset.encoding)
    is_big = dataset.encoding.byteorder == "big"
    native = NativeFrames(BytesIO(dataset.content), element, image, is_big)
    cells = native.frame(number)
    if image.is_signed:
        cells = cells.view(f"<i{cells.itemsize}")
    return DecodedFrame(cells, native.photometric)
