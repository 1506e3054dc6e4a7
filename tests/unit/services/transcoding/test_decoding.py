"""Stored objects in another transfer syntax: pixels stay the same, whoever reads them."""

from __future__ import annotations

import importlib.util
import struct
from io import SEEK_END, BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
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

from lfscp.dicom.encoding.elements import elements
from lfscp.dicom.part10.file_meta import part10_header, read_part10
from lfscp.dicom.reading.header import encoding_of
from lfscp.services.transcoding import decoding
from lfscp.services.transcoding.decoding import DecodingError
from tests.support.converted import decode, even
from tests.support.pixel_objects import decoded_frame, described, ramp, save, with_fragments

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
    pytest.importorskip("imagecodecs")
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


# The elements around the pixels, and the pixels' length


def compressed_frames(folder: Path, *, count: int = 2, **values: object) -> tuple[Path, bytes]:
    """Frames of 3 by 5 bytes in RLE, and what they decode to."""
    cells = [np.roll(ramp(3, 5, 8), number).astype("u1") for number in range(count)]
    dataset = described(3, 5, syntax=RLELossless, frames=count)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    native = described(3, 5)
    encoded = []
    for each in cells:
        native.PixelData = each.tobytes() + b"\0"
        native["PixelData"].VR = "OB"
        copy = dcmread(save(native, folder))
        copy.compress(RLELossless, generate_instance_uid=False)
        encoded.append(get_frame(copy.PixelData, 0))
    return with_fragments(dataset, encoded, folder), b"".join(each.tobytes() for each in cells)


def elements_of(dataset: bytes, syntax: str) -> dict[int, bytes]:
    """The values of a dataset's own elements by tag."""
    encoding = encoding_of(syntax)
    found = elements(dataset, 0, len(dataset), encoding)
    return {tag: dataset[begin:end] for tag, begin, end, _ in found}


if importlib.util.find_spec("openjpeg") is not None:
    from openjpeg.utils import encode_array


@needs_openjpeg
def test_eight_bit_samples_are_widened_to_bits_allocated(tmp_path: Path) -> None:
    values = ramp(65, 67, 8)
    dataset = described(65, 67, syntax=JPEG2000Lossless, allocated=16, stored=8)
    codestream = encode_array(values.astype("u1"), bits_stored=8, photometric_interpretation=2)
    path = with_fragments(dataset, [bytes(codestream)], tmp_path)

    result = read(decode(path, JPEG2000Lossless, ExplicitVRLittleEndian), ExplicitVRLittleEndian)

    assert (result.BitsAllocated, result["PixelData"].VR) == (16, "OW")
    assert result.PixelData == values.astype("<u2").tobytes()


@needs_openjpeg
@pytest.mark.parametrize("wanted", decoding.TARGETS)
def test_single_bits_are_packed_across_frames(tmp_path: Path, wanted: str) -> None:
    values = np.indices((2, 65, 67)).sum(axis=0) // 3 % 2
    dataset = described(65, 67, syntax=JPEG2000Lossless, allocated=1, frames=2)
    encoded = [
        bytes(encode_array(each.astype("u1"), bits_stored=1, photometric_interpretation=2))
        for each in values
    ]
    path = with_fragments(dataset, encoded, tmp_path)

    result = read(decode(path, JPEG2000Lossless, wanted), wanted)

    packed = np.packbits(values.reshape(-1), bitorder="little").tobytes()
    assert result.PixelData == packed + b"\0" * (len(packed) % 2)
    assert (result.pixel_array == values).all()


@pytest.mark.parametrize("wanted", decoding.TARGETS)
def test_odd_frames_are_padded_at_the_end_only(tmp_path: Path, wanted: str) -> None:
    path, pixels = compressed_frames(tmp_path, count=3)

    result = read(decode(path, RLELossless, wanted), wanted)

    assert result.PixelData == pixels + b"\0"
    assert (result.NumberOfFrames, result["PixelData"].VR) == (
        3,
        "OW" if wanted == ImplicitVRLittleEndian else "OB",
    )


def test_all_but_the_pixels_stays_byte_for_byte(tmp_path: Path) -> None:
    path, _ = compressed_frames(
        tmp_path,
        ExtendedOffsetTable=b"\0" * 16,
        ExtendedOffsetTableLengths=b"\0" * 16,
        PatientName="X" * 6,
    )
    content = path.read_bytes().replace(b"XXXXXX", b"M\xfcller")  # not ISO_IR 6
    path.write_bytes(content)
    before = elements_of(dataset_of(path), RLELossless)

    after = elements_of(decode(path, RLELossless, ExplicitVRLittleEndian), ExplicitVRLittleEndian)

    gone = {0x7FE00001, 0x7FE00002}
    assert before.keys() - gone == after.keys()
    assert after[0x00100010] == b"M\xfcller"
    changed = {tag for tag in after if after[tag] != before[tag]}
    assert changed == {0x7FE00010}


def test_missing_planar_configuration_is_added(tmp_path: Path) -> None:
    dataset = image(ExplicitVRLittleEndian, samples=3, photometric="RGB")
    dataset.compress(RLELossless, generate_instance_uid=False)
    del dataset.PlanarConfiguration
    path = stored(tmp_path, dataset)

    result = read(decode(path, RLELossless, ExplicitVRLittleEndian), ExplicitVRLittleEndian)

    assert result.PlanarConfiguration == 0
    assert list(result.keys()) == sorted(result.keys())
    assert result.PixelData == image(ExplicitVRLittleEndian, samples=3).PixelData


def test_colour_that_has_no_name_when_decoded_fails(tmp_path: Path) -> None:
    dataset = image(ExplicitVRLittleEndian, samples=3, photometric="RGB")
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.PhotometricInterpretation = "YBR_PARTIAL_422"
    path = stored(tmp_path, dataset)

    with pytest.raises(DecodingError, match="decoded YBR_PARTIAL_422 is not supported"):
        decode(path, RLELossless, ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    "syntax", [RLELossless, pytest.param(JPEGLSLossless, marks=needs_openjpeg)]
)
def test_spread_chrominance_is_named(tmp_path: Path, syntax: str) -> None:
    dataset = image(ExplicitVRLittleEndian, samples=3, photometric="RGB")
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    path = stored(tmp_path, dataset)

    result = read(decode(path, syntax, ExplicitVRLittleEndian), ExplicitVRLittleEndian)

    assert result.PhotometricInterpretation == "YBR_FULL"
    assert result.PixelData == image(ExplicitVRLittleEndian, samples=3).PixelData


def test_empty_fragment_at_the_end_changes_nothing(tmp_path: Path) -> None:
    path, pixels = compressed_frames(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"\xfe\xff\0\xe0\0\0\0\0" + content[-8:])

    result = read(decode(path, RLELossless, ExplicitVRLittleEndian), ExplicitVRLittleEndian)

    assert result.PixelData == pixels
    assert (decoded_frame(path, 1).values.tobytes()) == pixels[15:]


def test_other_number_of_frames_fails(tmp_path: Path) -> None:
    path, _ = compressed_frames(tmp_path, NumberOfFrames=3)

    with pytest.raises(DecodingError, match="RLE Lossless cannot be decoded: the pixel data has 2"):
        decode(path, RLELossless, ExplicitVRLittleEndian)


@pytest.mark.parametrize("wanted", decoding.TARGETS)
def test_compressed_icon_inside_a_sequence_is_left_out_too(tmp_path: Path, wanted: str) -> None:
    path, pixels = compressed_frames(tmp_path)
    dataset = dcmread(path)
    icon = Dataset()
    icon.PixelData = dataset.PixelData
    icon["PixelData"].VR = "OB"
    icon["PixelData"].is_undefined_length = True
    item = Dataset()
    item.IconImageSequence = [icon]
    item.ReferencedSOPInstanceUID = "1.2.3"
    dataset.ReferencedImageSequence = [item]
    path = stored(tmp_path, dataset)

    result = read(decode(path, RLELossless, wanted), wanted)

    (item,) = result.ReferencedImageSequence
    assert "IconImageSequence" not in item
    assert item.ReferencedSOPInstanceUID == "1.2.3"
    assert result.PixelData == pixels


@pytest.mark.parametrize("wanted", decoding.TARGETS)
def test_other_compressed_pixels_inside_a_sequence_fail(tmp_path: Path, wanted: str) -> None:
    path, _ = compressed_frames(tmp_path)
    dataset = dcmread(path)
    item = Dataset()
    item.PixelData = dataset.PixelData
    item["PixelData"].VR = "OB"
    item["PixelData"].is_undefined_length = True
    dataset.ReferencedImageSequence = [item]
    path = stored(tmp_path, dataset)

    with pytest.raises(DecodingError, match=r"\(7FE0,0010\) OB of undefined length cannot be conv"):
        decode(path, RLELossless, wanted)


def test_compressed_dataset_of_odd_length_keeps_its_icon(tmp_path: Path) -> None:
    path, _ = compressed_frames(tmp_path)
    dataset = dcmread(path)
    icon = Dataset()
    icon.PixelData = dataset.PixelData
    icon["PixelData"].VR = "OB"
    icon["PixelData"].is_undefined_length = True
    dataset.IconImageSequence = [icon]
    path = stored(tmp_path, dataset)
    whole = dataset_of(path)
    path = as_file(tmp_path, whole.replace(b"PN\x08\0Doe^Jane", b"PN\7\0Doe^Jan"), RLELossless)
    assert len(dataset_of(path)) % 2 == 1

    padded = even(path, RLELossless)

    assert padded == whole.replace(b"Doe^Jane", b"Doe^Jan ")


def test_uncompressed_icon_stays(tmp_path: Path) -> None:
    path, _ = compressed_frames(tmp_path)
    dataset = dcmread(path)
    icon = Dataset()
    icon.BitsAllocated = 16
    icon.PixelData = b"\1\2"
    icon["PixelData"].VR = "OW"
    dataset.IconImageSequence = [icon]
    path = stored(tmp_path, dataset)

    result = read(decode(path, RLELossless, ExplicitVRBigEndian), ExplicitVRBigEndian)

    assert result.IconImageSequence[0].PixelData == b"\2\1"


# What cannot be converted, and datasets of odd length


def dataset_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[read_part10(content).dataset_offset :]


def as_file(folder: Path, dataset: bytes, syntax: str) -> Path:
    path = folder / "object.dcm"
    path.write_bytes(part10_header(CTImageStorage, "1.2.3", syntax) + dataset)
    return path


def test_cut_dataset_fails_with_its_reason(tmp_path: Path) -> None:
    dataset = image(ImplicitVRLittleEndian)
    path = stored(tmp_path, dataset)
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(DecodingError, match="cannot be converted: 6144 bytes of value, 6143 are"):
        decode(path, ImplicitVRLittleEndian, ExplicitVRLittleEndian)


def test_private_un_from_big_endian_keeps_its_bytes(tmp_path: Path) -> None:
    creator = b"\0\x09\0\x10LO\0\4MINE"
    unknown = b"\0\x09\x10\x01UN\0\0\0\0\0\4\1\2\3\4"
    path = as_file(tmp_path, creator + unknown, ExplicitVRBigEndian)

    encoded = decode(path, ExplicitVRBigEndian, ImplicitVRLittleEndian)

    assert encoded.endswith(b"\x09\0\x01\x10\4\0\0\0\1\2\3\4")


ODD_UID = b"\x08\0\x18\0UI\5\x001.2.3"
EVEN_UID = b"\x08\0\x18\0UI\6\x001.2.3\0"
NAME = b"\x10\0\x10\0PN\4\0Doe "


def test_dataset_of_odd_length_is_made_even_value_by_value(tmp_path: Path) -> None:
    path = as_file(tmp_path, ODD_UID + NAME, ExplicitVRLittleEndian)

    assert even(path, ExplicitVRLittleEndian) == EVEN_UID + NAME


def test_zero_behind_a_dataset_is_left_out(tmp_path: Path) -> None:
    path = as_file(tmp_path, EVEN_UID + NAME + b"\0", ExplicitVRLittleEndian)

    assert even(path, ExplicitVRLittleEndian) == EVEN_UID + NAME


def test_deflated_dataset_of_odd_length_gets_a_zero(tmp_path: Path) -> None:
    path = as_file(tmp_path, b"\1\2\3", DeflatedExplicitVRLittleEndian)

    assert even(path, DeflatedExplicitVRLittleEndian) == b"\1\2\3\0"


@pytest.mark.parametrize("wanted", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_converted_dataset_is_even(tmp_path: Path, wanted: str) -> None:
    odd = struct.pack("<HHL", 8, 0x18, 5) + b"1.2.3" + struct.pack("<HHL", 0x10, 0x10, 4) + b"Doe "
    path = as_file(tmp_path, odd, ImplicitVRLittleEndian)

    encoded = decode(path, ImplicitVRLittleEndian, wanted)

    assert read(encoded, wanted).SOPInstanceUID == "1.2.3"
    assert len(encoded) % 2 == 0


def test_what_cannot_be_made_even_fails(tmp_path: Path) -> None:
    path = as_file(tmp_path, NAME + b"\1\2\3", ExplicitVRLittleEndian)

    with pytest.raises(DecodingError, match="its length is odd: the dataset ends inside"):
        even(path, ExplicitVRLittleEndian)
