"""Reads files of the worklist folder, and remembers which of them are broken or quite new.

Rules: a file that was changed less than two seconds ago is read again later, as file systems may
keep the times of two changes as one; until then its fingerprint in the index says so. A file that
is broken is read again when it changes. It may be half written: it is named only when it stays
broken for some seconds.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lfscp.archive.workflow.worklist_folder.file import WorklistFileError, read_worklist_file

if TYPE_CHECKING:
    from lfscp.archive.workflow.worklist.item import InvalidItemError
    from lfscp.archive.workflow.worklist_folder.listing import Listing
    from lfscp.dicom.models.element_tree import Tree

SETTLED_S: Final = 2.0  # the coarsest times that file systems keep
_PATIENCE_S: Final = 5.0  # with a broken file, which somebody may be writing
NEW: Final = "?"  # ends the fingerprint of a file that has to be read again

ReadItem = tuple[str, "Tree", str]  # name, dataset and fingerprint


@dataclass(slots=True)
class _Broken:
    """A file that is not taken, as long as it has this fingerprint.

    Args:
        since: when it was seen first, in monotonic seconds.
        is_unreadable: the system does not let it be read, or its volume is ill.
        was_new: it was changed a moment before it was read.
        is_named: it is in the log.
    """

    fingerprint: str
    reason: str
    since: float
    is_unreadable: bool
    was_new: bool = False
    is_named: bool = False

    @property
    def is_read_again(self) -> bool:
        """Whether it may have changed and kept its fingerprint."""
        return self.is_unreadable or self.was_new

    @property
    def is_overdue(self) -> bool:
        """Whether nobody can be writing it still."""
        return time.monotonic() - self.since > _PATIENCE_S or _age_s(self.fingerprint) > _PATIENCE_S


class FolderFiles:
    """The files of one folder, as one process has read them. One thread at a time may use it."""

    def __init__(self) -> None:
        self._broken: dict[str, _Broken] = {}
        self._new: dict[str, tuple[str, bytes]] = {}  # fingerprint and digest

    @property
    def are_settled(self) -> bool:
        """Whether none has to be read again, and none is broken that may be half written."""
        return not self._new and all(each.is_overdue for each in list(self._broken.values()))

    def forget_all_but(self, files: Mapping[str, str]) -> None:
        """Forget files that have gone or changed, by name and fingerprint."""
        for name, broken in list(self._broken.items()):
            if files.get(name) != broken.fingerprint:
                del self._broken[name]
        for name, (fingerprint, _) in list(self._new.items()):
            if files.get(name) != fingerprint:
                del self._new[name]

    def is_worth_reading(self, name: str) -> bool:
        """Whether a file is not known to be broken as it is."""
        return name not in self._broken or self._broken[name].is_read_again

    def read(self, listing: Listing, names: Iterable[str]) -> list[ReadItem]:
        """Read files of a listing: those with a dataset, and not as they were read before."""
        found = (self._read(listing, name) for name in names)
        return [each for each in found if each is not None]

    def _read(self, listing: Listing, name: str) -> ReadItem | None:
        try:
            file = read_worklist_file(listing.path(name))
        except FileNotFoundError:
            return None
        except WorklistFileError as error:
            self.refuse(name, error.fingerprint or listing.files[name], error)
            return None
        self._broken.pop(name, None)
        if _age_s(file.fingerprint) > SETTLED_S:
            self._new.pop(name, None)
            return name, file.dataset, file.fingerprint
        seen = file.fingerprint, hashlib.sha256(file.content).digest()
        if self._new.get(name) == seen:
            return None
        self._new[name] = seen
        return name, file.dataset, file.fingerprint + NEW

    def refuse(
        self, name: str, fingerprint: str, error: WorklistFileError | InvalidItemError
    ) -> None:
        """Note that a file is no item as it is."""
        self._new.pop(name, None)
        fingerprint = fingerprint.removesuffix(NEW)
        known = self._broken.get(name)
        if known is None or (known.fingerprint, known.reason) != (fingerprint, error.reason):
            is_unreadable = isinstance(error, WorklistFileError) and not error.fingerprint
            known = _Broken(fingerprint, error.reason, time.monotonic(), is_unreadable)
            self._broken[name] = known
        known.was_new = _age_s(fingerprint) <= SETTLED_S

    def overdue(self) -> dict[str, str]:
        """The broken files that are to be named, with the reason."""
        return {
            name: each.reason
            for name, each in self._broken.items()
            if each.is_overdue and not each.is_named
        }

    def named(self, name: str) -> bool:
        """Note that a broken file is in the log; whether it was read, and so has no item."""
        self._broken[name].is_named = True
        return not self._broken[name].is_unreadable


def _age_s(fingerprint: str) -> float:
    """How long ago a file was changed, or will be when its clock is ahead."""
    modified_ns = fingerprint.partition(":")[0]
    return abs(time.time() - int(modified_ns) / 1e9) if modified_ns else 0.0
