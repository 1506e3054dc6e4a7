"""Finds an attribute's value for one frame: per frame, then shared, then of the whole object.

Rules: enhanced objects keep attributes of frames in functional groups (PS3.3 section C.7.6.16). All
such attributes are read here, so that a frame is never shown with the values of another. A value
that cannot be read counts as absent: the picture is shown without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

# The VRs of values that neither a character set nor another element has a part in.
_ALONE: Final = frozenset({"CS", "DS", "FD", "FL", "IS", "SL", "SS", "UI", "UL", "US"})
_MAX_KNOWN: Final = 128  # bytes of a value,
_MAX_PARTS: Final = 8  # and values in it: each takes 400 bytes of memory
_EMPTY: Final = Dataset()
_VOI: Final = ("FrameVOILUTSequence",)
_VALUES: Final = ("PixelValueTransformationSequence",)
_MEASURES: Final = ("PixelMeasuresSequence",)
_DETECTOR: Final = ("FramePixelDataPropertiesSequence", "PixelMeasuresSequence")
# The macros that hold an attribute (PS3.3 section C.7.6.16.2, tables C.8 of enhanced objects).
MACROS: Final[dict[str, tuple[str, ...]]] = {
    "WindowCenter": _VOI,
    "WindowWidth": _VOI,
    "VOILUTFunction": _VOI,
    "VOILUTSequence": _VOI,
    "RescaleSlope": _VALUES,
    "RescaleIntercept": _VALUES,
    "ModalityLUTSequence": _VALUES,
    "PixelSpacing": _MEASURES,
    "ImagerPixelSpacing": _DETECTOR,
    "NominalScannedPixelSpacing": _MEASURES,
    "PixelAspectRatio": _MEASURES,
    "SliceThickness": _MEASURES,
    "ImageOrientationPatient": ("PlaneOrientationSequence",),
    "ImagePositionPatient": ("PlanePositionSequence",),
    "RescaleType": _VALUES,
    "PixelIntensityRelationship": ("FramePixelDataPropertiesSequence",),
}


def value(dataset: Dataset, keyword: str) -> Any:
    """An attribute's value; None when it is absent, empty or cannot be read."""
    tag = _tag_of(keyword)
    try:
        element = dataset.get_item(tag)
        if element is None:  # most are absent
            return None
        known = _known(element) if isinstance(element, RawDataElement) else None
        found = dataset[tag].value if known is None else known
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - pydicom raises what it likes on broken values
        return None
    if found is None or (isinstance(found, str | bytes | MultiValue | list) and not len(found)):
        return None
    return found


def _known(element: RawDataElement) -> Any:
    """The value of an element, if nothing else in its dataset has a part in it; else None.

    The objects of a series say mostly the same, and pydicom's conversion takes long.
    """
    written, vr = element.value, element.VR or _vr_of(element.tag)
    if vr not in _ALONE or not written or len(written) > _MAX_KNOWN:
        return None
    if written.count(b"\\") >= _MAX_PARTS:
        return None
    return _converted(element.tag, vr, bytes(written), element.is_little_endian)


@lru_cache(maxsize=1024)
def _converted(tag: BaseTag, vr: str, written: bytes, is_little: bool) -> Any:
    element = RawDataElement(tag, vr, len(written), written, 0, False, is_little)
    return convert_raw_data_element(element).value


def forget_values() -> None:
    """Free the memory of the values that were asked for last."""
    _converted.cache_clear()


@lru_cache(maxsize=1024)
def _vr_of(tag: BaseTag) -> str:
    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""


@lru_cache(maxsize=1024)
def _tag_of(keyword: str) -> BaseTag:
    return Tag(keyword)


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none if it is absent or not a sequence."""
    found = value(dataset, keyword)
    return [each for each in found if isinstance(each, Dataset)] if _is_list(found) else []


def _is_list(found: Any) -> bool:
    return found is not None and hasattr(found, "__iter__") and not isinstance(found, str | bytes)


def holders(header: Dataset, number: int, *keywords: str) -> Iterator[Dataset]:
    """The datasets that hold any of some attributes for a frame, the closest one first.

    Args:
        number: of the frame, counted from 0.
        keywords: of the same macros.
    """
    for each in _places(header, number, MACROS.get(keywords[0], ())):
        if any(value(each, keyword) is not None for keyword in keywords):
            yield each


def holder(header: Dataset, number: int, *keywords: str) -> Dataset:
    """The closest of them; empty if there is none."""
    return next(holders(header, number, *keywords), _EMPTY)


def _places(header: Dataset, number: int, macros: tuple[str, ...]) -> Iterator[Dataset]:
    for groups, index in (
        ("PerFrameFunctionalGroupsSequence", number),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        group = items(header, groups)[index : index + 1] if macros else []
        for macro in macros:
            yield from (item for each in group for item in items(each, macro)[:1])
    yield header


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """All values of a numeric attribute; none if one of them is not a finite number."""
    found = value(dataset, keyword)
    values = list(found) if isinstance(found, MultiValue | list | tuple) else [found]
    try:
        result = [float(each) for each in values]
    except (TypeError, ValueError, OverflowError):
        return []
    return result if all(map(math.isfinite, result)) else []


def first_number(dataset: Dataset, keyword: str) -> float | None:
    """The first value of a numeric attribute; None if it is absent or not a finite number."""
    found = value(dataset, keyword)
    if isinstance(found, MultiValue | list | tuple):
        found = found[0]
    try:
        result = None if found is None else float(found)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if result is not None and math.isfinite(result) else None


def whole_number(dataset: Dataset, keyword: str, otherwise: int, most: int) -> int:
    """The first value of a numeric attribute as an integer.

    Args:
        otherwise: taken if the attribute is absent, below 0, or above `most`.
        most: the largest value that the attribute can have.
    """
    found = first_number(dataset, keyword)
    return otherwise if found is None or not 0 <= found <= most else int(found)
