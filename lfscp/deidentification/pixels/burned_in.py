"""Tells whether text may be burned into the pixels of an object, and which device rule covers it.

Rules: what says it has burned in annotation has. What says nothing is suspected if devices draw
text into images of its class, or if it is a picture of a screen. A suspected object needs a rule of
its device; a rule without rectangles says that this device draws nothing.
Source: PS3.3 sections C.7.6.1 and C.8.6.1; PS3.15 section E.3.1.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lfscp.deidentification.errors import DeidentificationRequestError

BURNED_IN_ANNOTATION: Final = 0x00280301
CONVERSION_TYPE: Final = 0x00080064
IMAGE_TYPE: Final = 0x00080008
_MATCHED: Final = {
    "manufacturer": 0x00080070,
    "model": 0x00081090,
    "modality": 0x00080060,
    "sop_class_uid": 0x00080016,
    "rows": 0x00280010,
    "columns": 0x00280011,
}
READ: Final = frozenset({BURNED_IN_ANNOTATION, CONVERSION_TYPE, IMAGE_TYPE, *_MATCHED.values()})
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
# Ultrasound and photoacoustic images, secondary capture, visible light and video, ophthalmic images
# and maps.
_SUSPECTED: Final = frozenset(
    {"3", "3.1", "6", "6.1", "6.2", "6.3", "7", "7.1", "7.2", "7.3", "7.4"}
    | {"12.77", "40", "77.1", "77.2", "81.1", "82.1"}
)
_SUSPECTED_FAMILIES: Final = ("77.1.",)
_NOT_SUSPECTED: Final = ("77.1.6",)  # whole slide images: their labels are objects of their own
# "SAVE" is in SCREEN SAVE and SSAVE, "PROT" ends the kind of pages with protocols.
_SCREENS: Final = ("SCREEN", "SAVE", "DOSE", "CAPTURE", "REPORT", "LABEL", "OVERVIEW", " PROT")


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """Where a device burns text into its images.

    Args:
        matches: the text of each attribute that an image must have, by tag.
        rectangles: left, top, width and height in pixels, to be blackened.
    """

    matches: tuple[tuple[int, str], ...]
    rectangles: tuple[tuple[int, int, int, int], ...]

    def covers(self, values: Mapping[int, str]) -> bool:
        """Whether an image with these values is of this device."""
        return all(values.get(tag, "").casefold() == text for tag, text in self.matches)


def rule_for(rules: Sequence[DeviceRule], values: Mapping[int, str]) -> DeviceRule | None:
    """The first rule that covers an image; None if none does."""
    return next((rule for rule in rules if rule.covers(values)), None)


def suspicion(values: Mapping[int, str]) -> str:
    """Why text may be burned in; empty if there is no reason to think so.

    Args:
        values: the text of the attributes in `READ`, by tag.
    """
    said = values.get(BURNED_IN_ANNOTATION, "")
    if said == "NO":
        return ""
    if said:
        return "Burned In Annotation does not say NO"
    if CONVERSION_TYPE in values:
        return "it was converted, as pictures of screens are, and Burned In Annotation is missing"
    kinds = values.get(IMAGE_TYPE, "").split("\\")
    if any(word in kind.upper() for kind in kinds for word in _SCREENS):
        return "its Image Type is that of a picture of a screen"
    if _is_suspected(values.get(_MATCHED["sop_class_uid"], "")):
        return "devices draw text into images of its class, and Burned In Annotation is missing"
    return ""


def _is_suspected(sop_class_uid: str) -> bool:
    number = sop_class_uid.removeprefix(_STORAGE)
    if number in _NOT_SUSPECTED:
        return False
    return number in _SUSPECTED or number.startswith(_SUSPECTED_FAMILIES)


def read_device_rules(path: Path) -> tuple[DeviceRule, ...]:
    """The rules of a TOML file, each a table `[[device]]`.

    Raises:
        DeidentificationRequestError: the file cannot be read, or a rule is wrong.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DeidentificationRequestError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeidentificationRequestError(f"{path}: no TOML: {error}") from None
    devices = document.get("device")
    if not isinstance(devices, list) or set(document) != {"device"}:
        raise DeidentificationRequestError(f"{path}: expected tables [[device]] and nothing else")
    try:
        return device_rules(devices)
    except DeidentificationRequestError as error:
        raise DeidentificationRequestError(f"{path}: {error.reason}") from None


def device_rules(devices: Sequence[Any]) -> tuple[DeviceRule, ...]:
    """The rules of tables with the keys that a rule may have.

    Raises:
        DeidentificationRequestError: a rule is wrong.
    """
    return tuple(_rule(number, each) for number, each in enumerate(devices, 1))


def _rule(number: int, device: Any) -> DeviceRule:
    def wrong(reason: str) -> DeidentificationRequestError:
        return DeidentificationRequestError(f"device {number}: {reason}")

    if not isinstance(device, dict) or not isinstance(device.get("rectangles"), list):
        raise wrong("expected a table with the key rectangles, a list")
    unknown = sorted(set(device) - {*_MATCHED, "rectangles"})
    if unknown:
        raise wrong(f"unknown key {unknown[0]}; expected {', '.join(_MATCHED)}, rectangles")
    matches = tuple(
        (_MATCHED[key], str(text).strip().casefold())
        for key, text in device.items()
        if key in _MATCHED
    )
    if not matches:
        raise wrong("it names no device; expected manufacturer or model, for example")
    return DeviceRule(matches, tuple(_rectangle(each, wrong) for each in device["rectangles"]))


def _rectangle(given: Any, wrong: Any) -> tuple[int, int, int, int]:
    is_right = (
        isinstance(given, list)
        and len(given) == 4
        and all(type(number) is int and number >= 0 for number in given)
    )
    if not is_right:
        raise wrong("expected rectangles as [left, top, width, height] in pixels")
    left, top, width, height = given
    return left, top, width, height
