"""How values stand in DICOM JSON: what its reader and its writer have in common (PS3.18 F.2)."""

from __future__ import annotations

import re
from typing import Final

from lfscp.dicom.encoding.value_representations import NUMBER_FORMATS

FLOATS: Final = frozenset({"FD", "FL"})
NUMBERS: Final = {vr: f"<{form}" for vr, form in NUMBER_FORMATS.items()}  # by VR, for `struct`
BYTES: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
MAX_SAFE: Final = 2**53  # whole numbers beyond it lose digits in JavaScript
NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
WHOLE: Final = re.compile(r"[+-]?[0-9]+")
