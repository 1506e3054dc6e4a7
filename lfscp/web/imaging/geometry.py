"""Reads where a frame lies in the patient, and how large its pixels are there (PS3.3 C.7.6.2).

Rules: a size is told only if the object says it, together with what it is the size of. A size at
the detector is not one in the patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pydicom.dataset import Dataset

from lfscp.web.imaging.functional_groups import first_number, holder, items, numbers, value

SpacingSource = Literal["patient", "calibrated", "detector", "scanned film", "ultrasound"]
_CENTIMETRES: Final = 3  # of Physical Units X Direction (PS3.3 section C.8.5.5.1.15)
_LONGEST: Final = 1e6  # mm


@dataclass(frozen=True, slots=True)
class Spacing:
    """The size of a pixel in mm.

    Args:
        row_mm: from the centre of a row to that of the next, downwards.
        column_mm: from column to column, to the right.
        source: where that is measured.
    """

    row_mm: float
    column_mm: float
    source: SpacingSource


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a frame lies.

    Args:
        spacing: None if it is not known.
        orientation: direction cosines of a row, then of a column; empty if it is not known.
        position: x, y, z in mm of the centre of the first pixel; empty if it is not known.
        patient_orientation: where rows and columns lead to, such as ("L", "F"); empty if it is not
            known.
        frame_of_reference_uid: frames with the same one have their positions in common.
        slice_thickness_mm: 0 if it is not known.
    """

    spacing: Spacing | None = None
    orientation: tuple[float, ...] = ()
    position: tuple[float, ...] = ()
    patient_orientation: tuple[str, ...] = ()
    frame_of_reference_uid: str = ""
    slice_thickness_mm: float = 0.0


def geometry_of(header: Dataset, number: int) -> Geometry:
    """The geometry of a frame.

    Args:
        number: of the frame, counted from 0.
    """
    return Geometry(
        spacing=spacing_of(header, number),
        orientation=_orientation(header, number),
        position=_several(header, number, "ImagePositionPatient", 3),
        patient_orientation=_letters(header),
        frame_of_reference_uid=str(value(header, "FrameOfReferenceUID") or "")[:64],
        slice_thickness_mm=_thickness(header, number),
    )


def spacing_of(header: Dataset, number: int) -> Spacing | None:
    """The size of a frame's pixels; the one in the patient is taken before that at the detector.

    Pixel Spacing differs from Imager Pixel Spacing when it was calibrated; when it does not, it
    says nothing else (PS3.3 section 10.7.1.3).
    """
    pixel = _positive(header, number, "PixelSpacing")
    imager = _positive(header, number, "ImagerPixelSpacing")
    if pixel and imager:
        return Spacing(*pixel, "calibrated" if pixel != imager else "detector")
    if pixel:
        return Spacing(*pixel, "patient")
    if imager:
        return Spacing(*imager, "detector")
    scanned = _positive(header, number, "NominalScannedPixelSpacing")
    return Spacing(*scanned, "scanned film") if scanned else _ultrasound(header)


def _ultrasound(header: Dataset) -> Spacing | None:
    """Of the only region: with several, a place in the picture decides which one counts."""
    regions = items(header, "SequenceOfUltrasoundRegions")
    if len(regions) != 1:
        return None
    axes = [
        (first_number(regions[0], f"PhysicalUnits{axis}Direction"), delta)
        for axis in "YX"
        if (delta := first_number(regions[0], f"PhysicalDelta{axis}"))
    ]
    if len(axes) != 2 or any(unit != _CENTIMETRES for unit, _ in axes):
        return None
    down, across = (abs(10 * delta) for _, delta in axes)
    return Spacing(down, across, "ultrasound") if max(down, across) < _LONGEST else None


def _positive(header: Dataset, number: int, keyword: str) -> tuple[float, float] | None:
    found = numbers(holder(header, number, keyword), keyword)
    if len(found) != 2 or not 0 < min(found) <= max(found) < _LONGEST:
        return None
    return found[0], found[1]


def _several(header: Dataset, number: int, keyword: str, count: int) -> tuple[float, ...]:
    found = numbers(holder(header, number, keyword), keyword)
    return tuple(found) if len(found) == count else ()


def _orientation(header: Dataset, number: int) -> tuple[float, ...]:
    """Two unit vectors at right angles; nothing else is an orientation."""
    found = _several(header, number, "ImageOrientationPatient", 6)
    if not found:
        return ()
    row, column = found[:3], found[3:]
    lengths = (sum(each * each for each in one) for one in (row, column))
    across = sum(one * other for one, other in zip(row, column, strict=True))
    if abs(across) > 0.01 or any(not 0.98 < length < 1.02 for length in lengths):
        return ()
    return found


def _letters(header: Dataset) -> tuple[str, ...]:
    found = value(header, "PatientOrientation")
    if found is None or isinstance(found, str | bytes):
        return ()
    letters = tuple(str(each).strip().upper()[:8] for each in found)
    return letters if len(letters) == 2 and all(each.isalpha() for each in letters) else ()


def _thickness(header: Dataset, number: int) -> float:
    found = first_number(holder(header, number, "SliceThickness"), "SliceThickness") or 0.0
    return found if 0 < found < _LONGEST else 0.0
