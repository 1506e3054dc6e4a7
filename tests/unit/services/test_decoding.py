"""Stored objects in another transfer syntax: pixels stay the same, whoever reads them."""

from __future__ import annotations

import importlib.util
from io import SEEK_END, BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.pixels import decoders
from pydicom.uid import (
    MPEG4HP41,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from lfscp.services import decoding
from lfscp.services.decoding import DecodingError, decode

JPIP_REFERENCED_DEFLATE = "1.2.840.10008.1.2.4.95"

needs_openjpeg = pytest.mark.skipif(
    importlib.util.find_spec("openjpeg") is None, reason="extra codecs is not installed"
)


def image(syntax: str, *, samples: int = 1, photometric: str = "MONOCHROME2") -> Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = CTImageStorage
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.PatientName = "Doe^Jane"
    dataset.Rows, dataset.Columns = 64, 48
    dataset.BitsAllocated = 16 if samples == 1 else 8
    dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    dataset.PixelRepresentation = 0
    dataset.SamplesPerPixel = samples
    dataset.PhotometricInterpretation = photometric
    if samples > 1:
        dataset.PlanarConfiguration = 0
    rng = np.random.default_rng(1)
    shape = (64, 48) if samples == 1 else (64, 48, samples)
    pixels = rng.integers(0, 2**dataset.BitsAllocated, shape)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    dataset.PixelData = pixels.astype(f"{order}u{dataset.BitsAllocated // 8}").tobytes()
    dataset["PixelData"].VR = "OW" if samples == 1 else "OB"
    return dataset


def stored(folder: Path, dataset: Dataset) -> Path:
    path = folder / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def compressed(folder: Path, syntax: str, **options: object) -> Path:
    dataset = image(ExplicitVRLittleEndian, **options)
    dataset.compress(syntax, generate_instance_uid=False)
    return stored(folder, dataset)


def read(encoded: bytes, syntax: str) -> Dataset:
    """Read an encoded dataset back as if it were a file in `syntax`."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    buffer = BytesIO(b"\0" * 128 + b"DICM")
    buffer.seek(0, SEEK_END)
    write_file_meta_info(buffer, meta, enforce_standard=False)
    buffer.write(encoded)
    buffer.seek(0)
    return dcmread(buffer)


@pytest.mark.parametrize("wanted", decoding.TARGETS)
@pytest.mark.parametrize(
    "syntax",
    [
        RLELossless,
        pytest.param(JPEG2000Lossless, marks=needs_openjpeg),
        pytest.param(JPEGLSLossless, marks=needs_openjpeg),
    ],
)
def test_lossless_pixels_come_out_as_they_went_in(tmp_path: Path, syntax: str, wanted: str) -> None:
    path = compressed(tmp_path, syntax)
    original = image(ExplicitVRLittleEndian)

    result = read(decode(path, syntax, wanted), wanted)

    assert (result.pixel_array == original.pixel_array).all()
    assert result.SOPInstanceUID == dcmread(path).SOPInstanceUID


@pytest.mark.parametrize("wanted", decoding.TARGETS)
@pytest.mark.parametrize("syntax", decoding.TARGETS)
def test_uncompressed_syntaxes_turn_into_each_other(
    tmp_path: Path, syntax: str, wanted: str
) -> None:
    dataset = image(syntax)
    path = stored(tmp_path, dataset)

    encoded = decode(path, syntax, wanted)

    result = read(encoded, wanted)
    assert len(encoded) % 2 == 0
    assert (result.pixel_array == image(ExplicitVRLittleEndian).pixel_array).all()
    assert result.PatientName == dataset.PatientName
    assert result.Rows == 64


def test_words_in_sequences_are_swapped_too(tmp_path: Path) -> None:
    dataset = image(ExplicitVRBigEndian)
    item = Dataset()
    item.add_new(0x00281201, "OW", b"\x01\x02\x03\x04")
    dataset.add_new(0x00283000, "SQ", [item])

    result = read(
        decode(stored(tmp_path, dataset), ExplicitVRBigEndian, ExplicitVRLittleEndian),
        ExplicitVRLittleEndian,
    )

    assert result[0x00283000].value[0][0x00281201].value == b"\x02\x01\x04\x03"


def test_lossless_ybr_stays_ybr(tmp_path: Path) -> None:
    path = compressed(tmp_path, RLELossless, samples=3, photometric="YBR_FULL")
    original = image(ExplicitVRLittleEndian, samples=3, photometric="YBR_FULL")

    result = read(decode(path, RLELossless, ExplicitVRLittleEndian), ExplicitVRLittleEndian)

    assert result.PhotometricInterpretation == "YBR_FULL"
    assert result.PlanarConfiguration == 0
    assert result.PixelData == original.PixelData


@needs_openjpeg
def test_reversible_colour_transform_is_undone(tmp_path: Path) -> None:
    dataset = image(ExplicitVRLittleEndian, samples=3, photometric="RGB")
    pixels = dataset.PixelData
    dataset.PhotometricInterpretation = "YBR_RCT"
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    path = stored(tmp_path, dataset)

    result = read(decode(path, JPEG2000Lossless, ExplicitVRLittleEndian), ExplicitVRLittleEndian)

    assert result.PhotometricInterpretation == "RGB"
    assert result.PixelData == pixels


def test_lossy_jpeg_in_ybr_becomes_rgb() -> None:
    pytest.importorskip("libjpeg")
    path = get_testdata_file("SC_rgb_dcmtk_+eb+cy+np.dcm", download=False)
    if path is None:
        pytest.skip("pydicom's test file is not installed")

    result = read(decode(Path(path), JPEGBaseline8Bit, ImplicitVRLittleEndian), "1.2.840.10008.1.2")

    assert result.PhotometricInterpretation == "RGB"
    assert len(result.PixelData) == result.Rows * result.Columns * 3


def test_compressed_icon_is_left_out(tmp_path: Path) -> None:
    dataset = image(ExplicitVRLittleEndian)
    dataset.compress(RLELossless, generate_instance_uid=False)
    icon = Dataset()
    icon.PixelData = dataset.PixelData
    icon["PixelData"].VR = "OB"
    icon["PixelData"].is_undefined_length = True
    dataset.IconImageSequence = [icon]
    path = stored(tmp_path, dataset)

    result = read(decode(path, RLELossless, ExplicitVRLittleEndian), ExplicitVRLittleEndian)

    assert "IconImageSequence" not in result


def test_compressed_syntax_without_pixel_data_is_only_rewritten(tmp_path: Path) -> None:
    dataset = image(ExplicitVRLittleEndian)
    del dataset.PixelData
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    path = stored(tmp_path, dataset)

    encoded = decode(path, JPEG2000Lossless, ImplicitVRLittleEndian)

    result = read_dataset(BytesIO(encoded), is_implicit_VR=True, is_little_endian=True)
    assert result.SOPInstanceUID == dataset.SOPInstanceUID


def test_video_is_not_decoded_and_says_so(tmp_path: Path) -> None:
    dataset = image(ExplicitVRLittleEndian)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    path = stored(tmp_path, dataset)

    with pytest.raises(DecodingError, match=r"no decoder for MPEG-4 AVC/H\.264"):
        decode(path, MPEG4HP41, ExplicitVRLittleEndian)


def test_pixel_data_that_is_elsewhere_is_not_decoded(tmp_path: Path) -> None:
    with pytest.raises(DecodingError, match="JPIP Referenced Deflate only refers to"):
        decode(tmp_path / "any.dcm", JPIP_REFERENCED_DEFLATE, ExplicitVRLittleEndian)


def test_missing_codec_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compressed(tmp_path, RLELossless)
    decoder = decoders.base.get_decoder(HTJ2KLossless)
    monkeypatch.setattr(decoder, "_available", {})

    with pytest.raises(DecodingError, match=r"pip install 'lfscp\[codecs\]'"):
        decode(path, HTJ2KLossless, ExplicitVRLittleEndian)


def test_broken_pixel_data_is_an_error_with_a_reason(tmp_path: Path) -> None:
    dataset = image(ExplicitVRLittleEndian)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.PixelData = dataset.PixelData[:20] + b"\0" * 20
    dataset["PixelData"].is_undefined_length = True
    path = stored(tmp_path, dataset)

    with pytest.raises(DecodingError, match="RLE Lossless cannot be decoded"):
        decode(path, RLELossless, ExplicitVRLittleEndian)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "gone.dcm", RLELossless, ExplicitVRLittleEndian)


def test_compressed_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodingError, match="not converted to RLE Lossless"):
        decode(tmp_path / "any.dcm", DeflatedExplicitVRLittleEndian, RLELossless)
