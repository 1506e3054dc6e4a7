"""Digests of datasets, written as "algorithm:hex" so that a change of algorithm breaks nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

DEFAULT_ALGORITHM: Final = "sha256"  # the fastest of hashlib where the CPU has SHA instructions
_CHUNK: Final = 1 << 20  # bytes; memory stays bounded whatever the object's size


def digest_of(data: bytes | memoryview, algorithm: str) -> str:
    """The digest of bytes in memory; other threads run meanwhile."""
    return f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}"


def digest_of_file(path: Path, offset: int, algorithm: str) -> str:
    """The digest of a file from `offset` bytes to its end.

    Raises:
        OSError: the file cannot be read.
    """
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while count := file.readinto(buffer):
            hasher.update(view[:count])
    return f"{algorithm}:{hasher.hexdigest()}"


def algorithm_of(digest: str) -> str:
    """The algorithm that a digest names; empty for an empty digest."""
    return digest.partition(":")[0]
