"""The display pipeline: modality, window, photometric interpretation; and the pictures' cache."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from lfscp.archive.opening import CACHED_OBJECTS
from lfscp.archive.store.disk_cache import DiskCache
from lfscp.web.app import PICTURES
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.imaging.frames import to_display
from lfscp.web.imaging.object_header import read_header
from lfscp.web.imaging.windows import Window, apply_window
from lfscp.web.rendering import renderer as renderers
from lfscp.web.rendering.decoding import decode, describe
from lfscp.web.rendering.renderer import Renderer, Wanted
from tests.support.web_objects import CT_CLASS, new, set_pixels


def saved(tmp_path, pixels, **values):
    dataset = set_pixels(new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3"), pixels, **values)
    path = tmp_path / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def shown(path, window=None, frame=0):
    return to_display(decode(path, read_header(path), frame), window)


RAMP = np.arange(256, dtype="<u2").reshape(16, 16)


@pytest.mark.parametrize(
    ("function", "center", "width", "expected"),
    [
        # PS3.3 section C.11.2.1.2.1: black up to 49.5, white above 149.5, 2.55 for each value
        ("LINEAR", 100, 101, {49: 0, 50: 1, 99: 126, 100: 129, 149: 254, 150: 255}),
        ("LINEAR_EXACT", 100, 100, {50: 0, 100: 128, 150: 255}),
        ("LINEAR", 100, 1, {99: 0, 100: 255}),
        ("SIGMOID", 100, 100, {0: 4, 100: 127, 255: 254}),
    ],
)
def test_a_window_is_applied_as_the_standard_says(function, center, width, expected):
    values = np.arange(256, dtype=np.float32).reshape(1, 256)
    result = apply_window(values, Window(center, width, function))[0]

    assert {value: int(result[value]) for value in expected} == expected


def test_rescale_comes_before_the_window(tmp_path):
    path = saved(tmp_path, RAMP, RescaleSlope=2, RescaleIntercept=-100)

    assert shown(path, Window(155, 511, "LINEAR_EXACT"))[0, 0] == 0
    assert decode(path, read_header(path), 0).values[0, 1] == -98


def test_monochrome1_is_shown_with_white_for_small_values(tmp_path):
    path = saved(tmp_path, RAMP, PhotometricInterpretation="MONOCHROME1")
    picture = shown(path)

    assert picture[0, 0] == 255
    assert picture[-1, -1] == 0


def test_without_a_window_nearly_all_values_are_seen_and_padding_does_not_count(tmp_path):
    pixels = RAMP.copy()
    pixels[:8] = 60_000
    picture = shown(saved(tmp_path, pixels, PixelPaddingValue=60_000))

    assert picture[8, 0] == 0
    assert picture[-1, -1] == 255
    assert 100 < picture[12, 0] < 150


def test_a_frame_s_own_window_goes_before_the_shared_one(tmp_path):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def group(center):
        lut, item = Dataset(), Dataset()
        lut.WindowCenter, lut.WindowWidth = center, 10
        item.FrameVOILUTSequence = Sequence([lut])
        return item

    frames = np.stack([RAMP, RAMP])
    path = saved(
        tmp_path,
        frames,
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=Sequence([group(200)]),
        PerFrameFunctionalGroupsSequence=Sequence([group(20), Dataset()]),
    )

    assert describe(read_header(path)).window == Window(20, 10)
    assert shown(path, frame=0)[2, 0] == 255
    assert shown(path, frame=1)[2, 0] == 0


@pytest.mark.parametrize(("center", "width"), [(None, 100), (40, None), (40, 0), ("", "")])
def test_a_window_that_makes_no_sense_is_as_none(tmp_path, center, width):
    path = saved(tmp_path, RAMP, WindowCenter=center, WindowWidth=width)

    assert describe(read_header(path)).window is None


def test_pixels_that_are_cut_short_say_so(tmp_path):
    path = saved(tmp_path, RAMP)
    content = path.read_bytes()
    path.write_bytes(content[:-200])

    with pytest.raises(NoPictureError, match="the pixel data cannot be decoded"):
        shown(path)


def test_pixels_that_are_not_square_are_shown_in_shape(tmp_path):
    path = saved(tmp_path, RAMP, PixelSpacing=[2, 1])
    picture = Renderer(tmp_path / "cache", 1 << 20).render(path, "1", Wanted()).read()

    assert Image.open(io.BytesIO(picture)).size == (16, 32)


def test_a_replaced_object_never_shows_the_old_picture(tmp_path):
    renderer = Renderer(tmp_path / "cache", 1 << 20)
    wanted = Wanted(encoding="png")
    before = renderer.render(saved(tmp_path, RAMP), "1", wanted).read()
    assert renderer.render(tmp_path / "object.dcm", "1", wanted).read() == before

    flipped = RAMP[::-1, ::-1].copy()
    assert renderer.render(saved(tmp_path, flipped, StudyID="2"), "1", wanted).read() != before


def test_a_picture_of_an_older_rendering_is_not_shown(tmp_path, monkeypatch):
    cache, wanted = tmp_path / "cache", Wanted(encoding="png")
    path = saved(tmp_path, RAMP)
    right = Renderer(cache, 1 << 20).render(path, "1", wanted).read()
    (kept,) = cache.rglob("*.png")
    kept.write_bytes(b"wrong")
    assert (
        Renderer(cache, 1 << 20).render(path, "1", wanted).read() == b"wrong"
    )  # it is kept on disk

    monkeypatch.setattr(renderers, "RENDERING_VERSION", renderers.RENDERING_VERSION + 1)
    assert Renderer(cache, 1 << 20).render(path, "1", wanted).read() == right


def test_a_picture_with_overlays_is_another_than_without(tmp_path):
    path = saved(tmp_path, np.full((16, 16), 9, "<u2"), WindowCenter=128, WindowWidth=256)
    dataset = dcmread(path)
    for element, value in ((0x10, 16), (0x11, 16), (0x100, 1), (0x102, 0)):
        dataset.add_new((0x6000, element), "US", value)
    dataset.add_new((0x6000, 0x50), "SS", [1, 1])
    dataset.add_new((0x6000, 0x3000), "OW", b"\xff\xff" + bytes(30))
    dataset.save_as(path)
    renderer = Renderer(tmp_path / "cache", 1 << 20)

    for _ in range(2):  # rendered, and from disk
        drawn, plain = (
            np.asarray(
                Image.open(
                    io.BytesIO(
                        renderer.render(path, "1", Wanted(encoding="png", overlays=overlays)).read()
                    )
                )
            )
            for overlays in (True, False)
        )
        assert (drawn[0].tolist(), drawn[1].tolist()) == ([255] * 16, [9] * 16)
        assert (plain == 9).all()
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 2


def test_what_is_left_out_of_a_picture_is_logged_once(tmp_path, capfd):
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 0, 16])
    table.add_new("LUTData", "US", [1, 2])
    path = saved(tmp_path, RAMP, VOILUTSequence=[table])
    renderer = Renderer(tmp_path / "cache", 0)
    renderer.render(path, "1.2", Wanted()).read()
    renderer.render(path, "1.2", Wanted(edge=8)).read()

    (line,) = capfd.readouterr().err.splitlines()
    assert "picture shown without its VOI LUT" in line
    assert "sop_instance_uid=1.2 frame=1" in line
    assert 'reason="it has 2 entries, its descriptor says 4"' in line


def test_the_spacing_of_a_frame_gives_its_shape(tmp_path):
    groups = []
    for spacing in ([2, 1], [1, 2]):
        item, measures = Dataset(), Dataset()
        measures.PixelSpacing = spacing
        item.PixelMeasuresSequence = [measures]
        groups.append(item)
    path = saved(
        tmp_path,
        np.stack([RAMP, RAMP]),
        NumberOfFrames=2,
        PerFrameFunctionalGroupsSequence=groups,
    )
    renderer = Renderer(tmp_path / "cache", 0)
    sizes = [
        Image.open(io.BytesIO(renderer.render(path, "1", Wanted(frame)).read())).size
        for frame in (0, 1)
    ]

    assert sizes == [(16, 32), (32, 16)]


def test_the_cache_stays_below_its_bound_and_keeps_what_was_used_last(tmp_path):
    cache = tmp_path / "cache"
    path = saved(tmp_path, RAMP)
    size = len(Renderer(cache, 0).render(path, "0", Wanted()).read())
    assert not cache.exists()  # no bound, nothing kept

    renderer = Renderer(cache, 10 * size)
    for number in range(30):
        renderer.render(path, str(number), Wanted()).read()
    kept = list(cache.rglob("*.jpeg"))
    assert 0 < sum(file.stat().st_size for file in kept) <= 10 * size
    renderer.forget(map(str, range(30)))
    assert list(cache.rglob("*.jpeg")) == []


def test_pictures_never_cost_the_copies_of_a_bucket_s_objects(tmp_path):
    copies = DiskCache(tmp_path / CACHED_OBJECTS, 1 << 20)
    piece = Path(copies.new_piece())
    piece.write_bytes(bytes(100_000))
    copy = copies.add(str(piece), "an object", 100_000)

    path = saved(tmp_path, RAMP)
    size = len(Renderer(tmp_path / PICTURES, 0).render(path, "0", Wanted()).read())
    renderer = Renderer(tmp_path / PICTURES, 10 * size)
    for number in range(30):
        renderer.render(path, str(number), Wanted()).read()

    assert Path(copy).exists()
    assert piece.exists()  # it may be on its way into the bucket
    assert list((tmp_path / PICTURES).rglob("*.jpeg"))


def test_pictures_do_not_outlive_a_start_of_the_machine(tmp_path):
    """What a power cut left of one may be half of it, since pictures are not synced."""
    cache, wanted = tmp_path / "cache", Wanted(encoding="png")
    path = saved(tmp_path, RAMP)
    right = Renderer(cache, 1 << 20).render(path, "1", wanted).read()
    (kept,) = cache.rglob("*.png")
    kept.write_bytes(b"")

    (cache / "boot-id").write_text("of an earlier start")
    assert Renderer(cache, 1 << 20).render(path, "1", wanted).read() == right


def test_a_cache_of_no_size_removes_what_was_kept(tmp_path):
    path = saved(tmp_path, RAMP)
    pictures, before = (
        tmp_path / "cache" / "pictures",
        tmp_path / "cache" / ("0123456789abcdef" * 2),
    )
    before.mkdir(parents=True)
    Renderer(pictures, 1 << 20).render(path, "1", Wanted()).read()
    assert list(pictures.rglob("*.jpeg"))
    assert not before.exists()  # where pictures of an object were kept once

    Renderer(pictures, 0)
    assert not pictures.exists()
