"""One frame, from what is stored to what is shown: bits, groups, windows, padding, colours."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from jpeg_ls import encode_array as jpeg_ls_encode
from openjpeg.utils import encode_array as openjpeg_encode
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.imaging.frames import to_display
from lfscp.web.imaging.object_header import read_header
from lfscp.web.imaging.windows import Window
from lfscp.web.rendering.decoding import aspect_of, decode, describe
from tests.support.images import image, planar, save, save_as, save_big_endian, table

EXACT = {"VOILUTFunction": "LINEAR_EXACT"}
BYTES = {"WindowCenter": 128, "WindowWidth": 256}  # shows 0 to 255 as they are


@pytest.fixture
def shown(tmp_path):
    def show(dataset, frame=0, window=None, write=save):
        path = write(dataset, tmp_path / "object.dcm")
        return to_display(decode(path, read_header(path), frame), window).tolist()

    return show


@pytest.fixture
def header(tmp_path):
    return lambda dataset: read_header(save(dataset, tmp_path / "object.dcm"))


def grey(*values, kind="<u2", **attributes):
    return image(np.array([values], kind), **attributes)


def group(**macros):
    """An item of functional groups; each macro is a sequence of one item."""
    item = Dataset()
    for name, attributes in macros.items():
        content = Dataset()
        for keyword, value in attributes.items():
            setattr(content, keyword, value)
        setattr(item, name, [content])
    return item


# Bits


@pytest.mark.parametrize("write", [save, save_big_endian])
@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize(("stored", "high"), [(12, 11), (12, 15), (10, 12), (8, 15), (1, 15)])
def test_only_the_stored_bits_count_with_their_sign(tmp_path, write, is_signed, stored, high):
    low = high + 1 - stored
    mask = ((1 << stored) - 1) << low
    values = [0, 1, (1 << stored) // 2, (1 << stored) - 1]
    cells = np.array([[each << low | ~mask & 0xFFFF for each in values]], "<u2")
    dataset = image(cells, BitsStored=stored, HighBit=high, PixelRepresentation=int(is_signed))
    path = write(dataset, tmp_path / "object.dcm")
    half = 1 << stored - 1
    expected = [each - 2 * half if is_signed and each >= half else each for each in values]

    assert decode(path, read_header(path), 0).values.tolist() == [expected]


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_pixels_have_their_sign(tmp_path, syntax):
    values = np.tile(np.array([-2048, -1, 0, 2047], "<i2"), (32, 8))  # codecs want some size
    dataset = image(values, BitsStored=12)
    dataset.compress(syntax)
    path = tmp_path / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)

    assert decode(path, read_header(path), 0).values.tolist() == values.tolist()


def compressed(dataset, codestream, path, syntax):
    dataset.PixelData = encapsulate([bytes(codestream)])
    dataset["PixelData"].VR = "OB"
    return save_as(dataset, path, syntax)


@pytest.mark.parametrize(
    ("syntax", "encoded"),
    [
        (JPEG2000Lossless, lambda pixels: openjpeg_encode(pixels, photometric_interpretation=2)),
        (JPEGLSLossless, jpeg_ls_encode),
    ],
)
def test_samples_narrower_than_cells(tmp_path, syntax, encoded):
    pixels = np.random.default_rng(2).integers(0, 256, (32, 32)).astype("u1")
    dataset = image(pixels.astype("<u2"), BitsStored=8)
    path = compressed(dataset, encoded(pixels), tmp_path / "object.dcm", syntax)

    assert decode(path, read_header(path), 0).values.tolist() == pixels.tolist()


def test_one_bit_in_jpeg_2000(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 2, (32, 32)).astype("u1")
    dataset = image(pixels, BitsAllocated=1, BitsStored=1)
    codestream = openjpeg_encode(pixels, bits_stored=1, photometric_interpretation=2)
    path = compressed(dataset, codestream, tmp_path / "object.dcm", JPEG2000Lossless)

    assert to_display(decode(path, read_header(path), 0)).tolist() == (pixels * 255).tolist()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("kind", ["u1", "<u2"])
def test_compressed_colours(tmp_path, syntax, kind):
    top = np.iinfo(kind).max
    pixels = np.random.default_rng(2).integers(0, top, (32, 32, 3)).astype(kind)
    dataset = image(pixels)
    dataset.compress(syntax)
    path = tmp_path / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)
    expected = pixels.astype(int) * 255 // top

    assert to_display(decode(path, read_header(path), 0)).tolist() == expected.tolist()


def test_whole_cells_that_were_compressed_keep_their_high_bit(tmp_path):
    """A compressor that looks at cells, not at stored bits, writes a precision of 16."""
    values = np.tile(np.array([0, 1, 77, 4095], "<u2"), (32, 8))
    dataset = image(values << 4)
    dataset.compress(JPEGLSLossless)
    dataset.BitsStored, dataset.HighBit = 12, 15
    path = tmp_path / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)

    assert decode(path, read_header(path), 0).values.tolist() == values.tolist()


@pytest.mark.parametrize("columns", [3, 5, 8])
def test_frames_of_one_bit_begin_anywhere_in_a_byte(shown, columns):
    frames = np.random.default_rng(1).integers(0, 2, (9, 3, columns))
    dataset = image(frames.astype("u1"), BitsAllocated=1, BitsStored=1, NumberOfFrames=9)
    content = np.packbits(frames.ravel(), bitorder="little").tobytes()
    dataset.PixelData = content + bytes(len(content) % 2)

    for number, frame in enumerate(frames):
        assert shown(dataset, number) == (frame * 255).tolist()


def test_one_bit_is_black_and_white_whatever_the_frame_holds(shown):
    dataset = image(np.zeros((1, 8), "u1"), BitsAllocated=1, BitsStored=1)
    dataset.PixelData = b"\xff\0"

    assert shown(dataset) == [[255] * 8]
    dataset.PixelData = b"\0\0"
    assert shown(dataset) == [[0] * 8]


def test_frames_of_odd_length_in_big_endian_words(tmp_path):
    frames = np.arange(27).reshape(3, 3, 3).astype("u1")
    dataset = image(np.zeros((3, 3), "u1"), NumberOfFrames=3, **BYTES)
    dataset.PixelData = frames.tobytes() + b"\0"
    dataset["PixelData"].VR = "OW"
    path = save_big_endian(dataset, tmp_path / "object.dcm")

    for number, frame in enumerate(frames):
        assert to_display(decode(path, read_header(path), number)).tolist() == frame.tolist()


@pytest.mark.parametrize("write", [save, save_big_endian])
def test_32_bits(shown, write):
    dataset = grey(0, 1 << 30, (1 << 32) - 1, kind="<u4", **EXACT)
    dataset.WindowCenter, dataset.WindowWidth = 2**31, 2**32

    assert shown(dataset, write=write) == [[0, 64, 255]]


def test_small_steps_far_from_zero_are_told_apart(shown):
    dataset = grey(0, 1, 2, 3, RescaleSlope="0.001", RescaleIntercept="100000", **EXACT)
    dataset.WindowCenter, dataset.WindowWidth = "100000.0015", "0.003"

    assert shown(dataset) == [[0, 85, 170, 255]]


def test_bits_that_make_no_sense_are_as_if_all_counted(shown):
    assert shown(grey(0, 255, kind="u1", BitsStored=12, HighBit=3, **BYTES)) == [[0, 255]]


def test_one_bit_that_is_rescaled_is_black_and_white_as_well(shown):
    dataset = image(
        np.zeros((1, 8), "u1"),
        BitsAllocated=1,
        BitsStored=1,
        RescaleSlope=100,
        RescaleIntercept=-1000,
    )
    dataset.PixelData = b"\x0f\0"

    assert shown(dataset) == [[255] * 4 + [0] * 4]


# Functional groups


def test_what_a_frame_says_of_itself_goes_before_the_shared_and_the_whole(header):
    dataset = image(
        np.zeros((2, 2, 2), "<u2"),
        NumberOfFrames=2,
        PixelSpacing=[1, 1],
        WindowCenter=1,
        WindowWidth=1,
        SharedFunctionalGroupsSequence=[
            group(PixelMeasuresSequence={"PixelSpacing": [2, 1]}),
        ],
        PerFrameFunctionalGroupsSequence=[
            group(PixelMeasuresSequence={"PixelSpacing": [3, 1]}),
            group(FrameVOILUTSequence={"WindowCenter": 7, "WindowWidth": 9}),
        ],
    )
    found = header(dataset)

    assert [aspect_of(found, number) for number in (0, 1)] == [3, 2]
    assert describe(found, 0).window == Window(1, 1)
    assert describe(found, 1).window == Window(7, 9)


def test_rescale_of_a_frame(shown):
    rescales = [{"RescaleSlope": slope, "RescaleIntercept": 10} for slope in (1, 2)]
    dataset = image(
        np.full((2, 1, 1), 50, "<u2"),
        NumberOfFrames=2,
        **BYTES,
        PerFrameFunctionalGroupsSequence=[
            group(PixelValueTransformationSequence=each) for each in rescales
        ],
    )

    assert [shown(dataset, number) for number in (0, 1)] == [[[60]], [[110]]]


def test_the_voi_lut_of_a_frame_goes_before_a_shared_window(shown):
    inverse = table(np.arange(255, -1, -1).astype("<u2"), bits=8)
    dataset = image(
        np.array([[[50]], [[50]]], "<u2"),
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=[group(FrameVOILUTSequence=BYTES)],
        PerFrameFunctionalGroupsSequence=[
            group(FrameVOILUTSequence={"VOILUTSequence": [inverse]}),
            Dataset(),
        ],
    )

    assert [shown(dataset, number) for number in (0, 1)] == [[[205]], [[50]]]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"PixelAspectRatio": [2, 1]}, 2),
        ({"NominalScannedPixelSpacing": [3, 1], "PixelAspectRatio": [2, 1]}, 3),
        ({"ImagerPixelSpacing": [4, 1], "PixelAspectRatio": [2, 1]}, 4),
        ({"PixelSpacing": [1, 1], "PixelAspectRatio": [2, 1]}, 1),
        ({"PixelSpacing": [0, 0], "PixelAspectRatio": [2, 1]}, 2),
        ({"PixelSpacing": [0, 1]}, 1),
        ({}, 1),
    ],
)
def test_spacing_goes_before_the_aspect_ratio(header, attributes, expected):
    assert aspect_of(header(grey(1, **attributes)), 0) == expected


def test_the_spacing_of_an_enhanced_angiogram(header):
    dataset = grey(1)
    dataset.SharedFunctionalGroupsSequence = [
        group(FramePixelDataPropertiesSequence={"ImagerPixelSpacing": [2, 1]})
    ]

    assert aspect_of(header(dataset), 0) == 2


# Windows


def test_a_width_below_one_is_exact(shown):
    dataset = grey(0, 1, 2, 3, RescaleSlope="0.1", RescaleIntercept=0)
    dataset.WindowCenter, dataset.WindowWidth = 0.15, 0.3

    assert shown(dataset) == [[0, 85, 170, 255]]


@pytest.mark.parametrize("center", [0.5, 1])
def test_a_width_of_one_is_black_and_white(shown, center):
    dataset = grey(0, 1, 2, WindowCenter=center, WindowWidth=1)

    assert shown(dataset) == [[0, 255, 255]]  # PS3.3 C.11.2.1.2.1: black up to center - 0.5


@pytest.mark.parametrize(
    "voi",
    [BYTES, {"VOILUTSequence": [table(np.arange(256, dtype="<u2"), bits=8)]}],
    ids=["window", "table"],
)
def test_a_large_frame_needs_little_memory_besides(tmp_path, voi):
    pixels = np.arange(2501 * 2000, dtype="u4").astype("u1").reshape(2501, 2000)
    path = save(image(pixels, **voi), tmp_path / "object.dcm")
    frame = decode(path, read_header(path), 0)
    tracemalloc.start()
    try:
        picture = to_display(frame)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert np.array_equal(picture, pixels)
    assert most < 1.5 * frame.values.nbytes


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
def test_a_range_below_one_is_shown_in_full(shown, kind):
    assert shown(image(np.array([[0, 0.001], [0.002, 0.003]], kind))) == [[0, 85], [170, 255]]


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
@pytest.mark.parametrize("write", [save, save_big_endian])
def test_infinities_are_black_and_white_and_do_not_count(shown, kind, write):
    pixels = np.array([[-np.inf, 0, 1, 2, np.inf]], kind)
    assert shown(image(pixels), write=write) == [[0, 0, 128, 255, 255]]


def test_nothing_but_padding_is_black(shown):
    assert shown(image(np.full((1, 2), np.nan, "<f4"))) == [[0, 0]]
    assert shown(grey(7, 7, PixelPaddingValue=7)) == [[0, 0]]


@pytest.mark.parametrize(
    ("values", "attributes"),
    [
        ([0, 50, 100, 9000], {"PixelPaddingValue": 9000}),
        ([0, 50, 100, 9000, 9500], {"PixelPaddingValue": 9000, "PixelPaddingRangeLimit": 9999}),
        ([0, 50, 100, 9000, 9500], {"PixelPaddingValue": 9999, "PixelPaddingRangeLimit": 9000}),
        (
            [0, 50, 100, 9000],
            {"PixelPaddingValue": 9000, "RescaleSlope": "0.3", "RescaleIntercept": "0.1"},
        ),
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count(shown, values, attributes, photometric):
    picture = shown(grey(*values, PhotometricInterpretation=photometric, **attributes))[0]
    inside = [0, 128, 255] if photometric == "MONOCHROME2" else [255, 127, 0]

    assert picture == inside + [0] * (len(values) - 3)


def test_negative_padding_in_the_vr_of_unsigned_values(shown):
    dataset = grey(0, 50, 100, -2000, kind="<i2")
    dataset.add_new("PixelPaddingValue", "US", 63536)

    assert shown(dataset) == [[0, 128, 255, 0]]


@pytest.mark.parametrize(("kind", "prefix", "vr"), [("<f4", "", "FL"), ("<f8", "Double", "FD")])
def test_a_range_of_floating_point_padding(shown, kind, prefix, vr):
    dataset = image(np.array([[0, 0.5, 1, -9999.5, -9990.25]], kind))
    dataset.add_new(f"{prefix}FloatPixelPaddingValue", vr, -9999.5)
    dataset.add_new(f"{prefix}FloatPixelPaddingRangeLimit", vr, -9990.25)

    assert shown(dataset) == [[0, 128, 255, 0, 0]]


def test_a_slope_of_zero_is_none(shown):
    assert shown(grey(0, 100, RescaleSlope=0, RescaleIntercept=0, **BYTES)) == [[0, 100]]


# Colour


@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize(
    ("stored", "values", "expected"),
    [
        (8, [0, 100, 255], [0, 100, 255]),
        (12, [0, 400, 4095], [0, 24, 255]),
        (16, [0, 400, 65535], [0, 1, 255]),
        (16, [0, 200, 400], [0, 0, 1]),
    ],
)
def test_colours_are_scaled_by_the_stored_bits(shown, is_planar, stored, values, expected):
    pixels = np.array([[values, values[::-1]]], "<u2")
    dataset = image(
        planar(pixels) if is_planar else pixels,
        BitsStored=stored,
        PlanarConfiguration=int(is_planar),
    )

    assert shown(dataset) == [[expected, expected[::-1]]]


def test_colours_of_half_width_that_are_stored_in_full(shown):
    pixels = np.array([[[76, 85, 255], [150, 44, 21]]], "u1")
    dataset = image(pixels, PhotometricInterpretation="YBR_FULL_422")
    picture = np.array(shown(dataset))

    assert np.abs(picture - [[[254, 0, 0], [0, 255, 1]]]).max() <= 2


def test_partial_range(shown):
    pixels = np.array([[[235, 128, 128], [16, 128, 128]]], "u1")
    half = image(pixels, PhotometricInterpretation="YBR_PARTIAL_422")
    half.PixelData = bytes([235, 16, 128, 128])

    assert shown(half) == [[[255, 255, 255], [0, 0, 0]]]

    in_full = image(pixels, PhotometricInterpretation="YBR_PARTIAL_422")
    assert shown(in_full) == [[[255, 255, 255], [0, 0, 0]]]


# Transfer syntaxes


def test_a_deflated_object(shown, tmp_path):
    dataset = image(np.array([[[0, 85]], [[170, 255]]], "u1"), NumberOfFrames=2, **BYTES)

    def deflated(dataset, path):
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)
        return path

    assert [shown(dataset, number, write=deflated) for number in (0, 1)] == [
        [[0, 85]],
        [[170, 255]],
    ]


def deflate(content):
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


@pytest.mark.parametrize(
    ("syntax", "write"),
    [("1.2.840.10008.1.2.1.98", bytes), ("1.2.840.10008.1.2.8.1", deflate)],
    ids=["uncompressed", "deflated"],
)
@pytest.mark.parametrize("bits", [1, 16])
def test_frames_that_need_no_codec(tmp_path, bits, syntax, write):
    """Encapsulated Uncompressed, Deflated Image Frame Compression (PS3.5 section A.4)."""
    frames = [np.array([[0, 1, 1]]), np.array([[1, 0, 1]])]
    raw = [
        np.packbits(each.ravel(), bitorder="little").tobytes()
        if bits == 1
        else each.astype("<u2").tobytes()
        for each in frames
    ]
    dataset = image(
        np.stack(frames).astype("<u2"),
        BitsAllocated=bits,
        BitsStored=1,
        HighBit=0,
        NumberOfFrames=2,
    )
    dataset.PixelData = encapsulate([write(each) for each in raw])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    path = save_as(dataset, tmp_path / "object.dcm", syntax)

    pictures = [to_display(decode(path, read_header(path), number)) for number in (0, 1)]
    assert [each.tolist() for each in pictures] == [[[0, 255, 255]], [[255, 0, 255]]]


# What there is no picture of


def reason(path, frame=0):
    with pytest.raises(NoPictureError) as caught:
        decode(path, read_header(path), frame)
    return str(caught.value)


@pytest.mark.parametrize("empty", [False, True])
def test_an_image_without_pixel_data_says_so(tmp_path, empty):
    dataset = grey(1, 2)
    if empty:
        dataset.PixelData = b""
    else:
        del dataset.PixelData
    path = save(dataset, tmp_path / "object.dcm")

    assert reason(path) == "this object holds no pixel data"


@pytest.mark.parametrize("keyword", ["Rows", "PhotometricInterpretation"])
def test_pixel_data_without_an_image_says_so(tmp_path, keyword):
    dataset = grey(1, 2)
    delattr(dataset, keyword)

    assert reason(save(dataset, tmp_path / "object.dcm")) == "this object holds no pixel data"


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_a_codec_that_fails_is_heard(tmp_path, syntax):
    dataset = image(np.random.default_rng(1).integers(0, 255, (32, 32)).astype("u1"))
    dataset.compress(syntax)
    path = tmp_path / "object.dcm"
    dataset.PixelData = encapsulate([dataset.PixelData[16:80]])
    dataset.save_as(path, enforce_file_format=True)
    text = reason(path)

    assert text.startswith("the pixel data cannot be decoded: ")
    assert text != "the pixel data cannot be decoded: it is broken"
    assert not any(word in text for word in ("Error:", "Exception", "object at", "\n"))


def test_pixels_that_end_early_name_the_frame(tmp_path):
    dataset = image(np.zeros((2, 4, 4), "<u2"), NumberOfFrames=3)
    path = save(dataset, tmp_path / "object.dcm")

    assert reason(path, 2) == (
        "the pixel data cannot be decoded: it ends before the end of frame 3"
    )


def test_what_follows_the_pixel_data_is_no_pixel(tmp_path):
    dataset = image(np.zeros((2, 4, 4), "u1"), NumberOfFrames=3)
    dataset.add_new(0xFFFCFFFC, "OB", bytes(64))
    path = save(dataset, tmp_path / "object.dcm")

    assert reason(path, 2).endswith("it ends before the end of frame 3")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"PhotometricInterpretation": "HSV"}, "pictures in HSV are not shown"),
        ({"SamplesPerPixel": 4}, "pictures of 4 samples per pixel are not shown"),
        (
            {"BitsAllocated": 12},
            "the pixel data cannot be decoded: 12 bits allocated are not supported",
        ),
    ],
)
def test_what_is_not_shown_says_why(tmp_path, attributes, expected):
    path = save(image(np.zeros((2, 2, 3), "u1"), **attributes), tmp_path / "object.dcm")

    assert reason(path) == expected


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        ("1.2.840.10008.1.2.4.100", "there is no decoder for MPEG2 Main Profile / Main Level"),
        ("1.2.840.10008.1.2.4.50", "the pixel data cannot be decoded: it is not compressed"),
    ],
)
def test_syntaxes_that_do_not_fit(tmp_path, syntax, expected):
    path = save_as(grey(1, 2, kind="u1"), tmp_path / "object.dcm", syntax)

    assert reason(path).startswith(expected)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_many_pixels_are_shown_as_few_are(tmp_path, photometric, function, signed):
    """Of many pixels, each value is computed once; with padding, and bits above the sample."""
    pixels = np.random.default_rng(1).integers(0, 1 << 16, (300, 300), "<u2")
    attributes = {
        "BitsStored": 12,
        "HighBit": 13,
        "PixelRepresentation": signed,
        "RescaleSlope": "1.5",
        "RescaleIntercept": "-70",
        "PhotometricInterpretation": photometric,
        "VOILUTFunction": function,
    }

    def shown(cells):
        dataset = image(cells, **attributes)
        dataset.add_new("PixelPaddingValue", "SS" if signed else "US", 5)
        dataset.add_new("PixelPaddingRangeLimit", "SS" if signed else "US", 90)
        path = save(dataset, tmp_path / "object.dcm")
        return to_display(decode(path, read_header(path), 0), Window(1000, 3000, function))

    many = shown(pixels)
    assert 0 < many.mean() < 255
    for row in (0, 150, 299):
        assert (many[row] == shown(pixels[row : row + 1])[0]).all()
