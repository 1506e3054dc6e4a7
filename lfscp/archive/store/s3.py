"""Objects in a bucket of an S3-compatible store: <prefix>/<Study UID>/<Series UID>/<UID>.dcm.

Rules: a received object is written into the cache's incoming folder first, then put; it is stored
when the store has answered that it has it. Puts are conditional (`If-None-Match: *`), so that a
name never changes hands; a name that is taken gives way to `<UID>~<random>.dcm`. A large object
goes up in parts, which S3 cannot do conditionally: an empty object takes the name for it first.
A put whose answer never came may have happened: what it left has no row; `lfscp check` finds it.
After the row is committed the file stays in the cache as a copy for readers.
"""

# ruff: noqa: PTH108 - pathlib costs as much as the system call

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.store.disk_cache import DiskCache
from lfscp.archive.store.files import instance_of, write_file
from lfscp.archive.store.object_probe import PROBES
from lfscp.archive.store.object_store import NameTakenError, Piece
from lfscp.archive.store.remote_object import ReadAhead, Remote, RemoteObject
from lfscp.archive.store.s3_client import (
    PART_BYTES,
    PARTS_AT_ONCE,
    S3Options,
    connect,
    counted,
    reason_of,
)

if TYPE_CHECKING:
    from obstore.store import S3Store

    from lfscp.archive.store.placement import Placement

PUT_IN_PARTS_ABOVE: Final = 2 * PART_BYTES
_DELETED_AT_ONCE: Final = 1000  # what one request takes
_FETCHES_AHEAD: Final = 4
_CONTENT_TYPE: Final[Any] = {"Content-Type": "application/dicom"}
_HINT: Final = "check the object store, and send again"


class S3Objects:
    """The objects of one bucket; see `object_store.ObjectStore`.

    Args:
        options: where it is; its rights and identity were looked at.
        cache: of this node; received objects are written on its file system first.
    """

    is_remote = True

    def __init__(self, options: S3Options, cache: DiskCache) -> None:
        self.root = cache.folder
        self.incoming = cache.incoming
        self._cache = cache
        self._options = options
        self._client: S3Store | None = None
        self._ahead: ThreadPoolExecutor | None = None
        self._made_by = 0
        self._remote = Remote(self._connected, cache, self._executor, options.url.rstrip("/"))

    def _connected(self) -> S3Store:
        """This process's client: one made before a fork would hang."""
        if self._made_by != os.getpid() or self._client is None:
            self._ahead = None
            self._client = connect(self._options)
            self._made_by = os.getpid()
        return self._client

    def _executor(self) -> Executor:
        self._connected()
        if self._ahead is None:
            self._ahead = ThreadPoolExecutor(_FETCHES_AHEAD, "lfscp-fetch-ahead")
        return self._ahead

    def close(self) -> None:
        """Fetch nothing ahead any more; what is being fetched ends by itself."""
        if self._ahead is not None and self._made_by == os.getpid():
            self._ahead.shutdown(wait=False, cancel_futures=True)
            self._ahead = None

    # Storing

    def write_piece(self, header: bytes, dataset: bytes | memoryview) -> Piece:
        """Write one file into the incoming folder.

        Raises:
            OutOfResourcesError: disk full, quota, too many open files; nothing is left.
        """
        path = self._cache.new_piece()
        write_file(path, header, dataset, sync=False)
        return Piece(path, len(header) + len(dataset))

    def adopt(self, path: str | Path, descriptor: int = -1) -> Piece:
        """Take a complete file in the incoming folder as a piece."""
        found = os.stat(path if descriptor < 0 else descriptor)  # noqa: PTH116
        return Piece(str(path), found.st_size)

    def place(self, piece: Piece, study_uid: str, series_uid: str, instance_uid: str) -> str:
        """Put a piece under the instance's usual name.

        Raises:
            NameTakenError: there is an object of that name.
            OutOfResourcesError: the store did not take it.
        """
        key = f"{study_uid}/{series_uid}/{instance_uid}.dcm"
        self._put(piece, key)
        return key

    def place_beside(self, piece: Piece, study_uid: str, series_uid: str, instance_uid: str) -> str:
        """Put a piece under a name that nobody else uses."""
        key = f"{study_uid}/{series_uid}/{instance_uid}~{secrets.token_hex(8)}.dcm"
        self._put(piece, key)
        return key

    def _put(self, piece: Piece, key: str) -> None:
        from obstore.exceptions import AlreadyExistsError, BaseError

        client = self._connected()
        path = Path(piece.path)
        in_parts = piece.size > PUT_IN_PARTS_ABOVE
        try:
            with counted("put"):
                client.put(
                    key,
                    b"" if in_parts else path,
                    attributes=_CONTENT_TYPE,
                    mode="create",
                    use_multipart=False,
                )
        except AlreadyExistsError:
            raise NameTakenError(key) from None
        except (BaseError, OSError, ValueError) as error:
            raise OutOfResourcesError("store the instance", reason_of(error), _HINT) from None
        if in_parts:
            self._put_in_parts(client, path, key)

    def _put_in_parts(self, client: S3Store, path: Path, key: str) -> None:
        """Put a large object in the place of the empty one that holds its name."""
        from obstore.exceptions import BaseError

        try:
            with counted("put"):
                client.put(
                    key,
                    path,
                    attributes=_CONTENT_TYPE,
                    mode="overwrite",
                    use_multipart=True,
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )
        except (BaseError, OSError, ValueError) as error:
            self.remove(key)
            raise OutOfResourcesError("store the instance", reason_of(error), _HINT) from None

    def keep(self, piece: Piece, placement: Placement) -> None:
        """Keep the file of a committed object as a copy."""
        version = _version(
            placement.digest, placement.transfer_syntax_uid, placement.dataset_offset
        )
        if version:
            self._cache.add(piece.path, f"{placement.path}\0{version}", piece.size)

    def discard(self, piece: Piece) -> None:
        """Remove a piece's own name; a copy of it stays."""
        with contextlib.suppress(OSError):
            os.unlink(piece.path)

    # Removing

    def remove(self, relative: str) -> None:
        """Remove an object; one that cannot be removed stays, invisible."""
        self.remove_all([relative])

    def remove_all(self, paths: Iterable[str]) -> list[str]:
        """Remove objects, many with one request; returns those that are gone."""
        from obstore.exceptions import BaseError

        gone: list[str] = []
        left = iter(paths)
        while some := list(itertools.islice(left, _DELETED_AT_ONCE)):
            try:
                with counted("delete"):
                    self._connected().delete(some)
            except FileNotFoundError:
                pass
            except (BaseError, OSError, ValueError):
                break  # the removal is tried again later
            gone += some
        return gone

    # Reading

    def path(self, relative: str) -> RemoteObject:
        """An object whose version is asked for when it is read."""
        return RemoteObject(self._remote, relative)

    def file_of(self, row: Any) -> RemoteObject:
        """The object of a row that has path, digest, transfer syntax, offset and size."""
        version = _version(row.digest, row.transfer_syntax_uid, row.dataset_offset)
        return RemoteObject(self._remote, row.path, version, row.dataset_offset + row.size)

    def located(self, rows: Iterable[Any]) -> list[RemoteObject]:
        """The objects of rows; while one is sent the next ones are fetched."""
        found = [self.file_of(row) for row in rows]
        ahead = ReadAhead(self._remote, found)
        for number, each in enumerate(found):
            each.read_before(ahead, number)
        return found

    def exists(self, relative: str) -> bool:
        """Whether there is an object of this name.

        Raises:
            OSError: the store does not say.
        """
        try:
            self._remote.head(relative)
        except FileNotFoundError:
            return False
        return True

    def may_exist(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:  # noqa: ARG002
        """Never: to ask costs as much as to put, and the put tells."""
        return False

    def pieces(self) -> Iterator[Path]:
        """Nothing: what an earlier run left went when the cache was opened."""
        return iter(())

    def names_of(self, study_uid: str, series_uid: str, instance_uid: str) -> list[str]:
        """All names that objects of one instance have taken."""
        return [
            key
            for key in self._keys(f"{study_uid}/{series_uid}")
            if instance_of(key) == instance_uid
        ]

    def walk(self) -> Iterator[str]:
        """Every object below the prefix; memory holds a thousand names at a time.

        Raises:
            OSError: they cannot be listed.
        """
        for key in self._keys(None):
            if not key.startswith(f"{PROBES}/"):
                yield key

    def _keys(self, prefix: str | None) -> Iterator[str]:
        pages = iter(self._connected().list(prefix))
        while True:
            page = self._remote.ask("list", "", lambda: next(pages, None))
            if page is None:
                return
            for each in page:
                yield each["path"]


def _version(digest: str, transfer_syntax_uid: str, dataset_offset: int) -> str:
    """What tells two contents of one name apart; empty when no digests are kept."""
    return f"{digest}|{transfer_syntax_uid}|{dataset_offset}" if digest else ""
