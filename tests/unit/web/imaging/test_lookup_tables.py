"""Lookup tables: the descriptor's three values, how entries are packed, what is out of range."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from lfscp.web.imaging.errors import LookupTableError
from lfscp.web.imaging.frames import to_display
from lfscp.web.imaging.lookup_tables import LookupTable, read_table
from lfscp.web.imaging.object_header import read_header
from lfscp.web.rendering.decoding import decode
from tests.support.images import image, palettes, save, save_big_endian, table

PIXELS = np.array([[0, 1], [2, 3]], np.uint8)


def read(item, *, signed=False):
    return read_table(item, Dataset(), signed=signed)


def shown(path, frame=0):
    return to_display(decode(path, read_header(path), frame)).tolist()


@pytest.mark.parametrize(
    ("first", "values", "expected"),
    [
        (0, [0, 1, 2, 3, 9], [10, 20, 30, 30, 30]),
        (5, [0, 5, 6, 7, 8], [10, 10, 20, 30, 30]),
        (-2, [-9, -2, -1, 0, 1], [10, 10, 20, 30, 30]),
    ],
)
@pytest.mark.parametrize("kind", [np.int32, np.int16, np.float32])
def test_values_outside_take_the_first_and_the_last_entry(first, values, expected, kind):
    found = LookupTable(first, np.array([10, 20, 30], np.uint16), 8)

    assert found.look_up(np.array(values, kind)).tolist() == expected


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int8])
def test_narrow_types_reach_the_entries_far_away(kind):
    found = LookupTable(-1000, np.arange(2000, dtype=np.uint16), 16)

    assert found.look_up(np.array([0, 100], kind)).tolist() == [1000, 1100]


def test_values_that_are_none_take_some_entry():
    found = LookupTable(0, np.array([1, 2], np.uint16), 8)

    assert set(found.look_up(np.array([np.nan, np.inf, -np.inf], np.float32)).tolist()) <= {1, 2}


@pytest.mark.parametrize("vr", ["OW", "US"])
@pytest.mark.parametrize("entries", [[0, 64, 255], [0, 64, 128, 255]])
@pytest.mark.parametrize("kind", ["u1", "<u2"])
def test_entries_of_eight_bits_stand_one_or_two_in_a_word(vr, entries, kind):
    if kind == "u1" and vr == "US" and len(entries) % 2:
        entries = [*entries, 7]  # words are whole
    found = read(table(np.array(entries, kind), bits=8, vr=vr))

    assert found.entries.tolist() == entries


def test_no_entries_in_the_descriptor_are_65536():
    found = read(table(np.arange(65536).astype("<u2")))

    assert len(found.entries) == 65536
    assert found.look_up(np.array([65535], np.uint16)).tolist() == [65535]


@pytest.mark.parametrize(("signed", "first"), [(True, -1024), (False, 64512)])
def test_the_first_value_s_sign_follows_the_pixels_and_not_its_vr(signed, first):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [2, 64512, 16])
    item.add_new("LUTData", "US", [1, 2])

    assert read(item, signed=signed).first == first


@pytest.mark.parametrize(("bits", "entry", "byte"), [(8, 100, 100), (12, 400, 24), (16, 400, 1)])
def test_the_output_is_scaled_by_the_stated_bits(bits, entry, byte):
    found = read(table(np.array([0, entry], "<u2"), bits=bits))

    assert found.to_bytes(np.array([1])).tolist() == [byte]
    assert found.to_bytes(np.array([0])).tolist() == [0]


def test_entries_beyond_the_stated_bits_are_the_highest():
    found = read(table(np.array([0, 4096], "<u2"), bits=12))

    assert found.to_bytes(np.array([1])).tolist() == [255]


@pytest.mark.parametrize(
    ("descriptor", "data", "reason"),
    [
        ([4, 0, 16], [1, 2], "it has 2 entries, its descriptor says 4"),
        ([2, 0, 0], [1, 2], "its descriptor says 0 bits for an entry"),
        ([2, 0, 32], [1, 2], "its descriptor says 32 bits for an entry"),
        ([2, 0], [1, 2], "its descriptor does not have three values"),
        ([2, 0, 16], None, "it has no entries"),
        (None, [1, 2], "its descriptor does not have three values"),
    ],
)
def test_a_table_that_makes_no_sense_says_why(descriptor, data, reason):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "US", data)

    with pytest.raises(LookupTableError, match=reason):
        read(item)


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_broken_table_costs_the_table_and_not_the_picture(tmp_path, keyword):
    item = table(np.arange(2).astype("<u2"))
    item.LUTDescriptor = [4, 0, 16]
    broken = save(image(PIXELS, **{keyword: [item]}), tmp_path / "broken.dcm")
    without = save(image(PIXELS), tmp_path / "without.dcm")

    frame = decode(broken, read_header(broken), 0)
    assert to_display(frame).tolist() == shown(without)
    name = "VOI" if keyword == "VOILUTSequence" else "modality"
    assert frame.omissions == ((f"its {name} LUT", "it has 2 entries, its descriptor says 4"),)


def test_a_broken_palette_leaves_the_indices(tmp_path):
    entries = palettes([[0, 1, 2, 3]] * 3)
    entries["GreenPaletteColorLookupTableData"] = b"\0\0"
    dataset = image(PIXELS, PhotometricInterpretation="PALETTE COLOR", **entries)
    path = save(dataset, tmp_path / "palette.dcm")
    frame = decode(path, read_header(path), 0)

    assert to_display(frame).tolist() == [[0, 85], [170, 255]]
    assert frame.omissions == (("its palette", "green: it has 1 entries, its descriptor says 4"),)


@pytest.mark.parametrize("write", [save, save_big_endian])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_read_from_either_byte_order(tmp_path, write, bits):
    top = (1 << bits) - 1
    red, green, blue = [0, top, 0, top], [0, 0, top, top], [top, 0, 0, top]
    dataset = image(
        PIXELS, PhotometricInterpretation="PALETTE COLOR", **palettes([red, green, blue], 0, bits)
    )
    for channel in ("Red", "Green", "Blue"):
        dataset[f"{channel}PaletteColorLookupTableData"].VR = "OW"

    assert shown(write(dataset, tmp_path / "palette.dcm")) == [
        [[0, 0, 255], [255, 0, 0]],
        [[0, 255, 0], [255, 255, 255]],
    ]


def test_a_palette_for_signed_indices(tmp_path):
    dataset = image(
        np.array([[-2, -1], [0, 1]], "i1"),
        PhotometricInterpretation="PALETTE COLOR",
        **palettes([[0, 10, 20, 30]] * 3, bits=8),
    )
    for channel in ("Red", "Green", "Blue"):
        name = f"{channel}PaletteColorLookupTableDescriptor"
        del dataset[name]
        dataset.add_new(name, "SS", [4, -2, 8])

    grey = [[0, 10], [20, 30]]
    assert shown(save(dataset, tmp_path / "palette.dcm")) == [
        [[each] * 3 for each in row] for row in grey
    ]


@pytest.mark.parametrize("write", [save, save_big_endian])
@pytest.mark.parametrize("entries", [np.array([9, 0, 64, 255], "u1"), np.array([9, 0, 64], "u1")])
def test_a_voi_lut_of_bytes_is_read_from_either_byte_order(tmp_path, write, entries):
    dataset = image(PIXELS, VOILUTSequence=[table(entries, bits=8)])
    path = write(dataset, tmp_path / "voi.dcm")
    assert isinstance(dcmread(path).VOILUTSequence[0].LUTData, bytes)

    last = int(entries[-1])
    assert shown(path) == [[9, 0], [64, last]]


def test_a_modality_lut_comes_before_the_window(tmp_path):
    item = table(np.array([1000, 900, 500, 0], "<u2"))
    dataset = image(
        PIXELS,
        ModalityLUTSequence=[item],
        WindowCenter=500,
        WindowWidth=1000,
        VOILUTFunction="LINEAR_EXACT",
    )

    assert shown(save(dataset, tmp_path / "modality.dcm")) == [[255, 230], [128, 0]]


def test_a_voi_lut_behind_a_rescale_into_the_negative_begins_below_zero(tmp_path):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [3, 65535, 8])  # -1
    item.add_new("LUTData", "US", [10, 20, 30])
    dataset = image(PIXELS, RescaleSlope=1, RescaleIntercept=-2, VOILUTSequence=[item])

    assert shown(save(dataset, tmp_path / "voi.dcm")) == [[10, 10], [20, 30]]


def segmented(segments, bits, count):
    item = Dataset()
    kind = "u1" if bits == 8 else "<u2"
    for channel in ("Red", "Green", "Blue"):
        setattr(item, f"{channel}PaletteColorLookupTableDescriptor", [count, 0, bits])
        content = np.array(segments, kind).tobytes()
        setattr(
            item,
            f"Segmented{channel}PaletteColorLookupTableData",
            content + bytes(len(content) % 2),
        )
    return read_table(
        item,
        Dataset(),
        signed=False,
        descriptor="RedPaletteColorLookupTableDescriptor",
        data="RedPaletteColorLookupTableData",
        segmented="SegmentedRedPaletteColorLookupTableData",
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_segments_of_a_palette_are_expanded(bits):
    """Entries as they are, a line, then both once more by their offset (PS3.3 section C.7.9.2)."""
    offset = [0, 0, 0, 0] if bits == 8 else [0, 0]
    segments = [0, 2, 5, 10, 1, 4, 50, 2, 2, *offset]

    found = segmented(segments, bits, 12)

    assert found.entries.tolist() == [5, 10, 20, 30, 40, 50] * 2


def test_an_offset_of_segments_counts_bytes():
    segments = [0, 1, 7, 0, 2, 1, 2, 2, 1, 6, 0]  # the second segment begins at byte 6

    assert segmented(segments, 16, 5).entries.tolist() == [7, 1, 2, 1, 2]


@pytest.mark.parametrize(
    "segments",
    [[1, 4, 50], [0, 9, 1], [3, 1, 1], [2, 1, 0, 0], [0, 1, 5, 2, 1, 6, 0, 0], []],
)
def test_segments_that_make_no_sense_are_refused(segments):
    with pytest.raises(LookupTableError):
        segmented(segments, 16, 300)
