"""The identity of the place of an archive's objects, which an empty or foreign folder lacks.

The place, a folder or a bucket, holds an identity: a name that was made once. The index holds the
same name. A volume that is not mounted leaves an empty folder in its place, in which there is none:
nothing may be stored there, and the index's rows are not wrong because their files are not there.

Rules: the identity is looked at before anything is written to the place. It is made where the index
knows none yet: in a new archive, or when objects that the index knows are there. One that was lost
is made again when most of a sample of the index's objects are there.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from lfscp.archive.durability import sync_folder
from lfscp.archive.errors import ArchiveError

# In the folder of the objects: a folder with one of the identity's name. A file would be no DICOM
# file among those.
IDENTITY_FOLDER: Final = ".lfscp-objects"


class ObjectsPlace(Protocol):
    """Where objects are, as far as its identity is concerned. Each method may raise OSError."""

    name: str  # for messages
    identity_name: str

    def read(self) -> str:
        """The identity; empty when there is none."""

    def make(self, identity: str) -> str:
        """Make an identity, unless one is there; the one that is there then."""

    def count(self, paths: Sequence[str]) -> int:
        """How many of some objects are there."""

    def how_to_accept(self, identity: str) -> str:
        """What an administrator does to have a place believed, in words."""


@dataclass(frozen=True, slots=True)
class Known:
    """What an index knows of the place of its objects.

    Args:
        identity: empty when it has not been told of any.
        sample: paths of some objects.
    """

    identity: str = ""
    sample: tuple[str, ...] = ()


def recognise(place: ObjectsPlace, index_knows: Known) -> str:
    """Look whether a place is that of an index's objects, and make its identity if it may have one.

    Returns:
        The identity.
    Raises:
        ArchiveError: it is another place.
        OSError: it cannot be looked at.
    """
    found, wanted = place.read(), index_knows.identity
    if found and wanted in ("", found):
        return found
    if found:
        raise _is_another(place, f"its identity is {found}, the index knows {wanted}")
    sample = index_knows.sample
    there = place.count(sample)
    if wanted and 2 * there <= len(sample):
        raise _is_another(
            place,
            f"{place.identity_name} is missing in it",
            f"; if it is the right place, {place.how_to_accept(wanted)}",
        )
    if sample and not there:
        raise _is_another(place, "none of the index's objects is in it")
    return place.make(wanted or uuid.uuid4().hex)


def _is_another(place: ObjectsPlace, why: str, otherwise: str = "") -> ArchiveError:
    hint = f"see that its volume is mounted, or correct objects.url{otherwise}"
    reason = f"{place.name} is not where its objects are: {why}"
    return ArchiveError("open the archive", reason, hint)


class FolderPlace:
    """A folder of objects; see `ObjectsPlace`."""

    identity_name = IDENTITY_FOLDER

    def __init__(self, root: Path) -> None:
        self.name = f"the folder {root}"
        self._root = root

    def read(self) -> str:
        try:
            names = os.listdir(self._root / IDENTITY_FOLDER)  # noqa: PTH208 - a name is wanted
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return names[0] if len(names) == 1 else ""

    def make(self, identity: str) -> str:
        """Make the folder; of several nodes that do so at once one succeeds."""
        new = self._root / f"{IDENTITY_FOLDER}-{uuid.uuid4().hex}"
        (new / identity).mkdir(mode=0o750, parents=True)
        sync_folder(new)
        try:
            new.rename(self._root / IDENTITY_FOLDER)  # over an empty folder at most
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            if not self.read():
                raise
        sync_folder(self._root)
        return self.read()

    def replace(self, identity: str) -> None:
        """Make the folder in the place of one that is there."""
        shutil.rmtree(self._root / IDENTITY_FOLDER, ignore_errors=True)
        self.make(identity)

    def count(self, paths: Sequence[str]) -> int:
        return sum((self._root / path).is_file() for path in paths)

    def how_to_accept(self, identity: str) -> str:
        return f"mkdir -p {self._root / IDENTITY_FOLDER / identity}"


class Presence:
    """Whether the folders of an open archive are still those that were opened.

    Any thread may ask, and each process that was forked with it. It costs two calls of the system.

    Args:
        objects: the folder of the objects; None for a bucket.
        data_dir: the data folder.
        identity: of the objects.
    """

    def __init__(self, objects: Path | None, data_dir: Path, identity: str) -> None:
        self._objects = objects
        self._identity = identity
        self._data_dir = str(data_dir)
        self._data_is = folder_identity(self._data_dir)
        self._folder = "" if objects is None else str(objects / IDENTITY_FOLDER)
        self._folder_is = folder_identity(self._folder) if self._folder else None
        # Open, it keeps the volume from being unmounted by mistake.
        self._held = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC) if self._folder else -1

    @property
    def problem(self) -> str:
        """What is wrong, in words; empty when all is well."""
        if self._objects is not None and not self._is_same():
            return (
                f"{self._objects} is no longer the archive's folder of objects: "
                f"{IDENTITY_FOLDER} is missing or of another archive; is its volume mounted?"
            )
        with suppress(OSError):
            if folder_identity(self._data_dir) == self._data_is:
                return ""
        return f"{self._data_dir} is not the data folder that was opened; is its volume mounted?"

    def _is_same(self) -> bool:
        try:
            now = folder_identity(self._folder)
            if now != self._folder_is:
                assert self._objects is not None  # noqa: S101 - the caller looked
                if FolderPlace(self._objects).read() != self._identity:
                    return False
                self._folder_is = now  # it was written again, or the volume mounted again
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let the volume go."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def folder_identity(path: str) -> tuple[int, int]:
    """Which folder a path stands for now: device and inode."""
    found = os.stat(path)  # noqa: PTH116 - costs half of pathlib's
    return found.st_dev, found.st_ino
