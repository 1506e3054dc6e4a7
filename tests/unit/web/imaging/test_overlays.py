"""Overlays: where they lie, which frames they are for, where their bits are."""

from __future__ import annotations

import numpy as np
import pytest

from lfscp.web.imaging.frames import to_display
from lfscp.web.imaging.object_header import read_header
from lfscp.web.rendering.decoding import decode, describe
from tests.support.images import image, save, save_big_endian

GROUND = 100
BITS = np.zeros((4, 4), int)
BITS[1, 1] = BITS[3, 2] = 1


def with_overlay(bits, *, frames=1, kind="G", origin=(1, 1), vr="OW"):
    """An image of even grey with an overlay for all of it."""
    dataset = image(
        np.full((frames, 4, 4), GROUND, "u1"),
        NumberOfFrames=frames,
        WindowCenter=128,
        WindowWidth=256,
    )
    add_overlay(dataset, bits, group=0x6000, kind=kind, origin=origin, vr=vr)
    return dataset


def add_overlay(dataset, bits, *, group, kind="G", origin=(1, 1), vr="OW", frames=None, first=None):
    content = np.packbits(bits.ravel(), bitorder="little").tobytes()
    values = [
        (0x10, "US", bits.shape[-2]),
        (0x11, "US", bits.shape[-1]),
        (0x15, "IS", frames),
        (0x40, "CS", kind),
        (0x50, "SS", list(origin)),
        (0x51, "US", first),
        (0x100, "US", 1),
        (0x102, "US", 0),
        (0x3000, vr, content + bytes(len(content) % 2)),
    ]
    for element, own, value in values:
        if value is not None:
            dataset.add_new((group, element), own, value)


def frame(path, number=0):
    return decode(path, read_header(path), number)


def covered(path, number=0):
    """Where white is drawn; everything else is as without overlays."""
    found = frame(path, number)
    picture, plain = to_display(found), to_display(found, overlays=False)
    assert (plain == GROUND).all()
    assert set(np.unique(picture)) <= {GROUND, 255}
    return (picture == 255).astype(int).tolist()


@pytest.mark.parametrize("kind", ["G", "R"])
@pytest.mark.parametrize("vr", ["OW", "OB"])
@pytest.mark.parametrize("write", [save, save_big_endian])
def test_graphics_and_regions_are_drawn_and_can_be_left_out(tmp_path, kind, vr, write):
    path = write(with_overlay(BITS, kind=kind, vr=vr), tmp_path / "object.dcm")

    assert covered(path) == BITS.tolist()
    assert describe(read_header(path)).overlays == 1


@pytest.mark.parametrize("origin", [(2, 2), (0, 0), (-1, 3), (9, 9), (-9, 1)])
def test_the_origin_counts_from_one_and_may_lie_outside(tmp_path, origin):
    path = save(with_overlay(BITS, origin=origin), tmp_path / "object.dcm")
    moved = np.zeros((4, 4), int)
    for row, column in np.argwhere(BITS) + origin - 1:
        if 0 <= row < 4 and 0 <= column < 4:
            moved[row, column] = 1

    assert covered(path) == moved.tolist()


def test_an_overlay_that_is_larger_than_the_image_is_cut(tmp_path):
    large = np.zeros((7, 9), int)
    large[2, 3] = large[6, 8] = 1
    path = save(with_overlay(large), tmp_path / "object.dcm")

    assert covered(path) == large[:4, :4].tolist()


def test_one_overlay_is_for_all_frames(tmp_path):
    path = save(with_overlay(BITS, frames=2), tmp_path / "object.dcm")

    assert covered(path, 0) == covered(path, 1) == BITS.tolist()


def test_frames_of_an_overlay_belong_to_frames_of_the_image(tmp_path):
    dataset = image(
        np.full((4, 4, 4), GROUND, "u1"), NumberOfFrames=4, WindowCenter=128, WindowWidth=256
    )
    add_overlay(dataset, np.stack([BITS, 1 - BITS]), group=0x6004, frames=2, first=2)
    path = save(dataset, tmp_path / "object.dcm")
    nothing = np.zeros((4, 4), int).tolist()

    found = [covered(path, number) for number in range(4)]
    assert found == [nothing, BITS.tolist(), (1 - BITS).tolist(), nothing]


def test_several_overlays_are_drawn_together(tmp_path):
    dataset = with_overlay(BITS)
    other = np.zeros((2, 2), int)
    other[0, 0] = 1
    add_overlay(dataset, other, group=0x601E)
    path = save(dataset, tmp_path / "object.dcm")

    assert covered(path) == (BITS | np.pad(other, ((0, 2), (0, 2)))).tolist()
    assert describe(read_header(path)).overlays == 2


@pytest.mark.parametrize("write", [save, save_big_endian])
def test_an_overlay_in_unused_bits_is_drawn_and_is_no_part_of_the_values(tmp_path, write):
    cells = np.full((4, 4), GROUND, "<u2") | (BITS << 12).astype("<u2")
    dataset = image(cells, BitsStored=12, WindowCenter=128, WindowWidth=256)
    for element, value in ((0x10, 4), (0x11, 4), (0x100, 16), (0x102, 12)):
        dataset.add_new((0x6000, element), "US", value)
    dataset.add_new((0x6000, 0x50), "SS", [1, 1])
    path = write(dataset, tmp_path / "object.dcm")

    assert (frame(path).values == GROUND).all()
    assert covered(path) == BITS.tolist()


def test_a_bit_of_the_pixels_own_is_no_overlay(tmp_path):
    dataset = image(np.full((4, 4), GROUND, "<u2"), WindowCenter=128, WindowWidth=256)
    for element, value in ((0x10, 4), (0x11, 4), (0x100, 16), (0x102, 6)):
        dataset.add_new((0x6000, element), "US", value)
    path = save(dataset, tmp_path / "object.dcm")

    assert covered(path) == np.zeros((4, 4), int).tolist()
    assert describe(read_header(path)).overlays == 0


def test_an_overlay_with_too_few_bits_costs_the_overlay(tmp_path):
    dataset = with_overlay(BITS)
    dataset[0x6000, 0x3000].value = b""
    dataset[0x6000, 0x10].value = 400
    path = save(dataset, tmp_path / "object.dcm")

    assert covered(path) == np.zeros((4, 4), int).tolist()
    assert frame(path).omissions == (("overlay 6000", "it has too few bits"),)


def test_colours_have_overlays_too(tmp_path):
    dataset = image(np.full((4, 4, 3), 7, "u1"))
    add_overlay(dataset, BITS, group=0x6000)
    path = save(dataset, tmp_path / "object.dcm")
    picture = to_display(frame(path))

    assert (picture[BITS == 1] == 255).all()
    assert (picture[BITS == 0] == 7).all()
    assert (to_display(frame(path), overlays=False) == 7).all()
