"""Numbers in an object that nobody can mean: they cost what they say, and never the answer."""

from __future__ import annotations

import contextlib
import itertools
import json
import struct

import numpy as np
import pytest

from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.imaging.room import Room
from lfscp.web.rendering.tasks import TASKS, Memory
from tests.support.web_objects import CT_CLASS, new

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom warns of each

NONSENSE = (b"1E400", b"-1E400", b"1E300", b"NaN ", b"1E-320", b"-1", b"9" * 20, b"1\\1E400 ", b"?")
TAGS = {
    "SamplesPerPixel": 0x00280002,
    "PlanarConfiguration": 0x00280006,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "PixelSpacing": 0x00280030,
    "PixelAspectRatio": 0x00280034,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "HighBit": 0x00280102,
    "PixelRepresentation": 0x00280103,
    "PixelPaddingValue": 0x00280120,
    "PixelPaddingRangeLimit": 0x00280121,
    "WindowCenter": 0x00281050,
    "WindowWidth": 0x00281051,
    "RescaleIntercept": 0x00281052,
    "RescaleSlope": 0x00281053,
    "FrameTime": 0x00181063,
    "FrameTimeVector": 0x00181065,
    "RecommendedDisplayFrameRate": 0x00082144,
    "CineRate": 0x00180040,
    "OverlayRows": 0x60000010,
    "OverlayColumns": 0x60000011,
    "NumberOfFramesInOverlay": 0x60000015,
    "OverlayOrigin": 0x60000050,
    "ImageFrameOrigin": 0x60000051,
    "OverlayBitPosition": 0x60000102,
}
USUAL = {
    0x00280002: 1,
    0x00280010: 8,
    0x00280011: 8,
    0x00280100: 16,
    0x00280101: 12,
    0x00280102: 11,
    0x00280103: 0,
    0x60000010: 8,
    0x60000011: 8,
    0x60000100: 16,
    0x60000102: 15,
}
DRAW = {
    "edge": 0,
    "window": None,
    "encoding": "png",
    "overlays": True,
    "quality": 92,
    "viewport": None,
    "region": None,
    "is_kept": False,
}


def written(path, tag, vr, value):
    """A frame of 8 by 8, with one value that is as given."""
    elements = {each: (b"US", struct.pack("<H", number)) for each, number in USUAL.items()}
    elements[0x00280004] = (b"CS", b"MONOCHROME2 ")
    elements[tag] = (vr, value + b" " * (len(value) % 2))
    new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3").save_as(path, enforce_file_format=True)
    with path.open("ab") as file:
        for each, (letters, content) in sorted(elements.items()):
            file.write(struct.pack("<HH2sH", each >> 16, each & 0xFFFF, letters, len(content)))
            file.write(content)
        file.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 128))
        file.write(np.arange(64, dtype="<u2").tobytes())
    return path


def done(task, path, **asked):
    fields, _ = TASKS[task](path, {"state": "1", **asked}, Memory(), Room(64 << 20))
    return json.loads(json.dumps(fields, allow_nan=False))


@pytest.mark.parametrize("keyword", TAGS)
def test_an_object_with_a_nonsense_number_is_shown_or_refused(keyword, tmp_path):
    for value, vr in itertools.product(NONSENSE, (b"DS", b"IS")):
        path = written(tmp_path / "object.dcm", TAGS[keyword], vr, value)
        for task, asked in (("describe", {"frame": 0}), ("draw", {"frame": None, **DRAW})):
            with contextlib.suppress(NoPictureError):
                done(task, path, **asked)


@pytest.mark.parametrize("value", [b"1E400", b"NaN ", b"-3", b"9" * 20])
def test_a_nonsense_number_of_frames_is_one(value, tmp_path):
    path = written(tmp_path / "object.dcm", TAGS["NumberOfFrames"], b"IS", value)

    assert done("describe", path, frame=0)["description"]["frames"] == 1
    assert done("draw", path, frame=None, **DRAW)["frame"] == 0


@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth", "RescaleSlope", "FrameTime"])
def test_an_infinite_number_is_as_none(keyword, tmp_path):
    path = written(tmp_path / "object.dcm", TAGS[keyword], b"DS", b"1E400")
    found = done("describe", path, frame=0)

    assert found["description"]["window"] is None
    assert found["description"]["times"]["nominal_ms"] == 0
    assert 25 < found["fitting"]["center"] < 40  # of the values themselves, 0 to 63
