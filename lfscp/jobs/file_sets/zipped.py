"""Makes a ZIP of files while it is read: none of it is on disk, and a piece at a time in memory."""

from __future__ import annotations

import zipfile
from collections.abc import Generator, Iterable
from io import RawIOBase
from typing import Any


class _Pieces(RawIOBase):
    """A file that cannot seek; its reader draws what was written."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written.append(bytes(data))
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def draw(self) -> bytes:
        """The bytes written since the last call."""
        drawn, self._written = b"".join(self._written), []
        return drawn


def zipped(
    files: Iterable[tuple[str, Iterable[bytes | memoryview] | None]],
) -> Generator[bytes, None, None]:
    """A ZIP of these files, made while it is read.

    Args:
        files: each name with its bytes; None leaves it out.
    """
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", allowZip64=True) as target:
        for name, content in files:
            if content is None:
                continue
            # Stored, not deflated: most images are compressed already.
            with target.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                for piece in content:
                    member.write(piece)
                    yield pieces.draw()
    yield pieces.draw()
