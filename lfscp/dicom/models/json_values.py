"""How values stand in DICOM JSON: what its reader and its writer have in common (PS3.18 F.2)."""

from __future__ import annotations

import re
from typing import Final

FLOATS: Final = {"FD": "<d", "FL": "<f"}  # by VR, as `struct` has them
NUMBERS: Final = FLOATS | {
    "SL": "<l",
    "SS": "<h",
    "SV": "<q",
    "UL": "<L",
    "US": "<H",
    "UV": "<Q",
}
BYTES: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
MAX_SAFE: Final = 2**53  # whole numbers beyond it lose digits in JavaScript
NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
WHOLE: Final = re.compile(r"[+-]?[0-9]+")
