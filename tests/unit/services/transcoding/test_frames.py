"""Decoded frames: the values that were encoded, in the cells that the header describes."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from lfscp.services.transcoding.decoded import DecodingError
from tests.support.pixel_objects import (
    decoded_frame,
    described,
    native_frame,
    of_type,
    ramp,
    save,
    with_fragments,
)

openjpeg = pytest.importorskip("openjpeg.utils", reason="extra codecs is not installed")
jpeg_ls = pytest.importorskip("jpeg_ls", reason="extra codecs is not installed")

NATIVE = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
]


def jpeg_2000(values: Any, bits: int) -> bytes:
    photometric = 2 if values.ndim == 2 else 1
    return bytes(
        openjpeg.encode_array(
            of_type(values, bits), bits_stored=bits, photometric_interpretation=photometric
        )
    )


def jpeg_ls_of(values: Any, bits: int) -> bytes:
    rows, columns = values.shape
    cells = of_type(values, bits).tobytes()
    return bytes(jpeg_ls.encode_buffer(cells, rows, columns, 1, bits))


def run_length(values: Any, bits: int) -> bytes:
    rows, columns = values.shape[:2]
    samples = 1 if values.ndim == 2 else values.shape[2]
    cells = values.astype(f"<u{bits // 8}").tobytes()
    return RLELosslessEncoder.encode(
        cells,
        validate=False,
        rows=rows,
        columns=columns,
        samples_per_pixel=samples,
        bits_allocated=bits,
        bits_stored=bits,
        pixel_representation=0,
        photometric_interpretation="RGB" if samples == 3 else "MONOCHROME2",
        number_of_frames=1,
        planar_configuration=0,
    )


# The codestream's precision and the header's bits


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("bits", "allocated"), [(8, 8), (7, 8), (8, 16), (6, 16), (12, 16), (16, 16), (12, 32)]
)
def test_jpeg_2000_fills_the_cells_of_the_header(
    tmp_path: Path, bits: int, allocated: int, signed: bool
) -> None:
    values = ramp(65, 67, bits, signed=signed)
    dataset = described(
        65, 67, syntax=JPEG2000Lossless, allocated=allocated, stored=bits, signed=signed
    )

    frame = decoded_frame(with_fragments(dataset, [jpeg_2000(values, bits)], tmp_path), 0)

    assert frame.values.dtype == np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    assert np.array_equal(frame.values, values)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "allocated"), [(8, 8), (8, 16), (16, 16)])
def test_jpeg_ls_fills_the_cells_and_has_the_sign_of_the_header(
    tmp_path: Path, bits: int, allocated: int, signed: bool
) -> None:
    values = ramp(65, 67, bits, signed=signed)
    dataset = described(
        65, 67, syntax=JPEGLSLossless, allocated=allocated, stored=bits, signed=signed
    )
    unsigned = values % (1 << bits)  # JPEG-LS knows no sign

    frame = decoded_frame(with_fragments(dataset, [jpeg_ls_of(unsigned, bits)], tmp_path), 0)

    assert frame.values.dtype == np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    assert np.array_equal(frame.values, values)


@pytest.mark.parametrize(("bits", "allocated"), [(8, 8), (8, 16), (12, 16)])
def test_jpeg_2000_without_the_sign_of_the_header_gets_it(
    tmp_path: Path, bits: int, allocated: int
) -> None:
    values = ramp(65, 67, bits, signed=True)
    dataset = described(65, 67, syntax=JPEG2000Lossless, allocated=allocated, stored=bits)
    dataset.PixelRepresentation = 1

    codestream = jpeg_2000(values % (1 << bits), bits)
    frame = decoded_frame(with_fragments(dataset, [codestream], tmp_path), 0)

    assert np.array_equal(frame.values, values)


def test_jpeg_2000_with_a_sign_that_the_header_denies_loses_it(tmp_path: Path) -> None:
    values = ramp(65, 67, 12, signed=True)
    dataset = described(65, 67, syntax=JPEG2000Lossless, allocated=16, stored=12)

    frame = decoded_frame(with_fragments(dataset, [jpeg_2000(values, 12)], tmp_path), 0)

    assert np.array_equal(frame.values, values % (1 << 12))


def test_unsigned_codestream_of_fewer_bits_is_not_made_negative(tmp_path: Path) -> None:
    values = ramp(65, 67, 8)
    dataset = described(65, 67, syntax=JPEG2000Lossless, allocated=16, stored=12, signed=True)

    frame = decoded_frame(with_fragments(dataset, [jpeg_2000(values, 8)], tmp_path), 0)

    assert np.array_equal(frame.values, values)


def test_samples_stand_at_high_bit(tmp_path: Path) -> None:
    values = ramp(65, 67, 12)
    dataset = described(65, 67, syntax=JPEG2000Lossless, allocated=16, stored=12, high_bit=15)

    frame = decoded_frame(with_fragments(dataset, [jpeg_2000(values, 12)], tmp_path), 0)

    assert np.array_equal(frame.values, values << 4)


def test_samples_of_fewer_bits_stand_below_high_bit(tmp_path: Path) -> None:
    values = ramp(65, 67, 8)
    dataset = described(65, 67, syntax=JPEG2000Lossless, allocated=16, stored=12, high_bit=15)

    frame = decoded_frame(with_fragments(dataset, [jpeg_2000(values, 8)], tmp_path), 0)

    assert np.array_equal(frame.values, values << 4)


def test_codestream_of_whole_cells_is_not_shifted(tmp_path: Path) -> None:
    cells = ramp(65, 67, 16)
    dataset = described(65, 67, syntax=JPEG2000Lossless, allocated=16, stored=12, high_bit=15)

    frame = decoded_frame(with_fragments(dataset, [jpeg_2000(cells, 16)], tmp_path), 0)

    assert np.array_equal(frame.values, cells)


def test_precision_above_bits_allocated_is_narrowed_where_it_fits(tmp_path: Path) -> None:
    values = ramp(65, 67, 8)
    dataset = described(65, 67, syntax=JPEG2000Lossless)

    frame = decoded_frame(with_fragments(dataset, [jpeg_2000(values, 12)], tmp_path), 0)

    assert frame.values.dtype == np.uint8
    assert np.array_equal(frame.values, values)


def test_precision_above_bits_allocated_is_an_error_where_it_does_not(tmp_path: Path) -> None:
    dataset = described(65, 67, syntax=JPEG2000Lossless)
    path = with_fragments(dataset, [jpeg_2000(ramp(65, 67, 12), 12)], tmp_path)

    with pytest.raises(DecodingError, match="samples of 12 bits do not fit Bits Allocated 8"):
        decoded_frame(path, 0)


def test_jpeg_fills_the_cells_of_the_header(tmp_path: Path) -> None:
    smooth = np.indices((64, 64)).sum(axis=0)
    picture = BytesIO()
    Image.fromarray(smooth.astype("u1")).save(picture, "JPEG", quality=100)
    dataset = described(64, 64, syntax=JPEGBaseline8Bit, allocated=16, stored=8)

    frame = decoded_frame(with_fragments(dataset, [picture.getvalue()], tmp_path), 0)

    assert frame.values.dtype == np.uint16
    assert np.abs(frame.values.astype(int) - smooth).max() <= 2  # lossy


def test_one_bit_is_zero_or_one(tmp_path: Path) -> None:
    values = np.indices((65, 67)).sum(axis=0) // 3 % 2
    dataset = described(65, 67, syntax=JPEG2000Lossless, allocated=1)

    frame = decoded_frame(with_fragments(dataset, [jpeg_2000(values, 1)], tmp_path), 0)

    assert np.array_equal(frame.values, values)


@pytest.mark.parametrize("keyword", ["Rows", "Columns"])
def test_codestream_of_another_size_is_an_error(tmp_path: Path, keyword: str) -> None:
    dataset = described(65, 67, syntax=JPEG2000Lossless)
    setattr(dataset, keyword, 66)
    path = with_fragments(dataset, [jpeg_2000(ramp(65, 67, 8), 8)], tmp_path)

    with pytest.raises(DecodingError, match="the codestream has 65 rows, 67 columns, 1 samples"):
        decoded_frame(path, 0)


def test_codestream_in_colour_under_a_grey_header_is_an_error(tmp_path: Path) -> None:
    dataset = described(65, 67, syntax=JPEG2000Lossless)
    values = ramp(65, 67, 8, samples=3)
    path = with_fragments(dataset, [jpeg_2000(values, 8)], tmp_path)

    with pytest.raises(DecodingError, match=r"3 samples, the header says 65, 67, 1"):
        decoded_frame(path, 0)


def test_what_is_no_codestream_is_an_error_with_words(tmp_path: Path) -> None:
    dataset = described(65, 67, syntax=JPEG2000Lossless)
    path = with_fragments(dataset, [b"\0" * 100], tmp_path)

    with pytest.raises(DecodingError, match="frame 1: it does not begin as a codestream does"):
        decoded_frame(path, 0)


@pytest.mark.parametrize("cut", [2, 20, 1000])
def test_cut_jpeg_is_an_error(tmp_path: Path, cut: int) -> None:
    picture = BytesIO()
    Image.fromarray(ramp(65, 67, 8).astype("u1")).save(picture, "JPEG")
    dataset = described(65, 67, syntax=JPEGBaseline8Bit)
    path = with_fragments(dataset, [picture.getvalue()[:-cut]], tmp_path)

    with pytest.raises(DecodingError, match="frame 1: the codestream is cut off"):
        decoded_frame(path, 0)


@pytest.mark.parametrize("encode", [jpeg_2000, jpeg_ls_of])
def test_codestream_without_its_middle_is_an_error_with_the_codec_s_words(
    tmp_path: Path, encode: Any
) -> None:
    syntax = JPEG2000Lossless if encode is jpeg_2000 else JPEGLSLossless
    codestream = encode(ramp(65, 67, 8), 8)
    broken = codestream[: len(codestream) // 2] + codestream[-2:]
    path = with_fragments(described(65, 67, syntax=syntax), [broken], tmp_path)

    with pytest.raises(DecodingError, match=r"cannot be decoded: frame 1: py\w+: .*ecod") as raised:
        decoded_frame(path, 0)

    assert "RuntimeError" not in str(raised.value)


# Colour


@pytest.mark.parametrize("planar", [0, 1])
def test_run_length_colour_is_by_pixel(tmp_path: Path, planar: int) -> None:
    values = ramp(5, 7, 8, samples=3)
    dataset = described(5, 7, syntax=RLELossless, photometric="RGB")
    dataset.PlanarConfiguration = planar

    frame = decoded_frame(with_fragments(dataset, [run_length(values, 8)], tmp_path), 0)

    assert np.array_equal(frame.values, values)
    assert frame.photometric_interpretation == "RGB"


def test_run_length_that_is_far_too_short_allocates_nothing(tmp_path: Path) -> None:
    dataset = described(60_000, 30_000, syntax=RLELossless)
    path = with_fragments(dataset, [run_length(ramp(5, 7, 8), 8)], tmp_path)

    with pytest.raises(DecodingError, match="bytes are too few for the pixels"):
        decoded_frame(path, 0)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEGLSNearLossless])
@pytest.mark.parametrize("interleave", [0, 1, 2])
def test_jpeg_ls_colour_is_by_pixel(tmp_path: Path, syntax: str, interleave: int) -> None:
    values = ramp(9, 11, 8, samples=3).astype("u1")
    dataset = described(9, 11, syntax=syntax, photometric="RGB")
    order = (2, 0, 1) if interleave == 0 else (0, 1, 2)  # of what the encoder takes
    content = values.transpose(order).tobytes()
    encoded = jpeg_ls.encode_buffer(content, 9, 11, 3, 8, interleave_mode=interleave)

    frame = decoded_frame(with_fragments(dataset, [bytes(encoded)], tmp_path), 0)

    assert np.array_equal(frame.values, values)


@pytest.mark.parametrize("bits", [16, 32])
def test_run_length_keeps_every_bit_of_a_cell(tmp_path: Path, bits: int) -> None:
    cells = ramp(5, 7, bits)  # with bits above Bits Stored, as old overlays have
    dataset = described(5, 7, syntax=RLELossless, allocated=bits, stored=12)

    frame = decoded_frame(with_fragments(dataset, [run_length(cells, bits)], tmp_path), 0)

    assert np.array_equal(frame.values, cells)


# Fragments and frames


def frames_of_bytes(count: int) -> tuple[list[Any], list[bytes]]:
    values = [np.roll(ramp(5, 7, 8), number) for number in range(count)]
    return values, [run_length(each, 8) for each in values]


@pytest.mark.parametrize("has_table", [False, True])
@pytest.mark.parametrize("empty", [0, 1, 3])
def test_empty_fragments_at_the_end_are_no_frames(
    tmp_path: Path, empty: int, has_table: bool
) -> None:
    values, encoded = frames_of_bytes(2)
    dataset = described(5, 7, syntax=RLELossless, frames=2)
    path = with_fragments(dataset, encoded, tmp_path, has_table=has_table)
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"\xfe\xff\0\xe0\0\0\0\0" * empty + content[-8:])

    assert all(np.array_equal(decoded_frame(path, n).values, values[n]) for n in (0, 1))


def test_frames_in_several_fragments_are_told_by_how_they_begin(tmp_path: Path) -> None:
    values = [ramp(65, 67, 8), np.roll(ramp(65, 67, 8), 1)]
    pieces = []
    for each in values:
        codestream = jpeg_2000(each, 8)
        pieces += [codestream[:100], codestream[100:200], codestream[200:]]
    dataset = described(65, 67, syntax=JPEG2000Lossless, frames=2)
    path = with_fragments(dataset, pieces, tmp_path)

    assert all(np.array_equal(decoded_frame(path, n).values, values[n]) for n in (0, 1))


def test_extended_offset_table_counts(tmp_path: Path) -> None:
    values, encoded = frames_of_bytes(2)
    dataset = described(5, 7, syntax=RLELossless, frames=2)
    lengths = [len(each) + len(each) % 2 for each in encoded]
    dataset.ExtendedOffsetTable = b"".join(n.to_bytes(8, "little") for n in (0, lengths[0] + 8))
    dataset.ExtendedOffsetTableLengths = b"".join(n.to_bytes(8, "little") for n in lengths)
    path = with_fragments(dataset, encoded, tmp_path)

    assert np.array_equal(decoded_frame(path, 1).values, values[1])


@pytest.mark.parametrize("table", ["basic", "extended"])
def test_frame_that_a_table_finds_is_read_without_the_others(tmp_path: Path, table: str) -> None:
    values, encoded = frames_of_bytes(3)
    dataset = described(5, 7, syntax=RLELossless, frames=3)
    size = len(encoded[0]) + len(encoded[0]) % 2
    if table == "extended":
        offsets = (number * (size + 8) for number in range(3))
        dataset.ExtendedOffsetTable = b"".join(each.to_bytes(8, "little") for each in offsets)
        dataset.ExtendedOffsetTableLengths = size.to_bytes(8, "little") * 3
    path = with_fragments(dataset, encoded, tmp_path, has_table=table == "basic")
    path.write_bytes(path.read_bytes()[: -size // 2])  # the last one is cut off

    assert all(np.array_equal(decoded_frame(path, n).values, values[n]) for n in (0, 1))
    with pytest.raises(DecodingError, match="bytes of fragment"):
        decoded_frame(path, 2)


@pytest.mark.parametrize("offsets", [(0, 6), (0, 1 << 31), (8, 0)])
def test_table_that_does_not_fit_does_not_count(tmp_path: Path, offsets: tuple[int, int]) -> None:
    values, encoded = frames_of_bytes(2)
    dataset = described(5, 7, syntax=RLELossless, frames=2)
    path = with_fragments(dataset, encoded, tmp_path)
    begin = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0"
    table = struct.pack("<LLL", 8, *offsets)
    path.write_bytes(path.read_bytes().replace(begin + b"\0\0\0\0", begin + table))

    assert all(np.array_equal(decoded_frame(path, n).values, values[n]) for n in (0, 1))


@pytest.mark.parametrize(("said", "there"), [(3, 2), (2, 3)])
def test_more_or_fewer_frames_than_the_header_says_are_an_error(
    tmp_path: Path, said: int, there: int
) -> None:
    dataset = described(5, 7, syntax=RLELossless, frames=said)
    path = with_fragments(dataset, frames_of_bytes(there)[1], tmp_path)

    with pytest.raises(DecodingError, match=rf"has {there} f.*, the header says {said} frames"):
        decoded_frame(path, 0)


@pytest.mark.parametrize("has_table", [False, True])
def test_several_codestreams_under_a_header_of_one_frame_are_an_error(
    tmp_path: Path, has_table: bool
) -> None:
    codestream = jpeg_2000(ramp(65, 67, 8), 8)
    dataset = described(65, 67, syntax=JPEG2000Lossless)
    path = with_fragments(dataset, [codestream] * 3, tmp_path, has_table=has_table)

    with pytest.raises(DecodingError, match="has 3 frames, the header says 1 frames"):
        decoded_frame(path, 0)


def test_table_of_one_offset_does_not_hide_the_frames(tmp_path: Path) -> None:
    values, encoded = frames_of_bytes(2)
    dataset = described(5, 7, syntax=RLELossless, frames=2)
    path = with_fragments(dataset, encoded, tmp_path)
    begin = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0"
    content = path.read_bytes()
    assert begin + b"\0\0\0\0" in content
    path.write_bytes(content.replace(begin + b"\0\0\0\0", begin + b"\4\0\0\0\0\0\0\0"))

    assert np.array_equal(decoded_frame(path, 1).values, values[1])


def deflated(content: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [("1.2.840.10008.1.2.1.98", bytes), ("1.2.840.10008.1.2.8.1", deflated)],
    ids=["uncompressed", "deflated"],
)
def test_frames_of_plain_cells_in_fragments(tmp_path: Path, syntax: str, encode: Any) -> None:
    values = [ramp(3, 5, 12), ramp(3, 5, 12)[::-1]]
    dataset = described(3, 5, syntax=syntax, allocated=16, stored=12, frames=2)
    fragments = [encode(each.astype("<u2").tobytes()) for each in values]
    path = with_fragments(dataset, fragments, tmp_path)

    assert all(np.array_equal(decoded_frame(path, n).values, values[n]) for n in (0, 1))


def test_deflated_frames_of_single_bits_begin_with_a_byte(tmp_path: Path) -> None:
    values = [np.arange(15).reshape(3, 5) % 2, np.arange(15).reshape(3, 5) % 3 % 2]
    dataset = described(3, 5, syntax="1.2.840.10008.1.2.8.1", allocated=1, frames=2)
    packed = [np.packbits(each.reshape(-1), bitorder="little").tobytes() for each in values]
    path = with_fragments(dataset, [deflated(each) for each in packed], tmp_path)

    assert all(np.array_equal(decoded_frame(path, n).values, values[n]) for n in (0, 1))


def test_there_is_no_frame_behind_the_last(tmp_path: Path) -> None:
    dataset = described(5, 7, syntax=RLELossless)
    path = with_fragments(dataset, frames_of_bytes(1)[1], tmp_path)

    with pytest.raises(DecodingError, match="there is no frame 2, the object has 1"):
        decoded_frame(path, 1)


# Uncompressed


def native(path: Path, dataset: Any, cells: Any, vr: str) -> Path:
    order = ">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    content = cells.astype(cells.dtype.newbyteorder(order)).tobytes()
    content += b"\0" * (len(content) % 2)
    if order == ">" and vr == "OW" and cells.itemsize == 1:
        content = np.frombuffer(content, ">u2").astype("<u2").tobytes()
    dataset.add_new("PixelData", vr, content)
    return save(dataset, path)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize(
    ("allocated", "signed", "vr"), [(8, False, "OB"), (8, True, "OW"), (16, True, "OW")]
)
def test_uncompressed_frames_of_odd_size(
    tmp_path: Path, syntax: str, allocated: int, signed: bool, vr: str
) -> None:
    values = [np.roll(ramp(3, 5, allocated, signed=signed), number) for number in range(3)]
    dataset = described(3, 5, syntax=syntax, allocated=allocated, signed=signed, frames=3)
    cells = np.stack([of_type(each, allocated) for each in values])
    path = native(tmp_path, dataset, cells, vr)

    for number in range(3):
        assert np.array_equal(native_frame(path, number).values, values[number])


@pytest.mark.parametrize("syntax", NATIVE)
def test_uncompressed_bits_follow_each_other_across_frames(tmp_path: Path, syntax: str) -> None:
    values = np.arange(3 * 3 * 5).reshape(3, 3, 5) * 7 // 5 % 2
    dataset = described(3, 5, syntax=syntax, allocated=1, frames=3)
    packed = np.packbits(values.reshape(-1), bitorder="little").astype("u1")
    path = native(tmp_path, dataset, packed, "OB")

    for number in range(3):
        assert np.array_equal(native_frame(path, number).values, values[number])


def test_planes_become_pixels(tmp_path: Path) -> None:
    values = ramp(3, 5, 8, samples=3)
    dataset = described(3, 5, photometric="RGB")
    dataset.PlanarConfiguration = 1
    path = native(tmp_path, dataset, values.transpose(2, 0, 1).astype("u1"), "OB")

    assert np.array_equal(native_frame(path, 0).values, values)


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_PARTIAL"])
def test_shared_chrominance_is_given_to_each_pixel(tmp_path: Path, photometric: str) -> None:
    dataset = described(1, 4, photometric=f"{photometric}_422")
    path = native(tmp_path, dataset, np.array([1, 2, 10, 20, 3, 4, 30, 40], "u1"), "OB")

    frame = native_frame(path, 0)

    assert frame.values.tolist() == [[[1, 10, 20], [2, 10, 20], [3, 30, 40], [4, 30, 40]]]
    assert frame.photometric_interpretation == photometric


def test_whole_chrominance_under_the_name_of_shared_one(tmp_path: Path) -> None:
    values = ramp(2, 4, 8, samples=3)
    dataset = described(2, 4, photometric="YBR_FULL_422")
    frame = native_frame(native(tmp_path, dataset, values.astype("u1"), "OB"), 0)

    assert np.array_equal(frame.values, values)
    assert frame.photometric_interpretation == "YBR_FULL"


def test_shared_chrominance_of_an_odd_row_is_an_error(tmp_path: Path) -> None:
    syntax = "1.2.840.10008.1.2.1.98"
    dataset = described(2, 3, syntax=syntax, photometric="YBR_FULL_422")
    path = with_fragments(dataset, [bytes(12)], tmp_path)

    with pytest.raises(DecodingError, match="Columns is odd"):
        decoded_frame(path, 0)


@pytest.mark.parametrize("bits", [12, 24])
def test_plain_cells_of_other_sizes_are_an_error(tmp_path: Path, bits: int) -> None:
    dataset = described(2, 2, syntax="1.2.840.10008.1.2.1.98", allocated=bits)
    path = with_fragments(dataset, [bytes(12)], tmp_path)

    with pytest.raises(DecodingError, match=f"pixel cells of {bits} bits are not read"):
        decoded_frame(path, 0)


def test_cells_of_12_bits_are_an_error(tmp_path: Path) -> None:
    path = native(tmp_path, described(2, 2, allocated=12), np.zeros(6, "u1"), "OW")

    with pytest.raises(DecodingError, match="12 bits allocated are not supported"):
        native_frame(path, 0)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize(
    ("keyword", "vr", "kind"),
    [("FloatPixelData", "OF", "f4"), ("DoubleFloatPixelData", "OD", "f8")],
)
def test_float_pixels(tmp_path: Path, syntax: str, keyword: str, vr: str, kind: str) -> None:
    values = np.linspace(-1.5, 1e6, 30).reshape(2, 3, 5).astype(kind)
    dataset = described(3, 5, syntax=syntax, allocated=8 * int(kind[1]), frames=2)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    dataset.add_new(keyword, vr, values.astype(order + kind).tobytes())

    assert np.array_equal(native_frame(save(dataset, tmp_path), 1).values, values[1])


def test_missing_bytes_are_an_error(tmp_path: Path) -> None:
    dataset = described(3, 5, frames=2)
    path = native(tmp_path, dataset, ramp(3, 5, 8).astype("u1"), "OB")

    with pytest.raises(DecodingError, match="it ends before the end of frame 2"):
        native_frame(path, 1)


def test_an_object_without_pixels_says_so(tmp_path: Path) -> None:
    with pytest.raises(DecodingError, match="it holds no pixel data"):
        decoded_frame(save(described(3, 5), tmp_path), 0)
