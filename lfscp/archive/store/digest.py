"""Digests of datasets, written as "algorithm:hex" so that a change of algorithm breaks nothing.

XXH3 finds every accidental change (a bad disk, a lost write) at the speed of memory; SHA-256 also
one that somebody made on purpose, for half a millisecond per megabyte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import xxhash

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

DEFAULT_ALGORITHM: Final = "xxh3_128"
CRYPTOGRAPHIC: Final = frozenset(("sha256", "sha512", "blake2b"))
_CHUNK: Final = 1 << 20  # bytes; memory stays bounded whatever the object's size

_HASHERS: Final[dict[str, Callable[[], Any]]] = {
    "xxh3_128": xxhash.xxh3_128,
    "sha256": lambda: hashlib.sha256(usedforsecurity=False),
    "sha512": lambda: hashlib.sha512(usedforsecurity=False),
    "blake2b": lambda: hashlib.blake2b(usedforsecurity=False),
}
ALGORITHMS: Final = tuple(_HASHERS)


def hasher_of(algorithm: str) -> Any:
    """A new hasher, with `update` and `hexdigest`.

    Raises:
        ValueError: no such algorithm is known.
    """
    if algorithm not in _HASHERS:
        raise ValueError(f"unknown digest {algorithm!r}")
    return _HASHERS[algorithm]()


def digest_of(data: bytes | memoryview, algorithm: str) -> str:
    """The digest of bytes in memory; other threads run meanwhile."""
    hasher = _HASHERS[algorithm]()
    hasher.update(data)
    return f"{algorithm}:{hasher.hexdigest()}"


def digest_of_file(
    path: StoredFile, offset: int, algorithm: str, *, pause: Callable[[int], None] | None = None
) -> str:
    """The digest of a file from `offset` bytes to its end.

    Args:
        pause: called with the number of bytes after each piece that was read.
    Raises:
        OSError: the file cannot be read.
    """
    hasher = _HASHERS[algorithm]()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while count := file.readinto(buffer):
            hasher.update(view[:count])
            if pause is not None:
                pause(count)
    return f"{algorithm}:{hasher.hexdigest()}"


def algorithm_of(digest: str) -> str:
    """The algorithm that a digest names; empty for an empty digest."""
    return digest.partition(":")[0]
