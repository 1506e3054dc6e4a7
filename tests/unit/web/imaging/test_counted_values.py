"""Windows from the values at both ends of a frame are those from all of its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfscp.web.imaging import frames
from lfscp.web.imaging.counted_values import counts_at_ends, may_count_ends
from lfscp.web.imaging.frames import window_around
from lfscp.web.imaging.object_header import read_header
from lfscp.web.imaging.windows import PERCENTILES
from lfscp.web.rendering.decoding import decode
from tests.support.web_objects import CT_CLASS, new, set_pixels

SIDE = 160  # more pixels than are counted one and all
RANDOM = np.random.default_rng(7)
FRAMES = {
    "noise": RANDOM.integers(0, 4096, (SIDE, SIDE)),
    "few above": np.where(RANDOM.random((SIDE, SIDE)) < 0.001, 3000, 200),
    "air around": np.where(np.hypot(*np.mgrid[-80:80, -80:80]) > 70, 0, RANDOM.normal(1024, 99)),
    "air and noise": np.where(RANDOM.random((SIDE, SIDE)) < 0.3, 5, RANDOM.integers(0, 3000)),
    "ramp": np.arange(SIDE * SIDE).reshape(SIDE, SIDE) // 7,
    "two values": np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 2 * 900,
    "one value": np.full((SIDE, SIDE), 17),
    "extremes": RANDOM.choice([0, 1, 2, 2047, 4093, 4094, 4095], (SIDE, SIDE)),
}
SHAPES: dict[str, dict[str, Any]] = {
    "12 bits": {"BitsStored": 12, "HighBit": 11},
    "padding": {"PixelPaddingValue": 0},
    "a range of padding": {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 40},
    "padding in the middle": {"PixelPaddingValue": 900, "PixelPaddingRangeLimit": 2000},
    "padding elsewhere": {"PixelPaddingValue": 30000},
    "rescaled": {"RescaleSlope": "0.37", "RescaleIntercept": "-1024"},
    "turned round": {"RescaleSlope": "-2", "RescaleIntercept": "7"},
    "endless": {"RescaleSlope": "1e308", "RescaleIntercept": "0"},
}


def _frame(path: Path, values: Any, kind: str, attributes: dict[str, Any]) -> Any:
    dataset = set_pixels(new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3"), values.astype(kind))
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    header = read_header(path)
    return decode(path, header, 0)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of the endless slope
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["<u2", "<i2"])
@pytest.mark.parametrize("name", FRAMES)
def test_the_window_is_that_of_all_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, shape: str
) -> None:
    values = FRAMES[name] - (2048 if kind == "<i2" and shape != "12 bits" else 0)
    frame = _frame(tmp_path / "object.dcm", values, kind, SHAPES[shape])

    found = window_around(frame)

    monkeypatch.setattr(frames, "may_count_ends", lambda _: False)
    assert found == window_around(frame)


def test_the_ends_of_a_usual_frame_are_enough() -> None:
    noise = FRAMES["noise"].astype("i2")

    found = counts_at_ends(noise, None, PERCENTILES)

    assert found is not None
    assert len(found[0]) < noise.size // 20
    assert found[1].sum() == noise.size
    assert may_count_ends(noise)
