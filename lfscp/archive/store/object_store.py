"""Defines what the archive asks of the place of its objects, a folder or a bucket.

Two implementations: `files.ObjectFiles`, a folder of this machine or one that several nodes share,
and `s3.S3Objects`. An object's name is `<Study UID>/<Series UID>/<Instance UID>.dcm` in both; a
name that is taken is never written over, the next object gets another (`<Instance UID>~….dcm`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from lfscp.archive.errors import ArchiveError

if TYPE_CHECKING:
    import os


Uids = tuple[str, str, str]  # Study, Series and SOP Instance UID


class NameTakenError(ArchiveError):
    """An object of this name is there; only a store that cannot tell beforehand raises it."""

    def __init__(self, name: str) -> None:
        super().__init__("store the instance", f"{name} is there already")


@dataclass(frozen=True, slots=True)
class Piece:
    """A complete file in the incoming folder, not yet under its final name.

    Args:
        size: bytes, with the Part 10 header.
        is_synced: False: it is synced when it has its final name, and that name with it.
        content: the file's bytes, if the index keeps them until the file is synced.
    """

    path: str
    size: int
    is_synced: bool = True
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an instance's file is and how its dataset is encoded.

    Args:
        path: of the file, relative to the objects folder.
        dataset_offset: bytes in the file before the dataset.
        size: bytes of the dataset; `file_size` those of the whole file.
        digest: "algorithm:hex" over the dataset's bytes; empty when digests are off.
        content: as of its piece.
    """

    path: str
    transfer_syntax_uid: str
    dataset_offset: int
    size: int
    file_size: int
    digest: str
    calling_ae_title: str
    content: bytes = b""


class StoredFile(Protocol):
    """An object's file as readers see it; a `Path` is one.

    Anything that takes a path may be given it: a remote one is fetched when it is asked for its
    name in the file system. Every method may raise OSError, as a path's do.
    """

    def __fspath__(self) -> str: ...

    def exists(self) -> bool:
        """Whether it is there."""

    def is_file(self) -> bool:
        """The same, for a name that could be a folder's."""

    def stat(self) -> os.stat_result:
        """Size, time of change and identity; contents are not fetched for it."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open it for reading."""


class ObjectStore(Protocol):
    """Where objects are. Any thread may call any method; several processes may share one."""

    root: Path  # on whose file system objects are written first
    incoming: Path  # where large objects are spooled as they arrive
    is_remote: bool

    def write_piece(self, header: bytes, dataset: bytes | memoryview, uids: Uids) -> Piece:
        """Write one file into the incoming folder; OutOfResourcesError leaves nothing there.

        Args:
            uids: under which it will be placed.
        """

    def adopt(self, path: str | Path, uids: Uids, descriptor: int = -1) -> Piece:
        """Take a complete file in the incoming folder as a piece; raises OutOfResourcesError.

        The piece may get a name of its own: discard it, and remove the file's first name.

        Args:
            uids: under which it will be placed.
            descriptor: of the file, when it is open already.
        """

    def place(self, piece: Piece, study_uid: str, series_uid: str, instance_uid: str) -> str:
        """Give a piece its final name; it is safe when this returns.

        Returns:
            The object's path relative to the root.
        Raises:
            NameTakenError: by another object, which may be this instance's.
            OutOfResourcesError: it could not be done.
        """

    def place_beside(self, piece: Piece, study_uid: str, series_uid: str, instance_uid: str) -> str:
        """The same, under a further name when the first is taken."""

    def keep(self, piece: Piece, placement: Placement) -> None:
        """The placed piece's row is committed: a copy may be kept for readers."""

    def discard(self, piece: Piece) -> None:
        """Remove a piece's own name; the object under its final name stays."""

    def remove(self, relative: str) -> None:
        """Remove an object; one that cannot be removed stays, invisible."""

    def remove_all(self, paths: Iterable[str]) -> list[str]:
        """Remove objects; returns those that are gone."""

    def path(self, relative: str) -> StoredFile:
        """The file of an index row's path."""

    def file_of(self, row: Any) -> StoredFile:
        """The file of an index row: path, digest, transfer_syntax_uid, dataset_offset, size."""

    def located(self, rows: Iterable[Any]) -> Sequence[StoredFile]:
        """The files of rows of `Index.select`, in their order, to be read one after another."""

    def exists(self, relative: str) -> bool:
        """Whether an index row's object is there."""

    def may_exist(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        """Whether the instance's usual name is taken: a hint of a duplicate, when it is cheap."""

    def pieces(self) -> Iterator[Path]:
        """What lies in the incoming folder and may have been placed."""

    def names_of(self, study_uid: str, series_uid: str, instance_uid: str) -> list[str]:
        """All names (relative paths) that objects of one instance have taken."""

    def close(self) -> None:
        """Begin nothing more in the background."""

    def walk(self) -> Iterator[str]:
        """Every object as a relative path."""
