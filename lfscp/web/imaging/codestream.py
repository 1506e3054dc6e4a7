"""How many bits a compressed frame has, by its own header (ISO 10918-1, 14495-1, 15444-1)."""

from __future__ import annotations

from typing import Final

_START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_SIZ: Final = b"\xff\x4f\xff\x51"
_SIZ_DEPTH: Final = 42  # of the first component, behind SOC


def precision_of(frame: bytes) -> int | None:
    """Bits of a sample in a JPEG, JPEG-LS or JPEG 2000 codestream; None when it is none."""
    start = frame.find(_SIZ, 0, 4096)
    if start >= 0:
        depth = frame[start + _SIZ_DEPTH : start + _SIZ_DEPTH + 1]
        return (depth[0] & 0x7F) + 1 if depth else None
    position = 2
    while frame.startswith(b"\xff\xd8") and position + 5 <= len(frame):
        marker = frame[position + 1]
        if frame[position] != 0xFF:
            return None
        if marker in _START_OF_FRAME:
            return frame[position + 4]
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        position += 1 if marker == 0xFF else 2 if marker in _ALONE else 2 + length
    return None
