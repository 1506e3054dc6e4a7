"""Keeps the items of a folder of worklist files (.wl) as the files are.

Rules: the index follows the folder. A file that comes, changes or goes is seen by its fingerprint,
and a file that was changed a moment ago is read again, since a further change may leave that as it
is. A file that stays broken has no item; one that the system does not let read keeps what it had.
Any process of a node may compare at any time: what differs is put into the index by one of them at
a time, under a lock of the node. A folder that is not there changes nothing; nor does an empty one
in its place, as a volume leaves that is not mounted.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.errors import ArchiveError
from lfscp.archive.node_id import node_id
from lfscp.archive.workflow.worklist.item import OF_FOLDER
from lfscp.archive.workflow.worklist_folder.files import NEW, SETTLED_S, FolderFiles, ReadItem
from lfscp.archive.workflow.worklist_folder.listing import Listing, list_folder
from lfscp.archive.workflow.worklist_folder.turn import FolderTurn
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.archive.workflow.worklist.worklist import Worklist

LOG: Final = get_logger("lfscp.worklist")
_QUERY_WAITS_S: Final = 2.0  # for others who are at it; then it is answered from what is there
_TOGETHER: Final = 200  # items that share a transaction: others write between two


def source_of(data_dir: Path) -> str:
    """The source of items of this node's folder."""
    return OF_FOLDER + node_id(data_dir)


def forget_folder(worklist: Worklist, data_dir: Path) -> None:
    """Remove the items of a folder that the node had before, since it has none now."""
    source = source_of(data_dir)
    try:
        removed = worklist.remove_by_keys(source, worklist.fingerprints(source))
    except ArchiveError as error:
        LOG.warning("items of an earlier worklist folder stay", reason=str(error))
        return
    if removed:
        LOG.info("the items of an earlier worklist folder are removed", removed=removed)


@dataclass(frozen=True, slots=True)
class _Differences:
    """What differs between a folder and the index.

    Args:
        changed: files to read; `news` are those that the index has otherwise or not at all.
        gone: items without a file.
    """

    changed: list[str]
    news: frozenset[str]
    gone: list[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)


class WorklistFolder:
    """A folder of worklist files, as one process sees it. Any thread may call any method.

    Args:
        data_dir: of the node.
        tells: whether this one names broken files in the log, and removes the items that they had;
            of a node's processes one does.
    """

    def __init__(
        self, worklist: Worklist, folder: Path, data_dir: Path, *, tells: bool = False
    ) -> None:
        self._worklist = worklist
        self._folder = folder
        self._source = source_of(data_dir)
        self._turn = FolderTurn(data_dir, folder)
        self._files = FolderFiles()
        self._tells = tells
        self._one_at_a_time = threading.Lock()
        self._listing: Listing | None = None  # the last one that the index agreed with
        self._same_since = 0.0  # monotonic, when the first listing like it was made
        self._listed_at = 0.0
        self._problem = ""
        self._closed: frozenset[str] = frozenset()  # folders in it that were named
        self._has_failed = False

    @property
    def folders(self) -> dict[str, str]:
        """The folder and those in it, by path with what tells another one; none while away."""
        listing = self._listing
        if listing is None or self._problem:
            return {}
        return {path: state.partition(":")[2] for path, state in listing.folders.items()}

    @property
    def is_settled(self) -> bool:
        """Whether nothing was changed so lately that a further change might not be seen.

        And whether all broken files are named, if this one names them.
        """
        lasted_s = self._listed_at - self._same_since
        return lasted_s >= SETTLED_S and self._files.are_settled and not self._is_overdue()

    def before_query(self) -> None:
        """See what has changed, before the index is asked; costs little when nothing has.

        When others hold that up for long, or the index cannot be written to, the query is answered
        from what is there.
        """
        deadline = time.monotonic() + _QUERY_WAITS_S
        if self._is_current() or not self._one_at_a_time.acquire(timeout=_QUERY_WAITS_S):
            return
        try:
            if not self._is_current():
                self._compare(deadline)
            self._has_failed = False
        except ArchiveError as error:
            if not self._has_failed:
                LOG.warning("changes of the worklist folder cannot be taken", reason=str(error))
            self._has_failed = True
        finally:
            self._one_at_a_time.release()

    def compare(self) -> None:
        """Compare each file with the index.

        Raises:
            ArchiveError: the index cannot be read or written to.
        """
        with self._one_at_a_time:
            self._compare(time.monotonic() + _QUERY_WAITS_S)

    def _is_current(self) -> bool:
        listing = self._listing
        return listing is not None and self.is_settled and listing.has_same_names()

    def _compare(self, deadline: float) -> None:
        at = time.monotonic()
        listing = self._list()
        if listing is None:
            return
        if self._differences(listing) or self._is_overdue() or not self._turn.knows(listing):
            with self._turn.taken(deadline) as is_ours:
                if not is_ours:
                    return
                at = time.monotonic()
                listing = self._list()
                if listing is None:
                    return
                self._apply(listing, self._differences(listing))
                self._turn.remember(listing)
        self._remember(listing, at)

    def _list(self) -> Listing | None:
        """The folder as it is; None when it is away."""
        try:
            listing = list_folder(self._folder)
        except OSError as error:
            self._note_problem(f"{error.strerror}: {error.filename}")
            return None
        if not listing.files and self._turn.is_another(listing) and self._known():
            self._note_problem("another folder is in its place, and it has no file")
            return None
        if self._problem and self._tells:
            LOG.info("the worklist folder is there again", folder=self._folder)
        self._problem = ""
        self._name_closed(listing)
        return listing

    def _name_closed(self, listing: Listing) -> None:
        for name in listing.closed.keys() - self._closed if self._tells else ():
            LOG.warning(
                "a folder in the worklist folder cannot be read, its items stay",
                folder=self._folder / name,
                reason=listing.closed[name],
            )
        self._closed = frozenset(listing.closed)

    def _note_problem(self, problem: str) -> None:
        if self._tells and not self._problem:
            LOG.warning(
                "the worklist folder is not there, its items stay",
                folder=self._folder,
                reason=problem,
                hint="mount it, or see that the node may read it",
            )
        self._problem = problem

    def _known(self) -> dict[str, str]:
        return self._worklist.fingerprints(self._source)

    def _differences(self, listing: Listing) -> _Differences:
        self._files.forget_all_but(listing.files)
        known = self._known()
        differing = {
            name: fingerprint
            for name, fingerprint in listing.files.items()
            if known.get(name) != fingerprint
        }
        return _Differences(
            [name for name in differing if self._files.is_worth_reading(name)],
            frozenset(
                name
                for name, fingerprint in differing.items()
                if known.get(name) != fingerprint + NEW
            ),
            [name for name in known if listing.has_lost(name)],
        )

    def _is_overdue(self) -> bool:
        return self._tells and bool(self._files.overdue())

    def _apply(self, listing: Listing, found: _Differences) -> None:
        taken = 0
        for at in range(0, len(found.changed), _TOGETHER):
            names = self._put(self._files.read(listing, found.changed[at : at + _TOGETHER]))
            taken += len(found.news & names)
        removed = self._worklist.remove_by_keys(self._source, found.gone) if found.gone else 0
        if self._tells:
            removed += self._name_broken()
        if taken or removed:
            LOG.info("worklist files taken", files=taken, removed=removed)

    def _put(self, read: list[ReadItem]) -> set[str]:
        """Put items into the index; gives the names of the files that are items."""
        refused = self._worklist.put_valid(self._source, read)
        for name, _, fingerprint in read:
            if name in refused:
                self._files.refuse(name, fingerprint, refused[name])
        return {name for name, _, _ in read} - refused.keys()

    def _name_broken(self) -> int:
        """Name each broken file once, and remove the item that it had; gives how many had one."""
        removed = 0
        for name, reason in self._files.overdue().items():
            LOG.warning("a worklist file is not taken", file=name, reason=reason)
            if self._files.named(name):
                removed += self._worklist.remove_by_key(self._source, name)
        return removed

    def _remember(self, listing: Listing, at: float) -> None:
        if self._listing is None or (self._listing.folders, self._listing.files) != (
            listing.folders,
            listing.files,
        ):
            self._same_since = at
        self._listing, self._listed_at = listing, at
