"""Objects as DICOM files: <root>/<Study UID>/<Series UID>/<Instance UID>.dcm.

Rules: a file is written as a piece in <root>/.incoming and then linked under its final name, so
that a name in the tree always stands for a whole file, and never for another's: a name that is
taken is not overwritten, the next one (`<UID>~1.dcm`) is used. The index's row says which file
is the object's. The piece's own name is removed only after the row is committed; one found at
start, linked but without a row, tells which file a crash left over. Where a file is synced only
under its final name (`file_systems`), a power cut may leave it empty: so the piece's name has the
UIDs. Nodes that share the folder
(NFS) write their pieces in folders of their own below `.incoming`.

A volume may go away, or another be mounted, while a file is written. So the folder is looked at
again once a file has its name: unless it is still the archive's, and the file is on its volume,
nothing counts as stored.

UIDs are checked where they are read (dicom/reading/header.py) before they reach a path here.
"""

# ruff: noqa: PTH103, PTH104, PTH108, PTH110, PTH120, PTH106, PTH119 - pathlib costs as much as the system call

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from lfscp.archive.durability import PART, Durability, sync_folder
from lfscp.archive.errors import OutOfResourcesError, not_writable
from lfscp.archive.store.file_systems import (
    is_named_by_sync,
    keeps_order,
    lacks_journal,
    tells_of_losses,
)
from lfscp.archive.store.identity import folder_identity
from lfscp.archive.store.inode_groups import make_apart
from lfscp.archive.store.object_store import Piece, Placement, Uids
from lfscp.observe import metrics

INCOMING: Final = ".incoming"
_FILE_SYNC: Final = metrics.SYNC.of("file")
_FOLDER_SYNC: Final = metrics.SYNC.of("folder")
_MAX_SYNCED_FOLDERS: Final = 65_536
_MAX_OPEN_FOLDERS: Final = 32
_FOLDER_GONE: Final = (errno.ENOENT, errno.ESTALE)


class _OpenFolder:
    """A series' folder, open as long as it is referred to."""

    __slots__ = ("descriptor",)

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # it could not be opened
            os.close(self.descriptor)


class ObjectFiles:
    """The folder of objects. Any thread may call any method; several processes may share it.

    Args:
        root: made when missing.
        node: names this node, when others may share the folder.
        identity: a folder that is there as long as the root is the archive's; see `store.identity`.
    """

    is_remote = False

    def __init__(
        self,
        root: Path,
        durability: Durability = Durability.FULL,
        *,
        node: str = "",
        identity: Path | None = None,
    ) -> None:
        self.root = root
        self.incoming = root / INCOMING / node
        self._root = str(root)
        self._incoming = str(self.incoming)
        self._sync = durability is Durability.FULL
        self._tells_of_losses = tells_of_losses()
        self._identity = None if identity is None else str(identity)
        self._numbers = itertools.count()
        # What a crash left has other names, also where a process has the same number each time.
        self._life = secrets.token_hex(4)
        self._synced: set[str] = set()  # folders whose name is on disk, or will be with a file's
        self._open: dict[str, _OpenFolder] = {}  # of the series that objects came for lately
        try:
            self._make_incoming()
            self._root_is = folder_identity(self._root)
            self._look_at_file_system()
        except OSError as error:
            raise not_writable("open the objects folder", error, root) from None

    def _look_at_file_system(self) -> None:
        self._is_named_by_sync = is_named_by_sync(self._root)
        self._keeps_order = keeps_order(self._root)

    def _make_incoming(self) -> None:
        """Make the folder of the pieces, where every file of an object is made."""
        self.incoming.parent.mkdir(parents=True, exist_ok=True)
        if not self.incoming.is_dir() and lacks_journal(self._root):
            make_apart(self.incoming)
        self.incoming.mkdir(exist_ok=True)

    def path(self, relative: str) -> Path:
        return self.root / relative

    def write_piece(self, header: bytes, dataset: bytes | memoryview, uids: Uids) -> Piece:
        is_synced = not (self._sync and self._is_named_by_sync)
        path = self._new_name("" if is_synced else f"~{'~'.join(uids)}")
        write_file(path, header, dataset, sync=self._sync and is_synced)
        return Piece(path, len(header) + len(dataset), is_synced)

    @property
    def may_sync_later(self) -> bool:
        """Whether files are synced at all, and one call puts many and their names on disk."""
        return self._sync and self._is_named_by_sync and self._tells_of_losses

    def require_journal(self) -> None:
        """Have a new file on disk: with it are all names that were made before.

        A file system that has given up its journal makes none, but may say that all is synced.

        Raises:
            OSError: it cannot be had.
        """
        path = self._new_name("")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            _unlink(path)

    def write_again(self, relative: str, content: bytes) -> None:
        """Write the whole file of an object once more; it is not synced.

        A full disk has room for it, unless a power cut made it shorter.

        Raises:
            OSError, OutOfResourcesError: it cannot be written.
        """
        piece, path = self._new_name(""), f"{self._root}/{relative}"
        if _write_over(path, content):
            return
        write_file(piece, content, b"", sync=False)
        _make_folder(os.path.dirname(path))
        os.rename(piece, path)

    def _new_name(self, more: str) -> str:
        return f"{self._incoming}/{self._life}-{os.getpid()}-{next(self._numbers)}{more}{PART}"

    def adopt(self, path: str | Path, uids: Uids, descriptor: int = -1) -> Piece:
        try:
            if self._sync and self._is_named_by_sync:
                return self._adopt_unsynced(path, uids)
            if descriptor >= 0:
                return self._adopt(path, descriptor)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return self._adopt(path, descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _out_of_resources(error) from None

    def _adopt(self, path: str | Path, descriptor: int) -> Piece:
        if self._sync:
            _sync_file(descriptor)
        return Piece(str(path), os.fstat(descriptor).st_size)

    def _adopt_unsynced(self, path: str | Path, uids: Uids) -> Piece:
        piece = self._new_name(f"~{'~'.join(uids)}")
        os.link(path, piece)
        return Piece(piece, os.stat(piece).st_size, is_synced=False)  # noqa: PTH116

    def place(self, piece: Piece, study_uid: str, series_uid: str, instance_uid: str) -> str:
        path = f"{self._root}/{study_uid}/{series_uid}"
        root_was = self._root_is
        try:
            folder, name = self._link(piece, study_uid, path, instance_uid)
            try:
                self._sync_placed(piece, folder)
            except OSError:
                os.unlink(name, dir_fd=folder.descriptor)
                raise
            self._require_volume(folder, path, name, root_was)
        except OSError as error:
            raise _out_of_resources(error) from None
        return f"{study_uid}/{series_uid}/{name}"

    def _sync_placed(self, piece: Piece, folder: _OpenFolder) -> None:
        """Have a piece and its name on disk, unless the index keeps its bytes."""
        if piece.content:
            return
        if not piece.is_synced:
            descriptor = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _sync_file(descriptor)
            finally:
                os.close(descriptor)
        if self._sync and (piece.is_synced or not self._is_named_by_sync):
            started = time.monotonic()
            os.fsync(folder.descriptor)
            _FOLDER_SYNC.observe(time.monotonic() - started)

    def _require_volume(
        self, folder: _OpenFolder, path: str, name: str, root_was: tuple[int, int]
    ) -> None:
        """Take a file back that is not on the volume which readers will find it on.

        Args:
            root_was: what the root was before the file got its name: another thread may have seen
                meanwhile that its volume is mounted again.
        """
        with contextlib.suppress(OSError):
            device, _ = root_is = folder_identity(self._root)
            if root_is == root_was and os.fstat(folder.descriptor).st_dev == device:
                return
            self._open.clear()
            self._synced.clear()
            if self._identity is None or os.path.isdir(self._identity):  # noqa: PTH112
                self._root_is = root_is  # mounted again
                self._look_at_file_system()
                if self._sync:
                    os.fsync(folder.descriptor)
                    sync_folder(os.path.dirname(path))
                    sync_folder(self._root)
                if _is_same(f"{path}/{name}", name, folder.descriptor):
                    return
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder.descriptor)
        reason = f"{self._root} is no longer the same folder; is its volume mounted?"
        raise OutOfResourcesError(
            "store the instance", reason, "mount it, and send the object again"
        )

    def _link(
        self, piece: Piece, study_uid: str, path: str, instance_uid: str
    ) -> tuple[_OpenFolder, str]:
        """Link a piece into the folder that is synced afterwards, whatever its path is by then."""
        name = f"{instance_uid}.dcm"
        attempts = itertools.count(1)
        while True:
            open_folder = self._open.get(path)
            try:
                folder = open_folder or self._open_folder(study_uid, path)
                if _link_into(folder, name, piece.path):
                    return folder, name
                name = f"{instance_uid}~{next(attempts)}.dcm"
            except OSError as error:
                # The folder was empty and has just been removed, by another node perhaps; or it is
                # open since before its volume was mounted again.
                is_old = error.errno == errno.EXDEV and open_folder is not None
                if not (is_old or error.errno in _FOLDER_GONE) or not os.path.exists(piece.path):
                    raise
                self._open.pop(path, None)
                self._synced.discard(path)

    place_beside = place  # which finds a free name by itself

    def keep(self, piece: Piece, placement: Placement) -> None:
        """Nothing to do: the file is where readers look for it."""

    def _open_folder(self, study_uid: str, path: str) -> _OpenFolder:
        if path not in self._synced:
            self._make_folders(study_uid, path)
        folder = _OpenFolder(path)
        if len(self._open) >= _MAX_OPEN_FOLDERS:
            with contextlib.suppress(StopIteration, RuntimeError):  # another thread changes it
                self._open.pop(next(iter(self._open)), None)
        self._open[path] = folder
        return folder

    def _make_folders(self, study_uid: str, folder: str) -> None:
        """Make study and series folder; their names are on disk even if another made them.

        Where names keep their order they are there when that of a file in them is.
        """
        _make_folder(folder)
        if self._sync and not self._keeps_order:
            sync_folder(f"{self._root}/{study_uid}")
            sync_folder(self._root)
        if len(self._synced) >= _MAX_SYNCED_FOLDERS:
            self._synced.clear()
        self._synced.add(folder)

    def discard(self, piece: Piece) -> None:
        _unlink(piece.path)

    def remove(self, relative: str) -> None:
        """Remove an object's file, and its series and study folder when they are empty."""
        path = f"{self._root}/{relative}"
        _unlink(path)
        for _ in range(2):
            path = os.path.dirname(path)
            self._synced.discard(path)
            self._open.pop(path, None)
            try:
                os.rmdir(path)
            except OSError:
                break  # not empty, or gone already

    def remove_all(self, paths: Iterable[str]) -> list[str]:
        gone = []
        for path in paths:
            self.remove(path)
            if not self.exists(path):
                gone.append(path)
        return self._gone_for_good(gone) if self._sync else gone

    def _gone_for_good(self, paths: Sequence[str]) -> list[str]:
        """Those of the removed files that no power cut brings back: their folders are synced."""
        synced: set[str] = set()
        for path in paths:
            folder = os.path.dirname(f"{self._root}/{path}")
            try:
                if folder not in synced:
                    synced |= {folder, _sync_or_above(folder, self._root)}
            except OSError:
                return []  # the next start tries again
        return list(paths)

    def file_of(self, row: Any) -> Path:
        return self.path(row.path)

    def located(self, rows: Iterable[Any]) -> list[Path]:
        return [self.path(row.path) for row in rows]

    def close(self) -> None:
        """Let go of the folders, so that their volume can be unmounted."""
        self._open.clear()

    def exists(self, relative: str) -> bool:
        return os.path.exists(f"{self._root}/{relative}")

    def may_exist(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        """Whether the instance's usual file name is taken: a cheap hint of a duplicate."""
        return os.access(f"{self._root}/{study_uid}/{series_uid}/{instance_uid}.dcm", os.F_OK)

    def pieces(self) -> Iterator[Path]:
        """What lies in the incoming folder, or above it from before nodes had their own."""
        for folder in {self._incoming, f"{self._root}/{INCOMING}"}:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        yield Path(entry.path)

    def names_of(self, study_uid: str, series_uid: str, instance_uid: str) -> list[str]:
        return [
            f"{study_uid}/{series_uid}/{name}"
            for name in _names(f"{self._root}/{study_uid}/{series_uid}")
            if instance_of(name) == instance_uid
        ]

    def walk(self) -> Iterator[str]:
        """Every file of the tree as a relative path, folder by folder; pieces are left out."""
        for study in _names(self._root):
            if study == INCOMING:
                continue
            for series in _names(f"{self._root}/{study}"):
                for name in _names(f"{self._root}/{study}/{series}"):
                    yield f"{study}/{series}/{name}"


def instance_of(path: str) -> str:
    """The SOP Instance UID that a file's name stands for."""
    return os.path.basename(path).removesuffix(".dcm").partition("~")[0]


def uids_of_piece(name: str) -> Uids | None:
    """Study, Series and SOP Instance UID that a piece's name says."""
    parts = name.removesuffix(PART).split("~")
    return (parts[1], parts[2], parts[3]) if len(parts) == 4 else None


def _sync_file(descriptor: int) -> None:
    started = time.monotonic()
    os.fsync(descriptor)
    _FILE_SYNC.observe(time.monotonic() - started)


def write_file(path: str, header: bytes, dataset: bytes | memoryview, *, sync: bool) -> None:
    """Make a file of two parts.

    Raises:
        OutOfResourcesError: it cannot be written; nothing is left.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise _out_of_resources(error) from None
    try:
        _write_all(descriptor, header, dataset)
        if sync:
            started = time.monotonic()
            os.fdatasync(descriptor)
            _FILE_SYNC.observe(time.monotonic() - started)
    except OSError as error:
        os.unlink(path)
        raise _out_of_resources(error) from None
    finally:
        os.close(descriptor)


def write_pieces(path: str, pieces: Iterable[bytes | memoryview]) -> None:
    """Make a file of many parts, which is not synced.

    Raises:
        OutOfResourcesError: it cannot be written; nothing is left.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise _out_of_resources(error) from None
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]
    except OSError as error:
        os.unlink(path)
        raise _out_of_resources(error) from None
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, header: bytes, dataset: bytes | memoryview) -> None:
    written = os.writev(descriptor, (header, dataset))
    if written == len(header) + len(dataset):
        return
    # A full disk writes a part and fails at the next call; one write ends at 2 GB as well.
    for part in (memoryview(header), memoryview(dataset).cast("B")):
        skip = min(written, len(part))
        written -= skip
        part = part[skip:]
        while part:
            part = part[os.write(descriptor, part) :]


def _write_over(path: str, content: bytes) -> bool:
    """Write the bytes of a file where they are; False if it has another number of them."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(descriptor).st_size != len(content):
            return False
        _write_all(descriptor, content, b"")
    finally:
        os.close(descriptor)
    return True


def _make_folder(path: str) -> None:
    """Make a folder and those above it; FileNotFoundError if another process just removed it."""
    try:
        os.makedirs(path, mode=0o750, exist_ok=True)
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None


def _link_into(folder: _OpenFolder, name: str, piece: str) -> bool:
    """Give a piece a name in a folder; False when the name is another's."""
    try:
        os.link(piece, name, dst_dir_fd=folder.descriptor)
    except FileExistsError:
        return _is_same(piece, name, folder.descriptor)  # NFS lost the answer and asked again
    return True


def _sync_or_above(folder: str, root: str) -> str:
    """Sync a folder, or the one above if it was empty and is gone; returns which."""
    while True:
        try:
            sync_folder(folder)
        except (FileNotFoundError, NotADirectoryError):
            if folder == root:
                raise
            folder = os.path.dirname(folder)
        else:
            return folder


def _is_same(piece: str, name: str, folder: int) -> bool:
    """Whether a name in an open folder stands for the piece's own file."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(piece), os.stat(name, dir_fd=folder))  # noqa: PTH116
    return False


def _unlink(path: str) -> None:
    # A file that cannot be removed has no row: it is invisible, and `lfscp check` reports it.
    with contextlib.suppress(OSError):
        os.unlink(path)


def _names(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name
    except (FileNotFoundError, NotADirectoryError):
        return  # removed in the meantime, or a stray file where a folder should be


def _out_of_resources(error: OSError) -> OutOfResourcesError:
    code = errno.errorcode.get(error.errno or 0, "")
    return OutOfResourcesError(
        "store the instance", f"{error.strerror} ({code})", "free space on the objects folder"
    )
