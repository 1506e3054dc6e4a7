"""Binary values of a big endian object as those of a little endian one (PS3.5 section 7.3).

pydicom turns numbers, but hands over the bytes of OW, OF, OD and the like as they are in the file.
"""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

WORD_BYTES: Final = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def is_big_endian(header: Dataset) -> bool:
    """Whether the object that the header is of is in big endian."""
    meta = getattr(header, "file_meta", None)
    return meta is not None and str(meta.get("TransferSyntaxUID", "")) == ExplicitVRBigEndian


def in_little_endian(content: bytes, vr: str, *, big_endian: bool) -> bytes:
    """Turn the words of a value, when it comes from a big endian object."""
    width = WORD_BYTES.get(vr, 1) if big_endian else 1
    if width == 1:
        return content
    content += bytes(-len(content) % width)
    turned = bytearray(len(content))
    for position in range(width):
        turned[position::width] = content[width - 1 - position :: width]
    return bytes(turned)
