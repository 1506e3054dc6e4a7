"""Where a frame lies, and how large its pixels are: told only if the object says it."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from lfscp.web.imaging.geometry import Geometry, Spacing, geometry_of
from tests.support.images import image

PIXELS = np.zeros((4, 4), "<u2")


def item(**values) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"PixelSpacing": [0.7, 0.5]}, Spacing(0.7, 0.5, "patient")),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, Spacing(0.2, 0.2, "detector")),
        (
            {"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": [0.2, 0.2]},
            Spacing(0.15, 0.15, "calibrated"),
        ),
        (
            {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]},
            Spacing(0.2, 0.2, "detector"),
        ),
        ({"NominalScannedPixelSpacing": [0.1, 0.1]}, Spacing(0.1, 0.1, "scanned film")),
        ({"PixelSpacing": [0, 0.5]}, None),
        ({"PixelSpacing": ["1e9", "1e9"]}, None),
    ],
)
def test_a_size_is_told_with_what_it_is_the_size_of(values, expected):
    assert geometry_of(image(PIXELS, **values), 0).spacing == expected


def region(units: int = 3) -> Dataset:
    return item(
        PhysicalUnitsXDirection=units,
        PhysicalUnitsYDirection=units,
        PhysicalDeltaX=0.02,
        PhysicalDeltaY=-0.03,
    )


def test_ultrasound_is_measured_in_its_only_region_if_that_is_in_centimetres():
    one = geometry_of(image(PIXELS, SequenceOfUltrasoundRegions=[region()]), 0)
    assert one.spacing == Spacing(pytest.approx(0.3), pytest.approx(0.2), "ultrasound")
    several = image(PIXELS, SequenceOfUltrasoundRegions=[region(), region()])
    assert geometry_of(several, 0).spacing is None
    seconds = image(PIXELS, SequenceOfUltrasoundRegions=[region(4)])
    assert geometry_of(seconds, 0).spacing is None


def test_frames_of_enhanced_objects_have_places_of_their_own():
    frames = [item(PlanePositionSequence=[item(ImagePositionPatient=[1, 2, z])]) for z in (30, 35)]
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.5], SliceThickness=5)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    )
    dataset = image(
        np.zeros((2, 4, 4), "<u2"),
        NumberOfFrames=2,
        FrameOfReferenceUID="1.9",
        PerFrameFunctionalGroupsSequence=frames,
        SharedFunctionalGroupsSequence=[shared],
    )

    assert geometry_of(dataset, 1) == Geometry(
        spacing=Spacing(0.5, 0.5, "patient"),
        orientation=(1, 0, 0, 0, 1, 0),
        position=(1, 2, 35),
        frame_of_reference_uid="1.9",
        slice_thickness_mm=5,
    )


def test_what_is_no_orientation_is_not_told():
    slanted = image(PIXELS, ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    short = image(PIXELS, ImageOrientationPatient=[1, 0, 0])
    assert geometry_of(slanted, 0).orientation == geometry_of(short, 0).orientation == ()
    assert geometry_of(image(PIXELS, PatientOrientation=["L", "F"]), 0).patient_orientation == (
        "L",
        "F",
    )
