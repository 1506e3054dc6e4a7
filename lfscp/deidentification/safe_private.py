"""Private attributes that are known to hold numbers of a device and nothing of a person.

They are a part of table E.3.10-1 of PS3.15: those with numbers or codes, of devices whose VRs are
known. Private ones of text are not kept, whatever the table says of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

# Private creator, group, and the last two digits of each element with its VR.
_SAFE: Final = (
    ("Philips PET Private Group", 0x7053, "00:DS 09:DS"),
    ("Philips Imaging DD 001", 0x2001, "03:FL 04:CS"),
    ("Philips MR Imaging DD 001", 0x2005, "0D:FL 0E:FL"),
    ("ELSCINT1", 0x00E1, "21:DS"),
    ("ELSCINT1", 0x01F1, "01:CS 07:DS 26:DS 27:DS"),
    ("GEMS_ACQU_01", 0x0019, "23:DS 24:DS 27:DS"),
    ("GEMS_SERS_01", 0x0025, "07:SL"),
    ("GEMS_PARM_01", 0x0043, "39:IS 6F:DS"),
    ("GEMS_HELIOS_01", 0x0045, "01:SS 02:FL"),
    ("SIEMENS MR HEADER", 0x0019, "0C:IS 0D:CS 0E:FD 27:FD"),
)


@lru_cache(maxsize=1)
def _table() -> dict[tuple[int, str, int], bytes]:
    return {
        (group, creator, int(number, 16)): vr.encode()
        for creator, group, elements in _SAFE
        for number, _, vr in (element.partition(":") for element in elements.split())
    }


def is_creator(group: int, name: str) -> bool:
    """Whether a private creator has safe attributes in a group."""
    return any((name, group) == row[:2] for row in _SAFE)


def vr_of(group: int, creator: str, number: int) -> bytes | None:
    """The VR of a safe private attribute; None if it is not one.

    Args:
        number: the last two hexadecimal digits of its tag.
    """
    return _table().get((group, creator, number))
