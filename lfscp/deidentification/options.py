"""The options of the Basic Application Level Confidentiality Profile, with their codes.

Source: PS3.15 section E.3; PS3.16 CID 7050.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from lfscp.deidentification.errors import DeidentificationRequestError


class Option(StrEnum):
    """One option; its value is its name on the command line and in the table."""

    RETAIN_SAFE_PRIVATE = "retain-safe-private"
    RETAIN_UIDS = "retain-uids"
    RETAIN_DEVICE = "retain-device"
    RETAIN_INSTITUTION = "retain-institution"
    RETAIN_PATIENT_CHARACTERISTICS = "retain-patient-characteristics"
    RETAIN_FULL_DATES = "retain-full-dates"
    RETAIN_MODIFIED_DATES = "retain-modified-dates"
    CLEAN_DESCRIPTORS = "clean-descriptors"
    CLEAN_STRUCTURED_CONTENT = "clean-structured-content"
    CLEAN_GRAPHICS = "clean-graphics"


BASIC_PROFILE: Final = ("113100", "Basic Application Confidentiality Profile")
CLEAN_PIXEL_DATA: Final = ("113101", "Clean Pixel Data Option")  # it comes with device rules
CODES: Final = {
    Option.CLEAN_GRAPHICS: ("113103", "Clean Graphics Option"),
    Option.CLEAN_STRUCTURED_CONTENT: ("113104", "Clean Structured Content Option"),
    Option.CLEAN_DESCRIPTORS: ("113105", "Clean Descriptors Option"),
    Option.RETAIN_FULL_DATES: (
        "113106",
        "Retain Longitudinal Temporal Information Full Dates Option",
    ),
    Option.RETAIN_MODIFIED_DATES: (
        "113107",
        "Retain Longitudinal Temporal Information Modified Dates Option",
    ),
    Option.RETAIN_PATIENT_CHARACTERISTICS: ("113108", "Retain Patient Characteristics Option"),
    Option.RETAIN_DEVICE: ("113109", "Retain Device Identity Option"),
    Option.RETAIN_UIDS: ("113110", "Retain UIDs Option"),
    Option.RETAIN_SAFE_PRIVATE: ("113111", "Retain Safe Private Option"),
    Option.RETAIN_INSTITUTION: ("113112", "Retain Institution Identity Option"),
}


def options_named(names: Iterable[str]) -> frozenset[Option]:
    """The options of these names.

    Raises:
        DeidentificationRequestError: there is no such option, or two contradict each other.
    """
    given = list(names)
    for name in given:
        if name not in set(Option):
            reason = f"there is no option {name}; the options are {', '.join(Option)}"
            raise DeidentificationRequestError(reason)
    options = frozenset(map(Option, given))
    require_consistent(options)
    return options


def require_consistent(options: frozenset[Option]) -> None:
    """Refuse options that contradict each other."""
    if {Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES} <= options:
        raise DeidentificationRequestError(
            "retain-full-dates and retain-modified-dates contradict each other; choose one"
        )
