"""Tells how wide a VR's numbers are, and which VR a value has that comes without one.

Rules: a value in implicit VR has the dictionary's VR if it fits, else UN; where the dictionary
leaves a choice the dataset decides. Private elements have the VR that pydicom's private dictionary
has for their creator, else UN.
Source: PS3.5 sections 6.2, 6.2.2, 7.1.2, 7.8.1 and annex A.1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

from pydicom.datadict import dictionary_VR, private_dictionary_VR

from lfscp.dicom.encoding.elements import SHORT_VRS
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.encoding.image_pixel import BITS_ALLOCATED, PIXEL_REPRESENTATION

UN: Final = b"UN"
SQ: Final = b"SQ"
LONG_FORM: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_FORM: Final = frozenset(SHORT_VRS)
KNOWN: Final = LONG_FORM | SHORT_FORM
MAX_SHORT_LENGTH: Final = 0xFFFF
# Bytes that change places together between byte orders; 1 for all that are not here.
WIDTH: Final = {
    **dict.fromkeys(b"AT OW SS US".split(), 2),
    **dict.fromkeys(b"FL OF OL SL UL".split(), 4),
    **dict.fromkeys(b"FD OD OV SV UV".split(), 8),
}
# The numbers of a VR, as `struct` has them without the byte order.
NUMBER_FORMATS: Final = {
    "US": "H",
    "SS": "h",
    "UL": "L",
    "SL": "l",
    "UV": "Q",
    "SV": "q",
    "FL": "f",
    "FD": "d",
}
_TEXT: Final = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UR UT".split())

_LUT_DESCRIPTOR: Final = 0x00283002
_NUMBERS: Final = frozenset({BITS_ALLOCATED, PIXEL_REPRESENTATION, _LUT_DESCRIPTOR})


def padding_of(vr: bytes) -> bytes:
    """What a value of odd length is padded with."""
    return b" " if vr in _TEXT else b"\0"


class Deciding:
    """Values of one dataset or item that decide about the VRs of later elements.

    Args:
        is_signed: what its own Pixel Representation says; None as long as there is none.
    """

    __slots__ = ("_bits_allocated", "_creators", "_table_entries", "is_signed")

    def __init__(self) -> None:
        self.is_signed: bool | None = None
        self._bits_allocated = 0
        self._table_entries = 0
        self._creators: dict[int, str] = {}

    def learn_sign(self, value: bytes | memoryview, byteorder: Literal["little", "big"]) -> None:
        """Take note of Pixel Representation in explicit VR."""
        self.is_signed = int.from_bytes(value[:2], byteorder) == 1

    def learn(self, tag: int, value: bytes | memoryview) -> None:
        """Take note of a value in implicit VR that may decide something."""
        if tag in _NUMBERS and len(value) >= 2:
            number = int.from_bytes(value[:2], "little")
            if tag == PIXEL_REPRESENTATION:
                self.is_signed = number == 1
            elif tag == BITS_ALLOCATED:
                self._bits_allocated = number
            else:
                self._table_entries = number
        elif _is_creator(tag):
            block = (tag >> 16 << 8) | (tag & 0xFF)
            self._creators[block] = bytes(value).decode("latin_1").strip(" \0")

    def vr_of(self, tag: int, length: int) -> tuple[bytes, bool]:
        """The VR of a value in implicit VR, and whether it is SS instead when pixels are signed."""
        vr = _of_dictionary(tag)
        if vr is None:
            creator = self._creators.get(tag >> 8, "")
            return (_of_private_dictionary(tag, creator) if creator else UN), False
        if " or " not in vr:
            return vr.encode(), False
        if vr == "US or SS":
            return b"US", True
        return self._chosen(tag, vr, length), False

    def _chosen(self, tag: int, vr: str, length: int) -> bytes:
        if vr == "US or OW":
            return b"US" if self._table_entries == 1 else b"OW"
        # In implicit VR these are words (annex A.1), unless they cannot be.
        is_bytes = tag != PIXEL_DATA or self._bits_allocated <= 8
        return b"OB" if length % 2 and is_bytes else b"OW"


def left_out(tag: int, length: int) -> tuple[bytes, bool]:
    """The VR of a value with a 16-bit length that comes without its VR in explicit VR.

    Returns:
        the dictionary's VR, when it has a 16-bit length and the value fits, else UN; and whether
        it is SS instead when pixels are signed.
    """
    choices = (_of_dictionary(tag) or "UN").split(" or ")
    vr = choices[0].encode()
    if vr not in SHORT_FORM or length % WIDTH.get(vr, 1):
        return UN, False
    return vr, "SS" in choices


def decides_vrs(tag: int) -> bool:
    """Whether the value of an attribute may decide about the VRs of later elements."""
    return tag in _NUMBERS or _is_creator(tag)


def _is_creator(tag: int) -> bool:
    return tag >> 16 & 1 == 1 and 0x10 <= tag & 0xFFFF <= 0xFF


@lru_cache(maxsize=8192)
def _of_dictionary(tag: int) -> str | None:
    """The dictionary's VR, which may leave a choice; None when the tag is not in it."""
    if tag & 0xFFFF == 0:
        return "UL"  # a group length
    if _is_creator(tag):
        return "LO"
    try:
        return dictionary_VR(tag)
    except KeyError:
        return None if tag >> 16 & 1 else "UN"


@lru_cache(maxsize=8192)
def _of_private_dictionary(tag: int, creator: str) -> bytes:
    try:
        vr = private_dictionary_VR(tag, creator).encode()
    except KeyError:
        return UN
    return vr if vr in KNOWN else UN
