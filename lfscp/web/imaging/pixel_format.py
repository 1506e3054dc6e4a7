"""Reads how pixels are stored; replaces values that make no sense by usual ones.

Source: PS3.3 section C.7.6.3, PS3.5 section 8.1.1.
"""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.web.imaging.functional_groups import first_number, value, whole_number

_MAX_US: Final = (1 << 16) - 1  # what the VRs of these attributes hold
_MAX_IS: Final = (1 << 31) - 1
_TOO_MANY_BITS: Final = 65  # of a cell; no decoder reads it


def pixel_format(header: Dataset) -> ImagePixel:
    """The pixel format of a header; rows and columns are 0 if there is no image."""
    allocated = whole_number(header, "BitsAllocated", 8, _MAX_US)
    allocated = min(allocated, _TOO_MANY_BITS)
    stored = whole_number(header, "BitsStored", allocated, _MAX_US)
    if not 1 <= stored <= allocated:
        stored = allocated
    high_bit = whole_number(header, "HighBit", stored - 1, _MAX_US)
    if not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return ImagePixel(
        rows=whole_number(header, "Rows", 0, _MAX_US),
        columns=whole_number(header, "Columns", 0, _MAX_US),
        samples_per_pixel=whole_number(header, "SamplesPerPixel", 1, _MAX_US),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        is_signed=first_number(header, "PixelRepresentation") == 1,
        photometric_interpretation=str(value(header, "PhotometricInterpretation") or "").strip(),
        planar_configuration=whole_number(header, "PlanarConfiguration", 0, _MAX_US),
        number_of_frames=max(1, whole_number(header, "NumberOfFrames", 1, _MAX_IS)),
    )
