"""How long frames are shown: Frame Time, Frame Time Vector, recommended rates."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from lfscp.web.imaging.cine import FrameTimes, frame_times

FRAME_TIME, VECTOR, SLICE_LOCATION_VECTOR = 0x00181063, 0x00181065, 0x00182005


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"FrameTime": "40"}, FrameTimes(40)),
        ({"FrameTimeVector": ["0", "100", "100"]}, FrameTimes(100)),
        ({"FrameTimeVector": ["0", "50", "150"]}, FrameTimes(100, (50, 150, 100))),
        ({"RecommendedDisplayFrameRate": "20"}, FrameTimes(50)),
        ({"CineRate": "25"}, FrameTimes(40)),
        ({"CineRate": "25", "RecommendedDisplayFrameRate": "20"}, FrameTimes(50)),
        ({"CineRate": "25", "FrameTime": "10"}, FrameTimes(10)),
        ({"CineRate": "25", "FrameTime": "0"}, FrameTimes(40)),
        ({"CineRate": "0", "FrameTime": "-5"}, FrameTimes()),
        ({}, FrameTimes()),
    ],
)
def test_what_there_is_counts(attributes, expected):
    header = Dataset()
    for keyword, value in attributes.items():
        setattr(header, keyword, value)

    assert frame_times(header, 3) == expected


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        (VECTOR, FrameTimes(100)),
        (FRAME_TIME, FrameTimes(40)),
        ([SLICE_LOCATION_VECTOR, VECTOR], FrameTimes(100)),
        (SLICE_LOCATION_VECTOR, FrameTimes(40)),
        (None, FrameTimes(40)),
    ],
)
def test_the_frame_increment_pointer_says_which(pointer, expected):
    header = Dataset()
    header.FrameTime, header.FrameTimeVector = "40", ["0", "100", "100"]
    header.FrameIncrementPointer = pointer

    assert frame_times(header, 3) == expected


@pytest.mark.parametrize("vector", [["0", "100"], ["0", "-1", "100"], ["0", "0", "0"], None])
def test_a_vector_that_makes_no_sense_leaves_the_rest(vector):
    header = Dataset()
    header.FrameTimeVector, header.FrameIncrementPointer = vector, VECTOR
    header.CineRate = 25

    assert frame_times(header, 3) == FrameTimes(40)
